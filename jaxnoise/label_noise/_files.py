"""Files of labels: read from what other tools write, and written so that they can read them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.label_noise._corrupt import NoisyLabels, check_labels, labels_sha256, realised
from jaxnoise.label_noise._matrices import check_matrix
from jaxnoise.label_noise._readers import Content, read

FORMAT_VERSION = 1
WRITTEN = (".npz", ".csv")


def from_file(
  path: str | os.PathLike[str],
  *,
  num_classes: int,
  ids: Any = None,
  true_labels: Any = None,
  count: int | None = None,
  field: str = "",
  check_order: bool = True,
) -> NoisyLabels:
  """Reads training labels from a file and puts them into the order of the data set.

  * .npz: noisy_labels [N] and optionally clean_labels, ids, matrix and meta, as `write_file` has
    them;
  * .npy: [N] integers;
  * .csv: columns noisy_label (or label, given_label), and optionally id, index, clean_label; or,
    without a line of names, one column of labels, or ids and labels;
  * .json: a list of labels, as DivideMix's code writes; an object of lists named as in .npz; or an
    object id -> label;
  * .txt: one label per line.

  Where the file has ids, labels go to the examples of these ids, and it may have more examples than
  the data set; else where it has an index, to these positions; else they must be in the data set's
  order. A file of another order is found out by its clean labels, where it has them and the true
  ones are known: at most 1 % may disagree. Without clean labels, ids and an index (one that counts
  the rows is none), a file whose labels agree with the true ones no more often than chance is
  refused. Two orders within a class cannot be told apart.

  Args:
    path: the file.
    num_classes: K.
    ids: [N] what the data set's examples are called; None means 0..N-1.
    true_labels: [N] the data set's labels, where they are true.
    count: N, where neither of them is given; None takes that of the file.
    field: the column or key of the labels, where it has another name.
    check_order: False takes the order as it is.

  Returns:
    The labels in the data set's order. How they were made, kind, nominal_rate, matrix, seed and
    exact, is what a file of `write_file` says (.csv: what PATH.json beside it says, where its
    sha256 is that of the labels); of other files the kind is "file" and the rest None.

  Raises:
    InputError: no such file, one that cannot be read, a wrong length, a label out of range, ids
      that are missing or occur twice, or another order.

  Example:
    >>> import pathlib
    >>> from jaxnoise import label_noise
    >>> path = pathlib.Path("labels.csv")
    >>> _ = path.write_text("id,label\\nb.png,0\\na.png,1\\n")
    >>> label_noise.from_file(path, num_classes=2, ids=["a.png", "b.png"]).labels.tolist()
    [1, 0]
  """
  path = Path(path)
  content = read(path, field)
  where = f"{path}: labels"
  labels = check_labels(where, content.labels, num_classes)
  if path.suffix.lower() == ".csv":
    content = content._replace(**_beside(path, labels))
  clean = content.clean
  if clean is not None:
    clean = check_labels(f"{path}: clean labels", clean, num_classes, len(labels))
  meta = _check_meta(path, content, labels, num_classes)
  true = None
  if true_labels is not None:
    true = check_labels("true_labels", true_labels, num_classes)
  given = [len(x) for x in (ids, true) if x is not None]
  count = given[0] if given else len(labels) if count is None else count
  order = _order(path, content, len(labels), ids, count)
  if order is not None:
    labels, clean = labels[order], None if clean is None else clean[order]
  if len(labels) != count:
    raise InputError(
      f"{where}: found {len(labels)} for {count} training examples; give one label for each, or "
      "ids that say which example each belongs to"
    )
  if true is not None and check_order:
    _check_order(path, labels, clean, true, ordered=order is not None)
  known = true if true is not None else clean
  return NoisyLabels(
    labels,
    meta.get("kind", "file"),
    num_classes,
    meta.get("nominal_rate"),
    None if content.matrix is None else np.asarray(content.matrix, np.float64),
    None if known is None else labels != known,
    meta.get("seed"),
    meta.get("exact"),
  )


def write_file(
  path: str | os.PathLike[str], noisy: NoisyLabels, true_labels: Any, ids: Any = None
) -> Path:
  """Writes noisy labels, whole or not at all, in a form that other tools read.

  * .npz: noisy_labels [N] int32, clean_labels [N] int32, ids [N], counts [K, K] (rows true, columns
    given), matrix [K, K] where there is one, and meta, a JSON text with format_version, kind,
    num_classes, count, nominal_rate, realised_rate, changed, exact, seed, sha256 (of noisy_labels
    as little-endian int32). Nothing is pickled.
  * .csv: one row per example, index, id, clean_label, noisy_label; PATH.json beside it has the same
    as meta, with counts and matrix.

  The same labels give the same bytes.

  Args:
    path: ends with .npz or .csv; its directory is made.
    noisy: from `corrupt` or `from_file`.
    true_labels: [N] integers.
    ids: [N] integers or strings; None means 0..N-1.

  Returns:
    The path.

  Raises:
    InputError: another ending, a directory, or unequal lengths.

  Example:
    >>> from jaxnoise import label_noise
    >>> noisy = label_noise.corrupt([0, 1], "pair_flip", num_classes=2, rate=0.0)
    >>> print(label_noise.write_file("out.csv", noisy, [0, 1], ids=["a", "b"]).read_text())
    index,id,clean_label,noisy_label
    0,a,0,0
    1,b,1,1
    <BLANKLINE>
  """
  path = check_output(path)
  count = len(noisy.labels)
  true = check_labels("true_labels", true_labels, noisy.num_classes, count)
  ids = np.arange(count) if ids is None else np.asarray(ids)
  if ids.shape != (count,) or ids.dtype.kind not in "iuU":
    raise InputError(
      f"ids: found {ids.dtype} of shape {ids.shape}, expected [{count}] integers or strings; name "
      "every example"
    )
  out = realised(true, noisy.labels, noisy.num_classes)
  meta = {
    "format_version": FORMAT_VERSION,
    "kind": noisy.kind,
    "num_classes": noisy.num_classes,
    "count": count,
    "nominal_rate": noisy.nominal_rate,
    "realised_rate": out.rate,
    "changed": out.changed,
    "exact": noisy.exact,
    "seed": noisy.seed,
    "sha256": out.sha256,
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".npz":
    arrays = {"noisy_labels": noisy.labels, "clean_labels": true, "ids": ids, "counts": out.counts}
    if noisy.matrix is not None:
      arrays["matrix"] = noisy.matrix
    arrays["meta"] = np.array(json.dumps(meta))
    _whole(path, "wb", lambda file: np.savez_compressed(file, **arrays))
    return path

  def write_rows(file: IO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("index", "id", "clean_label", "noisy_label"))
    writer.writerows(zip(range(count), ids.tolist(), true.tolist(), noisy.labels.tolist()))

  meta["counts"] = out.counts.tolist()
  meta["matrix"] = None if noisy.matrix is None else noisy.matrix.tolist()
  _whole(path, "w", write_rows)
  _whole(_sidecar(path), "w", lambda file: file.write(json.dumps(meta, indent=1) + "\n"))
  return path


def _sidecar(path: Path) -> Path:
  return path.with_name(path.name + ".json")


def check_output(path: str | os.PathLike[str]) -> Path:
  """Checks that labels can be written to a file of this name."""
  path = Path(path)
  if path.suffix not in WRITTEN:
    raise InputError(
      f"{path} cannot hold labels: it ends with {path.suffix or 'nothing'!r}, expected "
      f"{' or '.join(WRITTEN)}; choose another name"
    )
  if path.is_dir():
    raise InputError(f"{path} is a directory; give a file, such as {path / 'labels.npz'}")
  return path


def _whole(path: Path, mode: str, write: Callable[[IO], Any]) -> None:
  """Writes to a temporary name and renames, so that a reader never meets half of a file."""
  temporary = path.with_name(path.name + ".tmp")
  text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
  with temporary.open(mode, **text) as file:
    write(file)
  os.replace(temporary, path)


def _beside(path: Path, labels: np.ndarray) -> Mapping[str, Any]:
  """Meta and matrix that lie beside a .csv; nothing where the labels are others by now."""
  try:
    meta = json.loads(_sidecar(path).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  if not isinstance(meta, dict) or meta.get("sha256") != labels_sha256(labels):
    return {}
  return {"meta": meta, "matrix": meta.get("matrix")}


def _check_meta(
  path: Path, content: Content, labels: np.ndarray, num_classes: int
) -> Mapping[str, Any]:
  """Checks what our own files say of themselves; other files say nothing."""
  meta = content.meta
  version = meta.get("format_version", 0)
  if not isinstance(version, int) or version > FORMAT_VERSION:
    raise InputError(
      f"{path} has format version {version}; this jaxnoise reads up to {FORMAT_VERSION}, install a "
      "newer one"
    )
  if meta.get("num_classes", num_classes) != num_classes:
    raise InputError(
      f"{path}: is of {meta['num_classes']} classes, but the data set has {num_classes}; give the "
      "file that was made for this data set"
    )
  if "sha256" in meta and meta["sha256"] != labels_sha256(labels):
    raise InputError(f"{path}: its sha256 is not that of its labels; was it edited? write it anew")
  if content.matrix is not None:
    check_matrix(content.matrix, num_classes, allow_unlearnable=True)
  return meta


def _order(
  path: Path, content: Content, in_file: int, ids: Any, count: int
) -> np.ndarray | None:
  """Which row of the file each example has; None where nothing but the rows' order says so."""
  given, known = content.ids, ids
  if given is None or (ids is None and content.index is not None):
    given, known = content.index, None
  if given is None:
    return None
  what = "index" if given is content.index else "ids"
  given = np.asarray(given).astype(str)
  if given.shape != (in_file,):
    raise InputError(f"{path}: {what}: found {given.size} for {in_file} labels; give one for each")
  rows = {name: row for row, name in enumerate(given.tolist())}
  if len(rows) != in_file:
    twice = next(name for row, name in enumerate(given.tolist()) if rows[name] != row)
    raise InputError(f"{path}: {what}: {twice!r} occurs twice; give each example once")
  wanted = np.arange(count).astype(str) if known is None else np.asarray(known).astype(str)
  missing = [name for name in wanted.tolist() if name not in rows]
  if missing:
    raise InputError(
      f"{path}: {what}: {len(missing)} of the {count} training examples are not there, such as "
      f"{missing[0]!r}; found {in_file}, such as {next(iter(rows), 'none')!r}; give a file "
      "of this data set"
    )
  if known is None and in_file != count:
    return None  # positions of another set; the lengths say so
  order = np.array([rows[name] for name in wanted.tolist()], np.int64)
  if known is None and np.array_equal(order, np.arange(count)):
    return None  # any table can count its rows
  return order


def _check_order(
  path: Path, labels: np.ndarray, clean: Any, true: np.ndarray, *, ordered: bool
) -> None:
  if not len(labels):
    return
  if clean is not None and (share := float((clean != true).mean())) > 0.01:
    raise InputError(
      f"{path}: its clean labels disagree with the data set's on {share:.1%} of the examples, so "
      "it is in another order or of another data set; put it into the data set's order, or give it "
      "ids"
    )
  if clean is not None or ordered:
    return  # much noise looks like chance in the right order, too
  count, size = len(labels), 1 + max(int(labels.max()), int(true.max()))
  agree = float((labels == true).mean())
  shares = [np.bincount(x, minlength=size) / count for x in (labels, true)]
  chance = float(shares[0] @ shares[1])
  if count >= 100 and agree <= chance + 3 * np.sqrt(chance * (1 - chance) / count):
    raise InputError(
      f"{path}: its labels agree with the data set's on {agree:.1%} of the examples, no more than "
      f"chance ({chance:.1%}), so it is in another order or of another data set; put it into the "
      "data set's order, give it ids, or set check_order (config.data.noise.check_order) to False "
      "if it is meant"
    )

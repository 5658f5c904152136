"""Files of labels as they are, in the forms that tools write: .npz, .npy, .csv, .json, .txt."""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError

_LABEL = ("noisy_labels", "noisy_label", "given_label", "labels", "label")
_CLEAN = ("clean_labels", "clean_label", "true_labels", "true_label")
_ID = ("ids", "id")
_INDEX = ("index",)
OWN = "noisy_labels"
"""What our own .npz files call the labels that they describe."""
_EXPECTED = "noisy_labels [N] and, optionally, clean_labels [N] and ids [N]"


class Content(NamedTuple):
  """What a file holds, in its own order.

  Attributes:
    labels: the given labels.
    clean: the true labels, or None.
    ids: what the examples are called, or None.
    index: their positions in the data set, or None.
    matrix: the noise matrix, or None.
    meta: what our own files say of themselves.
  """

  labels: Any
  clean: Any = None
  ids: Any = None
  index: Any = None
  matrix: Any = None
  meta: Mapping[str, Any] = {}


def read(path: Path, field: str) -> Content:
  """Reads a file of labels by its ending; `field` names the labels where they have another name."""
  reader = _READERS.get(path.suffix.lower())
  if reader is None:
    pickled = path.suffix.lower() in (".pt", ".pth", ".pkl")
    fix = "CIFAR-N's own files are read by data.cifar_n" if pickled else "save them in one of these"
    raise InputError(
      f"{path}: ends with {path.suffix or 'nothing'!r}, expected {', '.join(_READERS)}; {fix}"
    )
  if not path.is_file():
    raise InputError(f"{path}: there is no such file; give a file of one label per example")
  try:
    content = reader(path, field)
  except InputError:
    raise
  except (ValueError, OSError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(
      f"{path}: cannot be read as {path.suffix} of labels ({' '.join(str(error).split())}); write "
      "it again"
    ) from error
  if not isinstance(content.meta, dict):
    raise InputError(f"{path}: meta is no JSON object; was the file edited? write it anew")
  return content


def _named(path: Path, columns: Mapping[str, Any], field: str) -> Content:
  """Picks columns by their names."""

  def pick(names: tuple[str, ...]) -> Any:
    return next((columns[name] for name in names if name in columns), None)

  labels = pick((field,) if field else _LABEL)
  if labels is None:
    found = ", ".join(map(str, columns)) or "nothing"
    expected = f"{field!r}" if field else _EXPECTED
    raise InputError(
      f"{path}: has {found[:200]}, expected {expected}; set field (config.data.noise.field) to the "
      "column or key of the labels"
    )
  return Content(labels, pick(_CLEAN), pick(_ID), pick(_INDEX))


def _read_npz(path: Path, field: str) -> Content:
  if not zipfile.is_zipfile(path):
    raise InputError(f"{path}: is no .npz file, whatever its name says; save it with numpy.savez")
  with np.load(path, allow_pickle=False) as archive:
    arrays = {name: _array(lambda name=name: archive[name]) for name in archive.files}
  content = _named(path, arrays, field)
  if field not in ("", OWN):  # what the file says of itself is of its noisy labels
    return content
  meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
  return content._replace(matrix=arrays.get("matrix"), meta=meta)


def _refuse_field(path: Path, field: str) -> None:
  if field:
    raise InputError(
      f"{path}: is a bare list of labels, in which nothing is called {field!r}; leave field "
      "(config.data.noise.field) empty, or give a file with names"
    )


def _read_npy(path: Path, field: str) -> Content:
  _refuse_field(path, field)
  return Content(load_npy(path))


def load_npy(path: Path) -> np.ndarray:
  """The array of an .npy file.

  Raises:
    ValueError: it is none, in words that do not speak of how numpy reads it.
  """
  with path.open("rb") as file:
    if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
      raise ValueError("it is no .npy file, whatever its name says; save it with numpy.save")
  return _array(lambda: np.load(path, allow_pickle=False))


def _array(load: Callable[[], np.ndarray]) -> np.ndarray:
  try:
    return load()
  except ValueError as error:
    if "pickle" not in str(error):
      raise
    raise ValueError("it holds Python objects, expected numbers or strings") from None


def _read_json(path: Path, field: str) -> Content:
  content = json.loads(path.read_text(encoding="utf-8"))
  if isinstance(content, list):
    _refuse_field(path, field)
    return Content(content)
  if not isinstance(content, dict):
    raise InputError(f"{path}: holds a {type(content).__name__}, expected a list of labels")
  if not field and content and all(type(value) is int for value in content.values()):
    return Content(list(content.values()), ids=list(content))
  return _named(path, content, field)


def _read_txt(path: Path, field: str) -> Content:
  _refuse_field(path, field)
  return Content(_integers(path, path.read_text(encoding="utf-8").splitlines(), 1))


def _read_csv(path: Path, field: str) -> Content:
  with path.open(encoding="utf-8-sig", newline="") as file:
    rows = [row for row in csv.reader(file) if row]
  if not rows:
    return Content([])
  names = [cell.strip() for cell in rows[0]]
  for number, row in enumerate(rows, start=1):
    if len(row) != len(names):
      raise InputError(
        f"{path}: line {number} has {len(row)} columns, the first has {len(names)}; correct it"
      )
  if not field and len(names) <= 2 and _is_integer(names[-1]):
    labels = _integers(path, [row[-1] for row in rows], 1)
    return Content(labels, ids=[row[0].strip() for row in rows] if len(names) == 2 else None)
  columns = {name: [row[k] for row in rows[1:]] for k, name in enumerate(names)}
  content = _named(path, columns, field)
  whole = {
    name: _integers(path, getattr(content, name), 2)
    for name in ("labels", "clean", "index")
    if getattr(content, name) is not None
  }
  return content._replace(**whole)


_READERS: dict[str, Callable[[Path, str], Content]] = {
  ".npz": _read_npz,
  ".npy": _read_npy,
  ".csv": _read_csv,
  ".json": _read_json,
  ".txt": _read_txt,
}


def _is_integer(text: str) -> bool:
  text = text.strip()
  return text.removeprefix("-").isdecimal()


def _integers(path: Path, cells: list[str], first: int) -> np.ndarray:
  while cells and not cells[-1].strip():
    cells = cells[:-1]
  for number, cell in enumerate(cells, start=first):
    if not _is_integer(cell):
      raise InputError(
        f"{path}: line {number}: found {cell.strip()[:40]!r}, expected an integer; give each class "
        "by its number"
      )
  return np.array([int(cell) for cell in cells], np.int64)

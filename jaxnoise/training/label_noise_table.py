"""What is known about noisy training labels, as a table: numpy on the host, no device."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnoise import evaluation
from jaxnoise.data import Source
from jaxnoise.training import distributed, writers

if TYPE_CHECKING:
  from jaxnoise.training.build import Run

_SHOWN_CLASSES = 20


def store(run: Run, directory: Path) -> None:
  """Writes tables/label_noise.json of a run whose labels are noisy, unless it is there."""
  if not distributed.is_main():
    return
  path = directory / "tables" / "label_noise.json"
  table = None if path.exists() else run_table(run)
  if table is not None:
    writers.write_json(path, table)


def run_table(run: Run) -> dict[str, Any] | None:
  """The `noise_table` of a run's first seed, with what was asked for and how each seed fared.

  Args:
    run: assembled.

  Returns:
    {"seeds", "nominal" (kind, rate, ... or the name of human labels; {} where the data came so),
    "of_seeds" (for each seed whose labels are its own: "changed", "rate", "labels_sha256"),
    **noise_table}; None where the labels are the true ones.

  Example:
    >>> from jaxnoise.training import build, label_noise_table
    >>> run = build.assemble({
    ...   "data": {"name": "generated", "noise": {"kind": "symmetric_exclusive", "rate": 0.25}},
    ...   "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1}, "batch_size": 16})
    >>> table = label_noise_table.run_table(run)
    >>> table["nominal"]["rate"], table["rate"]
    (0.25, 0.25)
  """
  table = noise_table(run.source)
  if table is None:
    return None
  config, loaded = run.config, run.loaded
  labels = config["data"]["labels"]
  head = {
    "seeds": [config["seed"] + s for s in range(config["seeds"])],
    "nominal": dict(loaded.nominal) or ({"labels": labels} if labels else {}),
  }
  if loaded.labels is not None:
    each = (noise_table(run.source.with_labels(row)) for row in loaded.labels)
    head["of_seeds"] = [
      {name: own[name] for name in ("changed", "rate", "labels_sha256")} for own in each
    ]
  return {**head, **table}


def lines(table: dict[str, Any]) -> list[str]:
  """Lays a table out as lines of text: rates, hash, and the matrix of up to 20 classes.

  Example:
    >>> from jaxnoise import data
    >>> from jaxnoise.training import label_noise_table
    >>> source = data.generated(num_train=8, num_classes=2)
    >>> table = label_noise_table.noise_table(source.with_labels([0, 0, 0, 1, 0, 1, 0, 1]))
    >>> for line in label_noise_table.lines(table)[1:]:
    ...   print(line)
    percent of each true class (row) given each label (column):
       0 | 100.0   0.0
       1 |  25.0  75.0
  """
  nominal = {k: v for k, v in table.get("nominal", {}).items() if k != "matrix"}
  asked = f" (asked for: {', '.join(f'{k} {v}' for k, v in nominal.items())})" if nominal else ""
  rates = [rate for rate in table["class_rates"] if rate is not None]
  out = [
    f"{table['rate']:.2%} of {table['n']:,} labels differ from the true ones "
    f"({min(rates):.2%} to {max(rates):.2%} by class), sha256 {table['labels_sha256'][:12]}{asked}"
  ]
  for own, seed in zip(table.get("of_seeds", ())[1:], table.get("seeds", ())[1:], strict=False):
    out.append(f"seed {seed}: {own['rate']:.2%}, sha256 {own['labels_sha256'][:12]}")
  if table["num_classes"] <= _SHOWN_CLASSES and "counts" in table:
    out.append("percent of each true class (row) given each label (column):")
    for k, row in enumerate(table["counts"]):
      share = 100 * np.asarray(row) / max(sum(row), 1)
      out.append(f"{k:>4} | " + " ".join(f"{value:5.1f}" for value in share))
  return out


def noise_table(source: Source) -> dict[str, Any] | None:
  """Counts how the labels that training sees differ from the true ones.

  T[i, j] = #{n: true_n = i, given_n = j}; the rate is the share of given labels that are not the
  true one, that of a class the share among its examples.

  Args:
    source: the training set, held-out and trusted examples taken out.

  Returns:
    {"n", "num_classes", "changed" (how many labels differ), "rate", "class_counts" [K],
    "class_rates" [K] (None for a class without examples), "counts" [K][K] (rows true, columns
    given; left out for more than 200 classes), "labels_crc32", "labels_sha256"}, the hashes of the
    given labels as little-endian int32. None where the labels are the true ones.

  Example:
    >>> from jaxnoise import data
    >>> from jaxnoise.training import label_noise_table
    >>> source = data.generated(num_train=8, num_classes=2)
    >>> noisy = source.with_labels([1 - source.labels[0], *source.labels[1:]])
    >>> table = label_noise_table.noise_table(noisy)
    >>> table["changed"], table["rate"], label_noise_table.noise_table(source)
    (1, 0.125, None)
  """
  if source.clean_labels is None:
    return None
  true, given, classes = source.clean_labels, source.labels, source.num_classes
  wrong = true != given
  count = np.bincount(true, minlength=classes)
  changed = np.bincount(true[wrong], minlength=classes)
  table: dict[str, Any] = {
    "n": source.num_train,
    "num_classes": classes,
    "changed": int(wrong.sum()),
    "rate": float(wrong.mean()),
    "class_counts": count.tolist(),
    "class_rates": [float(c / n) if n else None for c, n in zip(changed, count, strict=True)],
  }
  if classes <= evaluation.MAX_CONFUSION:
    table["counts"] = evaluation.confusion(true, given, classes).tolist()
  stored = np.ascontiguousarray(given, "<i4").tobytes()
  table["labels_crc32"] = zlib.crc32(stored)
  table["labels_sha256"] = hashlib.sha256(stored).hexdigest()
  return table

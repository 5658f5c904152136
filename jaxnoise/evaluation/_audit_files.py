"""The labels of an audit as a file that other tools read, and the table that its page shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise import data as data_lib
from jaxnoise.core.errors import InputError, closest
from jaxnoise.evaluation import _prediction_files as files
from jaxnoise.evaluation._audit import Audit, audit_metrics
from jaxnoise.evaluation._examples import png_text

LABEL_FORMATS = ("csv", "parquet")
"""What `write_labels` writes."""
_PAIRS = 20


def check_labels_file(path: str | os.PathLike[str]) -> Path:
  """Checks that audited labels can be written to a file of this name.

  Raises:
    InputError: another ending than .csv or .parquet, a directory, or Parquet without pyarrow.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.check_labels_file("audit/labels.csv").name
    'labels.csv'
  """
  path = Path(path)
  suffix = path.suffix.removeprefix(".")
  if suffix not in LABEL_FORMATS:
    raise InputError(
      f"format is {suffix!r}; labels are written as {' or '.join(LABEL_FORMATS)}: "
      + closest(suffix, LABEL_FORMATS)
    )
  return files.check_predictions_file(path)


def write_labels(
  path: str | os.PathLike[str],
  audit: Audit,
  pool: data_lib.Pool,
  *,
  class_names: Sequence[str] = (),
  about: Mapping[str, Any] | None = None,
) -> Path:
  """Writes one row for each example, the most suspicious first, whole or not at all.

  The columns are index (position in the training set), id (what the data set calls the example),
  given_label, suggested_label (left out without predictions), score and probability as in `Audit`;
  then given_name and suggested_name where class names are known, true_label where the true labels
  are, and signal_NAME for every signal (empty where it does not know the example). CSV has enough
  digits to give every number back exactly.

  Args:
    path: ends with .csv or .parquet; its directory is made.
    audit: of the N examples.
    pool: the examples, with their labels.
    class_names: K names, or none.
    about: what a Parquet file says in its metadata "jaxnoise".

  Returns:
    The path.

  Raises:
    InputError: as `check_labels_file`, or a set of another size.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data, evaluation
    >>> pool = data.Pool(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    >>> audit = evaluation.Audit(np.array([0.25, 0.75]), np.array([0.0, 0.5]), np.array([1, 0]), {})
    >>> print(evaluation.write_labels("labels.csv", audit, pool).read_text().strip())
    index,id,given_label,suggested_label,score,probability
    1,1,1,0,0.75,0.5
    0,0,0,1,0.25,0.0
  """
  path = check_labels_file(path)
  if pool.size != len(audit.score) or pool.labels is None:
    raise InputError(
      f"the audit is of {len(audit.score)} labels, but the set has {pool.size} images and "
      f"{'no' if pool.labels is None else 'its'} labels; give the set that was audited"
    )
  columns = _columns(audit, pool, class_names)
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".csv":
    files._whole(path, lambda file: files._write_csv(file, columns), text=True)
  else:
    content = {**(about or {}), "n": pool.size, "columns": list(columns)}
    files._whole(path, lambda file: files._write_parquet(file, columns, content))
  return path


def _columns(
  audit: Audit, pool: data_lib.Pool, class_names: Sequence[str]
) -> dict[str, np.ndarray | list]:
  order = audit.order
  given, suggested = pool.labels[order], audit.suggested[order]
  ids = np.arange(pool.size) if pool.ids is None else pool.ids
  out: dict[str, np.ndarray | list] = {"index": order, "id": ids[order], "given_label": given}
  suggests = bool((suggested >= 0).any())
  if suggests:
    out["suggested_label"] = [k if k >= 0 else None for k in suggested]
  out.update(score=audit.score[order], probability=audit.probability[order])
  if len(class_names):
    out["given_name"] = [class_names[k] for k in given]
  if len(class_names) and suggests:
    out["suggested_name"] = [class_names[k] if k >= 0 else "" for k in suggested]
  if pool.clean_labels is not None:
    out["true_label"] = pool.clean_labels[order]
  for name, values in audit.signals.items():
    out[f"signal_{name}"] = [None if np.isnan(x) else x for x in values[order]]
  return out


def audit_table(
  audit: Audit,
  pool: data_lib.Pool,
  *,
  top: int = 100,
  class_names: Sequence[str] = (),
  about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Everything that the page of an audit shows.

  Args:
    audit: of the N examples.
    pool: the examples, with their labels.
    top: how many of the most suspicious come with their images.
    class_names: K names, or none.
    about: put before it.

  Returns:
    {**about, "n", "class_names", "image_shape", "signals" (names), "basis" (of the probability),
    "expected" (sum of the probabilities), "likely" (how many have probability 1/2 or more),
    "histogram" (counts in ten bins of the probability), "pairs" (the most frequent given ->
    suggested among the likely: "given", "suggested", "count"), "worst" (of the most suspicious:
    "index", "id", "given", "suggested", "score", "probability", "png", and "true" where that is
    known), "measured" (`audit_metrics`, where the true labels are known, else None)}.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data, evaluation
    >>> pool = data.Pool(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    >>> audit = evaluation.Audit(np.array([0.25, 0.75]), np.array([0.0, 0.5]), np.array([1, 0]), {})
    >>> table = evaluation.audit_table(audit, pool, top=1)
    >>> table["likely"], [row["index"] for row in table["worst"]], table["pairs"]
    (1, [1], [{'given': 1, 'suggested': 0, 'count': 1}])
  """
  likely = audit.probability >= 0.5
  measured = None
  if pool.clean_labels is not None:
    measured = audit_metrics(audit, pool.labels, pool.clean_labels)
  return {
    **(about or {}),
    "n": pool.size,
    "class_names": list(class_names),
    "image_shape": list(pool.images.shape[1:]),
    "signals": list(audit.signals),
    "basis": list(audit.basis),
    "expected": float(audit.probability.sum()),
    "likely": int(likely.sum()),
    "histogram": np.histogram(audit.probability, 10, (0.0, 1.0))[0].tolist(),
    "pairs": _pairs(pool.labels[likely], audit.suggested[likely]),
    "worst": [_row(audit, pool, int(i)) for i in audit.order[:top]],
    "measured": measured,
  }


def _pairs(given: np.ndarray, suggested: np.ndarray) -> list[dict[str, int]]:
  both = np.stack([given, suggested], axis=1)[suggested >= 0]
  pairs, count = np.unique(both, axis=0, return_counts=True)
  order = np.argsort(-count, kind="stable")[:_PAIRS]
  return [
    {"given": int(pairs[i, 0]), "suggested": int(pairs[i, 1]), "count": int(count[i])}
    for i in order
  ]


def _row(audit: Audit, pool: data_lib.Pool, i: int) -> dict[str, Any]:
  name = i if pool.ids is None else pool.ids[i]
  row = {
    "index": i,
    "id": name.item() if hasattr(name, "item") else name,
    "given": int(pool.labels[i]),
    "suggested": int(audit.suggested[i]),
    "score": float(audit.score[i]),
    "probability": float(audit.probability[i]),
    "png": png_text(pool.images[i]),
  }
  if pool.clean_labels is not None:
    row["true"] = int(pool.clean_labels[i])
  return row

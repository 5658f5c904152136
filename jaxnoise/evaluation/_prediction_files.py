"""Predictions as files that other tools read: CSV, Parquet, npz."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.evaluation._predictions import Predictions
from jaxnoise.training import writers

PREDICTION_SUFFIXES = (".csv", ".parquet", ".npz")
"""What `write_predictions` writes."""


def check_predictions_file(path: str | os.PathLike[str]) -> Path:
  """Checks that predictions can be written to a file of this name.

  Raises:
    InputError: another ending than .csv, .parquet or .npz, a directory, or Parquet without pyarrow.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.check_predictions_file("predictions/test.csv").name
    'test.csv'
  """
  path = Path(path)
  if path.suffix not in PREDICTION_SUFFIXES:
    raise InputError(
      f"{path} cannot hold predictions: it ends with {path.suffix or 'nothing'!r}, expected "
      f"{', '.join(PREDICTION_SUFFIXES)}; choose another name"
    )
  if path.is_dir():
    raise InputError(f"{path} is a directory; give a file, such as {path / 'test.csv'}")
  if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
    raise InputError(
      f"{path}: Parquet needs pyarrow; run `pip install pyarrow`, or write .csv or .npz, which "
      "need nothing"
    )
  return path


def write_predictions(
  path: str | os.PathLike[str],
  predictions: Predictions,
  *,
  class_names: Sequence[str] = (),
  about: Mapping[str, Any] | None = None,
) -> Path:
  """Writes predictions, whole or not at all, and PATH.json beside them, which says what they are.

  * .csv and .parquet: one row per image with the columns index, id, label (empty where there is
    none), prediction, prediction_name (where class names are known), clean_label (where the true
    labels are known beside noisy ones), probability_0 .. probability_K-1, logit_0 .. logit_K-1.
    CSV has enough digits to give every float32 back exactly; Parquet has what PATH.json says as its
    metadata "jaxnoise".
  * .npz: arrays index, id, label (-1 where there is none), prediction, probability [N, K],
    logit [N, K], class_names, format_version, and clean_label as above. Nothing is pickled.

  Args:
    path: the file; its directory is made.
    predictions: the content.
    class_names: K names, or none.
    about: what PATH.json says beside the number of images, the columns and the accuracies.

  Returns:
    The path.

  Raises:
    InputError: as `check_predictions_file`.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> logits = np.zeros((1, 2), np.float32)
    >>> predictions = evaluation.Predictions(
    ...   np.arange(1), np.array(["a.png"]), logits, np.full((1, 2), 0.5, np.float32))
    >>> path = evaluation.write_predictions("out.csv", predictions, class_names=("cat", "dog"))
    >>> print(path.read_text().strip())
    index,id,label,prediction,prediction_name,probability_0,probability_1,logit_0,logit_1
    0,a.png,,0,cat,0.5,0.5,0.0,0.0
  """
  path = check_predictions_file(path)
  columns = _columns(predictions, class_names)
  content: dict[str, Any] = {
    **(about or {}),
    "n": len(predictions.index),
    "num_classes": predictions.logits.shape[1],
    "class_names": list(class_names),
    "columns": list(columns),
    "accuracy": predictions.accuracy(),
  }
  if predictions.clean_label is not None:
    content["clean_accuracy"] = predictions.accuracy(predictions.clean_label)
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".csv":
    _whole(path, lambda file: _write_csv(file, columns), text=True)
  elif path.suffix == ".npz":
    arrays = _arrays(predictions, class_names)
    content["columns"] = list(arrays)
    _whole(path, lambda file: np.savez(file, **arrays))
  else:
    _whole(path, lambda file: _write_parquet(file, columns, content))
  writers.write_json(path.with_name(path.name + ".json"), content)
  return path


def _columns(predictions: Predictions, class_names: Sequence[str]) -> dict[str, np.ndarray | list]:
  prediction, label = predictions.prediction, predictions.label
  out: dict[str, np.ndarray | list] = {"index": predictions.index, "id": predictions.id}
  out["label"] = [None] * len(prediction) if label is None else label
  out["prediction"] = prediction
  if len(class_names):
    out["prediction_name"] = [class_names[k] if k >= 0 else "" for k in prediction]
  if predictions.clean_label is not None:
    out["clean_label"] = predictions.clean_label
  for name, table in (("probability", predictions.probability), ("logit", predictions.logits)):
    out.update({f"{name}_{k}": table[:, k] for k in range(table.shape[1])})
  return out


def _arrays(predictions: Predictions, class_names: Sequence[str]) -> dict[str, np.ndarray]:
  count, label, clean = len(predictions.index), predictions.label, predictions.clean_label
  out = {
    "index": predictions.index,
    "id": predictions.id,
    "label": np.full(count, -1, np.int32) if label is None else label,
    "prediction": predictions.prediction,
    "probability": predictions.probability,
    "logit": predictions.logits,
    "class_names": np.array(list(class_names), np.str_),
    "format_version": np.array(writers.FORMAT_VERSION),
  }
  return out if clean is None else {**out, "clean_label": clean}


def _write_csv(file: IO, columns: Mapping[str, Any]) -> None:
  writer = csv.writer(file, lineterminator="\n")
  writer.writerow(columns)
  # Row by row of NumPy's own scalars: their text is the shortest that gives the float32 back.
  writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(file: IO, columns: Mapping[str, Any], about: Mapping[str, Any]) -> None:
  import pyarrow
  import pyarrow.parquet

  made = {
    name: pyarrow.array(values, pyarrow.int32() if name == "label" else None)
    for name, values in columns.items()
  }
  text = json.dumps({"format_version": writers.FORMAT_VERSION, **about})
  table = pyarrow.table(made).replace_schema_metadata({"jaxnoise": text})
  pyarrow.parquet.write_table(table, file)


def _whole(path: Path, write: Callable[[IO], None], *, text: bool = False) -> None:
  """Writes to a temporary name and renames, so that a reader never meets half a file."""
  temporary = path.with_name(path.name + ".tmp")
  opened = temporary.open("w", newline="", encoding="utf-8") if text else temporary.open("wb")
  try:
    with opened as file:
      write(file)
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise

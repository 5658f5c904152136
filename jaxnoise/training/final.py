"""The final measurements of a finished run, and the tables they are written to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise import data as data_lib
from jaxnoise import evaluation, metrics
from jaxnoise.core import rng
from jaxnoise.core.state import TrainState
from jaxnoise.training import build, loop, seeds, writers
from jaxnoise.training.corrupted import corruption_names

Tell = Callable[[str], None]


def finish(
  run: build.Run,
  result: loop.Result,
  directory: Path,
  tell: Tell,
  stop: Callable[[], bool],
  *,
  corrupted: evaluation.CorruptedPools | None = None,
) -> bool:
  """Measures the finished network on the clean and the corrupted test set; writes the tables.

  * tables/clean.json: predictor -> metric -> one number per seed, with n; how each class fared
    ("classes", "confusion") and, packed, whether each example was right ("examples").
  * tables/samples.json: test images with predictions, for the first seed's headline predictor.
  * tables/corruptions.json: predictor -> one (corruption, severity) table per seed, when the config
    names corruptions or `corrupted` is given.

  Tables that are there for this step are left as they are.

  Args:
    run: what was trained.
    result: its end.
    directory: the run directory.
    tell: called with lines for the user.
    stop: asked now and then whether to give up.
    corrupted: corrupted test sets to measure instead of those that the config names.

  Returns:
    Whether everything is written; False when asked to stop.
  """
  tables = _Tables(directory / "tables", run.config, result.step)
  test_set = evaluation.TestSet(run.source.test, run.config["evaluate"]["batch_size"], run.mesh)
  measure = evaluation.make_measure(run.method, run.mesh)
  count = run.config["seeds"]
  states = [result.state] if count == 1 else [seeds.take(result.state, s) for s in range(count)]
  if tables.read("clean") is None or tables.read("samples") is None:
    measured = [evaluation.measure_set(measure, state, test_set) for state in states]
    if tables.read("clean") is None:
      tables.write("clean", _clean_table(run.source, measured))
    if tables.read("samples") is None:
      tables.write("samples", _sample_table(run, measured[0]))
  if tables.read("corruptions") is None:
    rows = _corruptions(run, measure, states, test_set, corrupted, tell, stop)
    if rows is None:
      return False
    if rows:
      tables.write("corruptions", rows)
  corruption_rows = (tables.read("corruptions") or {}).get("predictors", {})
  for predictor, values in tables.read("clean")["predictors"].items():
    tell(summary(predictor, values, corruption_rows.get(predictor)))
  return True


class _Tables:
  """The tables of a run at one step."""

  def __init__(self, folder: Path, config: Mapping[str, Any], step: int):
    self._folder, self._step = folder, step
    self._common = {"seeds": [config["seed"] + s for s in range(config["seeds"])], "step": step}

  def read(self, name: str) -> dict[str, Any] | None:
    """A table of this very step, or None."""
    path = self._folder / f"{name}.json"
    table = writers.read_json(path) if path.exists() else None
    return table if table is not None and table["step"] == self._step else None

  def write(self, name: str, content: Mapping[str, Any]) -> None:
    """Writes a table with the seeds and the step it is of."""
    writers.write_json(self._folder / f"{name}.json", {**self._common, **content})


def _clean_table(
  source: data_lib.Source, measured: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  label, classes = source.test_labels, source.num_classes
  predictors: dict[str, dict[str, list[float]]] = {}
  bins: dict[str, list] = {}
  correct: dict[str, list[str]] = {}
  per_class: dict[str, list] = {}
  matrices: dict[str, list] = {}
  for of_seed in measured:
    for name, value in evaluation.summarise("test", of_seed).items():
      _, predictor, metric = name.split("/")
      predictors.setdefault(predictor, {}).setdefault(metric, []).append(value)
    for predictor, values in of_seed.items():
      rows = jax.tree.map(lambda x: np.asarray(x).tolist(), values["calibration"]._asdict())
      bins.setdefault(predictor, []).append(rows)
      right = np.asarray(values["correct"]) > 0
      correct.setdefault(predictor, []).append(evaluation.pack(right))
      counts = np.bincount(label[right], minlength=classes).tolist()
      per_class.setdefault(predictor, []).append(counts)
      if classes <= evaluation.MAX_CONFUSION:
        matrix = evaluation.confusion(label, np.asarray(values["prediction"]), classes)
        matrices.setdefault(predictor, []).append(matrix.tolist())
  return {
    "n": len(label),
    "predictors": predictors,
    "calibration": bins,
    "classes": {
      "names": list(source.class_names),
      "count": np.bincount(label, minlength=classes).tolist(),
      "correct": per_class,
    },
    "confusion": matrices,
    "examples": {"test_crc32": fingerprint(source.test_images, label), "correct": correct},
  }


def fingerprint(images: np.ndarray, labels: np.ndarray) -> int:
  """CRC32 of a set's images and labels: runs with the same one are compared image by image."""
  images = np.ascontiguousarray(images)
  return zlib.crc32(np.ascontiguousarray(labels, "<i4"), zlib.crc32(images))


def _sample_table(run: build.Run, measured: Mapping[str, Any]) -> dict[str, Any]:
  predictor, values = next(iter(measured.items()))
  source = run.source
  return {
    "seed": run.config["seed"],
    "predictor": predictor,
    "n": len(source.test_labels),
    "image_shape": list(source.image_shape),
    "names": list(source.class_names),
    **evaluation.samples(source.test_images, source.test_labels, values),
  }


def _corruptions(
  run: build.Run,
  measure: evaluation.Measure,
  states: Sequence[TrainState],
  test_set: evaluation.TestSet,
  corrupted: evaluation.CorruptedPools | None,
  tell: Tell,
  stop: Callable[[], bool],
) -> dict[str, Any] | None:
  """The table of corruptions; {} where none was asked for, None when asked to stop."""
  config = run.config["evaluate"]
  if corrupted is None:
    names, severities = corruption_names(config["corruptions"]), config["severities"]
    # One corrupted test set for every seed and method: the table compares networks, not draws.
    key = rng.fold(jax.random.key(0), "corruptions")
    views = evaluation.generated_views(test_set, key)
  else:
    names, severities = tuple(corrupted.names), tuple(corrupted.severities)
    views = evaluation.stored_views(test_set, corrupted)
  if not names:
    return {}
  tell(f"measuring {len(names)} corruptions at {len(severities)} severities")
  cells = evaluation.corruption_table(
    measure, states, test_set, views, names=names, severities=severities, stop=stop
  )
  if cells is None:
    return None
  made = "generated" if corrupted is None else "stored"
  return {"images": made, "predictors": _corruption_rows(cells)}


def _corruption_rows(cells: Sequence[Mapping[str, Any]]) -> dict[str, list]:
  out: dict[str, list] = {}
  for of_seed in cells:
    for predictor, tables in of_seed.items():
      means = {
        f"mean_{field}": metrics.mean_corruption_accuracy(tables[field])
        for field in ("accuracy", "conditional", "ece")
      }
      out.setdefault(predictor, []).append({**evaluation.table_rows(tables), **means})
  return out


def summary(predictor: str, clean: Mapping[str, list[float]], tables: list | None) -> str:
  """One line: mean over seeds of what was measured."""
  parts = [f"{metric} {np.mean(values):.4f}" for metric, values in clean.items()]
  if tables:
    for field, label in (("accuracy", "accuracy"), ("conditional", "conditional accuracy")):
      mean = np.mean([t[f"mean_{field}"] for t in tables])
      parts.append(f"mean corruption {label} {mean:.4f}")
    parts.append(f"over {len(tables[0]['names'])} corruptions")
  count = len(next(iter(clean.values())))
  return f"test {predictor}: {', '.join(parts)} (n = {count} seed(s))"

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
from jaxnoise.training import build, distributed, loop, seeds, sharding, sweep, writers
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

  Of a sweep "per seed" means per member and seed, those of a member next to one another; "members"
  says which.

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
  mesh, each = sharding.one_group(run.mesh), run.members or (run,)
  test_set = evaluation.TestSet(run.source.test, run.config["evaluate"]["batch_size"], mesh)
  count, measures = run.config["seeds"], [evaluation.make_measure(m.method, mesh) for m in each]
  rows = range(len(each) * count)
  states = [seeds.take(result.state, r) for r in rows] if len(rows) > 1 else [result.state]
  if tables.read("clean") is None or tables.read("samples") is None:
    measured = [
      evaluation.measure_set(measures[row // count], state, test_set)
      for row, state in enumerate(states)
    ]
    if tables.read("clean") is None:
      tables.write("clean", _clean_table(run.source, measured))
    if tables.read("samples") is None:
      tables.write("samples", _sample_table(run, measured[0]))
  if tables.read("corruptions") is None:
    cells = _corruptions(run, measures, states, test_set, corrupted, tell, stop)
    if cells is None:
      return False
    if cells:
      tables.write("corruptions", cells)
  corruption_rows = (tables.read("corruptions") or {}).get("predictors", {})
  for predictor, values in tables.read("clean")["predictors"].items():
    for member, label in enumerate(sweep.labels(run.config)):
      own = slice(member * count, (member + 1) * count)
      clean = {name: of_all[own] for name, of_all in values.items()}
      line = summary(predictor, clean, (corruption_rows.get(predictor) or [])[own])
      tell(f"{label}: {line}" if label else line)
  return True


class _Tables:
  """The tables of a run at one step; of several processes the first one reads and writes them."""

  def __init__(self, folder: Path, config: Mapping[str, Any], step: int):
    self._folder, self._step = folder, step
    labels = sweep.labels(config)
    own = [config["seed"] + s for s in range(config["seeds"])]
    self._common = {"seeds": own * len(labels), "step": step}
    if config["sweep"]:
      self._common["members"] = [label for label in labels for _ in own]
    self._known: dict[str, Mapping[str, Any] | None] = {}

  def read(self, name: str) -> Mapping[str, Any] | None:
    """A table of this very step, or None."""
    if name not in self._known:
      found = None
      with distributed.together():
        path = self._folder / f"{name}.json"
        if distributed.is_main() and path.exists():
          found = writers.read_json(path)
      self._known[name] = distributed.from_main(found)
    table = self._known[name]
    return table if table is not None and table["step"] == self._step else None

  def write(self, name: str, content: Mapping[str, Any]) -> None:
    """Writes a table with the seeds and the step it is of."""
    self._known[name] = {**self._common, **content}
    if distributed.is_main():
      writers.write_json(self._folder / f"{name}.json", self._known[name])


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
  crc = 0
  for first in range(0, len(images), 1024):  # images on disk are never all in memory
    crc = zlib.crc32(np.ascontiguousarray(images[first : first + 1024]), crc)
  return zlib.crc32(np.ascontiguousarray(labels, "<i4"), crc)


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
  measures: Sequence[evaluation.Measure],
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
  cells, count = [], len(states) // len(measures)
  for member, measure in enumerate(measures):
    own = states[member * count : (member + 1) * count]
    found = evaluation.corruption_table(
      measure, own, test_set, views, names=names, severities=severities, stop=stop
    )
    if found is None:
      return None
    cells += found
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

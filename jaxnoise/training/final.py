"""The final measurements of a finished run, and the tables they are written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise import evaluation, metrics
from jaxnoise.core import rng
from jaxnoise.training import build, loop, seeds, writers

Tell = Callable[[str], None]


def finish(
  run: build.Run, result: loop.Result, directory: Path, tell: Tell, stop: Callable[[], bool]
) -> bool:
  """Measures the finished network on the clean and the corrupted test set; writes the tables.

  tables/clean.json: predictor -> metric -> one number per seed, with n. tables/corruptions.json:
  predictor -> one (corruption, severity) table per seed, when the config names corruptions. Tables
  that are there for this step are left as they are.

  Returns:
    Whether everything is written; False when asked to stop.
  """
  config = run.config
  names = build.corruption_names(config["evaluate"]["corruptions"])
  tables = directory / "tables"
  clean, corrupted = (_read(tables / f"{n}.json", result.step) for n in ("clean", "corruptions"))
  test_set = evaluation.TestSet(run.source.test, config["evaluate"]["batch_size"], run.mesh)
  measure = evaluation.make_measure(run.method, run.mesh)
  count = config["seeds"]
  states = [result.state] if count == 1 else [seeds.take(result.state, s) for s in range(count)]
  common = {"seeds": [config["seed"] + s for s in range(count)], "step": result.step}
  if clean is None:
    measured = [evaluation.measure_set(measure, state, test_set) for state in states]
    clean = {**common, "n": test_set.count, **_clean_table(measured)}
    writers.write_json(tables / "clean.json", clean)
  if names and corrupted is None:
    levels = len(config["evaluate"]["severities"])
    tell(f"measuring {len(names)} corruptions at {levels} severities")
    # One corrupted test set for every seed and method: the table compares networks, not draws.
    cells = evaluation.corruption_table(
      measure,
      states,
      test_set,
      names=names,
      severities=config["evaluate"]["severities"],
      rng=rng.fold(jax.random.key(0), "corruptions"),
      stop=stop,
    )
    if cells is None:
      return False
    corrupted = {**common, "predictors": _corruption_rows(cells)}
    writers.write_json(tables / "corruptions.json", corrupted)
  for predictor, values in clean["predictors"].items():
    rows = corrupted["predictors"][predictor] if names else None
    tell(summary(predictor, values, rows))
  return True


def _read(path: Path, step: int) -> dict[str, Any] | None:
  """A table of this very step, or None."""
  table = writers.read_json(path) if path.exists() else None
  return table if table is not None and table["step"] == step else None


def _clean_table(measured: list[Mapping[str, Any]]) -> dict[str, Any]:
  predictors: dict[str, dict[str, list[float]]] = {}
  bins: dict[str, list] = {}
  for of_seed in measured:
    for name, value in evaluation.summarise("test", of_seed).items():
      _, predictor, metric = name.split("/")
      predictors.setdefault(predictor, {}).setdefault(metric, []).append(value)
    for predictor, values in of_seed.items():
      rows = jax.tree.map(lambda x: np.asarray(x).tolist(), values["calibration"]._asdict())
      bins.setdefault(predictor, []).append(rows)
  return {"predictors": predictors, "calibration": bins}


def _corruption_rows(cells: list[Mapping[str, Any]]) -> dict[str, list]:
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

"""A whole experiment: one run or several stages, then the final measurements and their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise import evaluation, metrics
from jaxnoise.core import rng
from jaxnoise.core.errors import InputError, closest
from jaxnoise.training import build, loop, schema, seeds, writers

Tell = Callable[[str], None]


def plan(config: Mapping[str, Any], workdir: Path) -> list[tuple[dict[str, Any], Path]]:
  """Lists the (config, directory) of each single run that a config asks for.

  Without stages it is the config itself in `workdir`. With stages, each is the config with the
  changes of `config.stage.NAME`, in `workdir/NAME`; its `teacher` or `init_from` may name an
  earlier stage.

  Raises:
    InputError: for a stage without a section, a section without a stage, or a stage named twice.

  Example:
    >>> import pathlib
    >>> from jaxnoise.training import experiment
    >>> config = {"stages": ("teacher", "student"), "stage": {"teacher": {}, "student": {
    ...   "teacher": "teacher", "method": {"name": "knowledge_distillation"}}}}
    >>> [path.name for _, path in experiment.plan(config, pathlib.Path("run"))]
    ['teacher', 'student']
  """
  config = schema.check(config)
  names, sections = config["stages"], config["stage"]
  if len(set(names)) != len(names):
    raise InputError(f"config.stages is {names}; every stage needs a name of its own")
  for name in sections:
    if name not in names:
      raise InputError(
        f"config.stage.{name} belongs to no stage of config.stages: {closest(name, names or ('',))}"
      )
  if not names:
    return [(config, workdir)]
  runs = []
  for i, name in enumerate(names):
    changes = {"stages": (), "stage": {}, **sections.get(name, {})}
    stage = schema.check(schema.merge(config, changes))
    for field in ("teacher", "init_from"):
      if stage[field] in names:
        if stage[field] not in names[:i]:
          raise InputError(
            f"config.stage.{name}.{field} is {stage[field]!r}, which runs no earlier than {name!r}"
          )
        stage[field] = str(workdir / stage[field])
    runs.append((stage, workdir / name))
  return runs


def run(
  config: Mapping[str, Any], workdir: str | Path, *, quiet: bool = False
) -> list[loop.Result]:
  """Trains every run of a config in its directory and writes its final tables.

  Finished stages are not trained again: the same call resumes where the last one stopped.

  Args:
    config: fields of `schema.default`.
    workdir: the run directory.
    quiet: print no progress.

  Returns:
    One result per run; fewer than planned when SIGTERM stopped one.
  """
  tell = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
  results = []
  for stage, directory in plan(config, Path(workdir)):
    assembled = build.assemble(stage)
    if not quiet:
      tell(describe(assembled, directory))
    result = loop.train(assembled, directory, quiet=quiet)
    results.append(result)
    if not result.finished:
      tell(f"stopped at step {result.step}; the same command resumes")
      break
    finish(assembled, result, directory, tell)
  return results


def describe(run: build.Run, directory: Path) -> str:
  """One line on what is about to run."""
  spec, config = run.spec, run.config
  wrappers = "".join(f" + {name}" for name in run.method.wrappers)
  return (
    f"{run.method.name}{wrappers} on {config['data']['name']}: {spec.num_train} training images "
    f"{spec.image_shape}, {spec.num_classes} classes, {config['seeds']} seed(s), "
    f"{spec.num_steps} steps of {spec.batch_size}, in {directory}"
  )


def finish(run: build.Run, result: loop.Result, directory: Path, tell: Tell) -> dict[str, Any]:
  """Measures the finished network on the clean and the corrupted test set; writes the tables.

  tables/clean.json: predictor -> metric -> one number per seed, with n. tables/corruptions.json:
  predictor -> one (corruption, severity) table per seed, when the config names corruptions.

  Returns:
    The content of both.
  """
  config = run.config
  test_set = evaluation.TestSet(run.source.test, config["evaluate"]["batch_size"], run.mesh)
  measure = evaluation.make_measure(run.method, run.mesh)
  names = build.corruption_names(config["evaluate"]["corruptions"])
  clean: dict[str, dict[str, list[float]]] = {}
  bins: dict[str, list] = {}
  corrupted: dict[str, list] = {}
  for s in range(config["seeds"]):
    state = result.state if config["seeds"] == 1 else seeds.take(result.state, s)
    measured = evaluation.measure_set(measure, state, test_set)
    for name, value in evaluation.summarise("test", measured).items():
      _, predictor, metric = name.split("/")
      clean.setdefault(predictor, {}).setdefault(metric, []).append(value)
    for predictor, values in measured.items():
      rows = jax.tree.map(lambda x: np.asarray(x).tolist(), values["calibration"]._asdict())
      bins.setdefault(predictor, []).append(rows)
    if names:
      levels = len(config["evaluate"]["severities"])
      tell(f"seed {config['seed'] + s}: {len(names)} corruptions at {levels} severities")
      # One corrupted test set for every seed and method: the table compares networks, not draws.
      table = evaluation.corruption_table(
        measure,
        state,
        test_set,
        names=names,
        severities=config["evaluate"]["severities"],
        rng=rng.fold(jax.random.key(0), "corruptions"),
      )
      for predictor, cells in table.items():
        rows = {
          **evaluation.table_rows(cells),
          "mean_accuracy": metrics.mean_corruption_accuracy(cells["accuracy"]),
          "mean_conditional": metrics.mean_corruption_accuracy(cells["conditional"]),
          "mean_ece": metrics.mean_corruption_accuracy(cells["ece"]),
        }
        corrupted.setdefault(predictor, []).append(rows)
  first = config["seed"]
  common = {"seeds": list(range(first, first + config["seeds"])), "step": result.step}
  content = {**common, "n": test_set.count, "predictors": clean, "calibration": bins}
  writers.write_json(directory / "tables" / "clean.json", content)
  if names:
    writers.write_json(
      directory / "tables" / "corruptions.json", {**common, "predictors": corrupted}
    )
  for predictor, values in clean.items():
    tell(summary(predictor, values, corrupted.get(predictor)))
  return {"clean": content, "corruptions": corrupted}


def summary(predictor: str, clean: Mapping[str, list[float]], tables: list | None) -> str:
  """One line: mean over seeds of what was measured."""
  parts = [f"{metric} {np.mean(values):.4f}" for metric, values in clean.items()]
  if tables:
    for field, label in (("accuracy", "accuracy"), ("conditional", "conditional accuracy")):
      mean = np.mean([t[f"mean_{field}"] for t in tables])
      parts.append(f"mean corruption {label} {mean:.4f}")
  count = len(next(iter(clean.values())))
  return f"test {predictor}: {', '.join(parts)} (n = {count} seed(s))"

"""A whole experiment: one run or several stages, each ended by its final tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnoise.core.errors import InputError, closest
from jaxnoise.training import build, distributed, label_noise_table, loop, schema, writers
from jaxnoise.training.final import finish


def plan(config: Mapping[str, Any], workdir: Path) -> list[tuple[dict[str, Any], Path]]:
  """Lists the (config, directory) of each single run that a config asks for.

  Without stages it is the config itself in `workdir`. With stages, each is the config with the
  changes of `config.stage.NAME`, in `workdir/NAME`; its `teacher`, `init_from` or
  `label_matrix` may name an earlier stage.

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
    merged = schema.merge(config, sections.get(name, {}))
    # What the other stages are is no part of this one: changing one leaves the others as they are.
    stage = schema.check({**merged, "stages": (), "stage": {}})
    for field in ("teacher", "init_from", "label_matrix"):
      if stage[field] in names:
        if stage[field] not in names[:i]:
          raise InputError(
            f"config.stage.{name}.{field} is {stage[field]!r}, which runs no earlier than {name!r}"
          )
        stage[field] = str(workdir / stage[field])
    runs.append((stage, workdir / name))
  return runs


def assemble_all(
  config: Mapping[str, Any], workdir: Path, **parts: Any
) -> list[tuple[build.Run, Path]]:
  """Assembles every run of a config: what a later one builds on stands in as zeros.

  Args:
    config: fields of `schema.default`.
    workdir: the run directory.
    **parts: objects for `build.assemble`, of a config without stages.

  Raises:
    InputError: for bad input of any of them, and for objects where there are stages.
  """
  stages = plan(config, workdir)
  given = [name for name, part in parts.items() if part is not None]
  if given and len(stages) > 1:
    raise InputError(
      f"{', '.join(given)} was given as an object, but the config has stages; train them one by "
      "one, or name what they use in the config"
    )
  pending: dict[str, build.Run] = {}
  for stage, directory in stages:
    pending[str(directory)] = build.assemble(stage, pending=pending, **parts)
  return [(pending[str(directory)], directory) for _, directory in stages]


def run(
  config: Mapping[str, Any], workdir: str | Path, *, quiet: bool = False, **parts: Any
) -> list[loop.Result]:
  """Trains every run of a config in its directory and writes its final tables.

  Every stage is assembled before the first one is trained, so that bad input of a later one is
  found while nothing is written. Finished stages are neither trained nor measured again: the same
  call resumes where the last one stopped. SIGTERM saves and returns early at any point.

  Several processes train one run together; the first one writes and prints.

  Args:
    config: fields of `schema.default`.
    workdir: the run directory.
    quiet: print no progress.
    **parts: your own `source`, `network`, `method`, `loss`; see `build.assemble`.

  Returns:
    One result per run; fewer than planned, or an unfinished last one, when SIGTERM came.
  """
  quiet = quiet or not distributed.is_main()
  tell = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
  with distributed.together():
    planned = assemble_all(config, writers.run_directory(workdir), **parts)
  results = []
  with loop.stop_on_sigterm() as stop:
    for planned_run, directory in planned:
      # Again, now that what it builds on is trained; a single run is used as it is.
      single = len(planned) == 1
      with distributed.together():
        assembled = planned_run if single else build.assemble(planned_run.config)
      tell(describe(assembled, directory))
      noise = label_noise_table.run_table(assembled)
      for line in [] if noise is None else label_noise_table.lines(noise):
        tell(f"label noise: {line}" if "sha256" in line else line)
      result = loop.train(assembled, directory, quiet=quiet, stop=stop)
      results.append(result)
      stored = assembled.corrupted
      with distributed.ends_all():
        if result.finished and finish(assembled, result, directory, tell, stop, corrupted=stored):
          continue
      tell(f"stopped at step {result.step}; the same command resumes")
      break
  return results


def describe(run: build.Run, directory: Path) -> str:
  """One line on what is about to run."""
  spec, config = run.spec, run.config
  wrappers = "".join(f" + {name}" for name in run.method.wrappers)
  members = f", {len(run.members)} members of config.sweep" if run.members else ""
  return (
    f"{run.method.name}{wrappers} on {run.source.name}: {spec.num_train} training images "
    f"{spec.image_shape}, {spec.num_classes} classes, {config['seeds']} seed(s)"
    f"{members}, {spec.num_steps} steps of {spec.batch_size}, in {directory}"
  )

"""A sweep's directory as several runs: members differ by their settings and are never averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxnoise.reporting._runs import RunRecord
from jaxnoise.training import sweep


def members(run: RunRecord) -> list[RunRecord]:
  """The members of a sweep, each as the run that it would be alone; of no sweep, the run itself.

  Args:
    run: as it was read. In its rows and tables the seeds of a member are next to one another.

  Example:
    >>> import pathlib
    >>> from jaxnoise.reporting import RunRecord, _sweeps
    >>> config = {"seeds": 2, "sweep": {"optim": {"lr": [0.1, 0.05]}}}
    >>> rows = ({"step": 9, "epoch": 1.0, "train/student/loss": [0.5, 0.7, 0.1, 0.2]},)
    >>> first, second = _sweeps.members(RunRecord(pathlib.Path("run"), {"config": config}, rows))
    >>> second.member, second.config["optim"]["lr"], second.rows[0]["train/student/loss"]
    ('optim.lr = 0.05', 0.05, [0.1, 0.2])
  """
  count = len(sweep.labels(run.config))
  return [run] if count == 1 else [_member(run, i, count) for i in range(count)]


def apart(runs: Iterable[RunRecord]) -> list[RunRecord]:
  """The runs with every sweep in its members' place."""
  return [member for run in runs for member in members(run)]


def _member(run: RunRecord, i: int, count: int) -> RunRecord:
  seeds = len(run.seeds)

  def own(value: Any, *, single: bool = False) -> Any:
    """The part of a list with an entry for every network; other values are all members'."""
    if not isinstance(value, list) or len(value) != count * seeds:
      return value
    mine = value[i * seeds : (i + 1) * seeds]
    return mine[0] if single and seeds == 1 else mine

  def of_predictors(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own(value) for name, value in table.items()}

  rows = tuple({k: own(v, single=True) for k, v in row.items()} for row in run.rows)
  clean, corruptions = run.clean, run.corruptions
  if clean is not None:
    clean = {**clean, "seeds": run.seeds}
    clean["predictors"] = {p: of_predictors(v) for p, v in run.clean["predictors"].items()}
    for name in ("calibration", "confusion"):
      if name in clean:
        clean[name] = of_predictors(clean[name])
    for name in ("classes", "examples"):
      if name in clean:
        clean[name] = {**clean[name], "correct": of_predictors(clean[name]["correct"])}
  if corruptions is not None:
    predictors = of_predictors(corruptions["predictors"])
    corruptions = {**corruptions, "seeds": run.seeds, "predictors": predictors}
  return dataclasses.replace(
    run,
    info={**run.info, "config": sweep.member(run.config, i)},
    rows=rows,
    clean=clean,
    corruptions=corruptions,
    samples=run.samples if i == 0 else None,
    member=sweep.labels(run.config)[i],
  )

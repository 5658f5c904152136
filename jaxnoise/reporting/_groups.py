"""Runs that differ only in their seeds as one, and what two such groups differ by."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnoise import evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _runs
from jaxnoise.reporting._statistics import (
  Estimate,
  ExampleDifference,
  difference_by_example,
  estimate,
)

_NOT_COMPARED = ("seed", "seeds", "name")


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs of one config, method and data set, whose seeds are taken together.

  Attributes:
    label: what it is called in tables and figures.
    runs: in the order given.
  """

  label: str
  runs: tuple[_runs.RunRecord, ...]

  @property
  def first(self) -> _runs.RunRecord:
    """The run that stands for what all have in common."""
    return self.runs[0]

  def scores(
    self, table: str, field: str, predictor: str | None = None
  ) -> dict[int, float]:
    """Reads one score by seed; empty where a run has no such number.

    Args:
      table: "clean" or "corrupted".
      field: of `final` or `corrupted`.
      predictor: None means the headline.
    """
    read = _runs.final if table == "clean" else _runs.corrupted
    out: dict[int, float] = {}
    for run in self.runs:
      values = read(run, field, predictor)
      if values is not None:
        out.update(zip(run.seeds, values.tolist(), strict=True))
    return out

  def correct(self, predictor: str | None = None) -> dict[int, np.ndarray]:
    """[N] bool by seed, whether each test image is classified correctly; empty in old runs."""
    out: dict[int, np.ndarray] = {}
    for run in self.runs:
      examples = (run.clean or {}).get("examples", {})
      packed = examples.get("correct", {}).get(predictor or next(iter(run.predictors), ""), ())
      for seed, text in zip(run.seeds, packed, strict=False):
        out[seed] = evaluation.unpack(text, run.clean["n"])
    return out

  def cells(self, field: str = "accuracy", predictor: str | None = None) -> _runs.Cells | None:
    """The corruption tables of all seeds; None where there is none."""
    tables = [_runs.corruption_cells(run, field, predictor) for run in self.runs]
    tables = [table for table in tables if table is not None]
    if not tables:
      return None
    return tables[0]._replace(value=np.concatenate([table.value for table in tables]))

  def curve(self, name: str) -> _runs.Curve | None:
    """A curve of all seeds, at the epochs that every run has."""
    found = [_runs.curve(run, name) for run in self.runs if _runs.has_curve(run, name)]
    if not found:
      return None
    common = functools.reduce(np.intersect1d, (c.epoch for c in found))
    return _runs.Curve(
      common, np.concatenate([c.value[np.isin(c.epoch, common)] for c in found], axis=1)
    )


def group_runs(runs: Sequence[_runs.RunRecord]) -> list[Group]:
  """Takes runs together that differ only in `seed`, `seeds` and `name`, in the order given.

  Raises:
    InputError: for no run, runs on different data or test images, or one network given twice.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> def run(name, seed):
    ...   info = {"method": name, "config": {"seed": seed, "data": {"name": "digits"}}}
    ...   return reporting.RunRecord(pathlib.Path(f"{name}{seed}"), info)
    >>> groups = reporting.group_runs([run("erm", 0), run("mixup", 0), run("erm", 1)])
    >>> [(group.label, len(group.runs)) for group in groups]
    [('erm', 2), ('mixup', 1)]
  """
  if not runs:
    raise InputError("no run was given; name one run directory at least")
  for run in runs[1:]:
    check_same_test(runs[0], run)
  members: dict[str, list[_runs.RunRecord]] = {}
  for run in runs:
    members.setdefault(_identity(run), []).append(run)
  for same in members.values():
    _check_distinct(same)
    _check_same_corruptions(same)
  groups = [Group("", tuple(same)) for same in members.values()]
  labels = _labels(groups)
  return [dataclasses.replace(g, label=label) for g, label in zip(groups, labels, strict=True)]


def _identity(run: _runs.RunRecord) -> str:
  config = {k: v for k, v in run.config.items() if k not in _NOT_COMPARED}
  info = [run.info.get(k) for k in ("method", "wrappers", "data_crc32", "num_train")]
  return json.dumps([config, info], sort_keys=True)


def check_same_test(a: _runs.RunRecord, b: _runs.RunRecord) -> None:
  """Refuses runs whose test images are not the same, as far as their files tell.

  Raises:
    InputError: naming both and what differs.
  """

  def crc(run):
    return (run.clean or {}).get("examples", {}).get("test_crc32")

  what = None
  if a.dataset != b.dataset:
    what = f"{a.dataset} and {b.dataset}"
  elif a.clean and b.clean and a.clean.get("n") != b.clean.get("n"):
    what = f"{a.clean.get('n')} and {b.clean.get('n')} test images of {a.dataset}"
  elif crc(a) is not None and crc(b) is not None and crc(a) != crc(b):
    what = f"different test images of {a.dataset}"
  if what:
    raise InputError(f"{a.path} and {b.path} are on {what}; compare runs on one test set")


def _check_distinct(runs: Sequence[_runs.RunRecord]) -> None:
  seen: dict[int, _runs.RunRecord] = {}
  for run in runs:
    for seed in run.seeds:
      if seed in seen:
        raise InputError(
          f"{seen[seed].path} and {run.path} are one experiment with the same seed {seed}; its "
          "network would count twice, so give one of them"
        )
      seen[seed] = run


def _check_same_corruptions(runs: Sequence[_runs.RunRecord]) -> None:
  tables = [(run, t) for run in runs if (t := _runs.corruption_cells(run)) is not None]
  for run, table in tables[1:]:
    if table[:2] != tables[0][1][:2]:
      raise InputError(
        f"{tables[0][0].path} and {run.path} have one config but tables of different corruptions; "
        "were they written by different versions? Evaluate both with one"
      )


def _labels(groups: Sequence[Group]) -> list[str]:
  """The method; where several share it, also the settings that differ, or else the directory."""
  out = []
  names = _runs.labels([group.first for group in groups])
  for group, name in zip(groups, names, strict=True):
    rivals = [g for g in groups if g.first.method == group.first.method]
    fields = [row for row in differences(rivals) if row[0] in _flat(group.first.config)]
    mine = [f"{field} = {values[rivals.index(group)]}" for field, values in fields]
    text = f"{group.first.method} ({', '.join(mine)})"
    known = bool(group.first.member) or not mine or len(mine) > 2 or len(text) > 60
    out.append(name if known else text)
  return out if len(set(out)) == len(out) else names


def differences(groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
  """Lists what the groups were run with that is not the same for all.

  Returns:
    (field of the config or of its origin, its value in each group as text; "-" where it is not).
  """
  flat = [dict(_flat(group.first.config)) for group in groups]
  for values, group in zip(flat, groups, strict=True):
    info = group.first.info
    origin = {"commit": info.get("commit"), "training images": info.get("num_train")}
    origin["jax"] = info.get("versions", {}).get("jax")
    origin["platform"] = info.get("platform")
    values.update({k: v for k, v in origin.items() if v is not None})
  fields = sorted({field for values in flat for field in values})
  rows = [(field, [_text(values.get(field, "-")) for values in flat]) for field in fields]
  return [(field, texts) for field, texts in rows if len(set(texts)) > 1]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  out: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      out.update(_flat(value, f"{prefix}{key}."))
    elif prefix or key not in _NOT_COMPARED:
      out[prefix + key] = value
  return out


def _text(value: Any) -> str:
  return value if isinstance(value, str) and value else json.dumps(value)


def by_seed(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
  """The mean of second - first over the seeds that both have; None where they share none."""
  shared = [seed for seed in first if seed in second]
  return estimate([second[s] - first[s] for s in shared]) if shared else None


def by_example(
  first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray]
) -> ExampleDifference | None:
  """The difference of accuracies image by image, over the shared seeds or, without any, over all.

  None where either has no such record.
  """
  if not first or not second:
    return None
  shared = [seed for seed in first if seed in second]
  a, b = ([x[s] for s in shared or x] for x in (first, second))
  return difference_by_example(np.stack(a), np.stack(b), same_seeds=bool(shared))


def common_corruptions(groups: Iterable[Group]) -> list[Group]:
  """The groups whose corruption tables have the rows and columns of the first such table."""
  tables = [(group, table) for group in groups if (table := group.cells()) is not None]

  def made(group: Group) -> Any:
    return (group.first.corruptions or {}).get("images", "generated")

  return [
    group
    for group, table in tables
    if table[:2] == tables[0][1][:2] and made(group) == made(tables[0][0])
  ]

"""A run directory as one value: what was asked for, the curves, the final tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.training import writers
from jaxnoise.training.resolve import OBJECT


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """What a run directory says; nothing is computed until it is asked for.

  Attributes:
    path: the directory.
    info: config.json: the config, the data's sizes, versions and commit.
    rows: of metrics.jsonl, in the order of their steps.
    clean: tables/clean.json, or None where the run has not ended.
    corruptions: tables/corruptions.json, or None where there is none.
    samples: tables/samples.json, or None.
    label_noise: tables/label_noise.json, or None where the labels are the true ones.
    member: of a member of a sweep, the settings that tell it from the others; else "".
  """

  path: Path
  info: Mapping[str, Any]
  rows: tuple[Mapping[str, Any], ...] = ()
  clean: Mapping[str, Any] | None = None
  corruptions: Mapping[str, Any] | None = None
  samples: Mapping[str, Any] | None = None
  label_noise: Mapping[str, Any] | None = None
  member: str = ""

  @property
  def config(self) -> Mapping[str, Any]:
    """The resolved config."""
    return self.info["config"]

  @property
  def method(self) -> str:
    """The method with its wrappers, as in "erm + with_ema"."""
    name = self.info.get("method") or self.config.get("method", {}).get("name", "?")
    return " + ".join([name, *self.info.get("wrappers", ())])

  @property
  def dataset(self) -> str:
    """The data set's name; of a user's own, that of its file or object."""
    data = self.config.get("data", {})
    name, path = data.get("name", "?").removeprefix(OBJECT), data.get("path", "")
    return Path(path).stem if name == "npz" and path else name

  @property
  def class_names(self) -> list[str]:
    """What the classes are called: their numbers where the data set has no names."""
    classes = (self.clean or {}).get("classes", {})
    count = len(classes.get("count", ())) or self.info.get("num_classes", 0)
    return list(classes.get("names") or (str(k) for k in range(count)))

  @property
  def seeds(self) -> list[int]:
    """The seeds that ran in it."""
    first = self.config.get("seed", 0)
    return list(range(first, first + self.config.get("seeds", 1)))

  @property
  def finished(self) -> bool:
    """Whether the final tables are those of its last step."""
    return self.clean is not None and self.clean.get("step") == self.info.get("num_steps")

  @property
  def predictors(self) -> list[str]:
    """What was evaluated, the headline first."""
    tables = self.clean["predictors"] if self.clean else ()
    curves = [n.split("/")[1] for row in self.rows for n in row if n.startswith("test/")]
    names = list(dict.fromkeys([*curves, *tables]))
    # The trained network is the headline wherever a method has one of that name; tables on disk
    # are in alphabetical order and cannot tell.
    return sorted(names, key=lambda name: name != "student")


class Curve(NamedTuple):
  """One metric along a run.

  Attributes:
    epoch: [points], passes over the training set.
    value: [points, seeds].
  """

  epoch: np.ndarray
  value: np.ndarray


class Cells(NamedTuple):
  """A (corruption, severity) table of all seeds.

  Attributes:
    names: of the corruptions.
    severities: ascending.
    value: [seeds, corruptions, severities].
  """

  names: tuple[str, ...]
  severities: tuple[int, ...]
  value: np.ndarray


_TABLES = {
  "clean": "predictors",
  "corruptions": "predictors",
  "samples": "spread",
  "label_noise": "rate",
}
"""The tables a run may have, and a field that each must have."""


def load_run(path: str | Path) -> RunRecord:
  """Reads a run directory; a run that has not ended has no tables and fewer rows.

  Raises:
    InputError: where the path is no run directory, or a file in it cannot be read.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> from jaxnoise.training import writers
    >>> config = {"method": {"name": "erm"}, "data": {"name": "digits"}, "seeds": 3}
    >>> writers.write_json(pathlib.Path("my_run/config.json"), {"config": config})
    >>> run = reporting.load_run("my_run")
    >>> run.method, run.dataset, run.seeds, run.finished
    ('erm', 'digits', [0, 1, 2], False)
  """
  path = Path(path)
  if not path.is_dir():
    what = "is a file" if path.exists() else "does not exist"
    raise InputError(f"{path} {what}; give a run directory, the --workdir of jaxnoise.main")
  if not (path / "config.json").exists():
    stages = sorted(str(file.parent) for file in path.glob("*/config.json"))
    hint = f"it holds runs: {', '.join(stages)}" if stages else "it has no config.json"
    raise InputError(f"{path} is no run directory: {hint}; give one that jaxnoise.main has written")
  info = writers.read_json(path / "config.json")
  if not isinstance(info.get("config"), Mapping):
    raise InputError(f"{path / 'config.json'} has no 'config' section; was the file edited?")
  rows = [row for row in writers.read_rows(path / "metrics.jsonl") if "step" in row]
  tables = {}
  for name, wanted in _TABLES.items():
    file = path / "tables" / f"{name}.json"
    tables[name] = writers.read_json(file) if file.exists() else None
    if tables[name] is not None and wanted not in tables[name]:
      raise InputError(f"{file} has no {wanted!r}; was the file edited?")
  return RunRecord(path, info, tuple(rows), **tables)


def find_runs(paths: Sequence[str | Path]) -> list[Path]:
  """Lists the run directories meant by `paths`: each itself, or the runs right within it.

  A directory that is no run stands for the runs in it, such as the stages of one experiment, in
  alphabetical order. A run that is meant twice is listed once.

  Raises:
    InputError: for a path that is no directory, or that holds no run.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> from jaxnoise.training import writers
    >>> for stage in ("teacher", "student"):
    ...   writers.write_json(pathlib.Path("stages") / stage / "config.json", {"config": {}})
    >>> [path.name for path in reporting.find_runs(["stages", "stages/teacher"])]
    ['student', 'teacher']
  """
  found: dict[Path, Path] = {}
  for path in map(Path, paths):
    within = sorted(file.parent for file in path.glob("*/config.json"))
    # What is neither is left to `load_run`, which says what is wrong with it.
    for run in within if within and not (path / "config.json").exists() else [path]:
      found.setdefault(run.resolve(), run)
  return list(found.values())


def curve(run: RunRecord, name: str) -> Curve:
  """Reads one "split/predictor/metric" along the run.

  Returns:
    Epochs [points] and values [points, seeds]; [points, 1] for what all seeds share, such as the
    learning rate.

  Raises:
    InputError: where no row has that name, with the closest ones, or where rows differ in seeds.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> rows = ({"step": 9, "epoch": 1.0, "train/student/loss": [0.5, 0.7]},)
    >>> run = reporting.RunRecord(pathlib.Path("run"), {"config": {}}, rows)
    >>> reporting.curve(run, "train/student/loss").value.tolist()
    [[0.5, 0.7]]
  """
  rows = [row for row in run.rows if name in row]
  if not rows:
    known = {key for row in run.rows for key in row if "/" in key} or {"none"}
    raise InputError(f"{run.path} has no curve {name!r}: {closest(name, known)}")
  values = [np.atleast_1d(np.asarray(row[name], float)) for row in rows]
  if len({value.shape for value in values}) > 1:
    raise InputError(f"{run.path}/metrics.jsonl has {name} for different numbers of seeds")
  return Curve(np.asarray([row["epoch"] for row in rows], float), np.stack(values))


def has_curve(run: RunRecord, name: str) -> bool:
  """Whether any row has that "split/predictor/metric"."""
  return any(name in row for row in run.rows)


def best_index(curve: Curve) -> int:
  """The point where the mean over seeds is highest; of equals the last, which checkpoints keep."""
  mean = curve.value.mean(axis=1)
  return len(mean) - 1 - int(np.argmax(mean[::-1]))


def final(run: RunRecord, metric: str, predictor: str | None = None) -> np.ndarray | None:
  """What the finished network scored on the clean test set, one value per seed.

  Args:
    run: its tables are read.
    metric: accuracy, nll or ece; fractions, nats, fractions.
    predictor: None means the headline.

  Returns:
    [seeds], or None where the run has no such number.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> clean = {"n": 360, "predictors": {"student": {"accuracy": [0.97, 0.98]}}}
    >>> run = reporting.RunRecord(pathlib.Path("run"), {"config": {"seeds": 2}}, clean=clean)
    >>> reporting.final(run, "accuracy").tolist()
    [0.97, 0.98]
  """
  name = predictor or next(iter(run.predictors), "")
  values = (run.clean or {"predictors": {}})["predictors"].get(name, {}).get(metric)
  return None if values is None else np.asarray(values, float)


def corrupted(run: RunRecord, field: str, predictor: str | None = None) -> np.ndarray | None:
  """The mean over all corruptions and severities, one value per seed.

  Args:
    run: its tables are read.
    field: mean_accuracy, mean_conditional or mean_ece, as fractions.
    predictor: None means the headline.

  Returns:
    [seeds], or None where the run evaluated no corruption.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> tables = {"predictors": {"student": [{"mean_accuracy": 0.7}, {"mean_accuracy": 0.8}]}}
    >>> run = reporting.RunRecord(pathlib.Path("run"), {"config": {}}, corruptions=tables)
    >>> reporting.corrupted(run, "mean_accuracy", "student").tolist()
    [0.7, 0.8]
  """
  tables = _tables(run, predictor)
  return np.asarray([table[field] for table in tables], float) if tables else None


def corruption_cells(
  run: RunRecord, field: str = "accuracy", predictor: str | None = None
) -> Cells | None:
  """The whole table of one field, or None where the run evaluated no corruption.

  Args:
    run: its tables are read.
    field: accuracy, conditional, nll or ece.
    predictor: None means the headline.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> table = {"names": ["fog"], "severities": [1, 5], "accuracy": [[0.9, 0.6]]}
    >>> tables = {"predictors": {"student": [table]}}
    >>> run = reporting.RunRecord(pathlib.Path("run"), {"config": {}}, corruptions=tables)
    >>> reporting.corruption_cells(run, "accuracy", "student").value.shape
    (1, 1, 2)
  """
  tables = _tables(run, predictor)
  if not tables:
    return None
  value = np.asarray([table[field] for table in tables], float)
  return Cells(tuple(tables[0]["names"]), tuple(tables[0]["severities"]), value)


def _tables(run: RunRecord, predictor: str | None) -> Sequence[Mapping[str, Any]]:
  name = predictor or next(iter(run.predictors), "")
  return run.corruptions["predictors"].get(name, ()) if run.corruptions else ()


def labels(runs: Sequence[RunRecord]) -> list[str]:
  """What to call each run in a table or figure: its method; its directory too where two agree.

  A member of a sweep is called by its settings as well.
  """
  names = [f"{run.method} ({run.member})" if run.member else run.method for run in runs]
  for describe in (lambda run: run.path.name, lambda run: str(run.path)):
    parts = [[run.member, describe(run)] for run in runs]
    again = [
      f"{run.method} ({', '.join(filter(None, part))})"
      for run, part in zip(runs, parts, strict=True)
    ]
    names = [b if names.count(a) > 1 else a for a, b in zip(names, again, strict=True)]
  return names

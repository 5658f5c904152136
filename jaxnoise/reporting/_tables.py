"""Numbers side by side: means with their standard errors over seeds, and paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _runs, _sweeps
from jaxnoise.reporting._statistics import Estimate, estimate

COLUMNS: Mapping[str, tuple[str, str]] = {
  "accuracy": ("clean", "clean accuracy"),
  "mean_accuracy": ("corrupted", "corrupted accuracy"),
  "ece": ("clean", "calibration error"),
  "mean_ece": ("corrupted", "corrupted cal. error"),
}
"""The columns of a comparison: field -> (table that it is in, heading)."""


@dataclasses.dataclass(frozen=True)
class ComparisonRow:
  """One run in a comparison.

  Attributes:
    label: the method, and the directory where two runs have one method.
    seeds: n.
    images: in the test set.
    values: field of `COLUMNS` -> estimate as a fraction, or None where the run lacks it.
  """

  label: str
  seeds: int
  images: int
  values: Mapping[str, Estimate | None]


def comparison_rows(runs: Sequence[_runs.RunRecord]) -> list[ComparisonRow]:
  """Returns one row per finished run, or member of one: accuracy, calibration error, corrupted too.

  Corrupted means the unweighted mean over all corruptions and severities of the run.

  Raises:
    InputError: for a run without final tables.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> def run(name, accuracy):
    ...   info = {"method": name, "config": {"seeds": 2, "data": {"name": "digits"}}}
    ...   clean = {"n": 360, "predictors": {"student": {"accuracy": accuracy}}}
    ...   return reporting.RunRecord(pathlib.Path(name), info, clean=clean)
    >>> (row,) = reporting.comparison_rows([run("erm", [0.96, 0.98])])
    >>> row.label, row.seeds, row.values["accuracy"].text(), row.values["mean_accuracy"]
    ('erm', 2, '97.00 ± 1.00', None)
  """
  rows, runs = [], _sweeps.apart(runs)
  for run, label in zip(runs, _runs.labels(runs), strict=True):
    if run.clean is None:
      raise InputError(f"{run.path} has no final tables; run the same command again to finish it")
    values = {field: _values(run, field) for field in COLUMNS}
    estimates = {k: None if v is None else estimate(v) for k, v in values.items()}
    rows.append(ComparisonRow(label, len(run.seeds), int(run.clean["n"]), estimates))
  return rows


def _values(run: _runs.RunRecord, field: str) -> np.ndarray | None:
  read = _runs.final if COLUMNS[field][0] == "clean" else _runs.corrupted
  return read(run, field)


def format_rows(rows: Sequence[ComparisonRow]) -> str:
  """Lays a comparison out as aligned text, in percent; "-" where a run lacks a number.

  Example:
    >>> from jaxnoise import reporting
    >>> none = dict.fromkeys(("accuracy", "mean_accuracy", "ece", "mean_ece"))
    >>> rows = [reporting.ComparisonRow("erm", 3, 360, none)]
    >>> reporting.format_rows(rows).split("\\n")[2].split()
    ['erm', '-', '-', '-', '-', '3']
  """
  table = [["method", *(heading for _, heading in COLUMNS.values()), "n seeds"]]
  for row in rows:
    cells = [value.text() if value else "-" for value in row.values.values()]
    table.append([row.label, *cells, str(row.seeds)])
  widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
  table.insert(1, ["-" * width for width in widths])
  return "\n".join(
    "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
    for line in table
  )


def paired_difference(
  baseline: _runs.RunRecord, other: _runs.RunRecord, field: str
) -> Estimate | None:
  """Returns mean and standard error of other - baseline over the seeds that both runs have.

  Args:
    baseline: subtracted.
    other: another run on the same test set.
    field: of `COLUMNS`.

  Returns:
    The difference as a fraction, or None where a run lacks the field.

  Raises:
    InputError: where the runs share no seed, or were tested on different images.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> def run(name, accuracy):
    ...   info = {"method": name, "config": {"seeds": 2, "data": {"name": "digits"}}}
    ...   clean = {"n": 360, "predictors": {"student": {"accuracy": accuracy}}}
    ...   return reporting.RunRecord(pathlib.Path(name), info, clean=clean)
    >>> pair = run("erm", [0.90, 0.96]), run("mixup", [0.92, 0.97])
    >>> reporting.paired_difference(*pair, "accuracy").text(sign="+")
    '+1.50 ± 0.50'
  """
  _check_comparable(baseline, other, COLUMNS[field][0])
  a, b = _values(baseline, field), _values(other, field)
  shared = [seed for seed in baseline.seeds if seed in other.seeds]
  if not shared:
    raise InputError(
      f"{baseline.path} has the seeds {baseline.seeds} and {other.path} has {other.seeds}; a "
      "paired difference needs common ones"
    )
  if a is None or b is None:
    return None
  rows = [b[other.seeds.index(s)] - a[baseline.seeds.index(s)] for s in shared]
  return estimate(rows)


def _check_comparable(a: _runs.RunRecord, b: _runs.RunRecord, table: str) -> None:
  tests = [(run.dataset, run.clean and run.clean.get("n")) for run in (a, b)]
  if tests[0] != tests[1]:
    raise InputError(
      f"{a.path} was tested on {tests[0][1]} images of {tests[0][0]} and {b.path} on "
      f"{tests[1][1]} of {tests[1][0]}; compare runs on one test set"
    )
  cells = [_runs.corruption_cells(run) for run in (a, b)] if table == "corrupted" else [None]
  if None not in cells and cells[0][:2] != cells[1][:2]:
    raise InputError(
      f"{a.path} and {b.path} were tested on different corruptions or severities; evaluate both "
      "on the same"
    )


def verdict(baseline: _runs.RunRecord, other: _runs.RunRecord) -> str:
  """States what the numbers support: the corrupted difference against twice its standard error.

  The clean difference is held against one point. Differences are paired by seed.

  Args:
    baseline: usually plain training.
    other: the method in question.

  Raises:
    InputError: where the two cannot be compared.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> def run(name, accuracy):
    ...   info = {"method": name, "config": {"seeds": 2, "data": {"name": "digits"}}}
    ...   clean = {"n": 360, "predictors": {"student": {"accuracy": accuracy}}}
    ...   return reporting.RunRecord(pathlib.Path(name), info, clean=clean)
    >>> reporting.verdict(run("erm", [0.90, 0.96]), run("mixup", [0.92, 0.97]))
    'mixup minus erm, paired by seed (n = 2): clean accuracy +1.50 ± 0.50 points, no loss'
  """
  a, b = _runs.labels([baseline, other])
  corrupted = paired_difference(baseline, other, "mean_accuracy")
  clean = paired_difference(baseline, other, "accuracy")
  parts = [_against_error(corrupted)] if corrupted else []
  parts += [_against_a_point(clean)] if clean else []
  n = clean.n if clean else 0
  return f"{b} minus {a}, paired by seed (n = {n}): " + "; ".join(parts or ["nothing to compare"])


def _against_error(difference: Estimate) -> str:
  text = f"corrupted accuracy {difference.text(sign='+')} points, "
  if difference.n == 1:
    return text + "one seed, so no standard error to hold it against"
  if abs(difference.mean) <= 2 * difference.error:
    return text + "not more than twice its standard error: no difference is shown"
  better = "better" if difference.mean > 0 else "worse"
  return text + f"more than twice its standard error: {better}"


def _against_a_point(difference: Estimate) -> str:
  text = f"clean accuracy {difference.text(sign='+')} points, "
  if difference.mean < -0.01:
    return text + "a loss of more than one point"
  return text + ("no loss" if difference.mean >= 0 else "a loss of at most one point")

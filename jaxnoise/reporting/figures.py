"""The comparison of two or three runs as one picture, for a README or a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, SubFigure

from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _draw, _runs, _sweeps


def comparison_figure(runs: Sequence[_runs.RunRecord], path: str | Path) -> Path:
  """Writes a 1600 x 900 PNG: training curves at the left, corruption tables at the right.

  With two runs a third table shows the second minus the first.

  Args:
    runs: one to three of them, the baseline first, on one data set; a sweep counts as its members.
    path: of the file; folders are made.

  Returns:
    The path.

  Raises:
    InputError: for no run or more than three, different data sets, or different corruptions.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> rows = tuple({"step": e, "epoch": e, "train/student/loss": 1 / e} for e in (1.0, 2.0))
    >>> run = reporting.RunRecord(pathlib.Path("run"), {"config": {}, "method": "erm"}, rows)
    >>> reporting.comparison_figure([run], "figure.png").stat().st_size > 1000
    True
  """
  path = Path(path)
  with _draw.style():
    figure = _comparison(_sweeps.apart(runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
  return path


def _comparison(runs: Sequence[_runs.RunRecord]) -> Figure:
  _check_comparable(runs)
  tables = [
    (label, cells)
    for label, run in zip(_runs.labels(runs), runs, strict=True)
    if (cells := _runs.corruption_cells(run)) is not None
  ]
  figure = Figure(figsize=(16, 9), dpi=100, layout="constrained", facecolor="white")
  title = _title(runs)
  figure.suptitle(title, fontsize=_draw.fitting(title, 14, 120), weight="bold")
  left = figure
  if tables:
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.1), wspace=0.03)
    _tables(right, tables)
  _curves(left, runs)
  return figure


def _check_comparable(runs: Sequence[_runs.RunRecord]) -> None:
  if not 1 <= len(runs) <= 3:
    raise InputError(f"a comparison figure was asked of {len(runs)} runs; it shows one to three")
  for run in runs[1:]:
    if run.dataset != runs[0].dataset:
      raise InputError(
        f"{runs[0].path} is on {runs[0].dataset} and {run.path} on {run.dataset}; compare runs on "
        "one data set"
      )


def _title(runs: Sequence[_runs.RunRecord]) -> str:
  counts = sorted({len(run.seeds) for run in runs})
  seeds = " or ".join(str(n) for n in counts)
  test = f", {runs[0].clean['n']} test images" if runs[0].clean else ""
  plural = "" if counts == [1] else "s"
  return f"{' and '.join(_runs.labels(runs))} on {runs[0].dataset}: {seeds} seed{plural}{test}"


def _curves(figure: Figure | SubFigure, runs: Sequence[_runs.RunRecord]) -> None:
  top, bottom = figure.subplots(2, 1)
  several = any(len(run.seeds) > 1 for run in runs)
  what = "mean over seeds, band from min to max" if several else None
  top.set_title("Training loss, each method's own", fontsize=12)
  bottom.set_title("Test accuracy, clean images, in %", fontsize=12)
  for i, (run, label) in enumerate(zip(runs, _runs.labels(runs), strict=True)):
    if _runs.has_curve(run, "train/student/loss"):
      _draw.curves(top, _runs.curve(run, "train/student/loss"), label=label, series=i)
    name = f"test/{next(iter(run.predictors), '')}/accuracy"
    if _runs.has_curve(run, name):
      _draw.curves(bottom, _runs.curve(run, name), label=label, series=i, scale=100)
  _draw.log_if_wide(top)
  for ax in (top, bottom):
    names = ax.get_legend_handles_labels()[1]
    if names:
      size = _draw.fitting("\n".join(names), 11, 40)
      ax.legend(title=what, alignment="left", fontsize=size)


def _tables(figure: SubFigure, tables: Sequence[tuple[str, _runs.Cells]]) -> None:
  first = tables[0][1]
  for label, cells in tables:
    if cells[:2] != first[:2]:
      raise InputError(f"{label} was tested on other corruptions or severities; use the same ones")
  means = [100 * cells.value.mean(axis=0) for _, cells in tables]
  low, high = float(np.nanmin(means)), float(np.nanmax(means))
  low = min(low, high - 1)
  widths = [1.0] * len(tables) + [1.12] * (len(tables) == 2)
  axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
  for i, (label, cells) in enumerate(tables):
    title = f"{label}\naccuracy in %"
    shown = {"title": title, "low": low, "high": high, "names": i == 0}
    image = _draw.corruption_heatmap(axes[i], cells, **shown)
  bar = {"orientation": "horizontal", "fraction": 0.04, "pad": 0.02, "aspect": 40}
  shared = list(axes[: len(tables)])
  figure.colorbar(image, ax=shared, label="accuracy in %, mean over seeds", **bar)
  if len(tables) == 2:
    (a, _), (b, _) = tables
    change = means[1] - means[0]
    span = max(float(np.nanmax(np.abs(change))), 1.0)
    cells = first._replace(value=change[None] / 100)
    shown = {"title": f"{b}\nminus {a}", "low": -span, "high": span, "names": False}
    image = _draw.corruption_heatmap(axes[2], cells, signed=True, **shown)
    figure.colorbar(image, ax=axes[2], label="points of accuracy", **{**bar, "aspect": 20})

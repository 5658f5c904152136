"""Figures on matplotlib's object interface: no display, no state of pyplot.

Colours are Okabe and Ito's, the maps cividis and PuOr; both are told apart by colour-blind readers,
and lines differ in dash as well.
"""

from __future__ import annotations

import contextlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _runs

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Line colours, in this order."""
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
_INK, _FAINT = "#1b1f24", "#8a9099"
_ACCURACY, _DIFFERENCE = "cividis", "PuOr"


@contextlib.contextmanager
def _style() -> Iterator[None]:
  """Settings that hold while a figure is made and written."""
  ink = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
  with matplotlib.rc_context(
    {
      **dict.fromkeys(ink, _INK),
      "axes.edgecolor": _FAINT,
      "axes.spines.top": False,
      "axes.spines.right": False,
      "font.size": 11,
      "grid.color": _FAINT,
      "grid.alpha": 0.3,
      "legend.frameon": False,
      "svg.fonttype": "none",
      "svg.hashsalt": "jaxnoise",
    }
  ):
    yield


def curves(
  ax: Axes, curve: _runs.Curve, *, label: str, series: int = 0, scale: float = 1.0
) -> None:
  """Draws the mean over seeds as a line and their range, minimum to maximum, as a band.

  Args:
    ax: drawn on.
    curve: epochs [points] and values [points, seeds].
    label: for the legend.
    series: position in `SERIES`.
    scale: 100 for percent.
  """
  color, dash = SERIES[series % len(SERIES)], _DASHES[series % len(_DASHES)]
  value = curve.value * scale
  if value.shape[1] > 1:
    low, high = value.min(axis=1), value.max(axis=1)
    ax.fill_between(curve.epoch, low, high, color=color, alpha=0.22, linewidth=0)
  marker = "o" if len(value) == 1 else None
  ax.plot(curve.epoch, value.mean(axis=1), dash, color=color, label=label, lw=2, marker=marker)
  ax.set_xlabel("epoch")
  ax.grid(visible=True)


def mark(ax: Axes, epoch: float, value: float, text: str, *, series: int = 0) -> None:
  """Marks one point of a curve with a ring and, in the legend, a text."""
  marker = "os^D"[series % 4]
  ax.plot([epoch], [value], marker, color=_INK, mfc="none", mew=1.8, ms=9, label=text, ls="none")


def cell_colours(
  values: np.ndarray, low: float, high: float, map_name: str = _ACCURACY
) -> list[list[tuple[str, str]]]:
  """Returns (background, text colour) for each cell of a table [rows, columns].

  The text is black or white, whichever has more contrast on the background (WCAG's ratio).

  Args:
    values: nan gives grey.
    low: the value at the map's lower end.
    high: the value at the map's upper end.
    map_name: one of matplotlib's colour maps.
  """
  scale = Normalize(low, high if high > low else low + 1e-9, clip=True)
  colors = matplotlib.colormaps[map_name]
  return [[_cell_colour(v, colors, scale) for v in row] for row in np.asarray(values, float)]


def _cell_colour(value: float, colors: Colormap, scale: Normalize) -> tuple[str, str]:
  rgb = np.asarray(colors(scale(value)))[:3] if np.isfinite(value) else np.full(3, 0.6)
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
  return to_hex(rgb), "#000000" if luminance > 0.179 else "#ffffff"


def corruption_heatmap(
  ax: Axes,
  cells: _runs.Cells,
  *,
  title: str,
  low: float,
  high: float,
  signed: bool = False,
  names: bool = True,
) -> AxesImage:
  """Draws a (corruption, severity) table, mean over seeds in percent, with row and column means.

  Args:
    ax: drawn on.
    cells: values as fractions [seeds, corruptions, severities].
    title: above it.
    low: percent at the lower end of the colours.
    high: percent at the upper end.
    signed: whether the values are differences.
    names: whether the corruptions are named at the left.

  Returns:
    The image, for a colour bar.
  """
  value, rows, columns = with_means(cells)
  value = 100 * value
  map_name = _DIFFERENCE if signed else _ACCURACY
  size = 9 if signed else 10
  image = ax.imshow(value, cmap=map_name, vmin=low, vmax=high, aspect="auto")
  for i, line in enumerate(cell_colours(value, low, high, map_name)):
    for j, (_, ink) in enumerate(line):
      text = f"{value[i, j]:+.1f}" if signed else f"{value[i, j]:.1f}"
      weight = "bold" if i == len(rows) - 1 or j == len(columns) - 1 else "normal"
      ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=size, weight=weight)
  # A gap before the means.
  ax.axhline(len(rows) - 1.5, color="white", lw=4)
  ax.axvline(len(columns) - 1.5, color="white", lw=4)
  ax.set_xticks(range(len(columns)), columns)
  ax.set_yticks(range(len(rows)), rows if names else [""] * len(rows))
  ax.tick_params(length=0)
  ax.spines[:].set_visible(False)
  ax.set_xlabel("severity")
  ax.set_title(title, fontsize=_fitting(title, 12, 28))
  return image


def with_means(cells: _runs.Cells) -> tuple[np.ndarray, list[str], list[str]]:
  """Returns the mean over seeds with a last row and a last column of means, and their headings."""
  value = cells.value.mean(axis=0)
  value = np.concatenate([value, value.mean(axis=1, keepdims=True)], axis=1)
  value = np.concatenate([value, value.mean(axis=0, keepdims=True)], axis=0)
  names = [name.replace("_", " ") for name in cells.names]
  return value, [*names, "mean"], [*(str(s) for s in cells.severities), "mean"]


def reliability_diagram(
  ax: Axes, confidence: np.ndarray, accuracy: np.ndarray, share: np.ndarray
) -> None:
  """Draws accuracy against confidence in bins; on the diagonal confidence is right.

  Args:
    ax: drawn on.
    confidence: [bins], mean confidence; nan in an empty bin.
    accuracy: [bins], of the same examples.
    share: [bins], of all examples; drawn as the area of the dots.
  """
  ax.plot([0, 1], [0, 1], color=_FAINT, lw=1, ls="--", label="calibrated")
  known = share > 0
  gap = np.stack([np.minimum(confidence, accuracy), np.maximum(confidence, accuracy)])[:, known]
  ax.vlines(confidence[known], *gap, color=SERIES[1], lw=1.5, alpha=0.7)
  size = 20 + 400 * share[known]
  label = "bins; area: share of images"
  ax.scatter(
    confidence[known], accuracy[known], s=size, color=SERIES[0], alpha=0.75, label=label, zorder=3
  )
  ax.set(xlim=(-0.02, 1.05), ylim=(-0.05, 1.08), xlabel="confidence", ylabel="accuracy")
  ax.grid(visible=True)
  legend = ax.legend(loc="lower right", fontsize=10)
  legend.legend_handles[-1].set_sizes([40])


def comparison_figure(runs: Sequence[_runs.RunRecord], path: str | Path) -> Path:
  """Writes a 1600 x 900 PNG: training curves at the left, corruption tables at the right.

  With two runs a third table shows the second minus the first.

  Args:
    runs: one to three of them, the baseline first, on one data set.
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
  with _style():
    figure = _comparison(runs)
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
  figure.suptitle(title, fontsize=_fitting(title, 14, 120), weight="bold")
  left = figure
  if tables:
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.1), wspace=0.03)
    _tables(right, tables)
  _curves(left, runs)
  return figure


def _fitting(text: str, size: float, characters: int) -> float:
  """The size at which the longest line takes no more room than `characters` at the given size."""
  return size * min(1.0, characters / max(len(line) for line in text.split("\n")))


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
      curves(top, _runs.curve(run, "train/student/loss"), label=label, series=i)
    name = f"test/{next(iter(run.predictors), '')}/accuracy"
    if _runs.has_curve(run, name):
      curves(bottom, _runs.curve(run, name), label=label, series=i, scale=100)
  _log_if_wide(top)
  for ax in (top, bottom):
    names = ax.get_legend_handles_labels()[1]
    if names:
      size = _fitting("\n".join(names), 11, 40)
      ax.legend(title=what, alignment="left", fontsize=size)


def _log_if_wide(ax: Axes) -> None:
  """A logarithmic axis where positive values span more than a factor of 20."""
  values = np.concatenate([line.get_ydata() for line in ax.get_lines()] or [np.ones(1)])
  if np.all(values > 0) and values.max() > 20 * values.min():
    ax.set_yscale("log")


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
    image = corruption_heatmap(axes[i], cells, **shown)
  bar = {"orientation": "horizontal", "fraction": 0.04, "pad": 0.02, "aspect": 40}
  shared = list(axes[: len(tables)])
  figure.colorbar(image, ax=shared, label="accuracy in %, mean over seeds", **bar)
  if len(tables) == 2:
    (a, _), (b, _) = tables
    change = means[1] - means[0]
    span = max(float(np.nanmax(np.abs(change))), 1.0)
    cells = first._replace(value=change[None] / 100)
    shown = {"title": f"{b}\nminus {a}", "low": -span, "high": span, "names": False}
    image = corruption_heatmap(axes[2], cells, signed=True, **shown)
    figure.colorbar(image, ax=axes[2], label="points of accuracy", **{**bar, "aspect": 20})


def run_curve_svg(run: _runs.RunRecord, names: Sequence[str], title: str, scale: float) -> str:
  """Draws curves of one run for a page; those of accuracy have their best and last points marked.

  Args:
    run: read.
    names: "split/predictor/metric" of the curves that it may have; the marks are on the first, and
      where the last one is highest is best.
    title: above the axes.
    scale: 100 for percent.

  Returns:
    SVG text, or "" where the run has none of the curves.
  """
  found = [name for name in names if _runs.has_curve(run, name)]
  if not found:
    return ""
  with _style():
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    ax = figure.subplots()
    for i, name in enumerate(found):
      split, predictor, _ = name.split("/")
      label = split if predictor == "student" else f"{split} {predictor}"
      curves(ax, _runs.curve(run, name), label=label, series=i, scale=scale)
    if found[0].endswith("/accuracy"):
      _mark_best_and_last(ax, run, found, scale)
    else:
      _log_if_wide(ax)
    ax.set_title(title, fontsize=12)
    ax.legend(fontsize=9)
    return to_svg(figure)


def _mark_best_and_last(
  ax: Axes, run: _runs.RunRecord, names: Sequence[str], scale: float
) -> None:
  """Marks the first curve at its end, and where the last one, which may be held out, is best."""
  shown, chosen = _runs.curve(run, names[0]), _runs.curve(run, names[-1])
  mean = shown.value.mean(axis=1) * scale
  mark(ax, shown.epoch[-1], mean[-1], f"last: {mean[-1]:.2f}")
  epoch = chosen.epoch[np.argmax(chosen.value.mean(axis=1))]
  for value in mean[shown.epoch == epoch][:1]:
    text = f"best on {names[-1].split('/')[0]}: {value:.2f}, epoch {epoch:g}"
    mark(ax, epoch, value, text, series=2)


def reliability_svg(confidence: np.ndarray, accuracy: np.ndarray, share: np.ndarray) -> str:
  """Returns `reliability_diagram` as SVG text for a page."""
  with _style():
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    reliability_diagram(figure.subplots(), confidence, accuracy, share)
    return to_svg(figure)


def to_svg(figure: Figure) -> str:
  """Returns a figure as an <svg> element for HTML: ink as the page's text, lines by --series-N.

  Ids are made the figure's own by a hash of its content, so that several stand on one page; there
  is no reference to anything outside.
  """
  with _style(), io.StringIO() as file:
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
  text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
  text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
  text = text.replace(_INK, "currentColor").replace("xlink:href", "href")
  for i, color in enumerate(SERIES):
    text = text.replace(color, f"var(--series-{i}, {color})")
  own = f"f{zlib.crc32(text.encode()):08x}-"
  text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{own}", text)
  return re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', text)

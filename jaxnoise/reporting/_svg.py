"""Figures as <svg> text within a page."""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxnoise.reporting import _draw, _runs


def run_curve_svg(run: _runs.RunRecord, names: Sequence[str], title: str, scale: float) -> str:
  """Draws curves of one run for a page; those of accuracy have their best and last points marked.

  Args:
    run: read.
    names: "split/predictor/metric" of the curves that it may have; the marks are on the first, and
      where the last one is highest is best, of equal epochs the last.
    title: above the axes.
    scale: 100 for percent.

  Returns:
    SVG text, or "" where the run has none of the curves.
  """
  found = [name for name in names if _runs.has_curve(run, name)]
  if not found:
    return ""
  with _draw.style():
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    ax = figure.subplots()
    for i, name in enumerate(found):
      split, predictor, _ = name.split("/")
      label = split if predictor == "student" else f"{split} {predictor}"
      _draw.curves(ax, _runs.curve(run, name), label=label, series=i, scale=scale)
    if found[0].endswith("/accuracy"):
      _mark_best_and_last(ax, run, found, scale)
    else:
      _draw.log_if_wide(ax)
    ax.set_title(title, fontsize=12)
    return _with_legend(figure, ax, f"{title} by epoch")


def _mark_best_and_last(
  ax: Axes, run: _runs.RunRecord, names: Sequence[str], scale: float
) -> None:
  """Marks the first curve at its end, and where the last one, which may be held out, is best."""
  shown, chosen = _runs.curve(run, names[0]), _runs.curve(run, names[-1])
  mean = shown.value.mean(axis=1) * scale
  _draw.mark(ax, shown.epoch[-1], mean[-1], f"last: {mean[-1]:.2f}")
  epoch = chosen.epoch[_runs.best_index(chosen)]
  for value in mean[shown.epoch == epoch][:1]:
    text = f"best on {names[-1].split('/')[0]}: {value:.2f}, epoch {epoch:g}"
    _draw.mark(ax, epoch, value, text, series=2)


def reliability_svg(confidence: np.ndarray, accuracy: np.ndarray, share: np.ndarray) -> str:
  """Returns `reliability_diagram` as SVG text for a page."""
  with _draw.style():
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    _draw.reliability_diagram(figure.subplots(), confidence, accuracy, share)
    return to_svg(figure, "Reliability diagram: accuracy against confidence")


def overlay_svg(curves: Sequence[tuple[str, _runs.Curve]], title: str, scale: float) -> str:
  """Draws one curve of several runs.

  Args:
    curves: (label, curve) in the order of the series.
    title: above the axes.
    scale: 100 for percent.

  Returns:
    SVG text, or "" without curves.
  """
  if not curves:
    return ""
  with _draw.style():
    figure = Figure(figsize=(4.6, 3.3 + 0.22 * len(curves)), layout="constrained")
    ax = figure.subplots()
    for i, (label, curve) in enumerate(curves):
      _draw.curves(ax, curve, label=label, series=i, scale=scale)
    if scale == 1.0:
      _draw.log_if_wide(ax)
    ax.set_title(title, fontsize=12)
    return _with_legend(figure, ax, f"{title} by epoch")


class Bar(NamedTuple):
  """A difference with its interval.

  Attributes:
    label: what it is of.
    mean: in points.
    interval: both ends in points, or None.
  """

  label: str
  mean: float
  interval: tuple[float, float] | None


def intervals_svg(bars: Sequence[Bar], title: str) -> str:
  """Draws differences as dots with their intervals about a line at 0; "" without any."""
  if not bars:
    return ""
  with _draw.style():
    figure = Figure(figsize=(4.6, 1.0 + 0.5 * len(bars)), layout="constrained")
    ax = figure.subplots()
    for i, bar in enumerate(bars):
      color = _draw.SERIES[0]
      ax.vlines(0, i - 0.2, i + 0.3, color=_draw.FAINT, lw=1.5)
      if bar.interval:
        ax.plot(bar.interval, [i, i], color=color, lw=2.5, solid_capstyle="butt")
        ax.plot(bar.interval, [i, i], "|", color=color, ms=10, mew=2.5)
      ax.plot([bar.mean], [i], "o", color=color, ms=8)
      # The name above its interval: at the side it would leave no room for it on a narrow page.
      at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
      ax.annotate(bar.label, (0, i), (0, 8), fontsize=9, va="bottom", **at)
    ax.set_ylim(len(bars) - 0.6, -0.9)
    ax.margins(x=0.08)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("points")
    ax.set_title(title, fontsize=12)
    return to_svg(figure, f"Differences with intervals: {title}")


def _with_legend(figure: Figure, ax: Axes, label: str) -> str:
  """As SVG, with the legend below the axes, where it hides nothing."""
  names = ax.get_legend_handles_labels()[1]
  # In points, of which the figure is 331 wide: a name is about 6 to a character and 50 beside it.
  widths = [6 * len(name) + 50 for name in names]
  columns = len(names) if sum(widths) < 320 else 1 + (max(widths) < 160)
  if len(names) > 1:
    size = _draw.fitting("\n".join(names), 10, 60)
    figure.legend(loc="outside lower center", ncols=columns, fontsize=size)
  return to_svg(figure, label)


def to_svg(figure: Figure, label: str) -> str:
  """Returns a figure as an <svg> element for HTML: ink as the page's text, lines by --series-N.

  `label` is what a screen reader says of it. Ids are made the figure's own by a hash of its
  content, so that several stand on one page; there is no reference to anything outside.
  """
  with _draw.style(), io.StringIO() as file:
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
  text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
  text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
  text = text.replace(_draw.INK, "currentColor").replace("xlink:href", "href")
  for i, color in enumerate(_draw.SERIES):
    text = text.replace(color, f"var(--series-{i}, {color})")
  own = f"f{zlib.crc32(text.encode()):08x}-"
  text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{own}", text)
  said = html.escape(label)
  view = re.search(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', text)
  return f'<svg viewBox="{view[1]}" role="img" aria-label="{said}">{text[view.end() :]}'

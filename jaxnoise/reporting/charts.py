"""A page of line charts with their numbers, for what is compared over something else than runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _draw, _html, _svg
from jaxnoise.reporting._runs import Curve


class Chart(NamedTuple):
  """Lines over a common axis.

  Attributes:
    title: above it.
    axis: what runs along the bottom: `Curve.epoch`, whatever it holds.
    lines: label -> values [points, seeds]; a line's places may be its own.
    scale: what values are multiplied by; 100 for percent.
  """

  title: str
  axis: str
  lines: Mapping[str, Curve]
  scale: float = 100.0


def write_charts(
  path: str | Path, title: str, charts: Sequence[Chart], notes: Sequence[str] = ()
) -> Path:
  """Writes a page of charts: lines are means over seeds, bands go from min to max.

  Args:
    path: of the page; folders are made.
    title: its heading.
    charts: in order; the numbers of each stand in a table that opens when asked for.
    notes: paragraphs below the heading.

  Returns:
    The path.

  Raises:
    InputError: for a chart without a line, or a line without a point.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import reporting
    >>> line = reporting.Curve(np.array([0.2, 0.4]), np.array([[0.05], [0.1]]))
    >>> chart = reporting.Chart("ECE in %", "noise rate", {"plain": line})
    >>> page = reporting.write_charts("page.html", "Calibration", [chart])
    >>> "noise rate" in page.read_text()
    True
  """
  for chart in charts:
    if not chart.lines or not all(len(line.epoch) for line in chart.lines.values()):
      raise InputError(f"the chart {chart.title!r} has nothing to draw; give lines with points")
  head = [f"<h1>{html.escape(title)}</h1>"]
  head += [f'<p class="soft">{html.escape(note)}</p>' for note in notes]
  drawn = "".join(_html.figure(_chart_svg(chart)) for chart in charts)
  seeds = "Lines are means over seeds, bands go from min to max."
  numbers = [_html.folded(f"{chart.title}: numbers", _numbers(chart)) for chart in charts]
  body = [f'<div class="grid">{drawn}</div>', f'<p class="soft">{seeds}</p>', *numbers]
  return _html.write_page(Path(path), title, [*head, *body])


def _chart_svg(chart: Chart) -> str:
  with _draw.style():
    figure = Figure(figsize=(4.6, 3.3 + 0.22 * len(chart.lines)), layout="constrained")
    ax = figure.subplots()
    for i, (label, line) in enumerate(chart.lines.items()):
      _draw.curves(ax, line, label=label, series=i, scale=chart.scale)
      if len(line.epoch) <= _FEW:
        color = _draw.SERIES[i % len(_draw.SERIES)]
        ax.plot(line.epoch, chart.scale * line.value.mean(axis=1), "o", color=color, ms=5)
    ax.set_xlabel(chart.axis)
    ax.set_title(chart.title, fontsize=12)
    columns = 1 + (max(map(len, chart.lines)) < 16)
    figure.legend(loc="outside lower center", ncols=columns, fontsize=10)
    return _svg.to_svg(figure, f"{chart.title} by {chart.axis}")


_FEW = 12
"""Up to so many points are marked."""


def _numbers(chart: Chart) -> str:
  places = sorted({float(x) for line in chart.lines.values() for x in line.epoch})
  rows = []
  for place in places:
    cells = [f"{place:g}"]
    for line in chart.lines.values():
      value = chart.scale * line.value[np.asarray(line.epoch) == place]
      cells.append(f"{value.mean():.2f}" if value.size else "-")
    rows.append(cells)
  return _html.table([chart.axis, *chart.lines], rows, label=chart.title, kind="settings")

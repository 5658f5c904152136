"""Pieces of a page: tables, tables of colours, bars, pictures, folded parts."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnoise.reporting import _draw, _style
from jaxnoise.training import writers


class Markup(str):
  """Text that is HTML already; every other string is escaped where it is put in."""


def text(value: str) -> Markup:
  """Escapes a string unless it is `Markup`."""
  return value if isinstance(value, Markup) else Markup(html.escape(value))


def table(
  headings: Sequence[str], rows: Sequence[Sequence[str]], *, label: str, kind: str
) -> Markup:
  """A table in a box that scrolls by itself where the screen is narrow.

  Args:
    headings: of the columns.
    rows: of cells; the first is the heading of its row.
    label: what the box is called for a screen reader.
    kind: class of the table.
  """
  head = "".join(f'<th scope="col">{text(h)}</th>' for h in headings)
  body = "".join(
    f'<tr><th scope="row">{text(row[0])}</th>'
    + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
    + "</tr>"
    for row in rows
  )
  return scrolling(
    f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>', label
  )


def scrolling(content: str, label: str) -> Markup:
  """A box that scrolls sideways, by keyboard too."""
  name = html.escape(label)
  return Markup(f'<div class="wide" tabindex="0" role="region" aria-label="{name}">{content}</div>')


def heat_table(
  value: np.ndarray,
  rows: Sequence[str],
  columns: Sequence[str],
  *,
  corner: str,
  caption: str,
  low: float,
  high: float,
  signed: bool = False,
  means: bool = False,
) -> Markup:
  """A table whose cells have the colour of their number.

  Args:
    value: [rows, columns]; nan is shown as a dash.
    rows: headings.
    columns: headings.
    corner: what the headings of the rows are, or of the columns.
    caption: above it.
    low: the value at the lower end of the colours.
    high: the value at the upper end.
    signed: whether the values are differences.
    means: whether the last row and column are means of the others.
  """
  map_name = _draw.DIFFERENCE if signed else _draw.ACCURACY
  colours = _draw.cell_colours(value, low, high, map_name)
  head = "".join(f'<th scope="col">{text(name)}</th>' for name in (corner, *columns))
  lines = []
  for name, line, colour in zip(rows, value, colours, strict=True):
    cells = "".join(
      f'<td style="background:{back};color:{ink}">{_number(v, signed)}</td>'
      for v, (back, ink) in zip(line, colour, strict=True)
    )
    lines.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
  kind = "heat means" if means else "heat"
  whole = (
    f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
  )
  # Outside of the box, so that it does not scroll out of sight.
  return Markup(f'<div><p class="caption">{text(caption)}</p>{scrolling(whole, caption)}</div>')


def _number(value: float, signed: bool) -> str:
  if not np.isfinite(value):
    return "-"
  return f"{value:+.1f}" if signed else f"{value:.1f}"


def bar(share: float) -> Markup:
  """A bar of a share in [0, 1], beside a cell that says the number."""
  width = f"{100 * min(max(share, 0.0), 1.0):.1f}"
  return Markup(f'<span class="bar" aria-hidden="true"><i style="width:{width}%"></i></span>')


def folded(summary: str, content: str) -> Markup:
  """A part that opens when it is asked for."""
  return Markup(f"<details><summary>{text(summary)}</summary>{content}</details>")


def figure(svg: str, caption: str = "") -> Markup:
  """A drawing with its caption."""
  said = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
  return Markup(f"<figure>{svg}{said}</figure>")


def write_page(path: Path, title: str, sections: Sequence[str]) -> Path:
  """Writes a page whole or not at all; empty sections are left out."""
  body = "\n".join(filter(None, sections))
  page = _style.PAGE.format(
    title=text(title), version=writers.FORMAT_VERSION, sheet=_style.SHEET, body=body
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(page, encoding="utf-8")
  os.replace(temporary, path)
  return path

"""What a page of the adversarial suite says of the ensemble of attacks and of masked gradients."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxnoise import evaluation
from jaxnoise.reporting import _draw, _html, _suite_tables, _svg
from jaxnoise.reporting._runs import Curve
from jaxnoise.reporting._statistics import estimate

Tables = Mapping[str, Mapping[str, Any]]

CHECKS = {
  "reach": (
    "a large enough radius beats every image",
    "accuracy at 128/255",
    "at 128/255 any image can be made grey, so what still stands there was not attacked well",
  ),
  "radius": (
    "a larger radius never helps the network",
    "largest rise of accuracy with the radius",
    "a larger ball holds the smaller one",
  ),
  "steps": (
    "more steps never help the network",
    "largest rise of accuracy with the number of steps",
    "an attack that goes astray as it goes on follows gradients that lead nowhere",
  ),
  "transfer": (
    "its own gradients beat those of another network",
    "accuracy under its own attack minus under the transferred one",
    "images found on another network that fool this one more than its own do mean that its own "
    "gradients mislead",
  ),
  "noise": (
    "its own gradients beat random noise",
    "accuracy under its own attack minus under noise",
    "an attack that is worse than noise of its radius follows gradients that lead nowhere",
  ),
}
"""check -> what is asked, what its number is, why it matters."""


def ensemble(tables: Tables, predictor: str) -> str:
  """The accuracy that each attack of the ensemble leaves, one column for each radius."""
  table = tables.get("ensemble")
  if table is None:
    return ""
  settings, summary = table["settings"], table["summary"][predictor]
  cells = list(table["cells"])

  def row(name: str, fields: Sequence[str]) -> list[str]:
    return [name, *(estimate(summary[field]).range_text(100.0, 2) for field in fields)]

  rows = [row("no attack", ["clean"] * len(cells))]
  for name in settings["attacks"]:
    rows.append(row(f"after {_suite_tables.ATTACKS[name]}", [f"{cell}/{name}" for cell in cells]))
  robust = row("robust accuracy", cells)
  rows.append([_html.Markup(f"<b>{html.escape(text)}</b>") for text in robust])
  headings = ["accuracy, %", *(_suite_tables.radius(cell) for cell in cells)]
  shown = _html.table(headings, rows, label="accuracy under the ensemble", kind="numbers")
  said = (
    "Each attack meets only the images that withstood those before it; what is left at the end is "
    "the robust accuracy, an upper bound like that of any attack. "
    f"Auto-PGD and FAB take {settings['num_steps']:,} steps, towards each of the "
    f"{settings['num_targets']} likeliest other classes where they are targeted, Square "
    f"{settings['num_queries']:,} queries."
  )
  missing = "".join(
    f'<p class="warning">Left out: {html.escape(text)}.</p>'
    for text in table["notes"].get("left_out", ())
  )
  return f"<h2>Ensemble of attacks</h2>\n<p>{html.escape(said)}</p>\n{missing}{shown}"


def masking(tables: Tables, predictor: str) -> str:
  """The verdicts on masked gradients, with the curves that two of them are read from."""
  table = tables.get("masking")
  if table is None:
    return ""
  verdicts = table["summary"][predictor]["verdicts"]
  surrogate = table["notes"].get("surrogate", "")
  rows = [_row(verdict) for verdict in verdicts]
  headings = ("check", "verdict", "found, points", "tolerance", "what is measured")
  shown = _html.table(headings, rows, label="checks for masked gradients", kind="facts")
  failed = [row for row in verdicts if row["passed"] is False]
  head = (
    "A network that hides its gradients looks robust to attacks that follow them, and is not. "
    "Passing these checks proves nothing; failing one means that the accuracies under attack on "
    "this page speak of the attack, not of the network."
  )
  warning = ""
  if failed:
    reasons = "; ".join(CHECKS[row["check"]][2] for row in failed)
    checks = "check" if len(failed) == 1 else "checks"
    warning = (
      f'<p class="warning">{len(failed)} {checks} failed: {html.escape(reasons)}. Trust the '
      "accuracies under gradient attacks no further than that.</p>"
    )
  drawn = "".join(_html.figure(svg) for svg in _curves(table))
  seeds = ""
  if len(table["seeds"]) > 1:
    seeds = " Every seed has to pass; shown is the one that does by least."
  notes = (
    "A check is passed if its number is at most two binomial standard errors of "
    f"{table['n']:,} images, 2 √(p (1 - p) / n), p being the mean of the accuracies compared, held "
    f"within 1 and 99 %.{seeds} All attacks: PGD in l∞ with steps of a quarter of the radius, from "
    "one random start."
  )
  if surrogate:
    notes += f" Transferred images were found on {surrogate}."
  return f"""<h2>Are its gradients masked?</h2>
<p>{html.escape(head)}</p>
{warning}{shown}
<p class="soft">{html.escape(notes)}</p>
<div class="grid">{drawn}</div>"""


def verdict_lines(tables: Tables, predictor: str) -> list[str]:
  """The verdicts, one line each, for a terminal."""
  if "masking" not in tables:
    return []
  rows = tables["masking"]["summary"][predictor]["verdicts"]
  lines = []
  for row in rows:
    value, tolerance = worst(row)
    line = f"{CHECKS[row['check']][0]}: {_word(row['passed'])}"
    if value is not None:
      line += f" ({_points(row['check'], value)} points, at most {100 * tolerance:.2f})"
    lines.append(line)
  return lines


def failures(tables: Tables, predictor: str) -> Iterator[str]:
  """What the failed checks asked."""
  table = tables.get("masking")
  for row in table["summary"].get(predictor, {}).get("verdicts", ()) if table else ():
    if row["passed"] is False:
      yield CHECKS[row["check"]][0]


def worst(row: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
  """Value and tolerance of the seed that passes a check by least; None for one not measured."""
  pairs = list(zip(row["value"], row["tolerance"], strict=True))
  return max(pairs, key=lambda pair: pair[0] - pair[1]) if pairs else (None, None)


def _row(verdict: Mapping[str, Any]) -> list[str]:
  asked, number, _ = CHECKS[verdict["check"]]
  value, tolerance = worst(verdict)
  if value is None:
    unbroken = f'<span style="white-space:nowrap">{_word(None).replace(": ", ":<br>")}</span>'
    return [asked, _html.Markup(unbroken), "-", "-", number]
  word = _word(verdict["passed"])
  shown = word if verdict["passed"] else _html.Markup(f"<b>{word}</b>")
  return [asked, shown, _points(verdict["check"], value), f"{100 * tolerance:.2f}", number]


def _points(check: str, value: float) -> str:
  """Differences with their sign."""
  return f"{100 * value:.2f}" if check == "reach" else f"{100 * value:+.2f}"


def _word(passed: bool | None) -> str:
  if passed is None:
    return "not checked: give --surrogate=RUN"
  return "passed" if passed else "FAILED"


def _curves(table: Mapping[str, Any]) -> Iterator[str]:
  """Accuracy over radii and over steps; places are evenly spaced, for they grow like powers."""
  for cells, axis, title in (
    (evaluation.BY_RADIUS, "radius, times 255", "Accuracy under PGD-20 in %"),
    (evaluation.BY_STEPS, "steps", "Accuracy under PGD at 8/255 in %"),
  ):
    with _draw.style():
      several = len(table["summary"]) > 1
      figure = Figure(figsize=(4.6, 3.3 + 0.3 * several), layout="constrained")
      ax = figure.subplots()
      for i, (predictor, found) in enumerate(table["summary"].items()):
        values = np.array([found[cell] for cell in cells.values()], float)
        places = np.arange(len(values), dtype=float)
        _draw.curves(ax, Curve(places, values), label=predictor, series=i, scale=100.0)
        color = _draw.SERIES[i % len(_draw.SERIES)]
        ax.plot(places, 100 * values.mean(axis=1), "o", color=color, ms=5)
      ax.set_xticks(range(len(cells)), [str(place) for place in cells])
      ax.set_xlabel(axis)
      ax.set_ylim(-3, 103)
      ax.set_title(title, fontsize=12)
      if several:
        figure.legend(loc="outside lower center", ncols=len(table["summary"]), fontsize=10)
      yield _svg.to_svg(figure, f"{title} by {axis}")

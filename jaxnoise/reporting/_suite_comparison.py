"""The robustness suite of several runs side by side, with differences paired by seed."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _groups, _html, _suite_tables
from jaxnoise.reporting._statistics import Estimate, estimate

SUITE = "robustness"
Key = tuple[str, str]
"""(part, label) of a number."""


def section(entries: Sequence[tuple[str, _groups.Group, str]]) -> str:
  """One row per number, one column per entry; "" where fewer than two have run the suite.

  Only numbers that were measured as the first entry's were are shown: the same images and settings.

  Args:
    entries: label, runs and predictor of each, the baseline first.
  """
  found = [(label, by_seed_of(group, predictor)) for label, group, predictor in entries]
  found = [(label, numbers) for label, numbers in found if numbers]
  if len(found) < 2:
    return ""
  (base, first), others = found[0], found[1:]
  rows, left_out = [], False
  for key, (shown, mine, settings) in first.items():
    cells = [shown(estimate(list(mine.values())))]
    for _, numbers in others:
      if key not in numbers:
        cells.append("-")
        continue
      _, theirs, their_settings = numbers[key]
      if their_settings != settings:
        left_out = True
        cells.append("-")
        continue
      cells.append(_cell(shown, theirs, _groups.by_seed(mine, theirs)))
    rows.append([key[1], *cells])
  headings = ["", *(label for label, _ in found)]
  table = _html.table(headings, rows, label="robustness suite", kind="scores")
  notes = (
    f"Mean over seeds ± its standard error; below it the difference from {base}, paired by seed, "
    "with Student's 95 % interval from three pairs on. In %, unless it says otherwise."
  )
  if left_out:
    notes += " Numbers measured on other images or with other settings are left out."
  return f'<h2>Robustness suite</h2>\n{table}<p class="soft">{html.escape(notes)}</p>'


def by_seed_of(group: _groups.Group, predictor: str) -> dict[Key, tuple[Any, dict, Any]]:
  """(part, label) -> (how it is written, seed -> value, what it was measured on)."""
  out: dict[Key, tuple[Any, dict[int, float], Any]] = {}
  for run in group.runs:
    try:
      tables = _suite_tables.read_suite(run.path, SUITE)
    except InputError:
      continue
    for number in _suite_tables.numbers(tables, predictor):
      table = tables[number.part]
      measured = {k: table[k] for k in ("test_crc32", "n", "settings")}
      if number.relative:
        measured["reference"] = table.get("notes", {}).get("reference")
      key = (number.part, number.label)
      _, values, settings = out.setdefault(key, (_writer(number), {}, measured))
      if settings == measured:
        values.update(zip(table["seeds"], number.values, strict=True))
  return out


def _writer(number: _suite_tables.Number):
  scale, digits = number.scale, number.digits
  return lambda value, sign="": value.text(scale, digits, sign)


def _cell(shown: Any, theirs: Mapping[int, float], change: Estimate | None) -> _html.Markup | str:
  text = shown(estimate(list(theirs.values())))
  if change is None:
    return text
  small = shown(change, "+")
  if change.interval is not None:
    low, high = (shown(estimate([end]), "+") for end in change.interval)
    small += f" ({low} to {high})"
  return _html.Markup(f"{html.escape(text)}<small>{html.escape(small)}</small>")

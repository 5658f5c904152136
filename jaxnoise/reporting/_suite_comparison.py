"""Suites of several runs side by side, with differences paired by seed."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxnoise.core.errors import InputError
from jaxnoise.reporting import (
  _adversarial_sections,
  _groups,
  _html,
  _stability_sections,
  _suite_tables,
)
from jaxnoise.reporting._statistics import Estimate, estimate

SUITES = {
  "robustness": "Robustness suite",
  "adversarial": "Adversarial suite",
  "stability": "Stability suite",
}
_IN_PERCENT = "In %, unless it says otherwise."
Key = tuple[str, str]
"""(part, label) of a number."""


def section(entries: Sequence[tuple[str, _groups.Group, str]]) -> str:
  """Every suite that two entries or more have run; "" where there is none.

  Args:
    entries: label, runs and predictor of each, the baseline first.
  """
  return "\n".join(filter(None, (_one_suite(entries, suite) for suite in SUITES)))


def _one_suite(entries: Sequence[tuple[str, _groups.Group, str]], suite: str) -> str:
  """One row per number, one column per entry; "" where fewer than two have run the suite.

  Only numbers that were measured as the first entry's were are shown: the same images and settings.
  """
  found = [(label, by_seed_of(group, predictor, suite)) for label, group, predictor in entries]
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
  table = _html.table(headings, rows, label=SUITES[suite].lower(), kind="scores")
  notes = (
    f"Mean over seeds ± its standard error; below it the difference from {base}, paired by seed, "
    "with Student's 95 % interval from three pairs on."
  )
  notes += " " + (_stability_sections.COMPARED if suite == "stability" else _IN_PERCENT)
  if left_out:
    notes += " Numbers measured on other images or with other settings are left out."
  warnings = "".join(
    f'<p class="warning">{html.escape(text)}</p>' for text in _masked(entries, suite)
  )
  soft = f'<p class="soft">{html.escape(notes)}</p>'
  return f"<h2>{SUITES[suite]}</h2>\n{warnings}{table}{soft}"


def _masked(entries: Sequence[tuple[str, _groups.Group, str]], suite: str) -> Iterator[str]:
  """What is to be known of entries that may hide their gradients."""
  for label, group, predictor in entries:
    failed = {
      check: None
      for run in group.runs
      if (tables := _tables(run, suite)) is not None
      for check in _adversarial_sections.failures(tables, predictor)
    }
    if failed:
      yield (
        f"{label} failed to show that {', and that '.join(failed)}: it may hide its gradients, and "
        "its accuracies under gradient attacks then say little."
      )


def _tables(run: Any, suite: str) -> Mapping[str, Any] | None:
  try:
    return _suite_tables.read_suite(run.path, suite)
  except InputError:
    return None


def by_seed_of(
  group: _groups.Group, predictor: str, suite: str
) -> dict[Key, tuple[Any, dict, Any]]:
  """(part, label) -> (how it is written, seed -> value, what it was measured on)."""
  out: dict[Key, tuple[Any, dict[int, float], Any]] = {}
  for run in group.runs:
    tables = _tables(run, suite)
    for number in _suite_tables.numbers(tables or {}, predictor):
      table = tables[number.part]
      measured = {k: table[k] for k in ("test_crc32", "n", "settings")}
      if number.relative:
        measured["reference"] = table.get("notes", {}).get("reference")
      if number.transferred:
        measured["surrogate"] = table.get("notes", {}).get("surrogate")
      key = (number.part, number.label)
      _, values, settings = out.setdefault(key, (_writer(number), {}, measured))
      if settings == measured:
        values.update(zip(table["seeds"], number.values, strict=True))
  return out


def _writer(number: _suite_tables.Number):
  scale, digits = number.scale, number.decimals
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

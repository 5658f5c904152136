"""comparison.html: several runs on one page, with paired differences and their intervals."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnoise.reporting import (
  _groups,
  _html,
  _label_comparison,
  _runs,
  _suite_comparison,
  _svg,
  _sweeps,
  pages,
)
from jaxnoise.reporting._groups import Group
from jaxnoise.reporting._scores import SCORES, Score
from jaxnoise.reporting._statistics import Estimate, ExampleDifference, estimate

_MAX_LINES = 6
_MAX_IN_TITLE = 3


class Entry(NamedTuple):
  """One row of a comparison: a predictor of a group.

  Attributes:
    label: the group's, with the predictor where it is not the headline.
    group: whose it is.
    predictor: which of its predictors.
  """

  label: str
  group: Group
  predictor: str


def write_comparison(run_dirs: Sequence[str | Path], path: str | Path) -> Path:
  """Writes a page that compares runs; the first one is what the others are held against.

  Runs that differ only in their seeds are one row, and so is each member of a sweep. Differences
  are paired by seed where runs share seeds, and by test image, each with a 95 % interval and what
  it means.

  Args:
    run_dirs: of the runs, all on one test set.
    path: of the page; folders are made.

  Returns:
    The path.

  Raises:
    InputError: where a directory is no run, or the runs cannot be compared.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> from jaxnoise.training import writers
    >>> for name in ("erm", "mixup"):
    ...   config = {"method": {"name": name}, "data": {"name": "digits"}}
    ...   writers.write_json(pathlib.Path(name) / "config.json", {"config": config})
    >>> page = reporting.write_comparison(["erm", "mixup"], "comparison.html")
    >>> "erm and mixup on digits" in page.read_text()
    True
  """
  groups = _groups.group_runs(_sweeps.apart(_runs.load_run(path) for path in run_dirs))
  entries = _entries(groups)
  named = [group.label for group in groups]
  what = f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]
  if len(named) > _MAX_IN_TITLE:
    what = f"{len(named)} settings"
  title = f"{what} on {groups[0].first.dataset}"
  rows = [(entry.label, entry.group, entry.predictor) for entry in entries]
  sections = [
    _head(title, groups),
    _score_table(entries),
    _label_comparison.section(rows),
    _differences(entries),
    _curves(entries),
    _corruptions(groups),
    _suite_comparison.section(rows),
    _settings(groups),
    _directories(groups),
  ]
  return _html.write_page(Path(path), title, sections)


def members_sections(members: Sequence[_runs.RunRecord]) -> list[str]:
  """What a page says of the members of a sweep side by side, the first being the baseline."""
  groups = _groups.group_runs(members)
  entries = _entries(groups)
  return [_score_table(entries), _differences(entries), _curves(entries), _corruptions(groups)]


def _entries(groups: Sequence[Group]) -> list[Entry]:
  return [
    Entry(group.label if k == 0 else f"{group.label}: {predictor}", group, predictor)
    for group in groups
    # A run that was never evaluated has a row all the same.
    for k, predictor in enumerate(group.first.predictors or [""])
  ]


def _head(title: str, groups: Sequence[Group]) -> str:
  counts = {run.clean["n"] for group in groups for run in group.runs if run.clean}
  facts = [f"{n:,} test images" for n in counts]
  paths = {run.path for group in groups for run in group.runs}
  facts += [f"{len(groups)} settings", f"{len(paths)} run{'s' if len(paths) > 1 else ''}"]
  lines = [
    f"<h1>{html.escape(title)}</h1>",
    f'<p class="soft">{html.escape(" · ".join(facts))}</p>',
  ]
  for group in groups:
    for run in group.runs:
      if not run.finished:
        lines.append(
          f'<p class="warning">{html.escape(str(run.path))} has not ended; it has no final '
          "scores.</p>"
        )
  return "\n".join(lines)


def _comparable(entry: Entry, score: Score, groups: Sequence[Group]) -> bool:
  """Whether the entry's number of this score was taken on the images of the others'."""
  return score.table == "clean" or entry.group in groups


def _score_table(entries: Sequence[Entry]) -> str:
  corrupted = _groups.common_corruptions(_groups_of(entries))
  rows, other = [], False
  for entry in entries:
    cells, n = [], 0
    for score in SCORES:
      values = list(entry.group.scores(score.table, score.field, entry.predictor).values())
      if values and not _comparable(entry, score, corrupted):
        values, other = [], True
      value = estimate(values) if values else None
      n = max(n, len(values))
      cells.append(_cell(score.text(value), score.interval(value.interval)) if value else "-")
    rows.append([entry.label, *cells, str(n) if n else "-"])
  headings = ["", *(score.short for score in SCORES), "n"]
  table = _html.table(headings, rows, label="scores", kind="scores")
  notes = [
    "Mean over seeds ± its standard error; below it Student's 95 % interval for the mean over all "
    "seeds on this test set, from three seeds on. n counts seeds. Of the network after the last "
    "step; corrupted is the unweighted mean over corruptions and severities. Accuracy and "
    "calibration error (ECE) in %, negative log-likelihood (NLL) in nats."
  ]
  if other:
    notes.append("Corrupted scores on other corruptions than the first run's are left out.")
  return f'<h2>Scores</h2>\n{table}<p class="soft">{html.escape(" ".join(notes))}</p>'


def _groups_of(entries: Sequence[Entry]) -> list[Group]:
  return list({entry.group.label: entry.group for entry in entries}.values())


def _cell(number: str, interval: str) -> _html.Markup:
  small = "" if interval == "-" else f"<small>{html.escape(interval)}</small>"
  return _html.Markup(f"{html.escape(number)}{small}")


def _differences(entries: Sequence[Entry]) -> str:
  base, others = entries[0], entries[1:]
  if not others:
    return ""
  corrupted = _groups.common_corruptions(_groups_of(entries))
  rows, examples = [], []
  bars: dict[str, list[_svg.Bar]] = {}
  for entry in others:
    cells, n = [], 0
    for score in SCORES:
      cell = "-"
      if all(_comparable(e, score, corrupted) for e in (base, entry)):
        pair = (e.group.scores(score.table, score.field, e.predictor) for e in (base, entry))
        change = _groups.by_seed(*pair)
        if change is not None:
          n = max(n, change.n)
          cell = _cell(score.text(change, "+"), score.interval(change.interval, "+"))
          if score.field in ("accuracy", "mean_accuracy"):
            bars.setdefault(f"{score.heading}, by seed", []).append(_bar(entry.label, change))
      cells.append(cell)
    rows.append([entry.label, *cells, str(n) if n else "-"])
    by_image = _groups.by_example(*(e.group.correct(e.predictor) for e in (base, entry)))
    if by_image is not None:
      bars.setdefault("accuracy, clean, by image", []).append(_bar(entry.label, by_image))
      examples.append([entry.label, *_example_row(by_image)])
  headings = ["", *(score.short for score in SCORES), "pairs"]
  parts = [
    f"<h2>Differences from {html.escape(base.label)}</h2>",
    "<h3>Paired by seed</h3>",
    _html.table(headings, rows, label="differences paired by seed", kind="scores"),
    '<p class="soft">Mean of the differences between runs of one seed ± its standard error, and '
    "Student's 95 % interval from three pairs on: where the mean difference over all seeds lies, "
    "on this very test set. A dash means no common seed, or no such number.</p>",
  ]
  if examples:
    headings = ("", "accuracy, clean, points", "95 % interval", "images", "gained", "lost")
    parts += [
      "<h3>Paired by test image</h3>",
      _html.table(headings, examples, label="differences paired by test image", kind="examples"),
      '<p class="soft">Mean over test images of the difference in the share of seeds that are '
      "right, ± its standard error over images, and the normal 95 % interval: where the difference "
      "of these very networks lies on all images of the kind that the test set was drawn from. "
      "Gained and lost count images, added over common seeds, that only the one or only the other "
      "is right on.</p>",
    ]
  drawn = "".join(_html.figure(_svg.intervals_svg(of, what)) for what, of in bars.items())
  if drawn:
    said = '<p class="soft">Dots are mean differences, lines their 95 % intervals.</p>'
    parts.insert(1, f'<div class="grid">{drawn}</div>{said}')
  return "\n".join(parts)


def _bar(label: str, change: Estimate | ExampleDifference) -> _svg.Bar:
  ends = None if change.interval is None else tuple(100 * end for end in change.interval)
  return _svg.Bar(label, 100 * change.mean, ends)


def _example_row(change: ExampleDifference) -> list[str]:
  low, high = (f"{100 * end:+.2f}" for end in change.interval)
  counts = ["-" if c is None else f"{c:,}" for c in (change.gained, change.lost)]
  mean = f"{100 * change.mean:+.2f} ± {100 * change.error:.2f}"
  return [mean, f"{low} to {high}", f"{change.n:,}", *counts]


def _curves(entries: Sequence[Entry]) -> str:
  groups = _groups_of(entries)
  if len(entries) > _MAX_LINES:
    headlines = dict(zip((e.group.label for e in entries[::-1]), entries[::-1], strict=True))
    entries = [headlines[group.label] for group in groups]
  losses = [(g.label, g.curve("train/student/loss")) for g in groups]
  accuracies = [(e.label, e.group.curve(f"test/{e.predictor}/accuracy")) for e in entries]
  svgs = [
    _svg.overlay_svg(_known(losses), "Training loss, each method's own", 1.0),
    _svg.overlay_svg(_known(accuracies), "Test accuracy, clean images, in %", 100.0),
  ]
  drawn = "".join(_html.figure(svg) for svg in svgs if svg)
  if not drawn:
    return ""
  return f"""<h2>Curves</h2>
<div class="grid">{drawn}</div>
<p class="soft">Lines are means over seeds, bands go from min to max.</p>"""


def _known(curves: Sequence[tuple[str, _runs.Curve | None]]) -> list[tuple[str, _runs.Curve]]:
  return [(label, curve) for label, curve in curves if curve is not None and len(curve.epoch)]


def _corruptions(groups: Sequence[Group]) -> str:
  shown = [(g.label, g.cells()) for g in _groups.common_corruptions(groups)]
  if not shown:
    return ""
  chance = 100 / groups[0].first.info.get("num_classes", 10)
  tables = [
    pages.corruption_table(cells, f"{label}: accuracy in %, mean over seeds", chance)
    for label, cells in shown
  ]
  base = shown[0][1].value.mean(axis=0)
  changes = [(label, cells.value.mean(axis=0) - base) for label, cells in shown[1:]]
  span = 100 * max([0.01, *(float(np.nanmax(np.abs(change))) for _, change in changes)])
  differences = [
    pages.corruption_table(
      shown[0][1]._replace(value=change[None]), f"{label} minus {shown[0][0]}, in points",
      -span, span, signed=True,
    )
    for label, change in changes
  ]  # fmt: skip
  parts = [f'<div class="grid heats">{"".join(tables)}</div>']
  if differences:
    parts += [
      "<h3>Differences</h3>",
      f'<div class="grid heats">{"".join(differences)}</div>',
      '<p class="soft">Of the means over all seeds of each, shared or not.</p>',
    ]
  return "<h2>Accuracy under corruption</h2>\n" + "\n".join(parts)


def _settings(groups: Sequence[Group]) -> str:
  rows = [[field, *values] for field, values in _groups.differences(groups)]
  if not rows:
    return ""
  headings = ("field", *(group.label for group in groups))
  table = _html.table(headings, rows, label="settings that differ", kind="settings")
  return f"<h2>Settings that differ</h2>\n{table}"


def _directories(groups: Sequence[Group]) -> str:
  rows = []
  for group in groups:
    for run in group.runs:
      commit = str(run.info.get("commit") or "not known")
      rows.append([group.label, str(run.path), ", ".join(map(str, run.seeds)), commit])
  headings = ("setting", "directory", "seeds", "commit")
  return f"<h2>Runs</h2>\n{_html.table(headings, rows, label='runs', kind='settings')}"

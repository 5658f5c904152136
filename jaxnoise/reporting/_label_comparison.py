"""Noisy training labels of several runs side by side: what was fitted of them, which differ."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnoise.reporting import _details, _html, _runs, _scores
from jaxnoise.reporting._groups import Group
from jaxnoise.reporting._statistics import estimate

_SPLITS = {"holdout": "by held-out", "test": "by the test set"}
"""What may choose an epoch, the better first."""


def section(entries: Sequence[tuple[str, Group, str]]) -> str:
  """One row per entry; "" where no run tells of noisy labels.

  Args:
    entries: label, runs and predictor of each, the baseline first.
  """
  labels = {group.label: labels_by_seed(group) for _, group, _ in entries}
  if not any(labels.values()):
    return ""
  rows = []
  for label, group, predictor in entries:
    last = group.scores("clean", "accuracy", predictor)
    fitted = [_at_the_end(group, f"labels/{predictor}/{name}") for name in _details.FITTED]
    cells = [_cell(last), _cell(*_best(group, predictor)), *(_cell(values) for values in fitted)]
    n = max(len(last), *(len(values) for values in fitted))
    rows.append([label, _rate(labels[group.label]), *cells, str(n) if n else "-"])
  headings = (
    "", "wrong labels", "test accuracy, last", "test accuracy, best", *_details.FITTED.values(), "n"
  )  # fmt: skip
  table = _html.table(headings, rows, label="label noise", kind="scores")
  base, *others = labels
  warnings = [_warning(base, labels[base], other, labels[other]) for other in others]
  return f"""<h2>Label noise</h2>
{"".join(warnings)}{table}<p class="soft">{html.escape(" ".join(_notes(entries)))}</p>"""


def labels_by_seed(group: Group) -> dict[int, Mapping[str, Any]]:
  """Seed -> "rate" and "labels_sha256" of the labels that it was trained on, where that is told."""
  out: dict[int, Mapping[str, Any]] = {}
  for run in group.runs:
    if run.label_noise:
      seeds = run.label_noise.get("seeds", run.seeds)
      # Without a list of their own, all seeds have the labels that the table describes.
      own = run.label_noise.get("of_seeds") or [run.label_noise] * len(seeds)
      out.update(zip(seeds, own, strict=False))
  return out


def _rate(labels: Mapping[int, Mapping[str, Any]]) -> _html.Markup | str:
  if not labels:
    return "-"
  rates = estimate([one["rate"] for one in labels.values()])
  low, high = (f"{100 * end:.2f}" for end in (rates.low, rates.high))
  mean = f"{100 * rates.mean:.2f}"
  return mean if low == high else _html.Markup(f"{mean}<small>{low} to {high}</small>")


def _cell(values: Mapping[int, float], small: str = "") -> _html.Markup | str:
  if not values:
    return "-"
  text = html.escape(estimate(list(values.values())).text())
  return _html.Markup(f"{text}<small>{html.escape(small)}</small>") if small else text


def _at_the_end(group: Group, name: str) -> dict[int, float]:
  """The last value of a curve by seed, of the runs that have ended."""
  out: dict[int, float] = {}
  for run in group.runs:
    if run.finished and _runs.has_curve(run, name):
      out.update(zip(run.seeds, _runs.curve(run, name).value[-1].tolist(), strict=True))
  return out


def _best(group: Group, predictor: str) -> tuple[dict[int, float], str]:
  """Test accuracy by seed at each run's best epoch, and which epochs those are."""
  out: dict[int, float] = {}
  epochs: dict[tuple[str, float], None] = {}
  for run in group.runs:
    split, best = _chosen(run)
    name = f"test/{predictor}/accuracy"
    if best is None or not run.finished or not _runs.has_curve(run, name):
      continue
    shown = _runs.curve(run, name)
    for values in shown.value[shown.epoch == best][:1]:
      out.update(zip(run.seeds, values.tolist(), strict=True))
      epochs[_SPLITS[split], best] = None
  told = []
  for how in dict.fromkeys(how for how, _ in epochs):
    which = sorted(epoch for by, epoch in epochs if by == how)
    several = "epochs" if len(which) > 1 else "epoch"
    told.append(f"{several} {', '.join(f'{epoch:g}' for epoch in which)} {how}")
  return out, "; ".join(told)


def _chosen(run: _runs.RunRecord) -> tuple[str, float | None]:
  """(split, epoch): the best epoch by held-out images or, where there are none, by the test set."""
  found = ((split, _scores.best_epoch(run, split)) for split in _SPLITS)
  return next((one for one in found if one[1] is not None), ("", None))


def _warning(
  base: str,
  first: Mapping[int, Mapping[str, Any]],
  other: str,
  second: Mapping[int, Mapping[str, Any]],
) -> str:
  """Says so where runs of one seed were trained on different labels."""
  seeds = [s for s in first if s in second]
  seeds = [s for s in seeds if first[s]["labels_sha256"] != second[s]["labels_sha256"]]
  if not seeds:
    return ""
  hashes = [one[seeds[0]]["labels_sha256"][: _details.HASH] for one in (second, first)]
  text = (
    f"{other} and {base} were trained on different labels of seed{'s' if len(seeds) > 1 else ''} "
    f"{', '.join(map(str, seeds))} (SHA-256 of seed {seeds[0]} begins "
    f"{' and '.join(hashes)}): their differences paired by seed are over different "
    "labels, too."
  )
  return f'<p class="warning">{html.escape(text)}</p>\n'


def _notes(entries: Sequence[tuple[str, Group, str]]) -> list[str]:
  runs = [run for _, group, _ in entries for run in group.runs]
  notes = [
    "In %, mean over seeds ± its standard error; of runs that have ended. Wrong labels: the share "
    "of training labels that are not the true ones, below it the smallest and the largest of a "
    "seed; a dash where no noise is on record. Last is after the last step. Best is the epoch "
    "whose accuracy is highest, the last of equals and one for all seeds of a run, by the first "
    "predictor's mean over seeds."
  ]
  if any(run.label_noise and _scores.best_epoch(run) is not None for run in runs):
    notes.append("Where the labels are noisy, the held-out ones are as noisy as those of training.")
  if any(_chosen(run)[0] == "test" for run in runs):
    notes.append(
      "Where nothing was held out, best is by the test set itself: for reading, not for choosing."
    )
  notes.append(
    "The other shares are at the end, by the predictions on the training images as they are: wrong "
    "labels that are predicted, wrong labels whose true class is predicted, and right labels among "
    "all that are predicted."
  )
  return notes

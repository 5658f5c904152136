"""What the finished network scored: cards for a glance, a table with every spread."""

from __future__ import annotations

import html
from typing import NamedTuple

import numpy as np

from jaxnoise.reporting import _html, _runs
from jaxnoise.reporting._statistics import Estimate, estimate


class Score(NamedTuple):
  """One number that a network is judged by.

  Attributes:
    heading: what it is called.
    short: what it is called where there is little room.
    table: "clean" or "corrupted".
    field: in that table.
    unit: "%" for fractions, shown times 100, or "nats".
  """

  heading: str
  short: str
  table: str
  field: str
  unit: str

  @property
  def scale(self) -> float:
    """What a value is multiplied by to be in its unit."""
    return 100.0 if self.unit == "%" else 1.0

  @property
  def digits(self) -> int:
    """Decimals that are shown."""
    return 2 if self.unit == "%" else 4

  def number(self, value: float, sign: str = "") -> str:
    """One value in the score's unit; a dash where there is none."""
    return f"{value * self.scale:{sign}.{self.digits}f}" if np.isfinite(value) else "-"

  def text(self, value: Estimate, sign: str = "") -> str:
    """Mean ± standard error in the score's unit."""
    return value.text(self.scale, self.digits, sign)

  def interval(self, value: tuple[float, float] | None, sign: str = "") -> str:
    """Both ends of an interval; a dash where there is none."""
    return "-" if value is None else " to ".join(self.number(end, sign) for end in value)


SCORES = (
  Score("accuracy, clean", "accuracy, clean", "clean", "accuracy", "%"),
  Score("accuracy, corrupted", "accuracy, corrupted", "corrupted", "mean_accuracy", "%"),
  Score(
    "accuracy, corrupted, of those right when clean",
    "the same, if right when clean",
    "corrupted",
    "mean_conditional",
    "%",
  ),
  Score("calibration error, clean", "ECE, clean", "clean", "ece", "%"),
  Score("calibration error, corrupted", "ECE, corrupted", "corrupted", "mean_ece", "%"),
  Score("negative log-likelihood, clean", "NLL, clean", "clean", "nll", "nats"),
)
"""In the order of the tables."""
_ON_CARDS = ("accuracy", "mean_accuracy", "ece", "mean_ece")


def section(run: _runs.RunRecord) -> str:
  """The scores of a finished run."""
  if run.clean is None:
    return ""
  cards = []
  for score in SCORES:
    value = _of(run, score, run.predictors[0]) if score.field in _ON_CARDS else None
    if value:
      ends = score.interval((value.low, value.high))
      spread = f"{ends} over {value.n} seeds" if value.n > 1 else "1 seed: no spread"
      cards.append(
        f'<div class="card"><span>{score.heading}</span><b>{score.text(value)} {score.unit}</b>'
        f"<span>{spread}</span></div>"
      )
  bins = next(iter(run.clean.get("calibration", {}).values()), [{"count": ()}])
  return f"""<h2>Scores</h2>
<p>Of the network after the last step, on all {run.clean["n"]:,} test images. The spread is over
seeds: ± is one standard error of their mean. Corrupted means the unweighted mean over every
corruption and severity below; calibration error is ECE with {len(bins[0]["count"])} bins of equal
width.</p>
<div class="grid cards">{"".join(cards)}</div>
{_published(run)}{_numbers(run)}"""


def _published(run: _runs.RunRecord) -> str:
  """What a paper prints for this cell, beside what was measured here."""
  told = run.config.get("published") or {}
  rows = []
  for score in SCORES:
    if score.field in told:
      value = _of(run, score, run.predictors[0])
      here = "-" if value is None else f"{score.text(value)} {score.unit}"
      rows.append([score.short, f"{told[score.field]:g} {score.unit}", here])
  if not rows:
    return ""
  table = _html.table(("score", "published", "here"), rows, label="published", kind="facts")
  source = html.escape(str(told.get("source", "the paper")))
  return f'''<h3>Published</h3>
{table}<p class="soft">Published by {source}; the setting is the config's only where the config says
nothing else.</p>'''


def _of(run: _runs.RunRecord, score: Score, predictor: str) -> Estimate | None:
  read = _runs.final if score.table == "clean" else _runs.corrupted
  values = read(run, score.field, predictor)
  return None if values is None else estimate(values)


def _numbers(run: _runs.RunRecord) -> str:
  """Every score of every predictor, last and best, with n and spread."""
  best = best_epoch(run)
  first, *others = (_table_of(run, predictor, best) for predictor in run.predictors)
  folded = "".join(
    _html.folded(f"The same for {predictor}", table)
    for predictor, table in zip(run.predictors[1:], others, strict=True)
  )
  notes = [
    "Accuracy and calibration error (ECE) in %, negative log-likelihood (NLL) in nats. n counts "
    "seeds; s. e. is the standard error of the mean, s. d. / √n; s. d. has n - 1."
  ]
  if len(run.seeds) >= 3:
    notes.append("The interval is Student's, for the mean over all seeds on this test set.")
  else:
    notes.append("An interval needs three seeds.")
  if best is not None:
    notes.append(
      "Best is the epoch whose accuracy on the held-out images is highest, the last of equals; all "
      "other rows are the last step's."
    )
    notes += best_notes(run)
    notes += [] if _has_checkpoint(run, best) else ["No checkpoint of that epoch was kept."]
  return f"""<h3>All numbers</h3>
{first}<p class="soft">{html.escape(" ".join(notes))}</p>{folded}"""


def _table_of(run: _runs.RunRecord, predictor: str, best: float | None) -> str:
  rows = []
  for score in SCORES:
    value = _of(run, score, predictor)
    if value:
      rows.append([score.short, *_row(score, value)])
    curve = f"test/{predictor}/{score.field}"
    if best is not None and score.table == "clean" and _runs.has_curve(run, curve):
      epoch, values = _runs.curve(run, curve)
      for at_best in values[epoch == best][:1]:
        rows.append([f"{score.short}; best, epoch {best:g}", *_row(score, estimate(at_best))])
  headings = (predictor, "mean", "s. e.", "s. d.", "min", "max", "95 % interval", "n")
  return _html.table(headings, rows, label=f"every score of {predictor}", kind="numbers")


def _row(score: Score, value: Estimate) -> list[str]:
  numbers = (value.mean, value.error, value.sd, value.low, value.high)
  cells = [score.number(v) for v in numbers]
  return [*cells, score.interval(value.interval), str(value.n)]


def best_epoch(run: _runs.RunRecord, split: str = "holdout") -> float | None:
  """Where the headline's accuracy on a split is highest, of equals the last.

  Args:
    run: its curves are read.
    split: "holdout", or "test" to look at, not to choose by.

  Returns:
    The epoch, one for all seeds; None where the run was not measured on the split.
  """
  name = f"{split}/{next(iter(run.predictors), '')}/accuracy"
  if not _runs.has_curve(run, name):
    return None
  found = _runs.curve(run, name)
  return float(found.epoch[_runs.best_index(found)])


def best_notes(run: _runs.RunRecord, *, held_out: bool = True) -> list[str]:
  """What else to know of a run's best epoch, as sentences.

  Args:
    run: its seeds and label noise are read.
    held_out: whether held-out images chose it.
  """
  notes = []
  if len(run.seeds) > 1:
    notes.append("It is one epoch for all seeds, that of the highest mean over them.")
  if held_out and run.label_noise:
    notes.append(
      "The held-out labels are as noisy as those of training: accuracy on them is agreement with "
      "labels some of which are wrong."
    )
  return notes


def _has_checkpoint(run: _runs.RunRecord, epoch: float) -> bool:
  """Whether the run has a checkpoint of an epoch, as far as its directory tells."""
  folder = run.path / "checkpoints"
  steps = {row["step"] for row in run.rows if row.get("epoch") == epoch}
  return not folder.is_dir() or any((folder / str(step)).is_dir() for step in steps)

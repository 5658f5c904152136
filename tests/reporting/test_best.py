"""Which epoch is best, and what is said of it."""

import pathlib

import pytest

from jaxnoise import reporting
from jaxnoise.reporting import _scores, _svg
from tests.reporting import fabricate
from tests.reporting.reader import Reader

NOISY = "The held-out labels are as noisy as those of training"
ONE = "It is one epoch for all seeds, that of the highest mean over them."


def record(values, **kwargs):
  """A run with these held-out accuracies, [points][seeds]; on the test set epoch k has 0.k."""
  rows = [
    {
      "step": 10 * k,
      "epoch": float(k),
      "holdout/student/accuracy": values[k - 1],
      "test/student/accuracy": [k / 10] * len(values[0]),
    }
    for k in range(1, len(values) + 1)
  ]
  config = {"seeds": len(values[0])}
  return reporting.RunRecord(pathlib.Path("run"), {"config": config}, tuple(rows), **kwargs)


def text_of(path):
  return Reader(reporting.write_report(path).read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
  ("values", "epoch"),
  [
    ([[0.5], [0.7], [0.6], [0.7], [0.6]], 4),
    ([[0.9], [0.7], [0.6]], 1),
    # Each seed has its own best; the mean is highest at 2 and, equal to it, at 3.
    ([[0.9, 0.1], [0.5, 0.75], [0.75, 0.5], [0.1, 0.9]], 3),
  ],
)
def test_the_last_of_equals_is_best_in_tables_and_drawings(values, epoch):
  run = record(values)
  assert _scores.best_epoch(run) == epoch
  names = ["test/student/accuracy", "holdout/student/accuracy"]
  svg = _svg.run_curve_svg(run, names, "Accuracy", 100.0)
  assert f"best on holdout: {10 * epoch:.2f}, epoch {epoch}" in svg


def test_the_test_set_is_asked_only_by_name():
  run = record([[0.7], [0.6]])
  assert _scores.best_epoch(run) == 1 and _scores.best_epoch(run, "test") == 2
  assert _scores.best_epoch(run, "labels") is None


def test_notes_of_seeds_and_noise():
  noise = {"rate": 0.2}
  assert _scores.best_notes(record([[0.5]])) == []
  assert _scores.best_notes(record([[0.5, 0.6]])) == [ONE]
  (said,) = _scores.best_notes(record([[0.5]], label_noise=noise))
  assert said.startswith(NOISY)
  assert _scores.best_notes(record([[0.5, 0.6]], label_noise=noise), held_out=False) == [ONE]


@pytest.mark.parametrize("details", [False, True])
def test_a_page_says_it_below_curves_and_numbers(tmp_path, details):
  """With details its labels are noisy."""
  path = fabricate.run_directory(tmp_path / "run", epochs=5, details=details)
  text = text_of(path)
  assert text.count(NOISY) == (2 if details else 0)
  assert text.count(ONE) == 2 and text.count("the last of equals") == 2


def test_a_best_epoch_that_was_not_kept_is_said(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", epochs=5)
  says = "No checkpoint of that epoch was kept."
  assert says not in text_of(path), "without checkpoints nothing is known"
  (path / "checkpoints" / "80").mkdir(parents=True)
  assert says in text_of(path)
  (path / "checkpoints" / "100").mkdir()
  assert says not in text_of(path)

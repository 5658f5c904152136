"""Means, standard errors and what a comparison may claim."""

import numpy as np
import pytest

from jaxnoise import reporting
from jaxnoise.core import InputError
from tests.reporting import fabricate


def pair(folder, a=None, b=None):
  runs = (("erm", a or {}), ("noisymix", b or {}))
  return [
    reporting.load_run(fabricate.run_directory(folder / name, name, epochs=5, **kwargs))
    for name, kwargs in runs
  ]


def test_estimate_against_numpy():
  values = [0.91, 0.94, 0.92, 0.99]
  got = reporting.estimate(values)
  assert got.mean == pytest.approx(np.mean(values))
  assert got.error == pytest.approx(np.sqrt(np.var(values, ddof=1) / 4))
  assert (got.low, got.high, got.n) == (0.91, 0.99, 4)
  assert got.text() == "94.00 ± 1.78"


def test_one_seed_has_no_standard_error():
  one = reporting.estimate([0.5])
  assert np.isnan(one.error) and one.text() == "50.00"


def test_no_seed_is_an_error():
  with pytest.raises(InputError, match="one at least"):
    reporting.estimate([])


def test_rows_and_their_text(tmp_path):
  rows = reporting.comparison_rows(pair(tmp_path, b={"corrupted": (0.8, 0.8, 0.83)}))
  assert [(row.label, row.seeds, row.images) for row in rows] == [
    ("erm", 3, 360),
    ("noisymix", 3, 360),
  ]
  assert rows[1].values["mean_accuracy"].mean == pytest.approx(0.81)
  lines = reporting.format_rows(rows).split("\n")
  assert len({len(line) for line in lines}) == 1, "columns are aligned"
  assert "70.00 ± 1.15" in lines[2] and "81.00 ± 1.00" in lines[3] and "97.00 ± 0.58" in lines[2]


def test_rows_of_a_run_without_corruptions_have_a_dash(tmp_path):
  rows = reporting.comparison_rows(pair(tmp_path, {"names": ()}, {"names": ()}))
  assert rows[0].values["mean_accuracy"] is None
  cells = reporting.format_rows(rows).split("\n")[2].split("  ")
  assert [cell.strip() for cell in cells if cell.strip()] == [
    "erm", "97.00 ± 0.58", "-", "2.00 ± 0.00", "-", "3",
  ]  # fmt: skip


def test_an_unfinished_run_has_no_row(tmp_path):
  with pytest.raises(InputError, match="no final tables"):
    reporting.comparison_rows(pair(tmp_path, {"finished": False}))


def test_differences_are_paired_by_seed(tmp_path):
  # The seeds scatter by 2 points, the differences by 0.1: pairing must not see the former.
  a, b = pair(
    tmp_path, {"corrupted": (0.70, 0.72, 0.68)}, {"corrupted": (0.711, 0.730, 0.689)}
  )
  got = reporting.paired_difference(a, b, "mean_accuracy")
  d = [0.011, 0.010, 0.009]
  assert got.mean == pytest.approx(np.mean(d))
  assert got.error == pytest.approx(np.std(d, ddof=1) / np.sqrt(3))


def test_only_common_seeds_are_paired(tmp_path):
  a, b = pair(tmp_path, {}, {"seeds": 2, "corrupted": (0.8, 0.9)})
  got = reporting.paired_difference(a, b, "mean_accuracy")
  assert got.n == 2 and got.mean == pytest.approx(np.mean([0.10, 0.18]))


@pytest.mark.parametrize(
  ("corrupted", "clean", "says", "says_not"),
  [
    ((0.80, 0.81, 0.79), (0.97, 0.96, 0.98), ["+10.33", "more than twice", "better"], ["worse"]),
    ((0.60, 0.61, 0.59), (0.97, 0.96, 0.98), ["-9.67", "more than twice", "worse"], ["better"]),
    ((0.60, 0.82, 0.70), (0.97, 0.96, 0.98), ["not more than twice", "no difference"], ["better"]),
    ((0.80, 0.81, 0.79), (0.95, 0.94, 0.96), ["-2.00", "a loss of more than one point"], []),
    ((0.80, 0.81, 0.79), (0.965, 0.955, 0.975), ["-0.50", "a loss of at most one point"], []),
    ((0.80, 0.81, 0.79), (0.98, 0.97, 0.99), ["+1.00", "no loss"], ["a loss of"]),
  ],
)
def test_the_verdict_says_what_the_numbers_support(tmp_path, corrupted, clean, says, says_not):
  a, b = pair(tmp_path, {"corrupted": (0.70, 0.71, 0.68)}, {"corrupted": corrupted, "clean": clean})
  text = reporting.verdict(a, b)
  assert text.startswith("noisymix minus erm, paired by seed (n = 3): ")
  assert all(part in text for part in says), text
  assert not any(part in text for part in says_not), text


def test_the_verdict_on_one_seed_claims_no_error(tmp_path):
  text = reporting.verdict(*pair(tmp_path, {"seeds": 1}, {"seeds": 1, "corrupted": (0.9,)}))
  assert "one seed" in text and "better" not in text and "±" not in text and "nan" not in text


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"dataset": "cifar10"}, "compare runs on one test set"),
    ({"names": fabricate.NAMES[:4]}, "different corruptions"),
  ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, says):
  a, b = pair(tmp_path, {}, changes)
  with pytest.raises(InputError, match=says):
    reporting.verdict(a, b)

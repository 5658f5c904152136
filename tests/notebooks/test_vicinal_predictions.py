"""The notebook of memorised labels and vicinal predictions, run with one network and few epochs."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.test_notebooks import figures, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("03_vicinal_predictions")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))


def test_it_shows_its_figures(executed):
  assert len(figures(executed)) == 6


def test_it_has_the_rows_of_table_1_beside_the_published_ones(executed):
  row = re.compile(r"^50%   (\D+?) +((?:[\d.]+ +){2}[\d.]+)((?: +[\d.]+){3})?$", re.MULTILINE)
  rows = {name: (measured, paper) for name, measured, paper in row.findall(printed(executed))}
  assert list(rows) == ["none", "seen: crop", "AutoAugment, erasing", "pixel noise"]
  published = {name: paper.split() for name, (_, paper) in rows.items() if paper}
  assert published == {
    "none": ["99.97", "0.07", "55.11"],
    "AutoAugment, erasing": ["93.09", "40.58", "69.51"],
  }
  clean, mislabelled, overall = map(float, rows["none"][0].split())
  # Few epochs: the wrong labels are not memorised yet.
  assert min(clean, mislabelled) - 0.01 <= overall <= max(clean, mislabelled) + 0.01
  assert overall > 60


def test_a_tenth_of_the_new_labels_is_the_true_one(executed):
  rate = re.search(r"rate 50%: ([\d.]+)% of the labels are wrong", printed(executed))
  assert abs(float(rate[1]) - 45) < 3

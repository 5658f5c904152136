"""The notebook of decision boundaries and regularisers, run with two schemes and fewer epochs."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.test_notebooks import figures, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("02_decision_boundaries")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))


def test_it_shows_boundaries_and_convergence(executed):
  assert len(figures(executed)) == 2


def test_it_compares_with_the_published_accuracies(executed):
  row = re.compile(r"^(baseline|NoisyMix) +(8\d\.8) +([\d.]+) ± [\d.]+ +([\d.]+) ± ", re.MULTILINE)
  rows = row.findall(printed(executed))
  assert [found[:2] for found in rows] == [("baseline", "86.8"), ("NoisyMix", "88.8")]
  assert all(50 < float(accuracy) < 95 for found in rows for accuracy in found[2:])

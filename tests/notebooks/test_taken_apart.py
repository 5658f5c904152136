"""The notebook that takes NoisyMix apart, run with fewer epochs."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.test_notebooks import figures, outputs, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("01_noisymix_taken_apart")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))
  assert not [out for out in outputs(executed) if out["output_type"] == "error"]


def test_it_shows_its_figures(executed):
  assert len(figures(executed)) == 7


def test_it_takes_both_terms_apart(executed):
  line = re.compile(r"^\d+ to \d+ +(label|12 JSD) +([\d.]+) +([\d.]+) +-?[\d.]+$", re.MULTILINE)
  rows = line.findall(printed(executed))
  assert [row[0] for row in rows] == ["label", "12 JSD"] * 2
  values = [float(row[1]) for row in rows]
  assert values[2] < values[0], "the label term did not fall during training"
  assert all(float(row[2]) > 0 for row in rows), "a term without a gradient"


def test_it_trains_the_ten_rows_of_the_ablation(executed):
  line = re.compile(r"^([A-][M-][N-][J-])((?: +\d+\.\d){4}) +\d+\.\d$", re.MULTILINE)
  rows = line.findall(printed(executed))
  assert [row[0] for row in rows] == [
    "----", "--N-", "-M--", "-MN-", "A---", "A-NJ", "A--J", "AMN-", "AM-J", "AMNJ",
  ]  # fmt: skip
  results = [row[1] for row in rows]
  assert len(set(results)) == len(results), "two switches train the same network"
  clean = [float(result.split()[0]) for result in results]
  assert min(clean) > 20, f"a row learned nothing: {clean}"

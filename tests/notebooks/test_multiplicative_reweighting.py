"""The notebook of multiplicative reweighting, run at one noise rate with few epochs."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.test_notebooks import figures, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("04_multiplicative_reweighting")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))


def test_it_shows_its_figures(executed):
  assert len(figures(executed)) == 4


def test_the_plateau_of_noisy_gradient_descent_and_the_bounds(executed):
  text = printed(executed)
  assert "noisy GD ends at 0.405465" in text
  row = re.compile(r"^(0\.\d+) +(\d+) +([\d.]+) +(\d+) +([\d.]+) +([\d.]+)$", re.MULTILINE)
  rows = {found[0]: (int(found[1]), int(found[3]), *map(float, found[4:])) for found in
          row.findall(text)}
  assert {k: v[:2] for k, v in rows.items()} == {
    "0.5": (1, 3), "0.1": (10, 13), "0.05": (21, 24), "0.01": (102, 104),
  }  # fmt: skip
  assert all(first <= tight <= loose for _, first, tight, loose in rows.values())


def test_the_library_walks_the_path_of_the_theory(executed):
  steps = re.findall(r"theta after +\d+: library ([\d.]+), recursion ([\d.]+)", printed(executed))
  assert len(steps) == 5
  assert all(abs(float(a) - float(b)) < 1e-5 for a, b in steps)


def test_the_weight_of_wrong_labels_falls(executed):
  row = re.compile(r"^40% +(0\.\d+) +((?:[\d.]+ +){4}[\d.]+)$", re.MULTILINE)
  rows = {eta: list(map(float, line.split())) for eta, line in row.findall(printed(executed))}
  assert "0.01" in rows
  for line in rows.values():
    assert abs(line[0] - 0.36) < 0.03, "the first weights are equal"
    assert line[-1] < line[0]

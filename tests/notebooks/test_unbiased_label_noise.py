"""The notebook of unbiased label noise, with shorter runs."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.test_notebooks import figures, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("05_unbiased_label_noise")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))


def test_it_shows_its_figures(executed):
  assert len(figures(executed)) == 4


def test_the_scalings_differ_by_the_learning_rate(executed):
  row = re.compile(r"^(gradient|paper|increment) +([\d.]+) +([\d.]+) +[\d.]+$", re.MULTILINE)
  rows = {name: float(formula) for name, formula, _ in row.findall(printed(executed))}
  assert rows["paper"] == pytest.approx(0.01 * rows["gradient"], rel=1e-3)
  assert rows["increment"] == pytest.approx(0.0001 * rows["gradient"], rel=0.01)


def test_clouds_of_figure_1_lie_about_the_least_squares_solution(executed):
  number = r" *([\d.]+)"
  pattern = r"^\(([a-h])\) .*?" + ",".join([number, number + number, number + number, number])
  row = re.compile(pattern + number + "%" + number + number + "$", re.MULTILINE)
  rows = {found[0]: list(map(float, found[1:])) for found in row.findall(printed(executed))}
  assert list(rows) == list("abcdefgh")
  for simulated1, simulated2, exact1, exact2, _, _, inside, off_star, off_hat in rows.values():
    assert simulated1 == pytest.approx(exact1, rel=0.15)
    assert simulated2 == pytest.approx(exact2, rel=0.15)
    assert 92 < inside < 98
    assert off_hat < off_star
  # The exact covariance is linear in the variance of the labels.
  assert rows["d"][2] == pytest.approx(8 * rows["a"][2], rel=0.01)
  # Ver is tall and Hor is wide; constant noise has half the variance of 100 I.
  assert rows["g"][3] > 2 * rows["g"][2] and rows["h"][2] > 1.8 * rows["h"][3]
  assert rows["f"][4] < 0.6 * rows["f"][2]


def test_divergence_is_shown_with_its_limit(executed):
  text = printed(executed)
  half, full = re.search(r"half loss ([\d.]+), full loss ([\d.]+)\n", text).groups()
  assert float(full) < 0.01 < float(half)
  refused = re.search(r"InputError: learning_rate is 0.01.* learning_rate=([\d.]+);", text)
  assert float(refused[1]) == pytest.approx(float(full), abs=1e-5)

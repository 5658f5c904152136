"""The notebook of own arrays, module, loss and method, run with fewer epochs."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.test_notebooks import figures, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("07_your_own_model_and_data")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))
  assert "'name': 'object:__main__.Small'" in printed(executed)


def test_it_shows_its_figures(executed):
  assert len(figures(executed)) == 3


def test_it_compares_its_three_runs(executed):
  row = re.compile(r"^(erm|noisymix|confidence_penalty \+ with_ema) +([\d.]+) ± .* 3 *$", re.M)
  rows = dict(row.findall(printed(executed)))
  assert list(rows) == ["erm", "noisymix", "confidence_penalty + with_ema"]
  assert all(float(accuracy) > 60 for accuracy in rows.values()), "a tenth is chance"


def test_the_gradient_for_the_hyper_parameter_is_minus_the_entropy(executed):
  found = re.search(r"gradient for beta -([\d.]+), mean entropy ([\d.]+)", printed(executed))
  by_beta, entropy = map(float, found.groups())
  assert abs(by_beta - entropy) < 2e-4 and 0 < entropy < 2.303

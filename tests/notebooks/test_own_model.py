"""The second notebook, run with fewer epochs: own arrays, module, loss and method."""

from __future__ import annotations

import base64
import os
import re

import pytest

from tests.notebooks.test_notebooks import FOLDER, build, outputs, printed


@pytest.fixture(scope="module")
def executed():
  env = {**os.environ, "JAXNOISE_FAST": "1"}
  notebook = build.make(FOLDER / "02_your_own_model_and_data.py")
  return build.execute(notebook, timeout=300, env=env)


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))
  assert "'name': 'object:__main__.Small'" in printed(executed)


def test_it_shows_its_figures(executed):
  data = [out.get("data", {}) for out in outputs(executed)]
  figures = [shown["image/png"] for shown in data if "image/png" in shown]
  assert len(figures) == 3
  assert all(base64.b64decode(f).startswith(b"\x89PNG") and len(f) > 5000 for f in figures)


def test_it_compares_its_three_runs(executed):
  row = re.compile(r"^(erm|noisymix|confidence_penalty \+ with_ema) +([\d.]+) ± .* 3 *$", re.M)
  rows = dict(row.findall(printed(executed)))
  assert list(rows) == ["erm", "noisymix", "confidence_penalty + with_ema"]
  assert all(float(accuracy) > 60 for accuracy in rows.values()), "a tenth is chance"


def test_the_gradient_for_the_hyper_parameter_is_minus_the_entropy(executed):
  found = re.search(r"gradient for beta -([\d.]+), mean entropy ([\d.]+)", printed(executed))
  by_beta, entropy = map(float, found.groups())
  assert abs(by_beta - entropy) < 2e-4 and 0 < entropy < 2.303

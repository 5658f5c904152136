"""The notebook of noise in distillation, with fewer networks trained for one epoch."""

from __future__ import annotations

import math
import re

import pytest

from tests.notebooks.test_notebooks import figures, printed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed():
  return run("06_noise_in_distillation")


def test_it_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))


def test_it_shows_its_figures(executed):
  assert len(figures(executed)) == 8


def test_what_is_trained_is_the_loss_of_the_methods(executed):
  found = re.search(r"^SR ([\d.]+), MC ([\d.]+), largest difference .* (\S+)$", printed(executed),
                    re.MULTILINE)  # fmt: skip
  sr, mc, gap = map(float, found.groups())
  assert sr > 0 and mc > 0 and sr != mc
  assert gap < 1e-5


def test_a_teacher_is_fickle_and_the_identity_of_its_mean_holds(executed):
  text = printed(executed)
  sides = re.search(r"the two sides of the identity differ by (\S+)$", text, re.MULTILINE)
  assert float(sides[1]) < 1e-8
  spread = re.search(r"^spread over masks, mean over images: (\S+)$", text, re.MULTILINE)
  assert float(spread[1]) > 0


def test_the_sweep_has_both_methods_at_every_radius(executed):
  row = re.compile(r"^([\d.]+) +(PGD, 8/255|PGD, 0.1|clean) +([\d.]+) +([\d.]+) ", re.MULTILINE)
  rows = {(found[0], found[1]): list(map(float, found[2:])) for found in
          row.findall(printed(executed))}  # fmt: skip
  assert len(rows) == 6 and {sigma for sigma, _ in rows} == {"0", "0.2"}
  for sigma in ("0", "0.2"):
    for weak, strong in zip(rows[sigma, "clean"], rows[sigma, "PGD, 8/255"], strict=True):
      assert strong <= weak, "an attack does not help"


def test_both_heat_maps_tell_their_differences(executed):
  row = re.compile(r"^(\d+)% redrawn: KD less baseline (\S+) ± (\S+), MC 0.5 less KD", re.MULTILINE)
  rows = row.findall(printed(executed))
  assert [found[0] for found in rows] == ["0", "50", "0", "50"]
  assert all(math.isfinite(float(error)) for _, _, error in rows)

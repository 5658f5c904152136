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
  assert len(figures(executed)) == 5


def test_every_method_is_trained_on_every_share_of_wrong_labels(executed):
  row = re.compile(r"^(.+), (\d+)% redrawn: (\d+) epochs, last loss ([\d.]+) \(", re.MULTILINE)
  rows = {(name, q): float(loss) for name, q, _, loss in row.findall(printed(executed))}
  methods = ("teacher", "baseline", "KD", "MC 0.5")
  both = {(name, q) for name in methods for q in ("0", "50")}
  assert rows.keys() == both | {(n, "0") for n in ("GA 0.2", "SR 0.2", "fickle teacher", "FT")}
  assert len(set(rows.values())) == len(rows), "one loss under two names"


def test_a_teacher_is_fickle_and_the_identity_of_its_mean_holds(executed):
  row = re.compile(r"^(FT|KD): to the masks (\S+) = to their mean (\S+) \+ (\S+)$", re.MULTILINE)
  rows = {name: list(map(float, found)) for name, *found in row.findall(printed(executed))}
  assert rows.keys() == {"FT", "KD"}
  for whole, mean, spread in rows.values():
    assert spread > 0 and whole == pytest.approx(mean + spread, abs=2e-4)


def test_the_sweep_has_both_methods_at_every_radius(executed):
  row = re.compile(r"^([\d.]+) +(PGD, 8/255|PGD, 0.1|clean) +([\d.]+)% +([\d.]+)% ", re.MULTILINE)
  rows = {(found[0], found[1]): list(map(float, found[2:])) for found in
          row.findall(printed(executed))}  # fmt: skip
  assert len(rows) == 6 and {sigma for sigma, _ in rows} == {"0", "0.2"}
  for sigma in ("0", "0.2"):
    for weak, strong in zip(rows[sigma, "clean"], rows[sigma, "PGD, 8/255"], strict=True):
      assert strong <= weak, "an attack does not help"


def test_both_heat_maps_tell_their_differences(executed):
  row = re.compile(
    r"^(test|printed), (\d+)% redrawn: KD less baseline (\S+) ± (\S+), MC 0.5 less KD", re.MULTILINE
  )
  rows = row.findall(printed(executed))
  assert [found[:2] for found in rows] == [(w, q) for w in ("test", "printed") for q in ("0", "50")]
  assert all(math.isfinite(float(error)) for *_, error in rows)

"""The page of the stability suite, its lines, and its numbers in a comparison."""

import pytest

from jaxnoise import reporting
from jaxnoise.reporting import _suite_tables
from jaxnoise.training import writers
from tests.reporting import fabricate
from tests.reporting.reader import Reader, assert_self_contained

ABOUT = {"step": 1200, "seeds": [0, 1, 2], "n": 100, "test_crc32": 7, "complete": True}
NOTES = {"outputs": {"student": 10}, "parameters": {"student": 77850}}


def run(path, method="erm", *, norm=(15000.0, 15100.0, 15200.0), exact=False, changed=1.5, seeds=3):
  path = fabricate.run_directory(path, method)
  folder = path / "tables" / "stability"
  how = {"estimator": "exact"} if exact else {"estimator": "hutchinson", "samples": 4}
  about = {**ABOUT, "seeds": list(range(seeds)), "notes": NOTES}
  norm, errors = list(norm)[:seeds], {} if exact else {"train_error": [90.0, 100.0, 110.0][:seeds]}
  errors |= {} if exact else {"test_error": [200.0] * seeds}
  writers.write_json(folder / "gradient_norm.json", {
    **about, "cells": {}, "settings": {**how, "images": {"train": 1293, "test": 100}},
    "summary": {"student": {"train": norm, "test": [0.0001234] * seeds, **errors}},
  })  # fmt: skip
  summary = {"gradient norm": [15000.0] * seeds}
  for scale, value in ((0.001, 0.015), (0.01, changed)):
    cell = f"scale {scale:g}"
    summary |= {cell: [value] * seeds, f"{cell} error": [0.1 * value] * seeds}
  writers.write_json(folder / "perturbation.json", {
    **about, "cells": {}, "summary": {"student": summary},
    "settings": {**how, "images": 50, "directions": 32, "scales": [0.001, 0.01]},
  })  # fmt: skip
  return path


def test_the_page_has_the_norm_with_its_error_and_what_it_foretells(tmp_path):
  page = reporting.write_suite(run(tmp_path / "a", changed=3.0), "stability").read_text()
  assert_self_contained(page)
  text = Reader(page).text
  for words in (
    "student: 10 logits, 77,850 parameters",
    "training 1,293 15100 (15000 / 15200) 15100 ± 58 100",
    "Hutchinson's estimator, without bias: 4 draws",
    "0.001 0.01500 0.01500 1.000 ± 0.100",
    "0.01 1.500 3.000 2.000 ± 0.200",
    "50, evenly spaced, of the 100 test images and 32 draws",
  ):
    assert words in text
  assert "In %" not in text
  lines = reporting.suite_lines(tmp_path / "a", "stability")
  assert lines[0] == "stability, student, mean (min / max) over 3 seeds"
  words = [" ".join(line.split()) for line in lines]
  assert "gradient norm, training images 15100 (15000 / 15200)" in words
  assert "squared change of the logits, parameter noise 0.01 3.000 (3.000 / 3.000)" in words
  assert "4 draws an image; standard error 100 (training), 200 (test)" in lines
  assert any(line.endswith("at s = 0.01: 2.000 ± 0.200") for line in lines)


def test_an_exact_number_of_one_seed_says_so(tmp_path):
  page = reporting.write_suite(run(tmp_path / "a", exact=True, seeds=1), "stability").read_text()
  text = Reader(page).text
  assert "training 1,293 15000 exact" in text and "test 100 0.0001234 exact" in text
  assert "Hutchinson" not in text and "over seeds" not in text
  assert "exact" in reporting.suite_lines(tmp_path / "a", "stability")


def test_runs_are_compared_where_they_were_measured_alike(tmp_path):
  base = run(tmp_path / "a")
  lower = run(tmp_path / "b", "mixup", norm=(14000.0, 14000.0, 14000.0))
  page = reporting.write_comparison([base, lower], tmp_path / "page.html").read_text()
  section = page.partition("Stability suite")[2]
  assert "-1100 ± 58 (-1348 to -852)" in section and "left out" not in section
  assert "networks of one architecture" in section and "In %, unless" not in section
  exact = run(tmp_path / "c", "nfm", exact=True)
  page = reporting.write_comparison([base, exact], tmp_path / "page.html").read_text()
  assert "with other settings are left out" in page.partition("Stability suite")[2]


@pytest.mark.parametrize(
  ("value", "decimals"),
  [(123456.0, 0), (1234.0, 0), (123.4, 1), (1.234, 3), (0.01234, 5), (0.0, 1), (float("nan"), 1)],
)
def test_four_figures_of_any_number(value, decimals):
  assert _suite_tables.figures(value) == decimals

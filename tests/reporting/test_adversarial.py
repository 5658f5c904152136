"""The page of the adversarial suite, and its numbers in a comparison."""

import pytest

from jaxnoise import evaluation, reporting
from jaxnoise.training import writers
from tests.reporting import fabricate
from tests.reporting.reader import Reader, assert_self_contained

ABOUT = {"step": 1200, "seeds": [0, 1, 2], "n": 100, "test_crc32": 7, "complete": True}
STAGES = {"clean": 0.95, "apgd-ce": 0.5, "fab-t": 0.4, "square": 0.375}


def write_tables(path, *, at_largest=0.0, transfer=0.5, surrogate="the next seed"):
  """Three seeds; the ensemble without targeted APGD; one worst seed at the largest radius."""
  folder = path / "tables" / "adversarial"
  seeds = lambda value: [value] * 3
  writers.write_json(folder / "ensemble.json", {
    **ABOUT, "cells": {"linf 8/255": {}},
    "settings": {
      "attacks": ["apgd-ce", "fab-t", "square"], "num_steps": 100, "num_targets": 2,
      "num_queries": 5000,
    },
    "notes": {"left_out": ["apgd-t needs 4 classes or more, the network has 3"]},
    "summary": {"student": {
      "clean": seeds(0.95), "linf 8/255": seeds(0.375),
      **{f"linf 8/255/{name}": seeds(STAGES[name]) for name in ("apgd-ce", "fab-t", "square")},
    }},
  })  # fmt: skip
  accuracy = dict.fromkeys((*evaluation.BY_RADIUS.values(), *evaluation.BY_STEPS.values()), 0.4)
  accuracy |= {"clean": 0.95, "noise linf 8/255": 0.9, "pgd-20 linf 128/255": 0.0}
  found = {cell: seeds(value) for cell, value in accuracy.items()}
  found["pgd-20 linf 128/255"] = [0.0, at_largest, 0.0]
  if transfer is not None:
    found["transfer"] = seeds(transfer)
  verdicts = evaluation.masking_verdicts(found, 100)
  writers.write_json(folder / "masking.json", {
    **ABOUT, "cells": {}, "settings": {}, "notes": {"surrogate": surrogate},
    "summary": {"student": {**found, "verdicts": verdicts}},
  })  # fmt: skip
  return path


def run(path, **changes):
  return write_tables(fabricate.run_directory(path), **changes)


def test_the_page_says_what_each_attack_left_and_what_was_left_out(tmp_path):
  page = reporting.write_suite(run(tmp_path / "a"), "adversarial").read_text()
  assert_self_contained(page)
  text = Reader(page).text
  for words in (
    "after APGD-CE 50.00",
    "after targeted FAB 40.00",
    "robust accuracy 37.50",
    "Left out: apgd-t needs 4 classes or more, the network has 3.",
    "Transferred images were found on the next seed.",
  ):
    assert words in text
  assert "after targeted APGD" not in text and "FAILED" not in text
  assert page.count("<svg") == 2
  lines = reporting.suite_lines(tmp_path / "a", "adversarial")
  assert any("after the whole ensemble  37.50" in line for line in lines)
  assert sum("accuracy, clean" in line for line in lines) == 1


def test_the_worst_seed_decides_and_is_shown(tmp_path):
  page = reporting.write_suite(run(tmp_path / "a", at_largest=0.42), "adversarial").read_text()
  text = Reader(page).text
  assert "a large enough radius beats every image FAILED 42.00 9.87" in text
  assert "2 checks failed: at 128/255 any image can be made grey" not in text
  assert "1 check failed: at 128/255 any image can be made grey" in text


def test_transfer_that_was_not_checked_says_how(tmp_path):
  path = run(tmp_path / "a", transfer=None, surrogate="")
  page = reporting.write_suite(path, "adversarial").read_text()
  assert "not checked:<br>give --surrogate=RUN" in page
  assert "Transferred images" not in page
  said = [line for line in reporting.suite_lines(path, "adversarial") if "another network" in line]
  assert len(said) == 1 and said[0].endswith("not checked: give --surrogate=RUN")


@pytest.mark.parametrize("surrogate", ["the next seed", "other, step 3"])
def test_a_comparison_warns_of_masked_gradients_and_keeps_surrogates_apart(tmp_path, surrogate):
  first = run(tmp_path / "a")
  second = write_tables(
    fabricate.run_directory(tmp_path / "b", "mixup"), transfer=0.1, surrogate=surrogate
  )
  page = reporting.write_comparison([first, second], tmp_path / "page.html").read_text()
  part = page.partition("<h2>Adversarial suite</h2>")[2]
  warning = "mixup failed to show that its own gradients beat those of another network"
  assert warning in part and "erm failed" not in part
  assert ("+0.00 ± 0.00" in part) and (("-40.00 ± 0.00" in part) == (surrogate == "the next seed"))
  assert ("other settings are left out" in part) == (surrogate != "the next seed")
  assert "Robustness suite" not in page

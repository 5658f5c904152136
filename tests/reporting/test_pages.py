"""report.html: well formed, self-contained, and with the run's numbers in it."""

import json
import re
import types

import pytest

from jaxnoise import main as main_lib
from jaxnoise import reporting
from jaxnoise.training import experiment
from tests.reporting import fabricate
from tests.reporting.reader import Reader, assert_self_contained


@pytest.fixture
def page(tmp_path):
  path = fabricate.run_directory(
    tmp_path / "run", "noisymix", clean=(0.97, 0.96, 0.98), corrupted=(0.80, 0.81, 0.83)
  )
  written = reporting.write_report(path)
  assert written == path / "report.html"
  return written.read_text(encoding="utf-8")


def test_the_numbers_are_there(page):
  text = Reader(page).text
  for number in ("97.00 ± 0.58 %", "81.33 ± 0.88 %", "96.00 to 98.00 over 3 seeds", "360 test"):
    assert number in text, number
  for name in fabricate.NAMES:
    assert name.replace("_", " ") in text
  # The table's corners: mean over seeds of the first and the last cell, and the grand mean.
  cells = re.findall(r'<td style="background:[^"]*">([\d.]+)</td>', page)
  assert len(cells) == (len(fabricate.NAMES) + 1) * 6
  assert (cells[0], cells[-1]) == ("77.3", "81.3")


def test_config_versions_and_commit(page):
  text = Reader(page).text
  assert "data.holdout 144 0" in text and "total 60 epochs 30 epochs" in text
  assert '"weight_decay": 0.0005' in text
  for word in ("commit", "jax", "flax", "optax", "python"):
    assert word in text


@pytest.mark.parametrize("details", [False, True])
def test_nothing_is_loaded_from_elsewhere(tmp_path, details):
  path = fabricate.run_directory(tmp_path / "run", epochs=5, details=details)
  page = reporting.write_report(path).read_text(encoding="utf-8")
  assert_self_contained(page)
  assert len(page) < 200_000


def test_ids_are_unique_over_all_figures(page):
  assert page.count("<svg") == 3
  ids = Reader(page).ids
  assert len(ids) == len(set(ids))


def test_every_figure_and_picture_is_named(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", epochs=5, details=True)
  page = reporting.write_report(path).read_text(encoding="utf-8")
  assert page.count("<svg") == page.count('role="img" aria-label="') == 3
  assert page.count("<img") == page.count('alt="test image ') == 24 + 10
  assert page.count("<table") == page.count('tabindex="0" role="region" aria-label="')


def test_light_and_dark(page):
  assert "prefers-color-scheme: dark" in page and 'content="light dark"' in page
  assert "width=device-width" in page
  drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
  assert "currentColor" in drawings and "#1b1f24" not in drawings


def test_a_run_that_has_not_ended(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", finished=False)
  read = Reader(reporting.write_report(path).read_text(encoding="utf-8"))
  assert "This run has not ended: step 600 of 1,200" in read.text
  assert "Training loss" in read.text and "±" not in read.text


def test_one_seed_claims_no_spread(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", seeds=1, epochs=5)
  text = Reader(reporting.write_report(path).read_text(encoding="utf-8")).text
  assert "1 seed: no spread" in text and "nan" not in text and "97.00 %" in text


def test_several_predictors(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", predictors=("ema", "student"), epochs=5)
  page = reporting.write_report(path).read_text(encoding="utf-8")
  assert page.count('<table class="heat means">') == 2
  assert page.count("The same for ema") == 2, "numbers and corruptions"


def test_names_are_escaped(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", epochs=5)
  info = json.loads((path / "config.json").read_text())
  info["config"]["name"] = "<b>&amp; mine"
  (path / "config.json").write_text(json.dumps(info))
  page = reporting.write_report(path).read_text(encoding="utf-8")
  assert "<b>&amp; mine" not in page and "&lt;b&gt;&amp;amp; mine" in page
  Reader(page)


def test_writing_twice_gives_the_same_page(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", epochs=5)
  pages = [reporting.write_report(path).read_text(encoding="utf-8") for _ in range(2)]
  assert pages[0] == pages[1]
  assert sorted(p.name for p in path.iterdir()) == [
    "config.json",
    "metrics.jsonl",
    "report.html",
    "tables",
  ]


def test_main_writes_a_page_for_each_finished_stage(tmp_path, monkeypatch, capsys):
  def trained(config, workdir, quiet):
    fabricate.run_directory(workdir / "teacher", epochs=5)
    fabricate.run_directory(workdir / "student", epochs=5, finished=False)
    ends = {"teacher": True, "student": False}
    return [
      types.SimpleNamespace(directory=workdir / name, finished=end) for name, end in ends.items()
    ]

  monkeypatch.setattr(experiment, "run", trained)
  config = {"stages": ("teacher", "student", "third")}
  assert main_lib._train(config, tmp_path, quiet=False) == 0
  assert sorted(p.parent.name for p in tmp_path.rglob("report.html")) == ["teacher"]
  assert f"report: {tmp_path / 'teacher' / 'report.html'}" in capsys.readouterr().out

"""Reading run directories back."""

import json

import numpy as np
import pytest

from jaxnoise import reporting
from jaxnoise.core import InputError
from jaxnoise.reporting import _runs
from tests.reporting import fabricate


def test_a_finished_run(tmp_path):
  path = fabricate.run_directory(tmp_path / "erm", clean=(0.9, 0.8, 0.7))
  run = reporting.load_run(path)
  assert (run.method, run.dataset, run.seeds, run.finished) == ("erm", "digits", [0, 1, 2], True)
  assert reporting.final(run, "accuracy").tolist() == [0.9, 0.8, 0.7]
  assert reporting.corrupted(run, "mean_accuracy").tolist() == [0.70, 0.72, 0.68]
  cells = reporting.corruption_cells(run)
  assert cells.names == fabricate.NAMES and cells.severities == (1, 2, 3, 4, 5)
  np.testing.assert_allclose(cells.value.mean(axis=(1, 2)), [0.70, 0.72, 0.68])


@pytest.mark.parametrize("seeds", [1, 3])
def test_curves_have_points_and_seeds(tmp_path, seeds):
  run = reporting.load_run(fabricate.run_directory(tmp_path / "erm", seeds=seeds))
  loss = reporting.curve(run, "train/student/loss")
  assert loss.value.shape == (60, seeds) and loss.epoch.tolist() == list(range(1, 61))
  accuracy = reporting.curve(run, "test/student/accuracy")
  assert accuracy.value.shape == (12, seeds)
  np.testing.assert_allclose(accuracy.value[-1], reporting.final(run, "accuracy"), atol=1e-3)
  assert reporting.curve(run, "train/student/lr").value.shape == (60, 1)


def test_a_run_without_tables(tmp_path):
  run = reporting.load_run(fabricate.run_directory(tmp_path / "erm", finished=False))
  assert not run.finished and run.predictors == ["student"]
  assert reporting.final(run, "accuracy") is None
  assert reporting.corrupted(run, "mean_accuracy") is None
  assert reporting.corruption_cells(run) is None


def test_tables_of_an_earlier_step_do_not_count_as_finished(tmp_path):
  path = fabricate.run_directory(tmp_path / "erm")
  table = json.loads((path / "tables" / "clean.json").read_text())
  (path / "tables" / "clean.json").write_text(json.dumps({**table, "step": 10}))
  assert not reporting.load_run(path).finished


def test_the_student_is_the_headline(tmp_path):
  path = fabricate.run_directory(tmp_path / "erm", predictors=("ema", "student"))
  assert reporting.load_run(path).predictors == ["student", "ema"]


def test_labels_name_directories_only_where_methods_agree(tmp_path):
  make = fabricate.run_directory
  paths = [make(tmp_path / "a"), make(tmp_path / "b"), make(tmp_path / "c", "noisymix")]
  runs = [reporting.load_run(path) for path in paths]
  assert _runs.labels(runs) == ["erm (a)", "erm (b)", "noisymix"]
  again = reporting.load_run(make(tmp_path / "deeper" / "a"))
  assert len(set(_runs.labels([*runs, again]))) == 4


def _missing(folder):
  return folder / "nowhere"


def _file(folder):
  (folder / "file").write_text("")
  return folder / "file"


def _empty(folder):
  return folder


def _stages(folder):
  fabricate.run_directory(folder / "teacher")
  return folder


def _torn_config(folder):
  path = fabricate.run_directory(folder / "run")
  (path / "config.json").write_text('{"format_version": 1, "conf')
  return path


def _newer_format(folder):
  path = fabricate.run_directory(folder / "run")
  (path / "config.json").write_text('{"format_version": 99}')
  return path


def _no_config(folder):
  path = fabricate.run_directory(folder / "run")
  (path / "config.json").write_text('{"format_version": 1}')
  return path


def _bad_table(folder):
  path = fabricate.run_directory(folder / "run")
  (path / "tables" / "corruptions.json").write_text('{"format_version": 1}')
  return path


def _bad_row(folder):
  path = fabricate.run_directory(folder / "run")
  text = (path / "metrics.jsonl").read_text().split("\n")
  (path / "metrics.jsonl").write_text("\n".join([text[0], "{torn", *text[1:]]))
  return path


@pytest.mark.parametrize(
  ("make", "says"),
  [
    (_missing, "nowhere does not exist"),
    (_file, "is a file"),
    (_empty, "no config.json"),
    (_stages, "teacher"),
    (_torn_config, "not a JSON file"),
    (_newer_format, "format version 99"),
    (_no_config, "no 'config' section"),
    (_bad_table, "no 'predictors'"),
    (_bad_row, "line 2 is not JSON"),
  ],
)
def test_what_is_no_run_is_one_sentence(make, says, tmp_path):
  with pytest.raises(InputError) as error:
    reporting.load_run(make(tmp_path))
  text = str(error.value)
  assert says in text and "\n" not in text


def test_an_unknown_curve_names_the_closest(tmp_path):
  run = reporting.load_run(fabricate.run_directory(tmp_path / "erm", epochs=5))
  with pytest.raises(InputError, match="did you mean 'train/student/loss'"):
    reporting.curve(run, "train/student/los")


def test_a_torn_last_row_is_left_out(tmp_path):
  path = fabricate.run_directory(tmp_path / "erm", epochs=5)
  with (path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 101, "epo')
  assert reporting.load_run(path).rows[-1]["step"] == 100

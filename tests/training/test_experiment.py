"""Whole experiments: what is refused before anything is trained, and stopping at any point."""

import dataclasses

import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import InputError
from jaxnoise.training import experiment, loop, rundir, schema
from tests.training.common import tiny_run, tiny_source

SMALL = {
  "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
  "total": "1 epoch",
  "data": {"name": "generated"},
  "batch_size": 64,
  "evaluate": {"every": "1 epoch", "batch_size": 64},
}
KD = {"teacher": "teacher", "method": {"name": "knowledge_distillation"}}


def staged(student, **changes):
  stages = {"stages": ("teacher", "student"), "stage": {"teacher": {}, "student": student}}
  return schema.merge(schema.merge(SMALL, stages), changes)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (
      staged({**KD, "method": {"name": "knowledge_distillation", "temprature": 2.0}}),
      r"config\.method\.temprature .*did you mean 'temperature'",
    ),
    (staged(KD, seeds=2), r"config\.teacher is a run of 2 seeds; it must be one network"),
    (staged({**KD, "data": {"name": "digits"}}), r"is a network of 4 classes .* has 10 classes"),
    (staged({"method": {"name": "erm"}, "teacher": "teacher"}), r"config\.teacher is set, but erm"),
  ],
)
def test_a_later_stage_is_checked_before_the_first_is_trained(tmp_path, config, message):
  with pytest.raises(InputError, match=message):
    experiment.run(config, tmp_path / "run", quiet=True)
  assert not (tmp_path / "run").exists()


def test_a_changed_student_leaves_the_teacher_the_run_that_it_was(tmp_path):
  (before, _), (old, _) = experiment.plan(staged(KD), tmp_path)
  (after, _), (new, _) = experiment.plan(staged({**KD, "batch_size": 32}), tmp_path)
  assert before == after and before["stages"] == () and before["stage"] == {}
  assert (old["batch_size"], new["batch_size"]) == (64, 32)


def test_another_method_or_other_data_is_another_run(tmp_path):
  run = tiny_run()
  rundir.claim(run, tmp_path / "run")
  assert rundir.claim(run, tmp_path / "run")["method"] == "erm"
  other = dataclasses.replace(run, method=methods.random_weighting(run.method))
  with pytest.raises(InputError, match=r"its wrappers is \[\], not \['random_weighting'\]"):
    rundir.claim(other, tmp_path / "run")
  source = tiny_source()
  flipped = source.with_labels((np.asarray(source.labels) + 1) % 3)
  with pytest.raises(InputError, match="its data_crc32 is"):
    rundir.claim(tiny_run(source=flipped), tmp_path / "run")


def test_a_run_killed_while_it_wrote_its_first_file_can_start_again(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json.tmp").write_text('{"form')
  assert rundir.claim(tiny_run(), tmp_path / "run")["method"] == "erm"


def test_stopping_while_measuring_resumes_with_the_measuring(tmp_path):
  config = schema.merge(SMALL, {"evaluate": {"corruptions": ("contrast",), "severities": (1, 2)}})
  directory = tmp_path / "run"
  (stage, _), = experiment.plan(config, directory)  # fmt: skip
  run = experiment.build.assemble(stage)
  result = loop.train(run, directory, quiet=True)
  told = []
  assert not experiment.finish(run, result, directory, told.append, lambda: True)
  tables = directory / "tables"
  assert (tables / "clean.json").exists() and not (tables / "corruptions.json").exists()
  assert experiment.finish(run, result, directory, told.append, lambda: False)
  assert (tables / "corruptions.json").exists()
  written = (tables / "corruptions.json").stat().st_mtime_ns
  assert experiment.finish(run, result, directory, told.append, lambda: True), "all is there"
  assert (tables / "corruptions.json").stat().st_mtime_ns == written
  assert "mean corruption accuracy" in told[-1]

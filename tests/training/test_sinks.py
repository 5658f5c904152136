"""Curves elsewhere: TensorBoard's files, read back; a stand-in for Weights & Biases."""

import sys
import types

import pytest

from jaxnoise.core import InputError
from jaxnoise.training import loop, rundir, sinks, writers
from tests.training.common import tiny_run, told

LOG = {"log": {"every": "1 steps"}, "evaluate": {"every": "3 steps", "batch_size": 16}}


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
  """Two seeds, stopped after step 4 and resumed to step 6."""
  directory = tmp_path_factory.mktemp("board") / "run"
  run = tiny_run(seed=7, seeds=2, total="6 steps", **LOG)
  done = []
  first = loop.train(run, directory, quiet=True, on_step=done.append, stop=lambda: len(done) == 4)
  assert first.step == 4 and not first.finished
  assert loop.train(run, directory, quiet=True).finished
  return directory


def test_tensorboard_has_the_rows_of_each_seed(resumed):
  pytest.importorskip("tensorboardX")
  reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
  found = reader.EventAccumulator(str(resumed / "tensorboard"))
  found.Reload()
  rows = [row for row in writers.read_rows(resumed / "metrics.jsonl") if "step" in row]
  for name in ("train/student/loss", "test/student/accuracy"):
    for s in (0, 1):
      wanted = {row["step"]: row[name][s] for row in rows if name in row}
      told = {event.step: event.value for event in found.Scalars(f"{name}/seed{7 + s}")}
      assert told == pytest.approx(wanted), name
  assert [event.step for event in found.Scalars("train/student/loss/seed7")] == [1, 2, 3, 4, 5, 6]


def test_steps_told_before_a_crash_are_told_once(tmp_path):
  pytest.importorskip("tensorboardX")
  reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
  run = tiny_run(total="6 steps", checkpoint={"every": "3 steps"}, **LOG)

  def crash(step):
    if step == 5:  # its row is told, its state is not saved
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    loop.train(run, tmp_path / "run", quiet=True, on_step=crash)
  assert told(tmp_path / "run")[-1]["step"] == 5
  loop.train(run, tmp_path / "run", quiet=True)
  assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2, "a file for each part"
  found = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
  found.Reload()
  assert [event.step for event in found.Scalars("train/student/loss")] == [1, 2, 3, 4, 5, 6]


def test_none_is_written_where_none_is_wanted(tmp_path):
  run = tiny_run(total="1 steps", log={"tensorboard": False})
  loop.train(run, tmp_path / "run", quiet=True)
  assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.fixture
def heard(monkeypatch):
  """What a run tells Weights & Biases."""
  calls = []

  def init(**options):
    calls.append(("init", options))
    return types.SimpleNamespace(
      log=lambda values, step: calls.append(("log", step, values)),
      finish=lambda: calls.append(("finish",)),
    )

  module = types.ModuleType("wandb")
  module.init = init
  module.__spec__ = types.SimpleNamespace(name="wandb")
  monkeypatch.setitem(sys.modules, "wandb", module)
  return calls


def test_weights_and_biases_hears_what_is_asked_for(heard, tmp_path):
  run = tiny_run(total="3 steps", name="mine", log={"wandb": "noise", "every": "1 steps"})
  loop.train(run, tmp_path / "run", quiet=True)
  (_, options), *told, last = heard
  assert (options["project"], options["name"], options["resume"]) == ("noise", "mine", "allow")
  assert options["config"]["total"] == "3 steps" and last == ("finish",)
  losses = {step: values["train/student/loss"] for _, step, values in told
            if "train/student/loss" in values}
  assert sorted(losses) == [1, 2, 3]
  assert any("test/student/accuracy" in values for _, _, values in told)
  record = writers.read_json(tmp_path / "run" / "wandb.json")
  assert record["id"] == options["id"] and record["format_version"] == 1


def test_weights_and_biases_hears_nothing_else(heard, tmp_path):
  loop.train(tiny_run(total="1 steps"), tmp_path / "run", quiet=True)
  assert heard == []


def test_weights_and_biases_that_is_missing_is_an_error(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(InputError, match=r"config\.log\.wandb is 'noise'.*pip install wandb"):
    tiny_run(log={"wandb": "noise"})


def test_a_directory_is_one_run_of_weights_and_biases(heard, tmp_path):
  """Resumed it goes on under its id, started anew it is another; once ended, nothing is opened."""
  run = tiny_run(log={"wandb": "noise", "tensorboard": False})
  ids = []
  for name in ("run", "run", "other"):
    rundir.claim(run, tmp_path / name)
    sinks.Sinks(tmp_path / name, run.config, 0).close()
    ids.append(next(call[1]["id"] for call in reversed(heard) if call[0] == "init"))
  assert ids[0] == ids[1] != ids[2]
  heard.clear()
  sinks.Sinks(tmp_path / "run", run.config, 9, ended=True).close()
  assert heard == []

"""What can happen to files is refused or recovered from; nothing is lost, and one line says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnoise.core import InputError
from jaxnoise.training import checkpoint, lock, loop, rundir
from tests.training.common import assert_same, tiny_run, told

ROOT = Path(__file__).parents[2]
SAVES = {
  "checkpoint": {"every": "3 steps", "keep": 2},
  "log": {"every": "3 steps", "tensorboard": False},
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """A run of 9 steps that was stopped after 7, with checkpoints at 6 and 7."""
  workdir = tmp_path_factory.mktemp("stopped") / "run"
  steps = []
  stop = lambda: len(steps) == 7
  loop.train(tiny_run(**SAVES), workdir, quiet=True, on_step=steps.append, stop=stop)
  return workdir


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole") / "run"
  return loop.train(tiny_run(**SAVES), workdir, quiet=True)


def halve(folder, part):
  """Cuts the files in half whose path has `part` in it."""
  files = [p for p in folder.rglob("*") if p.is_file() and part in str(p.relative_to(folder))]
  assert files
  for path in files:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("part", ["/d/", "_METADATA"])
def test_a_truncated_checkpoint_is_named_and_the_one_before_it_goes_on(
  stopped, whole, tmp_path, part
):
  workdir = tmp_path / "run"
  shutil.copytree(stopped, workdir)
  halve(workdir / "checkpoints" / "7", part)
  rows = (workdir / "metrics.jsonl").read_bytes()
  words = r"checkpoints/7 cannot be read \(.*\); it is damaged\. Remove .* goes on from step 6"
  with pytest.raises(InputError, match=words):
    loop.train(tiny_run(**SAVES), workdir, quiet=True)
  assert (workdir / "metrics.jsonl").read_bytes() == rows, "nothing is lost by the refusal"
  shutil.rmtree(workdir / "checkpoints" / "7")
  result = loop.train(tiny_run(**SAVES), workdir, quiet=True)
  assert_same(result.state.params, whole.state.params)
  assert told(workdir) == told(whole.directory)


def test_a_truncated_teacher_is_refused(stopped, tmp_path):
  shutil.copytree(stopped, tmp_path / "run")
  halve(tmp_path / "run" / "checkpoints" / "7", "/d/")
  with pytest.raises(InputError, match=r"checkpoints/7 cannot be read"):
    like = {"batch_stats": {"mean": np.zeros(4, np.float32)}}
    checkpoint.load_model(tmp_path / "run" / "checkpoints", like, step=7)


def test_two_runs_in_one_directory_are_refused(stopped, whole, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(stopped, workdir)
  before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
  with lock.held(workdir), pytest.raises(InputError, match="in use by another process"):
    loop.train(tiny_run(**SAVES), workdir, quiet=True)
  assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before
  result = loop.train(tiny_run(**SAVES), workdir, quiet=True)
  assert_same(result.state.params, whole.state.params)


def test_of_two_runs_that_begin_at_once_one_has_the_directory(tmp_path, monkeypatch):
  """The other one finds it empty, and then taken."""
  workdir, held = tmp_path / "run", lock.held

  def after_another(path):
    monkeypatch.setattr(lock, "held", held)
    rundir.claim(tiny_run(optim={"lr": 0.2}), workdir)
    return held(path)

  monkeypatch.setattr(lock, "held", after_another)
  with pytest.raises(InputError, match=r"another run: its config\.optim\.lr is 0\.2, not 0\.1"):
    rundir.claim(tiny_run(), workdir)
  assert json.loads((workdir / "config.json").read_text())["config"]["optim"]["lr"] == 0.2


def test_a_damaged_score_is_named(tmp_path):
  run = tiny_run(data={"holdout": 12}, total="1 epoch")
  loop.train(run, tmp_path / "run", quiet=True)
  (score,) = (tmp_path / "run" / "checkpoints").glob("*/metrics/metrics")
  score.write_text('{"score"')
  with pytest.raises(InputError, match=r"the scores in .*metrics cannot be read .*Remove"):
    loop.train(run, tmp_path / "run", quiet=True)


FULL = """
import resource, signal, sys
from jaxnoise.training import checkpoint, loop
from tests.training.common import tiny_run
from tests.training.test_faults import SAVES
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def on_step(step):
  if step == 4:  # from here on no file can have more than 400 bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))

try:
  loop.train(tiny_run(**SAVES), sys.argv[1], quiet=True, on_step=on_step)
except checkpoint.CheckpointError as error:
  print("CheckpointError:", error)
"""


@pytest.mark.slow
def test_a_full_disk_during_a_save_loses_nothing(whole, tmp_path):
  workdir = tmp_path / "run"
  done = subprocess.run(
    [sys.executable, "-c", FULL, str(workdir)],
    env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    capture_output=True, text=True, timeout=300, check=False,
  )  # fmt: skip
  assert "could not be written" in done.stdout, done.stderr[-2000:]
  result = loop.train(tiny_run(**SAVES), workdir, quiet=True)
  assert result.finished
  assert_same(result.state.params, whole.state.params)
  assert told(workdir) == told(whole.directory)

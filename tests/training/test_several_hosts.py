"""Two processes with two devices each train as one process with four does, and end together."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnoise import main as main_lib
from jaxnoise.core import InputError
from jaxnoise.training import checkpoint, distributed, writers
from tests.training import hosts_worker
from tests.training.common import assert_same, told

ROOT = Path(__file__).parents[2]
TABLES = ("label_noise", "clean", "samples", "corruptions")
SMOKE = ["jaxnoise.main", "--config=configs/smoke.py"]


@contextlib.contextmanager
def started(folder, commands):
  """Starts a process of `python -m` for each command, as one run; they are gone afterwards."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
  environment = {
    **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT),
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(len(commands)),
    "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "cache")),
  }  # fmt: skip
  folder.mkdir(exist_ok=True)
  processes = []
  try:
    for number, command in enumerate(commands):
      with (folder / f"out{number}").open("w") as out, (folder / f"err{number}").open("w") as err:
        processes.append(subprocess.Popen(
          [sys.executable, "-m", *map(str, command)], cwd=ROOT, stdout=out, stderr=err,
          env={**environment, "JAX_PROCESS_ID": str(number)},
        ))  # fmt: skip
    yield processes
  finally:
    for process in processes:
      if process.poll() is None:
        process.kill()
      process.wait()


def ended(folder, processes, timeout=600):
  """Waits; returns the exit codes, and what each process wrote to its output and its error."""
  deadline = time.monotonic() + timeout
  codes = [process.wait(timeout=max(1, deadline - time.monotonic())) for process in processes]
  # The library of collectives on CPUs tells to whom it is connected, by threads that interrupt
  # one another.
  told = re.compile(r"(?m)^.*(?:\[Gloo\]|peer ranks).*\n")
  read = lambda name: [told.sub("", (folder / f"{name}{i}").read_text()) for i in range(2)]
  return codes, read("out"), read("err")


def pair(folder, command, *others):
  """Runs a command as two processes, the second one with other arguments where they are given."""
  second = [command[0], *others] if others else command
  with started(folder, [command, second]) as processes:
    return ended(folder, processes)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
  """The run directories of the pair, and what its two processes say."""
  folder = tmp_path_factory.mktemp("pair")
  codes, _, errors = pair(folder / "logs", ["tests.training.hosts_worker", folder])
  assert codes == [0, 0], "\n".join(errors)
  said = [json.loads((folder / f"process{i}.json").read_text()) for i in range(2)]
  return folder, said


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The results of one process with as many devices, by method."""
  folder = tmp_path_factory.mktemp("alone")
  results = {name: hosts_worker.train(name, folder / name) for name in hosts_worker.METHODS}
  hosts_worker.tables(results["reweighted"])
  return results


def saved(workdir, step, like):
  saver = checkpoint.Checkpointer(workdir / "checkpoints", read_only=True)
  state = saver.restore(like, step)
  saver.close()
  return state


def train_as_one_and_resume_together(together, alone, name):
  (folder, said), result = together, alone[name]
  assert [one["devices"] for one in said] == [[4, 2], [4, 2]]
  for step, tolerance in ((3, 1e-5), (6, 1e-4)):
    mine = saved(folder / name, step, result.state)
    single = saved(result.directory, step, result.state)
    kept = lambda s: (s.params, s.batch_stats, s.ema_params, s.opt_state, s.method_state)
    assert_same(kept(mine), kept(single), rtol=tolerance, atol=tolerance)
  seen = np.asarray(mine.method_state["visited"])
  np.testing.assert_array_equal(seen, np.asarray(result.state.method_state["visited"]))
  for epoch in (seen[:3], seen[3:]):
    np.testing.assert_array_equal(np.sort(epoch.ravel()), np.arange(48))


def one_process_writes_what_all_measure(together, alone, name):
  (folder, said), result = together, alone[name]
  rows, single = told(folder / name), told(result.directory)
  assert [row["step"] for row in rows] == [row["step"] for row in single]
  for row, expected in zip(rows, single, strict=True):
    assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)
  assert said[0][name] == said[1][name] == pytest.approx(dict(result.metrics), rel=1e-3, abs=1e-4)
  assert any(key.startswith("labels/") for key in said[0][name]), "memorisation is measured"
  written = {p.name for p in (folder / name).iterdir()} - {"tensorboard"}
  assert written == {p.name for p in result.directory.iterdir()} - {"tensorboard"}
  events = list((folder / name).glob("tensorboard/*"))
  assert len(events) == len({event.name.rsplit(".", 1)[1] for event in events}), "two writers"


def final_tables_are_those_of_one_process(together, alone):
  (folder, said), result = together, alone["reweighted"]
  for name in TABLES:
    mine, single = (
      writers.read_json(directory / "tables" / f"{name}.json")
      for directory in (folder / "reweighted", result.directory)
    )
    flat, expected = (jax.tree.leaves(table) for table in (mine, single))
    assert jax.tree.structure(mine) == jax.tree.structure(single)
    for value, other in zip(flat, expected, strict=True):
      assert value == (other if isinstance(other, str) else pytest.approx(other, abs=1e-4))
  assert said[0]["told"] == said[1]["told"] and "mean corruption accuracy" in said[0]["told"][-1]


REFUSED = (
  ("config", r"would train different runs: config\.optim\.lr is 1\.5 here and 0\.5 on process 0"),
  ("labels", r"would train different runs: data_crc32 is \d+ here and \d+ on process 0"),
  ("taken", "holds another run"),
  ("apart", "is not the file that process 0 has written; name a --workdir that every host"),
  ("missing", "No such file or directory"),
)


def what_one_process_refuses_all_refuse(together, what, sentence):
  folder, said = together
  heard = [one["refused"][what] for one in said]
  assert all(re.search(sentence, text) for text in heard), heard
  first = 0 if what == "taken" else 1
  assert f"process {first} of 2 stopped: " in heard[1 - first]
  assert "stopped: " not in heard[first]
  assert not (folder / "new").exists() and not (folder / "apart1").exists()


def sigterm_to_one_process_makes_both_save_the_same_step(together):
  folder, said = together
  step, resumed = said[0]["stopped"]
  assert said[1]["stopped"] == [step, resumed] and step == resumed > 5
  assert (folder / "stopped" / "checkpoints" / str(step)).is_dir()
  assert told(folder / "stopped")[-1]["step"] == step


def test_two_processes_are_one_run(together, alone):
  """One test, because the pair is started once for all that it shows."""
  for name in hosts_worker.METHODS:
    train_as_one_and_resume_together(together, alone, name)
    one_process_writes_what_all_measure(together, alone, name)
  final_tables_are_those_of_one_process(together, alone)
  for what, sentence in REFUSED:
    what_one_process_refuses_all_refuse(together, what, sentence)
  sigterm_to_one_process_makes_both_save_the_same_step(together)


@pytest.mark.slow
def test_seeds_streams_and_stages_train_as_in_one_process(tmp_path):
  hosts_worker.pictures(tmp_path / "pictures")
  codes, _, errors = pair(tmp_path / "logs", ["tests.training.hosts_worker", tmp_path, "more"])
  assert codes == [0, 0], "\n".join(errors)
  said = [json.loads((tmp_path / f"process{i}.json").read_text()) for i in range(2)]
  assert said[0] == said[1]
  (tmp_path / "alone").mkdir()
  (tmp_path / "alone" / "pictures").symlink_to(tmp_path / "pictures")
  single = hosts_worker.more(tmp_path / "alone", 0)
  assert single["rates"][0]["12"] == pytest.approx([1e-3, 0.5e-3]), "a scale of each seed's own"
  for name, stages in single.items():
    for mine, expected in zip(said[0][name], stages, strict=True):
      assert mine.keys() == expected.keys()
      for key, value in expected.items():
        np.testing.assert_allclose(mine[key], value, rtol=1e-3, atol=1e-4, err_msg=f"{name} {key}")


@pytest.mark.slow
def test_a_picture_that_one_process_cannot_read_is_named_and_ends_both(tmp_path):
  hosts_worker.pictures(tmp_path / "pictures")
  broken = max((tmp_path / "pictures" / "train").glob("*/*.png"))
  command = ["tests.training.hosts_worker", tmp_path, "damaged"]
  with started(tmp_path / "logs", [command, command]) as processes:
    codes, _, errors = ended(tmp_path / "logs", processes, timeout=120)
  mine = codes.index(2)
  assert re.search(rf"process {mine} of 2 stopped, .* end with it: .*{broken.name}", errors[mine])
  assert codes[1 - mine] not in (0, 2) and broken.name not in errors[1 - mine]


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_refuses_different_configs_with_exit_code_2(tmp_path):
  command = [*SMOKE, f"--workdir={tmp_path / 'run'}"]
  codes, _, errors = pair(tmp_path / "logs", command, *command[1:], "--config.optim.lr=0.7")
  assert codes == [2, 2], errors
  assert "config.optim.lr is 0.7 here and 0.1 on process 0; start the same command" in errors[1]
  assert "process 1 of 2 stopped: " in errors[0]
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_whole_run_of_two_processes_through_sigterm_and_kill(tmp_path):
  workdir, logs = tmp_path / "run", tmp_path / "logs"
  command = [
    *SMOKE, f"--workdir={workdir}", "--config.total=24 epochs", "--config.log.every=16 steps",
    "--config.checkpoint.every=16 steps", "--config.evaluate.every=12 epochs",
  ]  # fmt: skip

  def interrupted(which, how, after):
    with started(logs, [command, command]) as processes:
      deadline = time.monotonic() + 300
      reached = False
      while time.monotonic() < deadline and not reached:
        assert all(process.poll() is None for process in processes), "ended before the signal"
        steps = [p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
        reached = any(int(step) > after for step in steps)
        time.sleep(0.1)
      processes[which].send_signal(how)
      return ended(logs, processes)

  codes, out, errors = interrupted(1, signal.SIGTERM, 0)
  assert codes == [0, 0], errors
  stopped = re.search(r"stopped at step (\d+); the same command resumes", out[0])
  assert stopped and (workdir / "checkpoints" / stopped[1]).is_dir() and not out[1]
  assert told(workdir)[-1]["step"] == int(stopped[1])

  after = int(stopped[1])
  for dies in (0, 1):
    after += 32
    codes, _, errors = interrupted(dies, signal.SIGKILL, after)
    assert codes[dies] == -signal.SIGKILL and codes[1 - dies] not in (0, 2)
    lines = ("the same command again on every host", "another task died", "gloo::EnforceNotMet")
    assert any(line in errors[1 - dies] for line in lines), errors[1 - dies][-2000:]

  codes, out, errors = pair(logs, command)
  assert codes == [0, 0], errors
  assert not out[1] and "test student: accuracy" in out[0] and f"run directory: {workdir}" in out[0]
  assert (workdir / "report.html").is_file() and (workdir / "tables" / "corruptions.json").is_file()
  steps = [row["step"] for row in told(workdir) if "train/student/loss" in row]
  # Beside the rows that are due there is that of the step at which the run was stopped.
  assert sorted({*steps} - {*range(16, 385, 16)}) in ([], [int(stopped[1])])
  assert {*range(16, 385, 16)} <= {*steps} and steps == sorted({*steps})


# --- how a process finds the others --------------------------------------------------------------

SLURM = {
  "SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "a[0-1]", "SLURM_NTASKS": "2", "SLURM_PROCID": "0",
  "SLURM_LOCALID": "0",
}  # fmt: skip


@pytest.mark.parametrize(
  ("variables", "found"),
  [
    ({}, ""),
    ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "address"),
    (SLURM, "slurm"),
    ({**SLURM, "SLURM_NTASKS": "1"}, ""),
    ({"SLURM_JOB_ID": "1"}, ""),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu"),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),
    ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, "tpu"),
    ({"TPU_ML_PLATFORM": "JAX"}, "tpu"),
    ({"TPU_ML_PLATFORM": "JAX", "TPU_SKIP_MDS_QUERY": "1"}, ""),
    ({"TPU_ML_PLATFORM": "JAX", "JAX_PLATFORMS": "cpu"}, ""),
  ],
)
def test_what_says_that_there_are_others(variables, found):
  assert distributed.environment(variables) == found


@pytest.mark.parametrize(
  ("mode", "variables", "sentence"),
  [
    ("no", {}, "--distributed is 'no'"),
    ("on", {}, "nothing says where the other processes are; set JAX_COORDINATOR_ADDRESS"),
    ("auto", {"JAX_COORDINATOR_ADDRESS": "here"}, "it must be host:port"),
    ("auto", {"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES is ''"),
    ("on", {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"}, "JAX_PROCESS_ID is ''"),
    (
      "on",
      {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
      "counted from 0",
    ),
    (
      "auto",
      # Nothing can listen at port 0.
      {"JAX_COORDINATOR_ADDRESS": "[::1]:0", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"},
      "nothing answers at JAX_COORDINATOR_ADDRESS [::1]:0",
    ),
  ],
)
def test_what_is_missing_is_named(monkeypatch, mode, variables, sentence):
  for name in (*SLURM, "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(InputError, match=re.escape(sentence)):
    distributed.start(mode, timeout=0)


def test_a_bucket_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  config = f"--config={ROOT / 'configs' / 'smoke.py'}"
  assert main_lib.main(["main", config, "--workdir=gs://bucket/run"]) == 2
  assert "gs://bucket/run is an address (gs)" in capsys.readouterr().err
  with pytest.raises(InputError, match="mount the bucket"):
    writers.run_directory(Path("gs://bucket/run"))
  assert not list(tmp_path.iterdir())

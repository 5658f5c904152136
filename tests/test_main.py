"""The command as a user meets it: a whole run, its files, its output, its exit codes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxnoise import main as main_lib
from jaxnoise.training import experiment

ROOT = Path(__file__).parents[1]
SMOKE = ["--config=configs/smoke.py"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  cache = tmp_path_factory.mktemp("cache")
  return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}


def command(workdir, *extra):
  return [sys.executable, "-m", "jaxnoise.main", *SMOKE, f"--workdir={workdir}", *extra]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, environment):
  workdir = tmp_path_factory.mktemp("smoke") / "run"
  done = subprocess.run(
    command(workdir), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return workdir, done


def test_a_run_writes_its_directory(smoke):
  workdir, done = smoke
  assert done.stderr == ""
  assert "noisymix on generated: 256 training images (8, 8, 3), 4 classes" in done.stdout
  assert re.search(r"step 32/32  [\d,]+ images/s  0 s left  loss \d", done.stdout)
  assert re.search(r"test student: accuracy \d\.\d+, .*mean corruption accuracy", done.stdout)
  assert "over 1 corruptions" in done.stdout
  names = {p.relative_to(workdir).as_posix() for p in workdir.rglob("*") if p.is_file()}
  expected = {"config.json", "metrics.jsonl", "tables/clean.json", "tables/corruptions.json"}
  assert expected <= names and (workdir / "checkpoints" / "32").is_dir()
  record = json.loads((workdir / "config.json").read_text())
  assert record["format_version"] == 1 and record["config"]["method"]["name"] == "noisymix"
  assert record["versions"]["jax"] and record["num_steps"] == 32
  table = json.loads((workdir / "tables" / "corruptions.json").read_text())
  rows = table["predictors"]["student"][0]
  assert rows["names"] == ["gaussian_noise"] and rows["severities"] == [3] and rows["n"] == 64
  assert 0 <= rows["accuracy"][0][0] <= 1


def test_every_file_of_a_run_carries_a_format_version(smoke):
  workdir, _ = smoke
  checkpoint = json.loads((workdir / "checkpoints/32/config/metadata").read_text())
  assert checkpoint["format_version"] == 1
  seen = {"checkpoints", ".lock"}  # the lock is empty
  for path in workdir.iterdir():
    if path.name == "metrics.jsonl":
      assert json.loads(path.read_text().splitlines()[0]) == {"format_version": 1}
    elif path.name == "config.json":
      assert json.loads(path.read_text())["format_version"] == 1
    elif path.name == "report.html":
      assert '<meta name="jaxnoise-format-version" content="1">' in path.read_text()
    elif path.name == "tables":
      assert all(json.loads(p.read_text())["format_version"] == 1 for p in path.iterdir())
    elif path.name == "tensorboard":  # TensorBoard's own form, with its own version
      assert [p.name.startswith("events.out.tfevents") for p in path.iterdir()] == [True]
    else:
      assert path.name in seen, path
    seen.add(path.name)
  assert {"metrics.jsonl", "config.json", "report.html", "tables"} <= seen


def test_the_same_command_again_trains_nothing(smoke, environment):
  workdir, _ = smoke
  before = (workdir / "metrics.jsonl").read_text()
  done = subprocess.run(
    command(workdir, "--quiet"), cwd=ROOT, env=environment, capture_output=True, text=True,
    timeout=300, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert (workdir / "metrics.jsonl").read_text() == before


def test_a_checkpoint_of_another_model_is_refused(smoke, tmp_path, capsys):
  workdir, _ = smoke
  arguments = [f"--config.init_from={workdir}", "--config.model.depth=16"]
  assert main_lib.main(["main", *SMOKE, f"--workdir={tmp_path / 'run'}", *arguments]) == 2
  error = capsys.readouterr().err
  assert "the checkpoint is of another model" in error and "\n" not in error.strip()
  assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_classes_is_refused(smoke, tmp_path, capsys):
  workdir, _ = smoke
  arguments = ["--config=configs/noisymix_digits.py:method=erm", f"--config.teacher={workdir}"]
  assert main_lib.main(["main", *arguments, f"--workdir={tmp_path / 'run'}"]) == 2
  assert "is a network of 4 classes for images of shape (8, 8, 3)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_terminal_gets_a_bar_with_rate_and_time_left(tmp_path, environment):
  primary, secondary = pty.openpty()
  process = subprocess.Popen(
    command(tmp_path / "run"), cwd=ROOT, stdout=secondary, stderr=subprocess.DEVNULL,
    env={**environment, "TERM": "xterm", "COLUMNS": "120"},
  )  # fmt: skip
  os.close(secondary)
  output = b""
  while True:
    try:
      chunk = os.read(primary, 4096)
    except OSError:
      break
    if not chunk:
      break
    output += chunk
  assert process.wait(timeout=300) == 0
  text = output.decode(errors="replace")
  assert "images/s" in text and re.search(r"\d:\d\d:\d\d", text) and "32/32" in text
  assert "\x1b[" in text, "a bar redraws its line"


def test_sigterm_saves_and_exits_0(tmp_path, environment):
  workdir = tmp_path / "run"
  process = subprocess.Popen(
    command(workdir, "--config.total=2000 epochs"), cwd=ROOT, env=environment,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  metrics = workdir / "metrics.jsonl"
  deadline = time.monotonic() + 200
  while time.monotonic() < deadline and not (
    metrics.exists() and metrics.read_text().count("\n") > 4
  ):
    time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  stopped = re.search(r"stopped at step (\d+); the same command resumes", out)
  assert stopped and (workdir / "checkpoints" / stopped[1]).is_dir()
  assert not (workdir / "tables").exists()


def test_a_diverging_run_exits_1_and_says_why(tmp_path, capsys):
  code = main_lib.main(
    ["main", *SMOKE, f"--workdir={tmp_path / 'run'}", "--config.optim.lr=1e30", "--quiet",
     "--config.batch_size=16"]
  )  # fmt: skip
  error = capsys.readouterr().err
  assert code == 1 and "is not finite at or before step" in error and "Traceback" not in error


def config_of(path, argument=""):
  return main_lib.parse(["main", f"--config={path}" + (f":{argument}" if argument else "")])[0]


@pytest.mark.parametrize(
  ("path", "argument"),
  [
    ("configs/noisymix.py", "dataset=cifar100,network=wrn28_4,row=AM-J"),
    ("configs/noisymix.py", "network=wrn28_2,row=--N-"),
    ("configs/noisymix.py", ""),
    ("configs/erm.py", "dataset=cifar100"),
    ("configs/nfm.py", ""),
    ("configs/nfm.py", "dataset=cifar100,network=wrn28_4,method=cutmix"),
    ("configs/noisymix_digits.py", "method=erm"),
    ("configs/noisymix_digits.py", ""),
    ("configs/noisymix_small.py", ""),
    ("configs/noisymix_small.py", "method=erm"),
    ("configs/smoke.py", ""),
  ],
)
def test_every_config_resolves_and_survives_json(path, argument):
  config = config_of(path, argument)["config"]
  planned = experiment.plan(config, Path("run"))
  assert planned[0][0]["name"] and json.loads(json.dumps(config))


def test_the_recipe_is_the_paper_s():
  config = config_of("configs/noisymix.py")["config"]
  assert (config["total"], config["batch_size"], config["data"]["remainder"]) == (
    "200 epochs", 128, "keep",
  )  # fmt: skip
  optim = config["optim"]
  assert (optim["lr"], optim["momentum"], optim["nesterov"]) == (0.1, 0.9, True)
  assert (optim["weight_decay"], optim["schedule"], optim["lr_min"]) == (5e-4, "cosine", 1e-6)
  method = config["method"]
  assert (method["alpha"], method["add_noise"], method["mult_noise"]) == (1.0, 0.5, 0.5)
  assert (method["sparsity"], method["jsd_weight"], method["stages"]) == (0.65, 12.0, (0, 1, 2, 3))
  assert config["policy"] == {"name": "augmix", "width": 3, "depth": -1, "severity": 3.0}
  assert (config["first"]["padding"], config["first"]["flip"]) == (4, True)
  assert config["model"]["mean"] == (0.5, 0.5, 0.5) == config["model"]["std"]
  wide = config_of("configs/noisymix.py", "network=wrn28_4")["config"]["model"]
  assert (wide["depth"], wide["widen_factor"], wide["dropout"]) == (28, 4, 0.1)

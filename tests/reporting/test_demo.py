"""benchmarks/demo.py around the training: what it skips, what it refuses, what it tells."""

import importlib.util
import json
import pathlib

import pytest

from jaxnoise import main as main_lib
from jaxnoise import reporting
from jaxnoise.training import schema
from tests.reporting import fabricate

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def demo():
  spec = importlib.util.spec_from_file_location("demo", ROOT / "benchmarks" / "demo.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def done(demo, tmp_path):
  """Both run directories as the demo would leave them, without the training."""
  corrupted = {"erm": (0.70, 0.72, 0.68), "noisymix": (0.80, 0.81, 0.79)}
  for method in demo.METHODS:
    path = fabricate.run_directory(tmp_path / method, method, corrupted=corrupted[method])
    argv = ["jaxnoise", f"--config={demo.CONFIG}:method={method}", "--config.seeds=3"]
    info = json.loads((path / "config.json").read_text())
    info["config"] = json.loads(json.dumps(schema.check(main_lib.parse(argv)[0]["config"])))
    (path / "config.json").write_text(json.dumps(info))
    reporting.write_report(path)
  return tmp_path


@pytest.fixture
def no_training(monkeypatch):
  def refuse(argv):
    raise AssertionError(f"trained again: {argv}")

  monkeypatch.setattr(main_lib, "main", refuse)


def test_finished_runs_are_not_trained_again(demo, done, no_training, capsys):
  assert demo.main([f"--out={done}"]) == 0
  told = capsys.readouterr().out
  for part in ("70.00 ± 1.15", "80.00 ± 0.58", "+10.00 ± 0.58 points, more than twice", "s in all"):
    assert part in told, part
  assert told.count("report.html") == 2 and told.count(" -m jaxnoise.main --config=") == 2
  assert (done / "comparison.png").stat().st_size > 20_000


@pytest.mark.parametrize("change", ["other_seeds", "no_report", "cut_off", "other_config"])
def test_anything_else_is_given_to_main(demo, done, monkeypatch, change):
  run = done / "erm"
  seeds = 3
  if change == "other_seeds":
    seeds = 2
  elif change == "no_report":
    (run / "report.html").unlink()
  elif change == "cut_off":
    (run / "tables" / "clean.json").unlink()
  else:
    info = json.loads((run / "config.json").read_text())
    info["config"]["optim"]["lr"] = 0.2
    (run / "config.json").write_text(json.dumps(info))
  asked = []
  monkeypatch.setattr(main_lib, "main", lambda argv: asked.append(argv) or 1)
  assert demo.main([f"--out={done}", f"--seeds={seeds}"]) == 1
  (argv,) = asked
  assert f"--workdir={run}" in argv and f"--config.seeds={seeds}" in argv


def test_another_run_in_the_way_exits_2_and_stays(demo, done, capsys):
  before = (done / "erm" / "config.json").read_text()
  assert demo.main([f"--out={done}", "--seeds=2"]) == 2
  told = capsys.readouterr().err
  assert "config.seeds is 3, not 2" in told and "no comparison" in told
  assert (done / "erm" / "config.json").read_text() == before


def test_no_seeds_exits_2_and_writes_nothing(demo, tmp_path, capsys):
  assert demo.main([f"--out={tmp_path / 'demo'}", "--seeds=0"]) == 2
  assert "config.seeds is 0" in capsys.readouterr().err
  assert not (tmp_path / "demo").exists()


def test_a_stopped_run_is_told_as_such(demo, tmp_path, monkeypatch, capsys):
  def stop_early(argv):
    method = "erm" if "method=erm" in argv[1] else "noisymix"
    fabricate.run_directory(tmp_path / method, method, finished=False)
    return 0

  monkeypatch.setattr(main_lib, "main", stop_early)
  assert demo.main([f"--out={tmp_path}"]) == 1
  assert "the same command resumes" in capsys.readouterr().err

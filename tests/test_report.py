"""python -m jaxnoise.report: what it writes where, and what it refuses."""

import os
import pathlib
import subprocess
import sys

import pytest

from jaxnoise import report
from tests.reporting import fabricate


@pytest.fixture
def runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("erm", "noisymix"):
    fabricate.run_directory(pathlib.Path("runs") / name, name, epochs=5, details=True)
  return tmp_path


def pages(folder):
  return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))


@pytest.mark.parametrize(
  ("argv", "written"),
  [
    (["runs/erm"], ["runs/erm/report.html"]),
    (["runs/erm", "--out=new/page.html"], ["new/page.html"]),
    (
      ["runs/erm", "runs/noisymix"],
      ["runs/comparison.html", "runs/erm/report.html", "runs/noisymix/report.html"],
    ),
    (["runs"], ["runs/comparison.html", "runs/erm/report.html", "runs/noisymix/report.html"]),
    (
      ["runs", "runs/noisymix", "--out", "c.html"],
      ["c.html", "runs/erm/report.html", "runs/noisymix/report.html"],
    ),
    (["runs/erm", "runs/../runs/erm/"], ["runs/erm/report.html"]),
  ],
)
def test_what_is_written_is_printed(runs, capsys, argv, written):
  assert report.main(argv) == 0
  assert sorted(capsys.readouterr().out.split()) == written == pages(runs)


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["nowhere"], "nowhere does not exist"),
    (["runs/erm", "nowhere"], "nowhere does not exist"),
    (["runs/erm/config.json"], "is a file"),
    (["runs/erm/tables"], "no config.json"),
    (["runs/erm", "other"], "on digits and cifar10"),
    (["runs/erm", "--out=runs"], "--out is runs, a directory"),
    (["runs", "again"], "would count twice"),
    (["runs/erm", "--out=runs/erm/config.json/page.html"], "is the path right?"),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_written(runs, capsys, argv, says):
  fabricate.run_directory(runs / "other", epochs=5, dataset="cifar10")
  fabricate.run_directory(runs / "again", epochs=5)
  assert report.main(argv) == 2
  captured = capsys.readouterr()
  assert says in captured.err and captured.err.count("\n") == 1 and not captured.out
  assert pages(runs) == []


def test_no_run_is_a_usage_error(capsys):
  with pytest.raises(SystemExit) as stopped:
    report.main([])
  assert stopped.value.code == 2 and "usage: " in capsys.readouterr().err


def test_the_command_starts_no_device(runs):
  """A report may be asked for while the accelerator is busy training."""
  code = (
    "import sys; from jaxnoise import report; code = report.main(['runs']);"
    "from jax._src import xla_bridge; sys.exit(code or 10 * xla_bridge.backends_are_initialized())"
  )
  root = pathlib.Path(report.__file__).parents[1]
  environment = {**os.environ, "PYTHONPATH": str(root)}
  subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


def test_help_says_where_the_pages_go(capsys):
  with pytest.raises(SystemExit) as stopped:
    report.main(["--help"])
  told = " ".join(capsys.readouterr().out.split())
  assert stopped.value.code == 0
  assert "comparison.html" in told and "common parent directory" in told

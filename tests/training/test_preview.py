"""`--dry_run`: it writes nothing, and what it says is what the run then does."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from jaxnoise import main as main_lib
from jaxnoise.training import cache, loop, networks, preview
from tests.toy import toy_network
from tests.training.common import tiny_run, tiny_source


def noisy_source():
  source = tiny_source()
  human = (source.labels + (np.arange(48) % 4 == 0)) % 3
  return dataclasses.replace(source, human_labels={"worse": human.astype(np.int32)})


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
  directory = tmp_path_factory.mktemp("plan") / "run"
  run = tiny_run(
    source=noisy_source(),
    total="7 steps",
    data={"labels": "worse"},
    checkpoint={"every": "3 steps", "keep": 2},
    log={"every": "2 steps", "tensorboard": False},
  )
  return run, directory, preview.preview(run, directory)


def test_nothing_is_written(planned):
  assert not planned[1].exists()


def test_the_numbers_are_those_of_the_run(planned):
  run, directory, report = planned
  state = loop.Programs(run).init()
  leaves = jax.tree.leaves(state.params)
  assert report["parameters"] == sum(x.size for x in leaves) == 43
  assert report["steps"] == 7 and report["steps_per_epoch"] == 3
  assert report["epochs"] == pytest.approx(7 / 3)
  assert report["memory"]["total"] == sum(
    report["memory"][part] for part in ("arguments", "results", "temporary")
  )
  assert report["memory"]["arguments"] >= report["data_bytes"] > 48 * 8 * 8 * 3
  for step, rate in report["learning_rate"].items():
    assert rate == pytest.approx(float(run.spec.learning_rate(step)))
  assert report["writes"][f"{directory}/checkpoints/"].startswith("3 saves")  # 3, 6 and the last
  saved = []
  result = loop.train(run, directory, quiet=True, on_step=saved.append)
  assert result.finished and len(saved) == 7
  for path in report["writes"]:
    if not path.endswith(("tables/", "report.html")):  # those come after training
      assert (directory / path.removeprefix(f"{directory}/")).exists(), path


def test_the_noise_is_told(planned):
  report = planned[2]
  assert report["label_noise"]["rate"] == 0.25
  text = preview.describe(report)
  assert "25.00% of 48 labels differ" in text
  rows = re.findall(r"^ +(\d) \| ([\d. ]+)$", text, flags=re.MULTILINE)
  shares = np.array([[float(v) for v in row.split()] for _, row in rows])
  assert shares.shape == (3, 3)
  np.testing.assert_allclose(shares.sum(axis=1), 100, atol=0.2)
  counts = np.array(report["label_noise"]["counts"])
  np.testing.assert_allclose(shares, 100 * counts / counts.sum(1, keepdims=True), atol=0.05)


def test_several_seeds_have_the_parameters_of_one_and_the_bytes_of_all(tmp_path):
  one, two = (preview.preview(tiny_run(seeds=s), tmp_path / "run") for s in (1, 2))
  assert one["parameters"] == two["parameters"]
  assert two["state_bytes"] > 1.8 * one["state_bytes"]


@pytest.fixture
def small(monkeypatch):
  """The command on the toy network, with nobody's settings changed."""
  monkeypatch.setattr(networks, "make_network", lambda config, classes: toy_network(classes))
  monkeypatch.setattr(cache, "use_compilation_cache", lambda: None)


def test_the_command_plans_every_stage(small, tmp_path, capsys):
  student = "--config.stage.student"
  arguments = [
    "main", "--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}", "--dry_run",
    "--config.stages=('teacher','student')", "--config.policy.name=", "--config.method.name=erm",
    "--config.stage.teacher.total=1 epochs", f"{student}.teacher=teacher",
    f"{student}.method.name=knowledge_distillation",
  ]  # fmt: skip
  assert main_lib.main(arguments) == 0, capsys.readouterr().err
  told = capsys.readouterr().out
  for part in ("16 (1 epochs of 16)", "32 (2 epochs of 16)", "student/report.html", "step memory"):
    assert part in told, part
  assert told.count("parameters") == 2 and told.rstrip().endswith("nothing was trained or written")
  assert not (tmp_path / "run").exists()

"""The config of noisy self-distillation: recipe, stages, protocols; a tiny run that is resumed."""

import json
import shutil

import pytest

from jaxnoise import core
from jaxnoise import main as main_lib
from jaxnoise.core import InputError
from jaxnoise.training import experiment, writers
from jaxnoise.training import method as method_lib
from tests.test_configs import ROOT, arguments, build
from tests.toy import toy_network

FILE = "self_distillation.py"


def test_every_point_of_the_figure_is_listed():
  """Three sets, ten probabilities, twelve variances and none, on two splits."""
  listed = list(arguments(FILE))
  assert sum(a.startswith("dataset=") for a in listed) == 3 * (10 + 12 + 1) * 2
  for dataset in ("svhn", "cifar10", "cifar100"):
    for cell in ("noise=gaussian,scale=10", "noise=swap,scale=1", "noise=none,scale=0"):
      for protocol in ("test", "validation"):
        assert f"dataset={dataset},{cell},protocol={protocol}" in listed


@pytest.mark.parametrize(("dataset", "held_out", "flip"), [
  ("cifar10", 10_000, True), ("cifar100", 10_000, True), ("svhn", 14_651, False),
])  # fmt: skip
def test_the_recipe(dataset, held_out, flip):
  config = build(FILE, f"dataset={dataset}")
  assert (config["total"], config["batch_size"]) == ("200 epochs", 64)
  expected = {
    "name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4,
    "schedule": "step", "milestones": ("100 epochs", "150 epochs"), "factor": 0.1,
  }  # fmt: skip
  assert config["optim"] | expected == config["optim"]
  model = config["model"]
  assert (model["name"], model["depth"], model["shortcut"]) == ("cifar_resnet", 56, "A")
  assert (config["first"]["padding"], config["first"]["flip"]) == (4, flip)
  assert config["data"]["holdout"] == 0 and config["data"]["name"] == dataset
  chosen = build(FILE, f"dataset={dataset},protocol=validation")
  assert chosen["data"]["holdout"] == held_out
  for section in ("optim", "model", "first", "stage"):
    assert chosen[section] == config[section]


@pytest.mark.parametrize(("argument", "noise", "scale", "loss"), [
  ("noise=gaussian,scale=0.5,loss=squared", "gaussian", 0.5, "squared"),
  ("noise=swap,scale=0.3,loss=kl", "swap", 0.3, "kl"),
  ("noise=none", "", 0.0, "squared"),
])  # fmt: skip
def test_each_generation_is_taught_by_the_one_before(argument, noise, scale, loss, tmp_path):
  config = build(FILE, f"{argument},generations=3,seed=2")
  runs = experiment.plan(config, tmp_path)
  assert [path.name for _, path in runs] == ["teacher", "student", "student2", "student3"]
  (first, _), *students = runs
  assert (first["method"]["name"], first["teacher"]) == ("erm", "")
  network = toy_network(10)
  spec = core.Spec(num_train=64, num_classes=10, image_shape=(4, 4, 3))
  for (stage, _), (_, before) in zip(students, runs[:-1], strict=True):
    assert stage["teacher"] == str(before)
    own = stage["method"]
    assert [own[k] for k in ("noise", "scale", "loss")] == [noise, scale, loss]
    made = method_lib.make_method(stage, network, spec, teacher_network=network)
    assert made.name == "self_distillation"
  # Each starts afresh: the seeds of an experiment and of its generations are all different.
  assert [stage["seed"] for stage, _ in runs] == [2, 102, 202, 302]


def test_a_scale_that_is_not_the_paper_s_is_refused():
  with pytest.raises(InputError, match=r"scale is 3, but the paper has noise=swap at 0\.1, .*, 1;"):
    build(FILE, "noise=swap,scale=3")
  assert build(FILE, "noise=swap")["stage"]["student"]["method"]["scale"] == 0.1


TINY = """
import runpy

def get_config(argument=""):
  config = runpy.run_path({file!r})["get_config"](argument)
  config.total = "2 epochs"
  config.batch_size = 16
  config.data.name, config.data.limit, config.data.holdout = "generated", 48, 12
  config.model = {{"name": "wide_resnet", "depth": 10, "widen_factor": 1}}
  config.optim.milestones = ("1 epochs",)
  config.checkpoint.every = "1 epoch"
  return config
"""


@pytest.mark.slow
def test_a_tiny_run_of_two_generations_goes_on_where_it_stopped(tmp_path):
  (tmp_path / "tiny.py").write_text(TINY.format(file=str(ROOT / "configs" / FILE)))
  run = tmp_path / "run"
  config = f"--config={tmp_path / 'tiny.py'}:noise=swap,scale=0.3,generations=2"
  command = ["main", config, f"--workdir={run}", "--quiet"]
  assert main_lib.main(command) == 0
  names = ("teacher", "student", "student2")
  written = {name: (run / name / "metrics.jsonl").read_bytes() for name in names}
  last = {k: v for line in written["student2"].splitlines() for k, v in json.loads(line).items()}
  for name in ("train/student/loss", "train/student/label_loss", "test/student/nll"):
    assert 0 < last[name] < float("inf")
  assert "holdout/student/accuracy" in last
  record = writers.read_json(run / "student2" / "config.json")
  assert (record["method"], record["config"]["method"]["scale"]) == ("self_distillation", 0.3)
  assert record["config"]["teacher"] == str(run / "student")

  shutil.rmtree(run / "student2")
  assert main_lib.main(command) == 0
  for name in names[:2]:
    assert (run / name / "metrics.jsonl").read_bytes() == written[name], "trained once"
  rows = [
    [{k: v for k, v in json.loads(line).items() if "host" not in k} for line in text.splitlines()]
    for text in (written["student2"].decode(), (run / "student2" / "metrics.jsonl").read_text())
  ]
  assert rows[0] == rows[1]

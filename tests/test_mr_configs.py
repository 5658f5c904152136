"""MR's configs: the numbers of its eight tables, the recipes behind them, tiny runs of each."""

import json

import pytest

from jaxnoise import main as main_lib
from jaxnoise.core import InputError
from jaxnoise.training import schema, writers
from tests.test_configs import PUBLISHED, ROOT, arguments, build, load

# The config that each of MR's tables is built by, and how many of its cells are.
MR_TABLES = {
  1: ("mr.py", 100), 2: ("mr.py", 16), 3: ("mr_clothing1m.py", 9), 4: ("mr_adversarial.py", 20),
  5: ("mr.py", 100), 6: ("noisy_baselines.py", 10), 7: ("mr_adversarial.py", 16),
  8: ("mr_adversarial.py", 4),
}  # fmt: skip
KEYS = ("dataset", "rate", "optimizer", "network", "method")
# What a whole table has in common.
ELSE = {
  2: {"rate": "0.4"}, 5: {"optimizer": "adam"}, 6: {"network": "resnet18"}, 7: {"optimizer": "adam"}
}  # fmt: skip


def mr_rows(number):
  """Those of one of MR's tables in the docs, as {heading: cell}; "data" is the configs' dataset."""
  section = PUBLISHED.split(f"### MR, Table {number}:")[1].split("\n### ")[0]
  lines = [line for line in section.split("\n") if line.startswith("|")]
  lines[0] = lines[0].replace("| data |", "| dataset |")
  header, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
  return [dict(zip(header, row, strict=True)) for row in rows]


def mr_cells(number):
  """(choices of the config, its numbers) for each cell of a table: one, or a row under attack."""
  for row in mr_rows(number):
    choices = {key: row.pop(key) for key in KEYS if key in row} | ELSE.get(number, {})
    if "method" in choices:
      yield choices, list(row.values())
    else:
      yield from (({**choices, "method": name}, [cell]) for name, cell in row.items())


@pytest.mark.parametrize("number", MR_TABLES)
def test_mr_has_the_published_numbers_of_every_cell(number):
  """The docs' tables, the configs', and what the run's report will show are the same numbers."""
  file, count = MR_TABLES[number]
  choices = load(file)["CHOICES"]
  listed = [schema.parse_argument(argument, choices) for argument in arguments(file)]
  found = 0
  for choice, numbers in mr_cells(number):
    argument = ",".join(f"{key}={value}" for key, value in choice.items())
    if (number, choice["method"]) == (3, "arazo"):
      assert "arazo" not in choices["method"] and numbers == ["71.00"]
      continue
    again = {(2, "resnet18"): 5 if choice.get("optimizer") == "adam" else 1}
    table = again.get((number, choice.get("network")), number)
    if (number, choice["method"]) == (6, "mr"):
      table, own = 1, "mr.py"
    else:
      own, found = file, found + 1
      assert schema.parse_argument(argument, choices) in listed
    config = build(own, argument)
    told = config["stage"].get("corrected", config)["published"]
    shown = [told["accuracy"], *told.get("pgd", ()), *told.get("fgsm", ())]
    assert [f"{value:.2f}" for value in shown] == numbers, argument
    assert told["source"] == f"MR, Table {table}", argument
  assert found == count


def test_no_cell_of_mr_is_published_under_another_setting():
  assert not build("mr.py", "network=wrn28_10,rate=0.2")["published"]
  assert not build("mr_adversarial.py", "method=base,schedule=step")["published"]
  assert not build("mr_adversarial.py", "optimizer=adam,method=random_weighting")["published"]
  for other in ("rate=0.5", "dataset=cifar100", "noise=asymmetric,rate=0.2", "method=elr"):
    config = build("noisy_baselines.py", f"method=glc,network=resnet18,{other}")
    assert not config["published"] and "published" not in config["stage"].get("corrected", {})
  config = build("noisy_baselines.py", "method=glc,rate=0.1,network=resnet18")
  assert not config["published"] and "published" not in config["stage"]["noisy"]


@pytest.mark.parametrize(("dataset", "replays"), [("cifar10", 4), ("cifar100", 6)])
@pytest.mark.parametrize(("optimizer", "lr", "eta", "alpha"), [
  ("sgd", 0.1, 0.01, 1.0), ("adam", 1e-3, 0.001, 0.1),
])  # fmt: skip
def test_the_recipe_of_mr_under_attack(dataset, replays, optimizer, lr, eta, alpha):
  made = lambda name: build(
    "mr_adversarial.py", f"dataset={dataset},optimizer={optimizer},method={name}"
  )
  config = made("adv_mr_mixup")
  method = config["method"]
  assert (method["name"], method["replays"], method["alpha"]) == ("free_at", replays, alpha)
  assert method["epsilon"] == method["step_size"] == 8 / 255
  assert config["wrapper_args"] == {"multiplicative_reweighting": {"eta": eta}}
  assert config["wrappers"] == ("multiplicative_reweighting",)
  plateau = {"schedule": "plateau", "factor": 0.9, "patience": 3, "threshold": 1e-4}
  expected = {**plateau, "min_scale": 0.0, "lr": lr, "weight_decay": 1e-3, "nesterov": False}
  assert config["optim"] | expected == config["optim"]
  assert (config["total"], config["model"]["name"]) == ("200 epochs", "resnet34")
  assert made("adv_mr")["method"]["alpha"] == made("adv_random_weighting")["method"]["alpha"] == 0
  assert made("mr_mixup")["method"] == {
    "name": "mixup", "alpha": alpha, "loss": "cross_entropy",
  }  # fmt: skip
  wrappers = [made(name)["wrappers"] for name in ("base", "adv_mixup", "random_weighting")]
  assert wrappers == [(), (), ("random_weighting",)]


def test_the_recipe_of_trades():
  for name, wrappers in (("trades", ()), ("trades_mr", ("multiplicative_reweighting",))):
    config = build("mr_adversarial.py", f"dataset=cifar100,method={name}")
    assert config["wrappers"] == wrappers
    method, optimizer = config["method"], config["optim"]
    numbers = [method[key] for key in ("beta", "epsilon", "step_size", "steps")]
    assert (method["name"], numbers) == ("trades", [6.0, 0.031, 0.007, 10])
    assert (config["total"], optimizer["milestones"]) == ("76 epochs", ("74 epochs",))
    assert (optimizer["weight_decay"], optimizer["factor"]) == (2e-4, 0.1)
    assert config["model"] == {"name": "resnet34", "mean": (), "std": ()}
  for other in ("optimizer=adam", "schedule=step"):
    with pytest.raises(InputError, match="method is trades, which has the optimizer and schedule"):
      build("mr_adversarial.py", f"method=trades,{other}")


def test_the_recipe_of_mr_on_clothing1m():
  config = build("mr_clothing1m.py", "method=mr_mixup_ls")
  own = config["wrapper_args"]["multiplicative_reweighting"]
  assert (own["eta"], own["milestones"], own["factor"]) == (0.01, (2, 6), 1.5)
  assert (own["updates_per_epoch"], own["skip_first_partial"]) == (2, True)
  assert (config["total"], config["batch_size"]) == ("10 epochs", 32)
  assert config["optim"]["milestones"] == ("5 epochs",)
  assert [config["optim"][key] for key in ("lr", "weight_decay", "factor")] == [0.01, 1e-3, 0.1]
  assert (config["first"]["padding"], config["first"]["flip"]) == (8, True)
  assert tuple(config["model"]["input_size"]) == (256, 224)  # whose centre hides the black border
  assert config["init_from"] and config["new_head"]
  assert config["method"]["loss_args"] == {"smoothing": 0.1, "variant": "off_target"}
  assert not build("mr_clothing1m.py", "method=mixup")["wrappers"]


def test_table_6_of_mr_has_its_network_and_its_clean_examples():
  for name, phases in (("glc", 2), ("meta_weight_net", 0)):
    config = build("noisy_baselines.py", f"method={name},rate=0.3,network=resnet18")
    assert config["model"]["name"] == "resnet18" and len(config["stages"]) == phases
    assert (config["data"]["trusted"], config["data"]["trusted_in_train"]) == (1000, False)
    assert (config["data"]["noise"]["kind"], config["data"]["noise"]["rate"]) == ("symmetric", 0.3)
  clean = build("noisy_baselines.py", "method=glc,rate=0,network=resnet18")["data"]["noise"]
  assert (clean["kind"], clean["rate"]) == ("", 0.0)


# What makes a recipe tiny and leaves its method, wrappers, optimizer and stages as they are.
TINY = """
import runpy

def get_config(argument=""):
  config = runpy.run_path({file!r})["get_config"](argument)
  config.total = "2 epochs"
  config.batch_size = 16
  config.data.name, config.data.options, config.data.stream = "generated", {{}}, False
  config.data.limit, config.data.trusted = (48, 16) if config.data.trusted else (40, 0)
  config.model = {{"name": "wide_resnet", "depth": 10, "widen_factor": 1}}
  config.init_from, config.new_head = "", False
  if config.optim.schedule == "step":
    config.optim.milestones = ("1 epochs",)
  config.evaluate.every = config.checkpoint.every = "1 epoch"
  return config
"""


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "updates", "passes"), [
  ("mr_adversarial.py:method=adv_mr_mixup", 4, 1),
  ("mr_adversarial.py:method=trades_mr", 1, 1),
  ("mr_clothing1m.py:method=mr_mixup_ls", 1, 2),
  ("noisy_baselines.py:method=glc,rate=0.4,network=resnet18", 1, 0),
])  # fmt: skip
def test_a_tiny_run_of_each_family(cell, updates, passes, tmp_path):
  """The command with the recipe of a cell on 40 images: 3 batches an epoch, the last of 8.

  GLC has 16 of 48 trusted, 8 in a batch.
  """
  file, argument = cell.split(":")
  (tmp_path / "tiny.py").write_text(TINY.format(file=str(ROOT / "configs" / file)))
  run = tmp_path / "run"
  arguments = [f"--config={tmp_path / 'tiny.py'}:{argument}", f"--workdir={run}", "--quiet"]
  assert main_lib.main(["main", *arguments]) == 0
  last = run / "corrected" if "glc" in cell else run
  batches = 2 if "glc" in cell else 3
  record = writers.read_json(last / "config.json")
  assert record["num_steps"] == 2 * batches * updates
  own = record["config"]["wrapper_args"].get("multiplicative_reweighting", {})
  assert (own.get("updates_per_epoch", 1) if own else 0) == passes
  rows = (last / "metrics.jsonl").read_text().splitlines()[1:]
  assert any("test/student/accuracy" in json.loads(row) for row in rows)
  told = build(file, argument)
  told = told["stage"].get("corrected", told)["published"]
  page = (last / "report.html").read_text()
  assert f"{told['accuracy']:g}" in page and told["source"] in page

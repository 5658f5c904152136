"""NoiseKD's configs: the numbers of its nine tables, recipes, stages; tiny runs, resumed."""

import json
import shutil

import pytest

from jaxnoise import core, models
from jaxnoise import main as main_lib
from jaxnoise.core import InputError
from jaxnoise.training import experiment, schema, writers
from jaxnoise.training import method as method_lib
from tests.test_configs import PUBLISHED, ROOT, arguments, build, load

FILES = {
  "distillation.py": 24, "fickle_teacher.py": 10, "soft_randomization.py": 40,
  "messy_collaboration.py": 84,
}  # fmt: skip
SECTION = PUBLISHED.split("## NoiseKD's published tables")[1].split("\n## ")[0]
SETS = {"cifar10": ("cifar10", "accuracy"), "svhn": ("svhn", "accuracy"),
        "CINIC-10": ("cifar10", "ood"), "mCA": ("cifar10", "mca")}  # fmt: skip


def rows(number):
  """Those of a table in the docs, as {heading: cell}."""
  section = SECTION.split(f"### NoiseKD, Table {number}:")[1].split("\n### ")[0]
  lines = [line for line in section.split("\n") if line.startswith("|")]
  header, _, *cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
  return [dict(zip(header, row, strict=True)) for row in cells]


def cells(number):
  """(file, argument, stage, field of `published`, what the docs print) for all of a table."""
  for row in rows(number):
    lead = [row.pop(key) for key in ("method", "data", "sigma", "row") if key in row]
    if number in (4, 5):
      data, sigma, method = row.pop("data", lead[1]), lead[2], lead[0]
      field = {4: "pgd_steps", 5: "pgd_epsilon"}[number]
      argument = f"sigma={sigma},method={method},dataset={data}"
      yield "soft_randomization.py", argument, "student", field, list(row.values())
      continue
    for heading, printed in row.items():
      place, _, last = heading.rpartition(" ")
      if number == 1:
        name, _, dropout = lead[0].partition(" ")
        data, field = SETS[heading.removesuffix(" teacher")]
        stage = "teacher" if last == "teacher" else "student"
        own = f"dropout={dropout}" if dropout else f"method={name}"
        file = "fickle_teacher.py" if dropout else "distillation.py"
        if printed != "-":
          yield file, f"{own},dataset={data}", stage, field, printed
      elif number == 2:
        field = SETS[place or "cifar10"][1]
        plus = "" if last == "alone" else f",plus={last}"
        yield "distillation.py", f"method={lead[0]}{plus}", "student", field, printed
      elif number in (3, 6):
        data, field = SETS[place]
        field = "pgd" if number == 6 else field
        argument = f"sigma={lead[0]},method={last},dataset={data}"
        yield "soft_randomization.py", argument, "student", field, printed
      else:
        data, field = {7: ("cifar10", "accuracy"), 8: ("svhn", "accuracy"), 9: ("cifar10", "ood")}[
          number
        ]
        name, _, rate = lead[0].partition(" ")
        stage = "teacher" if name == "teacher" else "student"
        own = f"method={name},rate={rate}" if rate else f"method={name.replace('teacher', 'kd')}"
        argument = f"{own},corruption={heading},dataset={data}"
        yield "messy_collaboration.py", argument, stage, field, printed


def told(file, argument, stage):
  """What the config says that the paper has, of a stage or of a single network."""
  config = build(file, argument)
  return config["stage"].get(stage, config)["published"]


def written(published, field):
  """A number, or mean and deviation, or a row of means, as in the docs."""
  value = published[field]
  if field == "accuracy" and "deviation" in published:
    value = (value, published["deviation"])
  if isinstance(value, float):
    return f"{value:.2f}"
  texts = [f"{number:.2f}" for number in value]
  return " ± ".join(texts) if len(texts) == 2 else texts


# Numbers in each table: 2 sets x (7 or 12 methods) and so on.
COUNTS = {1: 70, 2: 30, 3: 60, 4: 16, 5: 16, 6: 40, 7: 48, 8: 48, 9: 48}


@pytest.mark.parametrize("number", COUNTS)
def test_the_published_numbers_of_every_cell(number):
  """The docs' tables and the configs', of which the run's report shows the accuracy."""
  found = 0
  for file, argument, stage, field, printed in cells(number):
    published = told(file, argument, stage)
    assert written(published, field) == printed, (argument, stage)
    source = {2: 2 if "plus" in argument else 1, 4: 3, 5: 3, 6: 3, 9: 7}.get(number, number)
    assert published["source"] == f"NoiseKD, Table {source}", argument
    found += 1
  assert found == COUNTS[number]


@pytest.mark.parametrize("file", FILES)
def test_the_cells_listed_are_those_of_the_tables(file):
  choices = load(file)["CHOICES"]
  chosen = lambda argument: tuple(schema.parse_argument(argument, choices).values())
  listed = [chosen(argument) for argument in arguments(file)]
  in_tables = {
    chosen(argument) for number in COUNTS for own, argument, *_ in cells(number) if own == file
  }
  assert set(listed) == in_tables and len(listed) == len(in_tables) == FILES[file]


def test_what_is_not_in_a_table_has_no_published_numbers():
  assert not told("distillation.py", "dataset=svhn,method=at,plus=ft", "student")
  assert "mca" not in told("distillation.py", "method=at,plus=ft", "student")
  assert not build("soft_randomization.py", "train=teacher")["published"]
  for field in ("ood", "pgd_steps"):
    assert field not in told("soft_randomization.py", "sigma=0.3,dataset=svhn", "student")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_the_recipe(file, dataset, tmp_path):
  """That of section 3 of the paper, the same in all four files."""
  config = build(file, f"dataset={dataset}")
  runs = [stage for stage, _ in experiment.plan(config, tmp_path)]
  assert [run["model"]["depth"] for run in runs] == [40, 16]
  for run in runs:
    assert run["model"]["name"] == "wide_resnet" and run["model"]["widen_factor"] == 2
    assert not run["model"].get("mean") and not run["model"].get("std")  # in [0, 1] as they are
    expected = {
      "name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4,
      "decay": "all", "schedule": "step", "factor": 0.2,
    }  # fmt: skip
    assert run["optim"] | expected == run["optim"]
    assert (run["batch_size"], run["data"]["name"]) == (128, dataset)
    crop = (4, True) if dataset == "cifar10" else (0, False)
    assert (run["first"]["padding"], run["first"]["flip"]) == crop
  teacher, student = runs
  standard = ("200 epochs", ("60 epochs", "120 epochs", "150 epochs"))
  assert (teacher["total"], teacher["optim"]["milestones"]) == standard
  assert (teacher["method"]["name"], teacher["teacher"]) == ("erm", "")
  assert student["teacher"] == str(tmp_path / "teacher")
  own = student["method"]
  assert (own["temperature"], own["alpha"], own["reverse"]) == (4.0, 0.9, False)
  assert "dropout" not in student["model"] or not student["model"]["dropout"]
  if file != "fickle_teacher.py":
    assert (student["total"], student["optim"]["milestones"]) == standard


@pytest.mark.parametrize(("dropout", "epochs", "milestones"), [
  ("0.1", 250, (75, 150, 200)), ("0.2", 250, (75, 150, 200)), ("0.3", 300, (90, 180, 240)),
  ("0.4", 350, (105, 210, 280)), ("0.5", 350, (105, 210, 280)),
])  # fmt: skip
def test_fickle_teachers_have_longer_students(dropout, epochs, milestones, tmp_path):
  config = build("fickle_teacher.py", f"dropout={dropout}")
  teacher, student = (stage for stage, _ in experiment.plan(config, tmp_path))
  assert teacher["model"]["dropout"] == float(dropout) and "dropout" not in student["model"]
  assert student["total"] == f"{epochs} epochs"
  assert student["optim"]["milestones"] == tuple(f"{m} epochs" for m in milestones)
  assert student["method"]["name"] == "fickle_teacher"


def test_feature_methods_alone_and_with_logits():
  weights = {
    "at": {"beta": 1000.0}, "sp": {"gamma": 3000.0}, "rkd_d": {"distance": 25.0, "angle": 0.0},
    "rkd_a": {"distance": 0.0, "angle": 50.0}, "rkd_da": {"distance": 25.0, "angle": 50.0},
  }  # fmt: skip
  for name, expected in weights.items():
    for plus, alpha, fickle in (("", 0.0, False), ("hinton", 0.9, False), ("ft", 0.9, True)):
      stage = build("distillation.py", f"method={name},plus={plus}")["stage"]
      method = stage["student"]["method"]
      wanted = {**expected, "alpha": alpha, "fickle": fickle, "balance": "convex"}
      assert method | wanted == method
      assert stage["teacher"]["model"]["dropout"] == (0.4 if fickle else 0.0)


@pytest.mark.parametrize("argument", [
  "method=kd", "method=at,plus=ft", "method=sp,plus=hinton", "method=rkd_da,plus=ft",
])  # fmt: skip
def test_the_students_methods_take_these_fields(argument, tmp_path):
  config = build("distillation.py", argument)
  (_, _), (student, _) = experiment.plan(config, tmp_path)
  network = lambda dropout: models.network(
    models.wide_resnet(10, depth=10, widen_factor=1, dropout=dropout)
  )
  spec = core.Spec(num_train=64, num_classes=10, image_shape=(8, 8, 3))
  method_lib.make_method(student, network(0.0), spec, teacher_network=network(0.4))


def test_soft_randomization_and_gaussian_augmentation_have_one_noise():
  soft = build("soft_randomization.py", "sigma=0.05")["stage"]["student"]["method"]
  assert (soft["name"], soft["sigma"], soft["clip"]) == ("soft_randomization", 0.05, False)
  alone = build("soft_randomization.py", "sigma=0.05,method=ga")
  assert not alone["stages"] and alone["method"]["name"] == "erm"
  policy = alone["policy"]
  assert (policy["name"], policy["std"], policy["clip"]) == ("gaussian_augment", 0.05, False)
  assert build("soft_randomization.py")["stage"]["teacher"].keys() == {"name", "model"}


def test_corrupted_labels_are_the_same_for_teacher_student_and_baseline(tmp_path):
  both = build("messy_collaboration.py", "corruption=0.25,rate=0.5")
  alone = build("messy_collaboration.py", "corruption=0.25,method=baseline")
  noises = [stage["data"]["noise"] for stage, _ in experiment.plan(both, tmp_path)]
  noises.append(alone["data"]["noise"])
  for noise in noises:
    kept = [noise[key] for key in ("kind", "rate", "exact", "seed")]
    assert kept == ["symmetric", 0.25, False, 0]  # the run's seed does not enter
  method = both["stage"]["student"]["method"]
  assert (method["name"], method["rate"]) == ("messy_collaboration", 0.5)
  clean = build("messy_collaboration.py", "corruption=0,method=kd")
  assert not clean["data"]["noise"]["kind"]
  assert clean["stage"]["student"]["method"]["name"] == "knowledge_distillation"
  default = build("messy_collaboration.py", "method=mc")["stage"]["student"]["method"]
  assert default["rate"] == 0.1


@pytest.mark.parametrize("file", FILES)
def test_teacher_and_student_by_themselves_are_the_stages(file, tmp_path):
  both = build(file)
  stages = dict(
    zip(both["stages"], (s for s, _ in experiment.plan(both, tmp_path)), strict=True)
  )
  for name, stage in stages.items():
    ((single, _),) = experiment.plan(build(file, f"train={name}"), tmp_path)
    apart = ("teacher", "stage")
    assert {k: v for k, v in single.items() if k not in apart} == {
      k: v for k, v in stage.items() if k not in apart
    }
  assert build(file, "train=student")["teacher"] == ""  # to be named


@pytest.mark.parametrize(("file", "argument", "message"), [
  ("distillation.py", "method=kd,plus=ft", r"plus is ft, but method is kd; .*fickle_teacher\.py"),
  ("distillation.py", "method=baseline,plus=hinton", "plus is hinton, but method is baseline"),
  ("distillation.py", "method=baseline,train=teacher", "train is teacher, but method is baseline"),
  ("soft_randomization.py", "method=ga,train=student", "train is student, but method is ga"),
  ("messy_collaboration.py", "method=kd,rate=0.1", "rate is 0.1, but method is kd"),
  ("messy_collaboration.py", "method=baseline,train=teacher", "train is teacher, but method is"),
])  # fmt: skip
def test_choices_that_do_not_go_together(file, argument, message):
  with pytest.raises(InputError, match=message):
    build(file, argument)


# What makes a recipe tiny and leaves its methods, label noise and stages as they are.
TINY = """
import runpy

def get_config(argument=""):
  config = runpy.run_path({file!r})["get_config"](argument)
  config.total, config.batch_size = "1 epochs", 16
  config.data.name, config.data.limit = "generated", 40
  config.model.depth, config.model.widen_factor = 10, 1
  config.optim.milestones = ("16 examples",)
  for stage in config.stage.values():
    if "total" in stage:
      stage.total, stage.optim.milestones = "1 epochs", ("16 examples",)
  if config.stages:
    config.stage.teacher.model.depth = 10
  config.evaluate.every = config.checkpoint.every = "1 epoch"
  return config
"""
FAMILIES = (
  "distillation.py:method=at,plus=ft", "distillation.py:method=rkd_da",
  "fickle_teacher.py:dropout=0.2", "soft_randomization.py:sigma=0.1",
  "messy_collaboration.py:corruption=0.25,rate=0.5",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("cell", FAMILIES)
def test_a_tiny_run_of_each_family_goes_on_where_it_stopped(cell, tmp_path):
  file, argument = cell.split(":")
  (tmp_path / "tiny.py").write_text(TINY.format(file=str(ROOT / "configs" / file)))
  run = tmp_path / "run"
  config = f"--config={tmp_path / 'tiny.py'}:{argument}"
  command = ["main", config, f"--workdir={run}", "--quiet"]
  assert main_lib.main(command) == 0
  read = lambda name: (run / name / "metrics.jsonl").read_text().splitlines()
  before = {name: read(name) for name in ("teacher", "student")}
  last = {k: v for line in before["student"] for k, v in json.loads(line).items()}
  assert 0 < last["train/student/loss"] < float("inf") and "test/student/accuracy" in last
  records = {name: writers.read_json(run / name / "config.json") for name in before}
  assert records["student"]["config"]["teacher"] == str(run / "teacher")
  told = records["student"]["teacher"]
  assert (told["run"], told["method"]) == (str(run / "teacher"), "erm")
  final = writers.read_json(run / "teacher" / "tables" / "clean.json")
  assert (told["step"], told["num_steps"]) == (final["step"],) * 2
  assert told["accuracy"] == final["predictors"]["student"]["accuracy"][0]
  noises = [record["config"]["data"]["noise"] for record in records.values()]
  assert noises[0] == noises[1]
  expected = build(file, argument)["stage"]["student"]
  assert records["student"]["method"] == expected["method"]["name"]
  page = (run / "student" / "report.html").read_text()
  assert f"{expected['published']['accuracy']:g}" in page
  assert expected["published"]["source"] in page and told["sha256"] in page

  shutil.rmtree(run / "student")
  assert main_lib.main(command) == 0
  assert read("teacher") == before["teacher"], "trained once"
  timeless = lambda lines: [
    {k: v for k, v in json.loads(line).items() if "host" not in k} for line in lines
  ]
  assert timeless(read("student")) == timeless(before["student"])

  # The same teacher, named: that of another command with one stage.
  again = tmp_path / "again"
  single = [f"{config},train=student", f"--config.teacher={run / 'teacher'}", "--config.seeds=2"]
  assert main_lib.main(["main", *single, f"--workdir={again}", "--quiet"]) == 0
  record = writers.read_json(again / "config.json")
  assert record["teacher"] == told
  assert (record["method"], record["config"]["seeds"]) == (expected["method"]["name"], 2)

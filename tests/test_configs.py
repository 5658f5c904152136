"""Every choice of every config: it builds, resolves, and is the row that docs/results.md says."""

import functools
import itertools
import json
import re
import runpy
from pathlib import Path

import pytest

from jaxnoise import core
from jaxnoise.core import InputError
from jaxnoise.training import durations, networks, optim, schedules, schema
from jaxnoise.training import method as method_lib

ROOT = Path(__file__).parents[1]
FILES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
PUBLISHED = (ROOT / "docs" / "results.md").read_text("utf-8")

# The rows of NoisyMix' Tables 1 to 5, and the method and first policy that each has to have.
MIXING = {
  "mixup": ("mixup", ""),
  "manifold mixup": ("manifold_mixup", ""),
  "CutMix": ("cutmix", ""),
  "PuzzleMix": ("puzzlemix", ""),
}
AUGMIX = {"AugMix": ("augmix", "augmix")}
NOISYMIX = {"NoisyMix": ("noisymix", "augmix")}
BASELINE = {"baseline": ("erm", "")}
TABLES = {
  1: {
    **BASELINE,
    "adversarial training": None,
    "stylized": ("erm", ""),
    "AutoAugment": ("erm", "fast_auto_augment"),
    **{name: (method, "color_jitter") for name, (method, _) in MIXING.items()},
    **AUGMIX,
    **NOISYMIX,
  },
  2: {**BASELINE, **MIXING, "NFM": ("nfm", ""), **AUGMIX, "AugMax": ("augmax", ""), **NOISYMIX},
  3: {**BASELINE, **MIXING, "NFM": ("nfm", ""), **AUGMIX, **NOISYMIX},
  4: {
    row: ("noisymix", "augmix" if row[0] == "A" else "")
    for row in ("----", "--N-", "-M--", "-MN-", "A---", "A-NJ", "A--J", "AMN-", "AM-J", "AMNJ")
  },
  5: dict.fromkeys(
    ("baseline", "PuzzleMix", "mixup", "AutoAugment", "AugMix", "NoisyMix"), ("erm", "")
  ),
}


WITHOUT_CORRUPTIONS = (
  "distillation.py", "fickle_teacher.py", "messy_collaboration.py", "mr.py", "mr_adversarial.py",
  "mr_clothing1m.py", "noisy_baselines.py", "nrd.py", "self_distillation.py",
  "soft_randomization.py", "webvision.py",
)  # fmt: skip


@functools.cache
def load(file):
  return runpy.run_path(str(ROOT / "configs" / file))


def build(file, argument=""):
  """The complete config that a user of `--config=configs/FILE:ARGUMENT` gets."""
  return schema.check(load(file)["get_config"](argument).to_dict())


def arguments(file):
  """Those of a file's cells where it lists them, else every combination of its choices."""
  if "arguments" in load(file):
    yield from load(file)["arguments"]()
    return
  choices = load(file).get("CHOICES", {})
  for values in itertools.product(*choices.values()):
    yield ",".join(f"{key}={value}" for key, value in zip(choices, values, strict=True))


def table(number):
  """{row: cells} of one table of the published numbers."""
  text = re.search(rf"### Table {number}:.*?\n\|.*?\n\|[-|]*\n(.*?)\n\n", PUBLISHED, re.DOTALL)[1]
  rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.split("\n")]
  return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module", autouse=True)
def traced_once():
  """Transforms are traced once for all configs that share them: most of the time goes there."""
  original, known = method_lib._chain, {}

  def chain(field, config, image):
    key = json.dumps([field, config, image.shape])
    if key not in known:
      known[key] = original(field, config, image)
    return known[key]

  method_lib._chain = chain
  yield
  method_lib._chain = original


@pytest.mark.parametrize("file", FILES)
def test_every_choice_builds_and_resolves(file):
  seen = set()
  for argument in arguments(file):
    config = build(file, argument)
    assert json.loads(json.dumps(config)), argument
    assert config["name"] and config["name"] not in seen, f"{argument}: a name of its own"
    seen.add(config["name"])
    assert config["evaluate"]["corruptions"] or file in WITHOUT_CORRUPTIONS, argument
    side = config["data"]["options"].get("image_size", 32)
    per_epoch = 10
    num_steps = durations.to_steps(
      "total", config["total"], steps_per_epoch=per_epoch, batch_size=config["batch_size"]
    )
    to_steps = functools.partial(
      durations.to_steps, steps_per_epoch=per_epoch, batch_size=config["batch_size"],
      total_steps=num_steps,
    )  # fmt: skip
    schedule = schedules.make_schedule(config["optim"], num_steps, to_steps)
    optim.make_optimizer(config["optim"], schedule, steps_per_epoch=per_epoch)
    spec = core.Spec(
      num_train=per_epoch * config["batch_size"],
      num_classes=10,
      image_shape=(side, side, 3),
      image_mean=(0.5, 0.5, 0.5),
      batch_size=config["batch_size"],
      pools={"trusted": config["data"]["trusted"]},
      steps_per_epoch=per_epoch,
      num_steps=num_steps,
      learning_rate=schedule,
    )
    network = networks.make_network(config, spec.num_classes)
    method = method_lib.make_method(config, network, spec)
    assert method.name == config["method"]["name"], argument


@pytest.mark.parametrize("file", FILES)
def test_every_docstring_has_command_lines_that_work(file):
  command = r"jaxnoise\.main --config=configs/([\w.]+):?([\w=,.-]*)"
  commands = re.findall(command, load(file)["__doc__"])
  assert commands and {name for name, _ in commands} == {file}
  for name, argument in commands:
    build(name, argument)


@pytest.mark.parametrize("number", TABLES)
def test_every_published_row_has_its_config(number):
  rows = table(number)
  assert list(rows) == list(TABLES[number])
  for row, (*numbers, entry) in rows.items():
    expected = TABLES[number][row]
    if expected is None:
      assert entry == "none"
      continue
    file, argument = entry.split(":", 1)
    for dataset in ("cifar10", "cifar100"):
      config = build(file, argument.replace("dataset=D", f"dataset={dataset}"))
      assert (config["method"]["name"], config["policy"]["name"]) == expected, entry
      assert config["data"]["name"] == {1: "folder", 4: "cifar100"}.get(number, dataset)
      network = {2: "preact_resnet18", 3: "wide_resnet", 4: "wide_resnet"}.get(number, "resnet50")
      assert config["model"]["name"] == ("resnet18" if row == "AugMax" else network)
      assert config["evaluate"]["corruptions"] == ("standard",)
    # The same numbers stand in the config's docstring; what was measured here does not.
    written = load(file)["__doc__"]
    cells = numbers[:-1] if number == 2 else numbers
    cells = [f"{row} {numbers[0]}/{numbers[1]}"] if number == 4 else cells
    missing = [cell for cell in cells if cell != "-" and cell not in written]
    assert not missing, f"{file}, {row}: {missing}"


def test_rows_by_corruption_have_the_means_of_the_tables():
  """What a slip of the pen in one of 900 numbers would break; the paper's own are listed."""
  means = {6: (1, 1), 7: (2, 1), 8: (2, 3), 9: (3, 1), 10: (3, 3)}
  wrong = []
  for number, (reference, column) in means.items():
    names = {"Fast AutoAugment": "AutoAugment"}
    for row, (*cells, mean) in table(number).items():
      assert len(cells) == 15
      assert abs(sum(map(float, cells)) / 15 - float(mean)) < 0.051, (number, row)
      printed = table(reference)[names.get(row, row)][column].split()[0]
      if abs(float(printed) - float(mean)) > 0.11:
        wrong.append((number, row))
  assert wrong == [(6, "PuzzleMix"), (9, "CutMix")]


def test_imagenet_and_transfer_are_seen_at_224_pixels():
  for file in ("imagenet.py", "transfer.py"):
    for argument in arguments(file):
      config = build(file, argument)
      assert tuple(config["model"]["input_size"]) == (256, 224)
      first, policy = config["first"], config["policy"]
      side = first["resized_crop"] or policy["then"]["size"]
      assert side == 224 and first["padding"] == 0
      assert first["flip"] or policy["then"]["name"] == "random_resized_crop"  # which flips


@pytest.mark.parametrize(("freeze", "lr"), [("-1", 0.001), ("1", 0.001), ("4", 0.01)])
def test_the_recipe_of_the_transfer(freeze, lr):
  config = build("transfer.py", f"freeze={freeze},source=augmix,dataset=cifar100")
  optimizer = config["optim"]
  assert (optimizer["freeze_level"], optimizer["lr"]) == (int(freeze), lr)
  assert (optimizer["weight_decay"], optimizer["factor"]) == (5e-4, 0.1)
  assert optimizer["schedule"] == "step" and optimizer["milestones"] == ("50 epochs", "100 epochs")
  assert (config["total"], config["batch_size"], config["new_head"]) == ("150 epochs", 64, True)


def test_what_differs_between_data_sets():
  sizes = [build("augment.py", f"augment=cutout,dataset={d}")["policy"]["size"]
           for d in ("cifar10", "cifar100")]  # fmt: skip
  assert sizes == [16, 8]
  weights = [build("augmax.py", f"dataset={d}")["method"]["jsd_weight"]
             for d in ("cifar10", "cifar100")]  # fmt: skip
  assert weights == [10.0, 1.0]


def test_whole_images_are_augmented_before_the_crop():
  for name in ("fast_auto_augment", "ildoonet_rand_augment"):
    config = build("augment.py", f"augment={name}")
    assert (config["first"]["padding"], config["first"]["flip"]) == (0, False)
    names, step = [], config["policy"]
    while step:
      names.append(step["name"])
      step = step.get("then")
    assert names == [name, "random_crop", "random_flip", "cutout"]
  after = build("augment.py", "augment=auto_augment")
  assert (after["first"]["padding"], after["first"]["flip"]) == (4, True)


def test_augmix_s_forms_and_recipes():
  assert build("augmix.py", "network=wrn40_2")["total"] == "100 epochs"
  assert build("augmix.py")["total"] == "200 epochs"
  assert build("augmix.py", "form=torchvision")["policy"]["name"] == "torchvision_augmix"
  assert build("augmix.py", "method=augmix_no_jsd")["method"]["jsd"] is False
  assert build("imagenet.py", "method=augmix")["policy"]["severity"] == 1.0
  own = build("augmax.py")
  assert (own["batch_size"], own["optim"]["nesterov"], own["optim"]["lr_min"]) == (256, False, 0.0)
  assert "mean" not in own["model"] and own["method"]["dual_norm"]
  assert not build("augmax.py", "norm=bn")["method"]["dual_norm"]


def test_nrd_has_the_published_numbers_of_every_cell():
  """The docs' tables, the config's, and what the run's report will show are the same numbers."""
  module = load("nrd.py")
  section = PUBLISHED.split("### NRD, Table 2")[1].split("### NRD, Table 3")[0]
  rows = [[c.strip() for c in line.strip("|").split("|")] for line in section.split("\n")
          if re.match(r"\| \w", line)]  # fmt: skip
  told = {(row[0], row[1]): row[2:] for row in rows if row[0] != "data"}
  count = 0
  for argument in module["arguments"]():
    choice = schema.parse_argument(argument, module["CHOICES"])
    config = build("nrd.py", argument)
    column = module["COLUMNS"].index((choice["noise"], choice["rate"]))
    number = told[choice["dataset"], choice["method"]][column]
    shown = config["published"].get("accuracy")
    assert number == ("-" if shown is None else f"{shown:.2f}"), argument
    count += shown is not None
  assert count == 2 * (9 * 6 + 4)


def test_nrd_refuses_a_rate_that_is_not_in_the_paper():
  with pytest.raises(InputError, match=r"the paper has asymmetric noise at 0\.2, 0\.4"):
    build("nrd.py", "noise=asymmetric,rate=0.8")

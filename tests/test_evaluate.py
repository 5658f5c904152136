"""python -m jaxnoise.evaluate: what it measures, that it goes on where it was, what it refuses."""

import json
import shutil

import flax.linen as nn
import numpy as np
import pytest

from jaxnoise import data, evaluate, models, reporting
from jaxnoise.training import experiment, final, restore, schema, suites, writers

SOURCE = data.generated(num_train=40, num_test=15, num_classes=3, size=8)
SMALL = ["--only=calibration,corruptions,fgsm", "--corruptions=contrast,shot_noise"]


class Tiny(nn.Module):
  """A network that compiles in no time."""

  num_classes: int

  @nn.compact
  def __call__(self, image, train=False):
    return nn.Dense(self.num_classes)(nn.relu(nn.Dense(8)(image.mean(axis=2))).mean(axis=1))


def tiny(num_classes, *, dtype=None):
  return Tiny(num_classes)


@pytest.fixture(scope="module", autouse=True)
def listed():
  """The command knows networks by their names in `jaxnoise.models` alone."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, "tiny_evaluated", tiny, raising=False)
    yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Three seeds, held-out examples, two predictors."""
  folder = tmp_path_factory.mktemp("evaluated")
  path = folder / "data.npz"
  np.savez(
    path, train_images=SOURCE.images, train_labels=SOURCE.labels, test_images=SOURCE.test_images,
    test_labels=SOURCE.test_labels,
  )  # fmt: skip
  config = schema.check({
    "total": "3 steps", "batch_size": 16, "seeds": 3,
    "data": {"name": "npz", "path": str(path), "holdout": 9},
    "model": {"name": "tiny_evaluated"}, "wrappers": ("with_ema",),
    "evaluate": {"batch_size": 15, "every": "3 steps"}, "checkpoint": {"every": "3 steps"},
  })  # fmt: skip
  experiment.run(config, folder / "run", quiet=True)
  return folder / "run"


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
  """The same with a suite measured by the command."""
  run = tmp_path_factory.mktemp("measured") / "run"
  shutil.copytree(trained, run)
  assert evaluate.main([str(run), "--suite=robustness", *SMALL]) == 0
  return run


def refused(argv, capsys):
  assert evaluate.main([str(part) for part in argv]) == 2
  lines = capsys.readouterr().err.strip().splitlines()
  assert len(lines) == 1
  return lines[0]


def test_measures_every_seed_and_predictor_into_tables_and_a_page(evaluated):
  tables = reporting.read_suite(evaluated, "robustness")
  assert list(tables) == ["calibration", "corruptions", "fgsm"]
  for table in tables.values():
    assert table["seeds"] == [0, 1, 2] and table["step"] == 3 and table["n"] == 15
    assert sorted(table["summary"]) == ["ema", "student"]
  assert len(tables["corruptions"]["cells"]) == 10
  assert tables["calibration"]["settings"]["held_out"] == 9
  clean = writers.read_json(evaluated / "tables" / "clean.json")["predictors"]["student"]
  summary = tables["calibration"]["summary"]["student"]
  np.testing.assert_allclose(summary["accuracy"], clean["accuracy"], rtol=1e-6)
  np.testing.assert_allclose(summary["ece"], clean["ece"], atol=1e-6)
  page = (evaluated / "robustness.html").read_text()
  for words in ("Corruptions at every severity", "shot noise", "FGSM", "at the fitted temperature"):
    assert words in page
  value = reporting.estimate(tables["corruptions"]["summary"]["student"]["mean_accuracy"])
  assert value.range_text(100.0, 2) in page and page.count("data:image/png") == 2
  lines = reporting.suite_lines(evaluated, "robustness")
  assert any("accuracy, corrupted" in line and value.range_text(100.0, 2) in line for line in lines)
  assert str(evaluated) not in page


def test_only_what_is_missing_is_measured_again(evaluated, tmp_path, monkeypatch, capsys):
  run = tmp_path / "run"
  shutil.copytree(evaluated, run)
  path = run / "tables" / "robustness" / "corruptions.json"
  before = path.read_text()
  table = json.loads(before)
  del table["cells"]["shot_noise/2"]
  writers.write_json(path, {**table, "complete": False})
  calls = []
  whole = suites.evaluation.corruption_part

  def watched(*args, **kwargs):
    part = whole(*args, **kwargs)
    measure = part.measure
    object.__setattr__(part, "measure", lambda cell: calls.append(cell) or measure(cell))
    return part

  monkeypatch.setattr(suites.evaluation, "corruption_part", watched)
  assert evaluate.main([str(run), "--suite=robustness", *SMALL]) == 0
  assert calls == ["shot_noise/2"]
  assert path.read_text() == before  # bitwise: draws depend on nothing that a restart changes
  assert "9 of 10 cells are there already" in capsys.readouterr().out


def test_relative_to_another_run(evaluated, trained, tmp_path):
  run = tmp_path / "run"
  shutil.copytree(trained, run)
  given = ["--only=corruptions", SMALL[1], f"--reference={evaluated}"]
  assert evaluate.main([str(run), "--suite=robustness", *given]) == 0
  table = reporting.read_suite(run, "robustness")["corruptions"]
  accuracy = np.array(
    [[row["accuracy"] for row in cell["student"]] for cell in table["cells"].values()]
  ).reshape(2, 5, 3)
  errors = (1 - accuracy).mean(axis=1)
  expected = (errors / errors.mean(axis=-1, keepdims=True)).mean(axis=0)
  np.testing.assert_allclose(table["summary"]["student"]["mce"], expected, rtol=1e-5)
  assert table["notes"]["reference"] == str(evaluated)


def test_runs_are_compared_by_seed_on_the_same_settings(evaluated, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(evaluated, other)
  config = writers.read_json(other / "config.json")
  config.pop("format_version")
  config["config"]["optim"]["lr"] = 0.02
  writers.write_json(other / "config.json", config)
  path = other / "tables" / "robustness" / "fgsm.json"
  table = writers.read_json(path)
  table.pop("format_version")
  table["summary"]["student"]["linf 8/255"] = [
    v + d
    for v, d in zip(table["summary"]["student"]["linf 8/255"], (0.1, 0.2, 0.3), strict=True)
  ]
  writers.write_json(path, table)
  page = reporting.write_comparison([evaluated, other], tmp_path / "page.html").read_text()
  assert "Robustness suite" in page and "+20.00 ± 5.77 (-4.84 to +44.84)" in page
  assert "left out" not in page.partition("Robustness suite")[2]
  writers.write_json(path, {**table, "settings": {**table["settings"], "restarts": 9}})
  page = reporting.write_comparison([evaluated, other], tmp_path / "page.html").read_text()
  assert "with other settings are left out" in page and "+20.00 ± 5.77" not in page


def test_renditions_among_the_classes_that_are_there(tmp_path, capsys):
  from PIL import Image

  rng = np.random.default_rng(0)

  def folder(root, names, count):
    for name in names:
      (root / name).mkdir(parents=True)
      for i in range(count):
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        image.save(root / name / f"{i}.png")

  for split, count in (("train", 4), ("test", 2)):
    folder(tmp_path / "set" / split, ("ant", "bee", "cat"), count)
  folder(tmp_path / "drawings", ("bee", "cat"), 3)
  folder(tmp_path / "foreign", ("bee", "dog"), 1)
  config = schema.check({
    "total": "1 steps", "batch_size": 8,
    "data": {"name": "folder", "path": str(tmp_path / "set")}, "model": {"name": "tiny_evaluated"},
    "evaluate": {"batch_size": 6},
  })  # fmt: skip
  run = tmp_path / "run"
  experiment.run(config, run, quiet=True)
  given = [run, "--suite=renditions"]
  assert evaluate.main([*map(str, given), f"--images={tmp_path / 'drawings'}"]) == 0
  table = reporting.read_suite(run, "renditions")["drawings"]
  assert table["settings"]["classes"] == 2 and table["settings"]["images"] == 6
  assert 0 <= table["summary"]["student"]["accuracy"][0] <= 1
  assert "the network chooses among these alone" in (run / "renditions.html").read_text()
  assert "images is empty" in refused(given, capsys)
  assert "dog" in refused([*given, f"--images={tmp_path / 'foreign'}"], capsys)


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--suite=robustnes"], "suite is 'robustnes', no such suite: did you mean 'robustness'"),
    (["--suite=robustness", "--only=pdg"], "'pdg' is no part of the suite robustness"),
    (["--suite=robustness", "--corruptions=contrst"], "corruptions has 'contrst', no such"),
    (["--suite=robustness", "--severities=1,6"], "severities has 6"),
    (["--suite=robustness", "--restarts=0"], "restarts is 0; it must be 1 or larger"),
    (["--suite=robustness", "--checkpoint=7"], "has no checkpoint 7"),
    (["--suite=robustness", "--checkpoint=first"], "checkpoint is 'first'"),
    (["--suite=robustness", "--reference=alexnet"], "whose errors are those on ImageNet-C"),
    (["--suite=robustness", "--reference=nowhere"], "has no complete table of corruptions"),
    (["--suite=renditions", "--images=x"], "have no names"),
    (["--suite=adversarial", "--only=pgdart"], "did you mean 'pgd_art'"),
    (["--suite=adversarial", "--epsilon=8"], "epsilon is 8; it is in units of pixels in [0, 1]"),
    (["--suite=adversarial", "--epsilon="], "epsilon is empty"),
    (["--suite=adversarial", "--queries=0"], "queries is 0; it must be 1 or larger"),
    (["--suite=adversarial", "--surrogate=nowhere"], "nowhere"),
    (["--suite=stability", "--estimator=exct"], "estimator is 'exct', no such estimator: did you"),
    (["--suite=stability", "--samples=1"], "samples is 1; it must be 2 or larger"),
    (["--suite=stability", "--only=gradient"], "'gradient' is no part of the suite stability"),
  ],
)
def test_bad_input_is_one_sentence_and_nothing_is_measured(trained, flags, words, capsys):
  assert words in refused([trained, *flags], capsys)
  assert not any((trained / "tables" / suite).exists() for suite in suites.SUITES)


def test_a_surrogate_is_another_run_on_the_same_images(trained, tmp_path, capsys):
  given = [trained, "--suite=adversarial", "--only=masking"]
  assert "the run that is measured" in refused([*given, f"--surrogate={trained}"], capsys)
  record = writers.read_json(trained / "config.json")
  for field, value, words in (
    ("num_classes", 4, "its number of classes is 4, that of"),
    ("image_shape", [16, 16, 3], "the shape of its images is (16, 16, 3), that of"),
    ("config", {**record["config"], "data": {"name": "digits"}}, "its data set is digits"),
  ):
    writers.write_json(tmp_path / "config.json", {**record, field: value})
    assert words in refused([*given, f"--surrogate={tmp_path}"], capsys)
  assert not (trained / "tables" / "adversarial").exists()


ATTACKED = ["--suite=adversarial", "--only=fgsm,masking"]


def test_the_adversarial_suite_goes_on_where_it_was_and_takes_a_surrogate(
  trained, tmp_path, capsys
):
  run, other = tmp_path / "run", tmp_path / "other"
  shutil.copytree(trained, run)
  shutil.copytree(trained, other)
  assert evaluate.main([str(run), *ATTACKED]) == 0
  tables = reporting.read_suite(run, "adversarial")
  assert list(tables) == ["fgsm", "masking"] and tables["masking"]["seeds"] == [0, 1, 2]
  assert tables["masking"]["notes"]["surrogate"] == "the next seed"
  summary = tables["masking"]["summary"]
  assert list(summary) == ["student", "ema"] and len(summary["ema"]["transfer"]) == 3
  assert tables["fgsm"]["summary"]["ema"]["clean"] == summary["ema"]["clean"]
  said = capsys.readouterr().out
  assert "masked gradients" in said and "more steps never help the network: " in said

  path = run / "tables" / "adversarial" / "masking.json"
  table = writers.read_json(path)
  table.pop("format_version")
  beaten = table["cells"].pop("clean")
  fixed = {name: [{"accuracy": 0.5}] * 3 for name in summary}
  table["cells"]["pgd-20 linf 128/255"] = fixed
  writers.write_json(path, {**table, "complete": False})
  assert evaluate.main([str(run), *ATTACKED, f"--surrogate={other}"]) == 0
  said = capsys.readouterr().out
  assert "masking: 14 of 16 cells are there already" in said
  assert "a large enough radius beats every image: FAILED (50.00 points" in said
  table = writers.read_json(path)
  assert table["cells"]["clean"] == beaten
  assert table["cells"]["pgd-20 linf 128/255"] == fixed  # not measured again
  page = (run / "adversarial.html").read_text()
  for words in ("FGSM", "Are its gradients masked?", "FAILED", "found on other, step 3", "<svg"):
    assert words in page
  assert str(tmp_path) not in page


def test_the_stability_suite_goes_on_where_it_was_and_takes_part_of_the_images(
  trained, tmp_path, capsys
):
  run = tmp_path / "run"
  shutil.copytree(trained, run)
  given = [str(run), "--suite=stability", "--only=gradient_norm", "--limit=6", "--samples=2"]
  assert evaluate.main(given) == 0
  path = run / "tables" / "stability" / "gradient_norm.json"
  table = writers.read_json(path)
  assert table["n"] == 6 and table["settings"]["images"] == {"train": 6, "test": 6}
  assert list(table["summary"]) == ["student", "ema"]  # the averages are other parameters
  student, ema = (table["summary"][name]["train"] for name in ("student", "ema"))
  assert len(student) == 3 and all(0 < a != b for a, b in zip(student, ema, strict=True))
  # Of the 31 images that nine held-out ones leave, whatever labels they have.
  few = suites.evaluation.evenly_spaced(restore.open_run(run).run.source.train, 6)
  assert table["settings"]["train_crc32"] == final.fingerprint(few.images, np.zeros(0))
  parameters = 3 * 8 + 8 + 8 * 3 + 3  # of the two dense layers
  assert table["notes"]["parameters"] == {"student": parameters, "ema": parameters}
  before = table["cells"].pop("test")
  fixed = {name: [{"gradient_norm": 5.0, "error": 0.5}] * 3 for name in ("student", "ema")}
  table.pop("format_version")
  writers.write_json(path, {**table, "cells": {"train": fixed}, "complete": False})
  capsys.readouterr()
  assert evaluate.main(given) == 0
  said = capsys.readouterr().out
  assert "gradient_norm: 1 of 2 cells are there already" in said
  table = writers.read_json(path)
  assert table["cells"] == {"train": fixed, "test": before}
  assert "gradient norm, training images  5.000 (5.000 / 5.000)" in said
  assert "2 draws an image; standard error 0.50 (training)" in said
  page = (run / "stability.html").read_text()
  assert "Gradient norm of the logits" in page and "When the parameters move" not in page
  assert str(tmp_path) not in page


@pytest.mark.slow
def test_the_whole_stability_suite_by_both_estimators(trained, tmp_path):
  found = {}
  for estimator in ("exact", "hutchinson"):
    run = tmp_path / estimator
    shutil.copytree(trained, run)
    assert evaluate.main([str(run), "--suite=stability", f"--estimator={estimator}"]) == 0
    tables = reporting.read_suite(run, "stability")
    assert tuple(tables) == suites.SUITES["stability"]
    found[estimator] = tables["gradient_norm"]["summary"]["ema"]
    moved = tables["perturbation"]["summary"]["ema"]
    assert moved["scale 0.001"] == pytest.approx(1e-6 * np.array(moved["gradient norm"]), rel=0.5)
    assert "When the parameters move" in (run / "stability.html").read_text()
  for cell in ("train", "test"):
    gap = np.subtract(found["hutchinson"][cell], found["exact"][cell])
    assert np.all(abs(gap) < 4 * np.array(found["hutchinson"][f"{cell}_error"]))


@pytest.mark.slow
def test_the_whole_adversarial_suite(trained, tmp_path, capsys):
  run = tmp_path / "run"
  shutil.copytree(trained, run)
  given = ["--epsilon=0.02,8/255", "--limit=9", "--queries=5", "--attack_steps=2", "--restarts=1"]
  assert evaluate.main([str(run), "--suite=adversarial", *given]) == 0
  tables = reporting.read_suite(run, "adversarial")
  assert tuple(tables) == suites.SUITES["adversarial"]
  assert list(tables["ensemble"]["cells"]) == ["linf 0.02", "linf 8/255"]
  assert list(tables["pgd"]["cells"]) == ["clean", "linf 0.01", "linf 0.02", "linf 8/255"]
  for predictor in ("student", "ema"):
    of = {part: tables[part]["summary"][predictor] for part in tables}
    clean = of["ensemble"]["clean"]
    assert clean == of["pgd"]["clean"] == of["fgsm"]["clean"] == of["masking"]["clean"]
    assert all(a <= b for a, b in zip(of["ensemble"]["linf 0.02"], clean, strict=True))
  page = (run / "adversarial.html").read_text()
  assert "Left out: apgd-t needs 4 classes or more, the network has 3." in page
  assert "PGD with ART&#x27;s defaults takes 100 steps of 0.1" in page
  assert "after the whole ensemble" in capsys.readouterr().out


def test_bad_runs(tmp_path, capsys):
  assert "does not exist" in refused([tmp_path / "none", "--suite=robustness"], capsys)


def test_a_label_space_that_does_not_match(trained, tmp_path, capsys):
  run = tmp_path / "run"
  shutil.copytree(trained, run)
  other = tmp_path / "other.npz"
  more = data.generated(num_train=40, num_test=15, num_classes=4, size=8)
  np.savez(
    other, train_images=more.images, train_labels=more.labels, test_images=more.test_images,
    test_labels=more.test_labels,
  )  # fmt: skip
  said = refused([run, "--suite=robustness", f"--path={other}"], capsys)
  assert "classes" in said or "trained on" in said




def test_the_distillation_suite(tmp_path, capsys):
  """All its parts by the command; without images, those from elsewhere are left out."""
  from PIL import Image

  rng = np.random.default_rng(0)
  for split, count in (("train", 4), ("test", 2), ("cinic", 2)):
    for name in ("ant", "bee"):
      (tmp_path / split / name).mkdir(parents=True)
      for i in range(count):
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        image.save(tmp_path / split / name / f"{'n0' if i else 'cifar10-'}{i}.png")
  config = schema.check({
    "total": "1 steps", "batch_size": 8,
    "data": {"name": "folder", "path": str(tmp_path)}, "model": {"name": "tiny_evaluated"},
    "evaluate": {"batch_size": 4},
  })  # fmt: skip
  run = tmp_path / "run"
  experiment.run(config, run, quiet=True)
  given = [str(run), "--suite=distillation", "--corruptions=fog,saturate", "--severities=1",
           "--restarts=1", "--step_size=0.03", "--every_run"]  # fmt: skip
  assert evaluate.main(given) == 0
  tables = reporting.read_suite(run, "distillation")
  assert list(tables) == ["corruptions", "pgd_steps", "pgd_epsilon"]
  summary = tables["corruptions"]["summary"]["student"]
  rows = [values["student"][0] for values in tables["corruptions"]["cells"].values()]
  assert summary["mean_all_conditional"] == [np.mean([row["conditional"] for row in rows])]
  threats = tables["pgd_epsilon"]["settings"]["threats"].values()
  assert {threat["step_size"] for threat in threats if threat["num_steps"]} == {0.03}
  assert evaluate.main([*given, f"--images={tmp_path / 'cinic'}"]) == 0
  assert reporting.read_suite(run, "distillation")["ood"]["settings"]["images"] == 2
  told = capsys.readouterr().out
  for line in ("accuracy, PGD l∞ 8/255, 1000 steps", "accuracy, PGD-20 l∞ 200/255",
               "accuracy, images from elsewhere"):  # fmt: skip
    assert line in told
  assert "worst single run" in (run / "distillation.html").read_text()
  assert "images is empty; the part ood" in refused([*given, "--only=ood"], capsys)

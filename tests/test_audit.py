"""python -m jaxnoise.audit: what it writes where, which signals it takes, and what it refuses."""

import csv
import dataclasses
import functools
import json
import re
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxnoise import audit, data, evaluation, models, reporting
from jaxnoise.core import InputError
from jaxnoise.training import build, loop, restore, sharding, writers

SOURCE = data.generated(num_train=56, num_test=8, num_classes=4, size=8)
NOISY = (SOURCE.labels + (np.arange(56) % 5 == 0)) % 4
CONFIG = {
  "total": "6 steps",
  "batch_size": 16,
  "seed": 2,
  "seeds": 2,
  "data": {"name": "npz", "labels": "noisy", "holdout": 8},
  "model": {"name": "tiny_audited"},
  "optim": {"lr": 0.5},
  "wrappers": ("with_ema",),
  "evaluate": {"batch_size": 24, "every": "6 steps"},
  "checkpoint": {"every": "2 steps", "keep": 9},
}
FLIP = ["--views=2", "--policy=random_flip"]  # compiles in no time


class Tiny(nn.Module):
  """A network that compiles in no time."""

  num_classes: int

  @nn.compact
  def __call__(self, image, train=False):
    return nn.Dense(self.num_classes)(image.mean(axis=2).reshape(len(image), -1))


def tiny(num_classes, *, dtype=None):
  return Tiny(num_classes)


@pytest.fixture(scope="module", autouse=True)
def listed():
  """The command knows networks by their names in `jaxnoise.models` alone."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, "tiny_audited", tiny, raising=False)
    yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Two seeds, human labels, two predictors, three checkpoints."""
  folder = tmp_path_factory.mktemp("audited")
  path = folder / "data.npz"
  np.savez(
    path, train_images=SOURCE.images, train_labels=SOURCE.labels, test_images=SOURCE.test_images,
    test_labels=SOURCE.test_labels, **{"human_labels/noisy": NOISY},
  )  # fmt: skip
  config = {**CONFIG, "data": {**CONFIG["data"], "path": str(path)}}
  mesh = sharding.make_mesh(jax.devices()[:1])
  loop.train(build.assemble(config, mesh=mesh), folder / "run", quiet=True)
  return folder / "run"


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
  """A copy of it in an empty directory, which is the current one."""
  monkeypatch.chdir(tmp_path)
  shutil.copytree(trained, tmp_path / "run")
  return trained


def files(folder="."):
  return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def read(path):
  with open(path, newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def test_writes_labels_a_table_and_a_page(run, capsys):
  before = files()
  assert audit.main(["run", *FLIP, "--top=7", "--seed=3"]) == 0
  told = capsys.readouterr().out
  rows = read("run/audit/seed3/labels.csv")
  table = json.loads(Path("run/audit/seed3/audit.json").read_text())
  page = Path("run/audit-seed3.html").read_text()
  # The right rows: of the training set without what was held out, by index and by id.
  source = restore.open_run("run").run.source
  assert sorted(int(row["index"]) for row in rows) == list(range(48))
  for row in rows:
    assert int(row["id"]) == source.ids[int(row["index"])]
    assert int(row["given_label"]) == NOISY[int(row["id"])]
    assert int(row["true_label"]) == SOURCE.labels[int(row["id"])]
  wrong = np.array([row["given_label"] != row["true_label"] for row in rows])
  assert table["measured"]["wrong"] == wrong.sum() > 3
  place = np.flatnonzero(wrong)  # the AUROC of the file's own order
  count = len(wrong) - len(place)
  above = np.mean([np.sum(~wrong[:i]) for i in place])
  assert table["measured"]["auroc"] == pytest.approx(1 - above / count, abs=1e-9)
  assert table["signals"] == ["views", "checkpoints"] and table["checkpoints"] == [2, 4, 6]
  expected = {"seed": 3, "step": 6, "predictor": "ema", "views": 2, "policy": "random_flip"}
  assert {k: table[k] for k in expected} == expected
  assert [row["index"] for row in table["worst"]] == [int(row["index"]) for row in rows[:7]]
  # The page.
  assert page.count("<img") == 7 and "erm + with_ema on data: label audit" in page
  assert not re.search(r'(src|href)="(?!data:)', page)
  worst = rows[0]
  assert f"{worst['given_label']} → {worst['suggested_label']}" in page
  for words in ("signals: views, checkpoints", "AUROC", "run/audit-seed3.html"):
    assert words in told
  # Nothing else has changed in the run.
  after = files()
  added = {"run/audit-seed3.html", "run/audit/seed3/audit.json", "run/audit/seed3/labels.csv"}
  assert set(after) - set(before) == added
  assert all(after[name] == content for name, content in before.items())


def test_signals_are_those_that_the_run_has(run):
  opened = restore.open_run("run", seed=2)
  pool = audit.training_set(opened)
  tell = []
  found, about = audit.audit_run(
    opened, views=1, policy="identity", predictor="student", tell=tell.append
  )
  assert list(found.signals) == ["views"] and about["checkpoints"] == []
  assert any("track_losses" in line for line in tell)
  p = opened.predict(pool, "student").probability
  own = p[np.arange(pool.size), pool.labels]
  np.testing.assert_allclose(found.signals["views"], 1 - own, atol=1e-6)
  # Losses of several checkpoints, where they can be opened and no table has losses.
  reopen = functools.partial(restore.open_run, "run", seed=2)
  given = {"views": 1, "policy": "identity", "predictor": "student", "reopen": reopen}
  found, about = audit.audit_run(opened, **given)
  each = [reopen(step=s).predict(pool, "student").probability for s in (2, 4, 6)]
  losses = np.mean([-np.log(p[np.arange(pool.size), pool.labels]) for p in each], axis=0)
  np.testing.assert_allclose(found.signals["checkpoints"], losses, rtol=1e-5)
  earlier = reopen(step=4)
  assert audit.audit_run(earlier, **given)[1]["checkpoints"] == [2, 4]
  tracked = {"loss_sum": np.arange(48.0), "count": np.full(48, 2.0)}
  state = opened.state.with_method_state("track_losses", tracked)
  found, _ = audit.audit_run(dataclasses.replace(opened, state=state), **given)
  assert list(found.signals) == ["views", "track_losses"]
  np.testing.assert_array_equal(found.signals["track_losses"], np.arange(48) / 2)
  # A table that was never filled is no signal, and keeps no other away.
  idle = {"clean": {"net0": np.ones(48), "net1": np.ones(48)}, "loss": np.zeros(48)}
  state = opened.state.with_method_state("dividemix", idle)
  found, about = audit.audit_run(dataclasses.replace(opened, state=state), **given)
  assert list(found.signals) == ["views", "checkpoints"] and about["checkpoints"] == [2, 4, 6]


def test_elsewhere_and_as_parquet(run):
  parquet = pytest.importorskip("pyarrow.parquet")
  before = files()
  Path("there").mkdir()
  for name in ("there/audit.html", "there/audit.json", "there/labels.parquet"):
    Path(name).write_text("of an earlier audit")
  page, table = audit.write(
    Path("run"), out="there", format="parquet", top=0, views=1, policy="random_flip"
  )
  added = {"there/audit.html", "there/audit.json", "there/labels.parquet"}
  assert set(files()) - set(before) == added and str(page) == "there/audit.html"
  assert table["seed"] == 2 and "<img" not in page.read_text()
  assert parquet.read_table("there/labels.parquet").num_rows == 48


def test_views_are_of_a_policy_that_was_not_trained_on():
  def policy(method, *names):
    section = {}
    for name in reversed(names):
      section = {"name": name, **({"then": section} if section else {})}
    return audit.view_policy({"policy": section or {"name": ""}, "method": {"name": method}})

  assert policy("erm") == policy("nrd", "rand_augment", "cutout") == "torchvision_augmix"
  assert policy("erm", "cutout", "augmix") == policy("augmax") == "auto_augment"
  assert policy("gjs", "torchvision_augmix") == "auto_augment"


@pytest.mark.parametrize(
  "argv, words",
  [
    (["nowhere"], "nowhere"),
    (["run", "--seed=7"], "seed 7 is none of run"),
    (["run", "--seed=mean"], "--seed is 'mean'; it must be a number"),
    (["run", "--views=0"], "--views is 0"),
    (["run", "--top=-1"], "--top is -1"),
    (["run", "--batch_size=0"], "--batch_size is 0"),
    (["run", "--format=npz"], "csv or parquet"),
    (["run", "--policy=augmixx"], "did you mean 'augmix'"),
    (["run", "--predictor=emma"], "did you mean 'ema'"),
    (["run", "--checkpoint=5"], "kept are the steps 2, 4, 6"),
    (["run", "--path=nowhere.npz"], "nowhere.npz"),
  ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(run, argv, words, capsys):
  before = files()
  assert audit.main(argv) == 2
  lines = capsys.readouterr().err.strip().splitlines()
  assert len(lines) == 1 and words in lines[0] and lines[0].startswith("jaxnoise: ")
  assert files() == before


def test_a_transform_that_changes_the_shape_is_refused(run):
  opened = restore.open_run("run")
  with pytest.raises(InputError, match="must keep their shape"):
    audit.audit_run(opened, policy=lambda rng, image: image[1:])
  assert evaluation.VIEWS == "views"


def test_the_page_escapes_names_and_says_what_the_probability_rests_on(tmp_path):
  rng = np.random.default_rng(0)
  pool = data.Pool(SOURCE.images, NOISY, SOURCE.labels)
  p = np.eye(4)[SOURCE.labels] * 0.8 + 0.2 * rng.dirichlet(np.ones(4), size=56)
  found = evaluation.audit_labels(NOISY, p)
  names = ("<b>ant</b>", "bee", "cat", "dog")
  table = evaluation.audit_table(found, pool, top=56, class_names=names)
  page = reporting.write_audit(table, tmp_path / "new" / "audit.html").read_text()
  assert "<b>ant" not in page and "&lt;b&gt;ant&lt;/b&gt; →" in page
  assert page.count("<br>label is right") == (SOURCE.labels == NOISY).sum()
  assert page.count('class="wrong"') == (SOURCE.labels == NOISY).sum()
  assert "fitted to views" in page
  none = evaluation.audit_labels(SOURCE.labels, p)
  assert none.basis == (evaluation.DISAGREEMENT,)
  table = evaluation.audit_table(none, data.Pool(SOURCE.images, SOURCE.labels), top=1)
  page = reporting.write_audit(table, tmp_path / "audit.html").read_text()
  assert "falls into two kinds" in page and "AUROC" not in page and "&lt; 1 %" in page
  writers.write_json(tmp_path / "other.json", {"n": 1})
  with pytest.raises(InputError, match=r"other.json has no 'worst'"):
    reporting.write_audit(tmp_path / "other.json", tmp_path / "audit.html")

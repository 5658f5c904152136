"""python -m jaxnoise.predict: what it writes where, what is in it, and what it refuses."""

import csv
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnoise import data, models, predict
from jaxnoise.training import build, checkpoint, loop, restore, rundir, writers

CONFIG = {
  "total": "3 steps",
  "batch_size": 16,
  "seed": 2,
  "data": {"name": "npz", "labels": "noisy", "holdout": 8},
  "model": {"name": "tiny"},
  "wrappers": ("with_ema",),
  "evaluate": {"batch_size": 24, "every": "1 step"},
  "checkpoint": {"every": "1 step", "keep": 9},
}
SOURCE = data.generated(num_train=56, num_test=21, num_classes=4, size=8)
NOISY = (SOURCE.labels + (np.arange(56) % 5 == 0)) % 4
CLASSES = ("ant", "bee", "cat", "dog")


class Tiny(nn.Module):
  """A network that compiles in no time."""

  num_classes: int

  @nn.compact
  def __call__(self, image, train=False):
    h = nn.BatchNorm(not train)(nn.Dense(8)(image.mean(axis=2)))
    return nn.Dense(self.num_classes)(nn.relu(h).reshape(len(h), -1))


def tiny(num_classes, *, dtype=None):
  return Tiny(num_classes)


@pytest.fixture(scope="module", autouse=True)
def listed():
  """The command knows networks by their names in `jaxnoise.models` alone."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, "tiny", tiny, raising=False)
    yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run with held-out examples, noisy labels, two predictors and three checkpoints."""
  folder = tmp_path_factory.mktemp("trained")
  path = folder / "data.npz"
  np.savez(
    path, train_images=SOURCE.images, train_labels=SOURCE.labels, test_images=SOURCE.test_images,
    test_labels=SOURCE.test_labels, **{"human_labels/noisy": NOISY},
  )  # fmt: skip
  config = {**CONFIG, "data": {**CONFIG["data"], "path": str(path)}}
  loop.train(build.assemble(config), folder / "run", quiet=True)
  writers.write_json(
    folder / "run" / "tables" / "clean.json", {"step": 3, "classes": {"names": list(CLASSES)}}
  )
  return folder / "run"


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
  """A copy of it in an empty directory, which is the current one."""
  monkeypatch.chdir(tmp_path)
  shutil.copytree(trained, tmp_path / "run")
  return trained


def read(path):
  with open(path, newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def table(rows, name, kind=np.float32):
  return np.array([[row[f"{name}_{k}"] for k in range(4)] for row in rows], kind)


def by_hand(run, images, predictor="student", **given):
  """Logits of the method's own predictor, as any researcher would compute them."""
  opened = restore.open_run(run, **given)
  return np.asarray(opened.predictors[predictor](jnp.asarray(images, jnp.float32) / 255))


def files(folder="."):
  return sorted(str(p) for p in Path(folder).rglob("*") if p.is_file())


def test_the_test_set(run, capsys):
  before = {p: Path(p).read_bytes() for p in files()}
  assert predict.main(["run", "--data=test"]) == 0
  told = capsys.readouterr().out.splitlines()
  rows = read("run/predictions/test-student-3.csv")
  assert told[1] == "run/predictions/test-student-3.csv"
  assert list(rows[0])[:4] == ["index", "id", "label", "prediction"] and len(rows) == 21
  logits = by_hand(run, SOURCE.test_images)
  np.testing.assert_allclose(table(rows, "logit"), logits, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    table(rows, "probability"), jax.nn.softmax(logits), rtol=1e-4, atol=1e-6
  )
  labels = np.array([int(row["label"]) for row in rows])
  np.testing.assert_array_equal(labels, SOURCE.test_labels)
  accuracy = np.mean(logits.argmax(-1) == labels)
  assert told[0] == f"21 images, accuracy {accuracy:.4f}"
  about = json.loads(Path("run/predictions/test-student-3.csv.json").read_text())
  assert about["accuracy"] == pytest.approx(accuracy)
  assert (about["step"], about["seed"], about["predictor"]) == (3, 2, "student")
  assert (about["data"], about["format_version"]) == ("test", 1)
  # Nothing else has changed in the run.
  added = set(files()) - set(before)
  assert added == {f"run/predictions/test-student-3.csv{end}" for end in ("", ".json")}
  assert all(Path(p).read_bytes() == content for p, content in before.items())


def test_train_is_the_set_as_it_was_trained_on(run, capsys):
  """What cleanlab takes: out["probability"] as pred_probs, out["label"] as labels."""
  assert predict.main(["run", "--data=train", "--out=train.npz", "--predictor=ema"]) == 0
  out = np.load("train.npz", allow_pickle=False)
  pred_probs, labels = out["probability"], out["label"]
  assert pred_probs.shape == (48, 4)
  np.testing.assert_allclose(pred_probs.sum(-1), 1.0, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(out["index"], np.arange(48))
  np.testing.assert_array_equal(labels, NOISY[out["id"]])
  np.testing.assert_array_equal(out["clean_label"], SOURCE.labels[out["id"]])
  logits = by_hand(run, SOURCE.images[out["id"]], "ema")
  np.testing.assert_allclose(out["logit"], logits, rtol=1e-4, atol=1e-5)
  given, true = (np.mean(logits.argmax(-1) == each) for each in (labels, out["clean_label"]))
  told = capsys.readouterr().out
  assert f"48 images, accuracy {given:.4f} of the given labels, {true:.4f} of the true" in told
  assert predict.main(["run", "--data=holdout", "--out=held.npz"]) == 0
  held = np.load("held.npz", allow_pickle=False)
  assert sorted([*held["id"], *out["id"]]) == list(range(56))


def test_the_formats_agree(run):
  for name in ("a.csv", "a.npz"):
    assert predict.main(["run", "--data=test", f"--out={name}", "--batch_size=8"]) == 0
  rows, stored = read("a.csv"), np.load("a.npz", allow_pickle=False)
  np.testing.assert_array_equal(table(rows, "logit"), stored["logit"])
  np.testing.assert_array_equal(table(rows, "probability"), stored["probability"])
  parquet = pytest.importorskip("pyarrow.parquet")
  assert predict.main(["run", "--data=test", "--out=a.parquet", "--batch_size=8"]) == 0
  columns = parquet.read_table("a.parquet")
  assert columns.column_names == list(rows[0])
  np.testing.assert_array_equal(columns["logit_3"].to_numpy(), stored["logit"][:, 3])


def test_checkpoints(run):
  """Two more checkpoints, of other networks, the first of them with the highest score."""
  opened = restore.open_run("run")
  saver = checkpoint.Checkpointer(Path("run/checkpoints"), keep=9, best=True)
  assert saver.steps() == [1, 2, 3]
  for step, score in ((4, 2.0), (5, 0.0)):
    params = jax.tree.map(lambda x, step=step: x + 0.1 * step, opened.saved.params)
    saver.save(opened.saved.replace(params=params), step, {}, score)
  saver.close()
  found = {}
  for which in ("latest", "best", "4", "5"):
    name = f"of{which}.npz"
    assert predict.main(["run", "--data=test", f"--checkpoint={which}", f"--out={name}"]) == 0
    found[which] = np.load(name)["logit"]
  np.testing.assert_array_equal(found["best"], found["4"])
  np.testing.assert_array_equal(found["latest"], found["5"])
  assert np.abs(found["best"] - found["latest"]).max() > 1e-3
  assert json.loads(Path("ofbest.npz.json").read_text())["step"] == 4


def test_images_of_one_s_own(run):
  images = SOURCE.images[:5]
  np.savez("plain.npz", images=images)
  ids = np.array(["e", "d", "c", "b", "a"])
  np.savez("named.npz", images=images, labels=SOURCE.labels[:5].astype(np.uint8), ids=ids)
  others = {"train_images": images[:1], "ids": np.array([7])}  # not those of the test images
  np.savez("set.npz", test_images=images, test_labels=SOURCE.labels[:5], **others)
  logits = by_hand(run, images)
  for name in ("plain", "named", "set"):
    assert predict.main(["run", f"--data={name}.npz", f"--out={name}.csv"]) == 0
    rows = read(f"{name}.csv")
    np.testing.assert_allclose(table(rows, "logit"), logits, rtol=1e-4, atol=1e-5)
    assert [row["id"] for row in rows] == (list(ids) if name == "named" else list("01234"))
    given = [""] * 5 if name == "plain" else [str(k) for k in SOURCE.labels[:5]]
    assert [row["label"] for row in rows] == given
    assert [row["prediction_name"] for row in rows] == [CLASSES[k] for k in logits.argmax(-1)]


def test_a_set_of_the_run_wins_over_a_file_of_its_name(run):
  Path("test").mkdir()
  Image.fromarray(SOURCE.images[0]).save("test/one.png")
  assert predict.main(["run", "--data=test"]) == predict.main(["run", "--data=./test"]) == 0
  written = [p.name for p in sorted(Path("run/predictions").glob("*.csv"))]
  assert len(written) == 2 and "test-student-3.csv" in written
  other = next(name for name in written if name != "test-student-3.csv")
  assert other.endswith("_test-student-3.csv")
  assert [row["id"] for row in read(f"run/predictions/{other}")] == ["one.png"]


def test_folders(run):
  """Images of any size are resized and cropped; folders of classes give labels."""
  for name, image in (("b.png", SOURCE.images[0]), ("a.jpg", np.tile(SOURCE.images[1], (3, 4, 1)))):
    Path("flat").mkdir(exist_ok=True)
    Image.fromarray(image).save(f"flat/{name}")
  assert predict.main(["run", "--data=flat", "--out=flat.csv"]) == 0
  rows = read("flat.csv")
  assert [row["id"] for row in rows] == ["a.jpg", "b.png"] and rows[0]["label"] == ""
  pool = data.image_pool("flat", 8)
  np.testing.assert_allclose(
    table(rows, "logit"), by_hand(run, pool.images), rtol=1e-4, atol=1e-5
  )
  for name, i in (("dog", 0), ("bee", 1), ("bee", 2)):
    folder = Path("sorted") / name
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(SOURCE.images[i]).save(folder / f"{i}.png")
  assert predict.main(["run", "--data=sorted", "--out=sorted.csv"]) == 0
  rows = read("sorted.csv")
  assert [row["id"] for row in rows] == ["bee/1.png", "bee/2.png", "dog/0.png"]
  assert [row["label"] for row in rows] == ["1", "1", "3"]
  # Without names, folders may be called by the numbers of the classes.
  Path("run/tables/clean.json").unlink()
  Path("sorted/dog").rename("sorted/3")
  Path("sorted/bee").rename("sorted/1")
  assert predict.main(["run", "--data=sorted", "--out=sorted.csv"]) == 0
  assert [row["label"] for row in read("sorted.csv")] == ["1", "1", "3"]


def test_data_that_moved(run, capsys):
  config = json.loads(Path("run/config.json").read_text())
  shutil.copy(config["config"]["data"]["path"], "moved.npz")
  config["config"]["data"]["path"] = "gone.npz"
  Path("run/config.json").write_text(json.dumps(config))
  assert predict.main(["run", "--data=test", "--out=a.csv"]) == 2
  assert "gone.npz" in capsys.readouterr().err
  assert predict.main(["run", "--data=test", "--out=a.csv", "--path=moved.npz"]) == 0
  np.savez("other.npz", **{**np.load("moved.npz"), "train_labels": NOISY, "human_labels/noisy":
           SOURCE.labels})  # fmt: skip
  assert predict.main(["run", "--data=test", "--out=b.csv", "--path=other.npz"]) == 2
  assert "was trained on other data" in capsys.readouterr().err


@pytest.fixture
def seeds(tmp_path, monkeypatch):
  """A run of two seeds that nothing was trained in: its numbers are random, nothing compiles."""
  monkeypatch.chdir(tmp_path)
  config = {**CONFIG, "seeds": 2, "wrappers": (), "data": {"name": "digits"}}
  made = build.assemble(config)
  rng = np.random.default_rng(0)
  state = jax.eval_shape(loop.Programs(made).init)
  number = lambda x: jnp.asarray(rng.uniform(0.1, 0.5, x.shape), x.dtype)
  state = jax.tree.map(number, state.replace(rng=None))
  state = state.replace(rng=jnp.stack([jax.random.key(2), jax.random.key(3)]))
  folder = tmp_path / "run"
  record = rundir.claim(made, folder)
  saver = checkpoint.Checkpointer(folder / "checkpoints")
  saver.save(state, 7, record)
  saver.close()
  return folder


def test_seeds_and_their_mean(seeds, capsys):
  np.savez("mine.npz", images=data.digits().test_images[:9])
  found = {}
  for seed in ("", "2", "3", "mean"):
    assert predict.main(["run", "--data=mine.npz", f"--out=of{seed}.npz", f"--seed={seed}"]) == 0
    found[seed] = np.load(f"of{seed}.npz")["probability"]
  np.testing.assert_array_equal(found[""], found["2"])
  assert np.abs(found["2"] - found["3"]).max() > 1e-3
  np.testing.assert_allclose(found["mean"], (found["2"] + found["3"]) / 2, atol=1e-6)
  assert json.loads(Path("ofmean.npz.json").read_text())["seed"] == "mean"
  assert predict.main(["run", "--data=mine.npz", "--seed=3"]) == 0
  assert capsys.readouterr().out.strip().endswith("_mine.npz-student-7-seed3.csv")
  assert predict.main(["run", "--data=mine.npz", "--seed=4"]) == 2
  assert "has the seeds 2 to 3" in capsys.readouterr().err


def grey(path):
  np.savez(path, images=np.zeros((2, 8, 8, 1), np.uint8))


def folders(*names):
  for name in names:
    file = Path("mine") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file)


# (id, what lies there, arguments, what the message must say)
CASES = [
  ("no_run", None, ["nowhere", "--data=test"], "is nowhere a run directory"),
  ("unknown_set", None, ["run", "--data=tset"], "did you mean 'test'"),
  ("no_trusted", None, ["run", "--data=trusted"], "has none (config.data.trusted is 0); it has"),
  ("predictor", None, ["run", "--data=test", "--predictor=studnt"], "did you mean 'student'"),
  ("checkpoint", None, ["run", "--data=test", "--checkpoint=9"], "kept are the steps 1, 2, 3"),
  ("word", None, ["run", "--data=test", "--checkpoint=first"], "a number, or latest or best"),
  ("seed", None, ["run", "--data=test", "--seed=5"], "has the seed 2; choose"),
  ("seed_word", None, ["run", "--data=test", "--seed=-1"], "--seed is '-1'"),
  ("batch", None, ["run", "--data=test", "--batch_size=0"], "--batch_size is 0"),
  ("extension", None, ["run", "--data=test", "--out=a.xls"], "expected .csv, .parquet, .npz"),
  ("out_is_folder", lambda: Path("a.csv").mkdir(),
   ["run", "--data=test", "--out=a.csv"], "is a directory"),
  ("data_extension", lambda: Path("a.txt").touch(), ["run", "--data=a.txt"], "give a .npz"),
  ("no_npz", lambda: Path("a.npz").touch(), ["run", "--data=a.npz"], "cannot be read"),
  ("channels", lambda: grey("a.npz"), ["run", "--data=a.npz"], "have 1 channels"),
  ("size", lambda: np.savez("a.npz", images=np.zeros((2, 9, 9, 3), np.uint8)),
   ["run", "--data=a.npz"], "resize them"),
  ("floats", lambda: np.savez("a.npz", images=np.zeros((2, 8, 8, 3))),
   ["run", "--data=a.npz"], "dtype is float64"),
  ("keys", lambda: np.savez("a.npz", x=np.zeros(3)), ["run", "--data=a.npz"], "no images, only x"),
  ("labels", lambda: np.savez("a.npz", images=np.zeros((1, 8, 8, 3), np.uint8), labels=[4]),
   ["run", "--data=a.npz"], "found 4, but the run has 4 classes"),
  ("none", lambda: np.savez("a.npz", images=np.zeros((0, 8, 8, 3), np.uint8)),
   ["run", "--data=a.npz"], "no images to predict"),
  ("empty_folder", lambda: Path("mine").mkdir(), ["run", "--data=mine"], "has no images"),
  ("class", lambda: folders("bird/0.png"), ["run", "--data=mine"], "'bird', which is no class"),
  ("beside", lambda: folders("ant/0.png", "0.webp"), ["run", "--data=mine"], "0.webp, beside"),
  ("damaged", lambda: (folders("0.png"), Path("mine/1.png").write_text("no image")),
   ["run", "--data=mine"], "cannot be read as an image"),
  ("unwritable", lambda: Path("file").touch(),
   ["run", "--data=test", "--out=file/a.csv"], "is the path right?"),
]  # fmt: skip


@pytest.mark.parametrize(
  ("make", "argv", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_input_is_one_sentence_and_nothing_written(run, capsys, make, argv, says):
  if make is not None:
    make()
  before = files()
  assert predict.main(argv) == 2
  captured = capsys.readouterr()
  assert says in captured.err and captured.err.count("\n") == 1 and not captured.out
  assert captured.err.startswith("jaxnoise: ") and files() == before


def test_a_run_that_held_nothing_out(seeds, capsys):
  assert predict.main(["run", "--data=holdout"]) == 2
  assert "has none (config.data.holdout is 0); it has test, train" in capsys.readouterr().err
  assert predict.main(["run", "--data=test", "--checkpoint=best"]) == 2
  assert "no best checkpoint: it held nothing out" in capsys.readouterr().err


def test_folders_of_a_run_that_knows_no_class_names(run, capsys):
  Path("run/tables/clean.json").unlink()
  folders("ant/0.png")
  assert predict.main(["run", "--data=mine"]) == 2
  assert "knows its classes by number only; call them 0 to 3" in capsys.readouterr().err


def test_a_run_made_with_objects(run, capsys):
  config = json.loads(Path("run/config.json").read_text())
  config["config"]["model"] = {"name": "object:mine.Net"}
  Path("run/config.json").write_text(json.dumps(config))
  assert predict.main(["run", "--data=test"]) == 2
  error = capsys.readouterr().err
  assert "jaxnoise.training.restore.open_run('run', network=...) from Python" in error


def test_help_names_the_sets_and_the_mean(capsys):
  with pytest.raises(SystemExit) as stopped:
    predict.main(["--help"])
  told = " ".join(capsys.readouterr().out.split())
  assert stopped.value.code == 0
  assert "holdout" in told and "mean averages the probabilities" in told and "latest" in told

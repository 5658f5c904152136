"""Predictions image by image equal the predictor's by hand, and survive every file format."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, evaluation, methods
from jaxnoise.core import InputError, Spec, TrainState
from jaxnoise.training import sharding
from tests.toy import toy_network

SPEC = Spec(num_train=48, num_classes=3, image_shape=(8, 8, 3))


def setting(devices=1, seed=0):
  network = toy_network()
  source = data.generated(num_train=48, num_test=21, num_classes=3, size=8)
  mesh = sharding.make_mesh(jax.devices()[:devices])
  params, stats = network.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
  method = methods.with_ema(methods.erm(network, spec=SPEC))
  state = method.init_state(TrainState.create(jax.random.key(1), params, stats))
  # The average starts as a copy; here it is another network.
  state = state.replace(ema_params=jax.tree.map(lambda x: x + 1.0, state.ema_params))
  return source, method, jax.device_put(state, sharding.replicated(mesh)), mesh


def predicted(devices=1, batch_size=8, predictor="", pool=None, seed=0):
  source, method, state, mesh = setting(devices, seed)
  predict = evaluation.make_predict(method, mesh, predictor)
  pool = source.test if pool is None else pool(source)
  return evaluation.predict_pool(predict, state, pool, batch_size, mesh)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 4), (1, 100), (8, 8), (8, 5), (8, 100)])
@pytest.mark.parametrize("predictor", ["", "student", "ema"])
def test_logits_and_probabilities_are_the_predictor_s(devices, batch_size, predictor):
  source, method, state, _ = setting()
  image = jnp.asarray(source.test_images, jnp.float32) / 255
  logits = np.asarray(method.predictors(state)[predictor or "student"](image))
  found = predicted(devices, batch_size, predictor)
  np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-6)
  e = np.exp(found.logits.astype(np.float64))
  np.testing.assert_allclose(found.probability, e / e.sum(-1, keepdims=True), rtol=1e-6)
  assert found.logits.dtype == found.probability.dtype == np.float32
  np.testing.assert_array_equal(found.prediction, found.logits.argmax(-1))
  np.testing.assert_array_equal(found.label, source.test_labels)
  np.testing.assert_array_equal(found.index, np.arange(21))
  np.testing.assert_array_equal(found.id, np.arange(21))


def test_they_agree_with_the_evaluation():
  source, method, state, mesh = setting(8)
  measured = evaluation.measure_set(
    evaluation.make_measure(method, mesh), state, evaluation.TestSet(source.test, 8, mesh)
  )["student"]
  found = predicted(8)
  np.testing.assert_array_equal(found.prediction, measured["prediction"])
  np.testing.assert_allclose(found.probability.max(-1), measured["confidence"], rtol=1e-6)
  total, count = measured["accuracy"]
  assert found.accuracy() == pytest.approx(float(total) / float(count))


def test_one_program_serves_all_sets_and_seeds_of_a_batch_size():
  source, method, state, mesh = setting()
  predict = evaluation.make_predict(method, mesh)
  for pool in (source.test, source.train):
    for _ in range(2):
      evaluation.predict_pool(predict, state, pool, 8, mesh)
  assert predict._cache_size() == 1


def noisy_holdout(source):
  labels = (np.asarray(source.labels) + (np.arange(48) % 4 == 0)) % 3
  return source.with_labels(labels).holdout(9, seed=3)


def test_order_ids_and_both_labels_survive_a_holdout():
  source, _, _, _ = setting()
  train, held_out = noisy_holdout(source)
  found = predicted(pool=lambda s: noisy_holdout(s)[0].train)
  whole = predicted(pool=lambda s: s.train)
  np.testing.assert_array_equal(found.id, train.ids)
  np.testing.assert_array_equal(found.index, np.arange(39))
  np.testing.assert_array_equal(found.clean_label, np.asarray(source.labels)[found.id])
  np.testing.assert_array_equal(found.label, train.labels)
  # A row is its example's, wherever the example stands.
  np.testing.assert_allclose(found.logits, whole.logits[found.id], rtol=1e-5, atol=1e-6)
  other = predicted(pool=lambda s: noisy_holdout(s)[1])
  assert not set(other.id) & set(found.id) and set(other.id) == set(held_out.ids)
  np.testing.assert_allclose(other.logits, whole.logits[other.id], rtol=1e-5, atol=1e-6)


def test_an_unknown_predictor_names_the_closest():
  with pytest.raises(InputError, match="predictor 'studnet' is none of erm: did you mean 'stud"):
    predicted(predictor="studnet")


def test_no_images_and_no_batch():
  with pytest.raises(InputError, match="no images"):
    predicted(pool=lambda s: data.Pool(np.zeros((0, 8, 8, 3), np.uint8)))
  with pytest.raises(InputError, match="batch_size"):
    predicted(batch_size=0)


def of_logits(logits, **fields):
  index = np.arange(len(logits))
  logits = np.asarray(logits, np.float32)
  z = logits.astype(np.float64) - logits.max(-1, keepdims=True)
  probability = (np.exp(z) / np.exp(z).sum(-1, keepdims=True)).astype(np.float32)
  return evaluation.Predictions(index, index, logits, probability, **fields)


def test_extreme_logits_and_many_classes_sum_to_one():
  logits = np.random.default_rng(0).normal(0, 200, (5, 1000)).astype(np.float32)
  logits[0] = 3.0
  logits[1, 0] = np.float32(3e38)
  source, _, _, mesh = setting()
  predict = jax.jit(lambda state, images: jnp.asarray(logits))
  pool = data.Pool(source.test_images[:5])
  found = evaluation.predict_pool(predict, None, pool, 5, mesh)
  np.testing.assert_allclose(found.probability.astype(np.float64).sum(-1), 1.0, rtol=0, atol=1e-6)


def test_a_network_that_gives_no_number_predicts_no_class():
  found = of_logits([[np.nan, 1.0], [0.0, 1.0]], label=np.array([0, 1], np.int32))
  assert found.prediction.tolist() == [-1, 1] and found.accuracy() == 0.5
  assert of_logits([[0.0, 1.0]]).accuracy() is None


def test_the_mean_is_that_of_the_probabilities():
  one, two = predicted(), predicted(seed=7)
  mean = evaluation.mean_predictions([one, two])
  np.testing.assert_allclose(mean.probability, (one.probability + two.probability) / 2, atol=1e-7)
  e = np.exp(mean.logits.astype(np.float64))
  np.testing.assert_allclose(e / e.sum(-1, keepdims=True), mean.probability, atol=1e-6)
  np.testing.assert_array_equal(mean.label, one.label)
  certain = evaluation.mean_predictions([of_logits([[900.0, -900.0]]), of_logits([[0.0, 0.0]])])
  assert np.all(np.isfinite(certain.logits)) and certain.probability.tolist() == [[0.75, 0.25]]
  with pytest.raises(InputError, match="different sets"):
    evaluation.mean_predictions([one, predicted(pool=lambda s: s.train)])


NAMES = ("cat", 'a "dog", old', "ünit")


@pytest.fixture
def sample():
  fields = predicted(pool=lambda s: noisy_holdout(s)[0].train)
  ids = np.array([f"cat/{i}, é.png" for i in fields.id])
  return evaluation.Predictions(
    fields.index, ids, fields.logits, fields.probability, fields.label, fields.clean_label
  )


def read_csv(path):
  with open(path, newline="", encoding="utf-8") as file:
    rows = list(csv.reader(file))
  return rows[0], list(zip(*rows[1:], strict=True))


COLUMNS = [
  "index", "id", "label", "prediction", "prediction_name", "clean_label",
  "probability_0", "probability_1", "probability_2", "logit_0", "logit_1", "logit_2",
]  # fmt: skip


def test_csv_gives_every_number_back(sample, tmp_path):
  about = {"run": "r", "step": 4}
  path = evaluation.write_predictions(
    tmp_path / "new" / "p.csv", sample, class_names=NAMES, about=about
  )
  header, columns = read_csv(path)
  assert header == COLUMNS
  table = dict(zip(header, columns, strict=True))
  for name in ("index", "label", "prediction", "clean_label"):
    np.testing.assert_array_equal(np.array(table[name], int), getattr(sample, name))
  assert list(table["id"]) == sample.id.tolist()
  assert list(table["prediction_name"]) == [NAMES[k] for k in sample.prediction]
  for k in range(3):
    np.testing.assert_array_equal(
      np.array(table[f"probability_{k}"], np.float32), sample.probability[:, k]
    )
    np.testing.assert_array_equal(np.array(table[f"logit_{k}"], np.float32), sample.logits[:, k])
  told = json.loads((tmp_path / "new" / "p.csv.json").read_text())
  assert told == {
    "format_version": 1, **about, "n": 39, "num_classes": 3, "class_names": list(NAMES),
    "columns": COLUMNS, "accuracy": sample.accuracy(),
    "clean_accuracy": sample.accuracy(sample.clean_label),
  }  # fmt: skip


def test_npz_is_what_cleanlab_takes(sample, tmp_path):
  path = evaluation.write_predictions(tmp_path / "p.npz", sample, class_names=NAMES)
  with np.load(path, allow_pickle=False) as stored:
    pred_probs, labels = stored["probability"], stored["label"]
    np.testing.assert_array_equal(stored["logit"], sample.logits)
    np.testing.assert_array_equal(stored["id"], sample.id)
    np.testing.assert_array_equal(stored["prediction"], sample.prediction)
    np.testing.assert_array_equal(stored["clean_label"], sample.clean_label)
    assert stored["class_names"].tolist() == list(NAMES) and stored["format_version"] == 1
    keys = stored.files
  assert labels.shape == (39,) and pred_probs.shape == (39, 3)
  np.testing.assert_allclose(pred_probs.sum(-1), 1.0, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(labels, sample.label)
  assert json.loads((tmp_path / "p.npz.json").read_text())["columns"] == keys


def test_parquet_agrees(sample, tmp_path):
  parquet = pytest.importorskip("pyarrow.parquet")
  path = evaluation.write_predictions(tmp_path / "p.parquet", sample, class_names=NAMES)
  table = parquet.read_table(path)
  assert table.column_names == COLUMNS
  assert table["id"].to_pylist() == sample.id.tolist()
  np.testing.assert_array_equal(table["logit_2"].to_numpy(), sample.logits[:, 2])
  np.testing.assert_array_equal(table["label"].to_numpy(), sample.label)
  told = json.loads(table.schema.metadata[b"jaxnoise"])
  assert told == json.loads((tmp_path / "p.parquet.json").read_text())


@pytest.mark.parametrize("suffix", evaluation.PREDICTION_SUFFIXES)
def test_without_labels_or_names(suffix, tmp_path):
  path = tmp_path / f"p{suffix}"
  if suffix == ".parquet":
    pytest.importorskip("pyarrow")
  evaluation.write_predictions(path, of_logits([[0.0, 1.0], [2.0, 0.0]]))
  told = json.loads((tmp_path / f"p{suffix}.json").read_text())
  assert told["accuracy"] is None and "clean_accuracy" not in told
  if suffix == ".csv":
    header, columns = read_csv(path)
    assert header[:4] == ["index", "id", "label", "prediction"] and columns[2] == ("", "")
    assert "prediction_name" not in header and "clean_label" not in header
  elif suffix == ".npz":
    stored = np.load(path, allow_pickle=False)
    assert stored["label"].tolist() == [-1, -1] and stored["class_names"].shape == (0,)
  else:
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(path)["label"].to_pylist() == [None, None]


def test_whole_or_not_at_all(sample, tmp_path, monkeypatch):
  path = tmp_path / "p.npz"
  evaluation.write_predictions(path, sample)
  before = path.read_bytes()

  def full(file, **arrays):
    file.write(b"half")
    raise OSError("no space left")

  monkeypatch.setattr(np, "savez", full)
  with pytest.raises(OSError, match="no space left"):
    evaluation.write_predictions(path, sample)
  assert path.read_bytes() == before
  assert sorted(p.name for p in tmp_path.iterdir()) == ["p.npz", "p.npz.json"]


def test_names_that_cannot_hold_predictions(sample, tmp_path, monkeypatch):
  for name in ("p.txt", "p", "p.csv.gz"):
    with pytest.raises(InputError, match=r"expected \.csv, \.parquet, \.npz"):
      evaluation.write_predictions(tmp_path / name, sample)
  (tmp_path / "folder.csv").mkdir()
  with pytest.raises(InputError, match="is a directory"):
    evaluation.write_predictions(tmp_path / "folder.csv", sample)
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(InputError, match="pip install pyarrow"):
    evaluation.write_predictions(tmp_path / "p.parquet", sample)
  assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]

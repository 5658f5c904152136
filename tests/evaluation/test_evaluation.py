"""Evaluation equals plain numpy, on any number of devices, padded or not."""

import base64
import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnoise import corruptions, data, evaluation, methods, metrics
from jaxnoise.core import InputError, Method, Spec, TrainState
from jaxnoise.training import sharding
from tests.toy import toy_network

SPEC = Spec(num_train=48, num_classes=3, image_shape=(8, 8, 3))


def setting(devices, batch_size):
  network = toy_network()
  source = data.generated(num_train=48, num_test=21, num_classes=3, size=8)
  mesh = sharding.make_mesh(jax.devices()[:devices])
  params, stats = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  state = TrainState.create(jax.random.key(1), params, stats)
  method = methods.with_ema(methods.erm(network, spec=SPEC))
  state = jax.device_put(method.init_state(state), sharding.replicated(mesh))
  test_set = evaluation.TestSet(source.test, batch_size, mesh)
  return source, network, state, test_set, evaluation.make_measure(method, mesh)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 100), (1, 4), (8, 8), (8, 100)])
def test_measures_equal_numpy(devices, batch_size):
  source, network, state, test_set, measure = setting(devices, batch_size)
  measured = evaluation.measure_set(measure, state, test_set)
  assert list(measured) == ["student", "ema"]
  image, label = np.asarray(source.test_images, np.float32) / 255, np.asarray(source.test_labels)
  logits = np.asarray(network.apply(state.params, state.batch_stats, image).logits)
  log_p = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
  right = logits.argmax(-1) == label
  numbers = evaluation.summarise("test", measured)
  assert numbers["test/student/accuracy"] == pytest.approx(right.mean())
  nll = -log_p[np.arange(21), label].mean()
  assert numbers["test/student/nll"] == pytest.approx(nll, rel=1e-5)
  np.testing.assert_array_equal(measured["student"]["correct"], right)
  np.testing.assert_array_equal(measured["student"]["prediction"], logits.argmax(-1))
  np.testing.assert_allclose(measured["student"]["confidence"], np.exp(log_p).max(-1), rtol=1e-5)
  confidence = np.exp(log_p).max(-1)
  bins = np.ceil(confidence * 15).astype(int)
  ece = sum(
    abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(1, 16)
  ) / 21
  assert numbers["test/student/ece"] == pytest.approx(ece, abs=1e-6)


def test_corruption_table_equals_corrupting_by_hand():
  source, network, state, test_set, measure = setting(1, 4)
  key = jax.random.key(5)
  views = evaluation.generated_views(test_set, key)
  (table,) = evaluation.corruption_table(
    measure, [state], test_set, views, names=("gaussian_noise", "contrast"), severities=(1, 5)
  )
  image, label = jnp.asarray(source.test_images, jnp.float32) / 255, np.asarray(source.test_labels)

  def right(x):
    logits = network.apply(state.params, state.batch_stats, x).logits
    return np.asarray(logits).argmax(-1) == label

  clean = right(image)
  for name, severity in [("gaussian_noise", 5), ("contrast", 1)]:
    corrupted = right(corruptions.corrupt(key, image, name, severity))
    total, count = table["student"]["accuracy"][name, severity]
    assert (float(total), float(count)) == (corrupted.sum(), 21)
    total, count = table["student"]["conditional"][name, severity]
    assert (float(total), float(count)) == ((corrupted & clean).sum(), clean.sum())
  rows = evaluation.table_rows(table["student"])
  assert rows["names"] == ["gaussian_noise", "contrast"] and rows["severities"] == [1, 5]
  assert np.asarray(rows["accuracy"]).shape == (2, 2) and rows["n"] == 21
  mean = metrics.mean_corruption_accuracy(table["student"]["accuracy"])
  assert mean == pytest.approx(np.mean(rows["accuracy"]))


class Stored:
  """Corrupted pools as files would give them: the test set's pixels, inverted or darker."""

  names, severities = ("invert", "dark"), (1, 2)

  def __init__(self, source, labels=None):
    self.source, self.labels = source, source.test_labels if labels is None else labels

  def pool(self, name, severity):
    images = self.source.test_images
    changed = 255 - images if name == "invert" else images // (1 + severity)
    return data.Pool(changed, self.labels)


def test_stored_corruptions_take_the_same_path_and_compile_nothing():
  source, network, state, test_set, measure = setting(1, 4)
  pools = Stored(source)
  views = evaluation.stored_views(test_set, pools)
  kwargs = {"names": pools.names, "severities": pools.severities}
  (table,) = evaluation.corruption_table(measure, [state], test_set, views, **kwargs)
  label = np.asarray(source.test_labels)

  def right(images):
    x = jnp.asarray(images, jnp.float32) / 255
    return np.asarray(network.apply(state.params, state.batch_stats, x).logits).argmax(-1) == label

  clean = right(source.test_images)
  for name, severity in [("invert", 1), ("dark", 2)]:
    got = right(pools.pool(name, severity).images)
    both = {"accuracy": (got.sum(), 21), "conditional": ((got & clean).sum(), clean.sum())}
    for field, want in both.items():
      assert tuple(float(x) for x in table["student"][field][name, severity]) == want
  with _no_compilation():
    again = evaluation.corruption_table(measure, [state], test_set, views, **kwargs)
  assert evaluation.table_rows(again[0]["student"]) == evaluation.table_rows(table["student"])


@contextlib.contextmanager
def _no_compilation():
  seen = []

  def listen(event, *_, **__):
    if "backend_compile" in event:
      seen.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield
  jax.monitoring.unregister_event_duration_listener(listen)
  assert not seen, "a second table compiled something"


def test_stored_corruptions_of_other_examples_are_refused():
  source, _, state, test_set, measure = setting(1, 4)
  pools = Stored(source, labels=np.roll(source.test_labels, 1))
  views = evaluation.stored_views(test_set, pools)
  with pytest.raises(InputError, match=r"invert at severity 1 .* other labels"):
    evaluation.corruption_table(
      measure, [state], test_set, views, names=pools.names, severities=(1,)
    )


def test_a_logit_that_is_no_number_is_no_prediction():
  logits = jnp.array([[0.0, 1.0, 0.0], [jnp.nan, 1.0, 0.0]])
  method = Method("fixed", loss_fn=None, predictors=lambda state: {"student": lambda image: logits})
  measure = evaluation.make_measure(method, sharding.make_mesh(jax.devices()[:1]))
  out = measure({}, jnp.zeros((2, 4, 4, 3)), jnp.array([1, 0]), jnp.ones(2))["student"]
  assert out["prediction"].tolist() == [1, -1] and out["correct"].tolist() == [1.0, 0.0]
  matrix = evaluation.confusion(np.array([1, 0]), np.asarray(out["prediction"]), 3)
  assert matrix.sum() == 1 and matrix[1, 1] == 1


@pytest.mark.parametrize("count", [1, 8, 21])
def test_packing_keeps_every_bit(count):
  bits = np.random.default_rng(count).random(count) < 0.5
  np.testing.assert_array_equal(evaluation.unpack(evaluation.pack(bits), count), bits)


@pytest.mark.parametrize("text", ["", "AA", "not base64!", "AAAAAAAA"])
def test_unpacking_something_else_is_refused(text):
  with pytest.raises(InputError, match="20 examples is cut off"):
    evaluation.unpack(text, 20)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (200, 100, 3), (8, 8, 2)])
def test_samples_are_fixed_positions_and_confident_mistakes(shape):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (50, *shape), np.uint8)
  label = rng.integers(0, 3, 50)
  prediction = np.where(np.arange(50) % 2, label, (label + 1) % 3)
  measured = {
    "prediction": prediction, "correct": prediction == label, "confidence": rng.random(50)
  }  # fmt: skip
  found = evaluation.samples(images, label, measured)
  assert [s["index"] for s in found["spread"]][::23] == [0, 49] and len(found["spread"]) == 24
  mistakes = found["mistakes"]
  assert len(mistakes) == 24 and all(s["label"] != s["prediction"] for s in mistakes)
  shown = [s["probability"] for s in mistakes]
  assert shown == sorted(shown, reverse=True)
  (left,) = set(range(0, 50, 2)) - {s["index"] for s in mistakes}
  assert measured["confidence"][left] <= min(shown) + 1e-4
  with Image.open(io.BytesIO(base64.b64decode(mistakes[0]["png"]))) as picture:
    assert max(picture.size) <= 64
    if shape == (8, 8, 3):
      np.testing.assert_array_equal(np.asarray(picture), images[mistakes[0]["index"]])


def test_samples_of_a_small_set_without_mistakes():
  images, label = np.zeros((5, 8, 8, 3), np.uint8), np.zeros(5, int)
  measured = {"prediction": label, "correct": np.ones(5), "confidence": np.ones(5)}
  found = evaluation.samples(images, label, measured)
  assert [s["index"] for s in found["spread"]] == [0, 1, 2, 3, 4] and found["mistakes"] == []

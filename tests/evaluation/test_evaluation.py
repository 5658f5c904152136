"""Evaluation equals plain numpy, on any number of devices, padded or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import corruptions, data, evaluation, methods, metrics
from jaxnoise.core import Spec, TrainState
from jaxnoise.training import sharding
from tests.toy import toy_network

SPEC = Spec(num_train=48, num_classes=3, image_shape=(8, 8, 3))


def setting(devices, batch_size):
  network = toy_network()
  source = data.generated(num_train=48, num_test=21, num_classes=3, size=8)
  mesh = sharding.make_mesh(jax.devices()[:devices])
  params, stats = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  state = TrainState.create(jax.random.key(1), params, stats)
  method = methods.with_ema(methods.erm(network, spec=SPEC), network)
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
  confidence = np.exp(log_p).max(-1)
  bins = np.ceil(confidence * 15).astype(int)
  ece = sum(
    abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(1, 16)
  ) / 21
  assert numbers["test/student/ece"] == pytest.approx(ece, abs=1e-6)


def test_corruption_table_equals_corrupting_by_hand():
  source, network, state, test_set, measure = setting(1, 4)
  key = jax.random.key(5)
  (table,) = evaluation.corruption_table(
    measure, [state], test_set, names=("gaussian_noise", "contrast"), severities=(1, 5), rng=key
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

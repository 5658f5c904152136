"""Expected calibration error and the statistics that it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import metrics


def load(golden, case):
  stored = golden("metrics")
  return tuple(stored[f"calibration/c{case}/{key}"] for key in ("logits", "labels"))


@pytest.mark.parametrize("num_bins", [10, 15])
@pytest.mark.parametrize("case", range(4))
def test_ece_equals_the_official_value(case, num_bins, golden):
  logits, labels = load(golden, case)
  expected = float(golden("metrics")[f"calibration/c{case}/ece{num_bins}"])

  def ece(logits):
    probabilities = jax.nn.softmax(jnp.asarray(logits))
    return metrics.expected_calibration_error(
      metrics.calibration_bins(probabilities, labels, num_bins=num_bins)
    )

  assert float(jax.jit(ece)(logits)) == pytest.approx(expected, rel=1e-5, abs=1e-6)
  with jax.enable_x64(True):
    assert float(ece(logits.astype(np.float64))) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_batches_with_padding_add_up_to_the_whole(golden):
  logits, labels = load(golden, 1)  # 730 examples
  probabilities = np.asarray(jax.nn.softmax(logits))
  whole = metrics.calibration_bins(probabilities, labels)
  size, total = 200, None
  for start in range(0, 730, size):
    rows = slice(start, start + size)
    fill = size - len(labels[rows])
    part = metrics.calibration_bins(
      np.pad(probabilities[rows], ((0, fill), (0, 0)), constant_values=0.1),
      np.pad(labels[rows], (0, fill)),
      mask=np.pad(np.ones(size - fill, np.float32), (0, fill)),
    )
    total = part if total is None else total + part
  for merged, expected in zip(total, whole):
    np.testing.assert_allclose(merged, expected, rtol=1e-6)
  assert float(total.count.sum()) == 730
  error = metrics.expected_calibration_error
  assert float(error(total)) == pytest.approx(float(error(whole)), rel=1e-5)


def test_bins_are_open_below_and_closed_above():
  confidence = np.array([0.5, 0.5000001, 0.75, 1.0, 1.0000001], np.float32)
  probabilities = np.stack([confidence, 1 - confidence], axis=1)
  bins = metrics.calibration_bins(probabilities, np.zeros(5, np.int32), num_bins=4)
  assert bins.count.tolist() == [0.0, 1.0, 2.0, 2.0]


def test_a_perfectly_calibrated_set_has_no_error_and_an_overconfident_one_its_gap():
  right = np.arange(10) < 8
  probabilities = jnp.broadcast_to(jnp.array([0.8, 0.2]), (10, 2))
  calibrated = metrics.calibration_bins(probabilities, np.where(right, 0, 1))
  assert float(metrics.expected_calibration_error(calibrated)) == pytest.approx(0.0, abs=1e-6)
  certain = metrics.calibration_bins(jnp.eye(2)[jnp.zeros(10, int)], np.where(right, 0, 1))
  assert float(metrics.expected_calibration_error(certain)) == pytest.approx(0.2, abs=1e-6)


def test_the_reliability_diagram_carries_the_error(golden):
  logits, labels = load(golden, 0)
  bins = metrics.calibration_bins(jax.nn.softmax(jnp.asarray(logits)), labels, num_bins=10)
  confidence, accuracy, share = (np.asarray(column) for column in metrics.reliability(bins))
  filled = share > 0
  edges = np.linspace(0, 1, 11)
  assert ((confidence > edges[:-1]) & (confidence <= edges[1:]))[filled].all()
  gap = (share * np.abs(accuracy - confidence))[filled].sum()
  assert gap == pytest.approx(float(golden("metrics")["calibration/c0/ece10"]), rel=1e-5)


def test_bins_are_a_pytree_and_add_only_to_bins():
  bins = metrics.calibration_bins(jnp.array([[0.9, 0.1]]), jnp.array([0]))
  doubled = jax.jit(lambda a, b: a + b)(bins, bins)
  assert isinstance(doubled, metrics.CalibrationBins) and float(doubled.count.sum()) == 2
  with pytest.raises(TypeError):
    bins + (1, 2, 3)
  empty = metrics.calibration_bins(jnp.array([[0.9, 0.1]]), jnp.array([0]), mask=jnp.zeros(1))
  assert np.isnan(metrics.expected_calibration_error(empty))

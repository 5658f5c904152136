"""Per-example correctness, likelihood and Brier score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxnoise import metrics
from jaxnoise.core import InputError


def test_accuracy_is_that_of_the_stored_logits(golden):
  stored = golden("metrics")
  for case in range(4):
    logits, labels = (stored[f"calibration/c{case}/{key}"] for key in ("logits", "labels"))
    value = jax.jit(metrics.correct)(logits, labels).mean()
    assert float(value) == pytest.approx(float(stored[f"calibration/c{case}/accuracy"]), rel=1e-6)


def test_a_nan_row_is_wrong_and_a_tie_goes_to_the_lowest_class():
  logits = jnp.array([[jnp.nan, jnp.nan], [1.0, 1.0], [1.0, 1.0], [jnp.nan, 2.0]])
  assert metrics.correct(logits, jnp.array([0, 0, 1, 1])).tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_likelihood_equals_float64_and_is_finite_at_extreme_logits(scale):
  rng = np.random.default_rng(0)
  logits, labels = scale * rng.normal(size=(64, 10)), rng.integers(0, 10, 64)
  expected = scipy.special.logsumexp(logits, axis=1) - logits[np.arange(64), labels]
  value = metrics.negative_log_likelihood(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5 * scale)
  assert value.shape == (64,) and value.min() >= 0


def test_likelihood_of_half_precision_logits_is_float32_and_of_float64_is_float64():
  logits = jnp.array([[1.0, 2.0, 0.5]], jnp.bfloat16)
  label = jnp.array([1])
  half = metrics.negative_log_likelihood(logits, label)
  assert half.dtype == jnp.float32
  full = metrics.negative_log_likelihood(logits.astype(jnp.float32), label)
  np.testing.assert_array_equal(half, full)
  with jax.enable_x64(True):
    double = metrics.negative_log_likelihood(jnp.array([[1.0, 2.0]], jnp.float64), label)
    assert double.dtype == jnp.float64


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_brier_score_is_the_sum_over_classes(dtype):
  rng = np.random.default_rng(0)
  probabilities, labels = rng.dirichlet(np.ones(7), 40), rng.integers(0, 7, 40)
  expected = [
    sum((p[k] - (1.0 if k == y else 0.0)) ** 2 for k in range(7))
    for p, y in zip(probabilities, labels)
  ]
  with jax.enable_x64(dtype == jnp.float64):
    value = jax.jit(metrics.brier_score)(jnp.asarray(probabilities, dtype), labels)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=1e-5 if dtype == jnp.float32 else 1e-12)


@pytest.mark.parametrize(("p", "value"), [([1.0, 0.0], 0.0), ([0.0, 1.0], 2.0), ([0.5, 0.5], 0.5)])
def test_brier_score_of_two_classes_is_twice_the_squared_error(p, value):
  assert metrics.brier_score(jnp.array([p]), jnp.array([0])).tolist() == [value]
  assert metrics.brier_score(jnp.array([p], jnp.bfloat16), jnp.array([0])).dtype == jnp.float32


@pytest.mark.parametrize(
  "labels", [np.eye(3, dtype=np.int32), np.zeros(3, np.float32), np.zeros(2, np.int32)]
)
@pytest.mark.parametrize(
  "metric",
  [
    metrics.correct,
    metrics.negative_log_likelihood,
    metrics.brier_score,
    metrics.calibration_bins,
  ],
)
def test_labels_that_are_not_one_integer_per_row_are_refused(metric, labels):
  with pytest.raises(InputError, match="one integer label per row"):
    metric(jnp.ones((3, 3)) / 3, labels)

"""Temperature scaling: the minimum itself, its ends, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from jaxnoise import metrics
from jaxnoise.core import InputError
from jaxnoise.metrics import _temperature

LOWEST, HIGHEST = metrics.TEMPERATURE_BOUNDS
fit = jax.jit(metrics.temperature_scale)


def load(golden, case):
  stored = golden("metrics")
  return tuple(stored[f"calibration/c{case}/{key}"] for key in ("logits", "labels"))


def root(logits, labels, end=5.0):
  """T by SciPy's root finder on the derivative, in float64."""
  z = np.asarray(logits, np.float64)
  rows = np.arange(len(z))

  def slope(x):
    p = scipy.special.softmax(z * np.exp(-x), axis=1)
    return ((p * z).sum(axis=1) - z[rows, labels]).sum()

  return np.exp(scipy.optimize.brentq(slope, -end, end, xtol=1e-15, rtol=1e-14))


@jax.jit
def nll(logits, labels, temperature):
  scaled = metrics.apply_temperature(logits, temperature)
  return metrics.negative_log_likelihood(scaled, labels).mean()


@pytest.mark.parametrize("case", range(4))
def test_temperature_is_the_minimum_that_scipy_finds(case, golden, monkeypatch):
  logits, labels = load(golden, case)
  expected = root(logits, labels)
  assert float(fit(logits, labels)) == pytest.approx(expected, rel=1e-5)
  monkeypatch.setattr(_temperature, "_MAX_STEPS", 12)  # bisection alone would be 1e-3 away
  with jax.enable_x64(True):
    double = metrics.temperature_scale(logits.astype(np.float64), labels)
    assert double.dtype == jnp.float64
    assert float(double) == pytest.approx(expected, rel=1e-9)
  least = nll(logits, labels, float(double))
  assert least < min(nll(logits, labels, factor * float(double)) for factor in (0.9, 1.1))


def test_it_repairs_calibration_and_leaves_accuracy():
  """Labels drawn from softmax(z), logits 3 z: overconfident, and T = 3 but for sampling."""
  rng = np.random.default_rng(0)
  z = (2 * rng.normal(size=(4000, 4))).astype(np.float32)
  labels = np.argmax(z + rng.gumbel(size=z.shape), axis=1)
  held_out, rest = slice(2000), slice(2000, 4000)
  temperature = fit(3 * z[held_out], labels[held_out])
  assert float(temperature) == pytest.approx(3.0, rel=0.1)

  @jax.jit
  def measure(logits, labels):
    bins = metrics.calibration_bins(jax.nn.softmax(logits), labels)
    return metrics.expected_calibration_error(bins), metrics.correct(logits, labels)

  before, right_before = measure(3 * z[rest], labels[rest])
  after, right_after = measure(metrics.apply_temperature(3 * z[rest], temperature), labels[rest])
  assert before > 0.1 and after < 0.04
  np.testing.assert_array_equal(right_before, right_after)


@pytest.mark.parametrize("scale", [0.01, 0.3, 20.0, 300.0])
def test_scaled_logits_have_a_scaled_temperature(scale, golden):
  logits, labels = load(golden, 0)
  expected = scale * float(fit(logits, labels))
  assert float(fit(scale * logits, labels)) == pytest.approx(expected, rel=1e-5)
  shifted = logits + np.float32(7.0)
  assert float(fit(shifted, labels)) == pytest.approx(expected / scale, rel=1e-4)


@pytest.mark.parametrize("gap", [0.5, 4.0, 40.0])
@pytest.mark.parametrize("right", [60, 75, 99])
def test_two_classes_have_a_closed_form(gap, right):
  """One gap and accuracy a: sigmoid(gap / T) = a."""
  logits = np.repeat([[gap, 0.0]], 100, axis=0).astype(np.float32)
  labels = (np.arange(100) >= right).astype(np.int32)
  expected = gap / np.log(right / (100 - right))
  assert float(fit(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_the_ends_where_there_is_no_minimum():
  logits, labels = 5 * jnp.eye(3), jnp.arange(3)
  assert float(fit(logits, labels)) == np.float32(LOWEST)  # all right
  assert float(fit(-logits, labels)) == np.float32(HIGHEST)  # confident and wrong
  even = jnp.array([0, 1, 2, 0, 1, 2])  # chance: the less confident the better
  assert float(fit(jnp.tile(logits[:1], (6, 1)), even)) == np.float32(HIGHEST)
  for temperature in (LOWEST, HIGHEST):
    assert np.isfinite(nll(logits, labels, temperature))


@pytest.mark.parametrize("seed", range(3))
def test_logits_of_very_different_sizes_do_not_throw_the_search_off(seed):
  """Newton's method alone runs away here."""
  rng = np.random.default_rng(seed)
  sizes = np.exp(3 * rng.normal(size=(12, 1)))
  logits, labels = sizes * rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
  labels = np.where(np.arange(12) < 9, logits.argmax(axis=1), labels)
  with jax.enable_x64(True):
    got = float(fit(logits, labels))
  assert got == pytest.approx(root(logits, labels, end=np.log(HIGHEST)), rel=1e-9)


@pytest.mark.parametrize(
  ("logits", "labels"),
  [
    (np.zeros((4, 3)), np.arange(4) % 3),
    (np.ones((3, 2)) * 1e4, np.zeros(3, int)),
    (1e4 * np.eye(3), np.arange(3)),  # an NLL of 0 cannot fall
    (np.zeros((0, 3)), np.zeros(0, int)),
  ],
)
def test_where_the_likelihood_is_flat_nothing_changes(logits, labels):
  assert float(metrics.temperature_scale(logits, labels)) == 1.0


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_extreme_logits_give_a_temperature_within_the_bounds(size):
  rng = np.random.default_rng(0)
  logits = (size * rng.normal(size=(20, 5))).astype(np.float32)
  temperature = float(fit(logits, rng.integers(0, 5, 20)))
  assert np.float32(LOWEST) <= temperature <= np.float32(HIGHEST)


def test_padding_has_no_part_even_with_nan_in_it(golden):
  logits, labels = (x[:100] for x in load(golden, 0))
  expected = float(fit(logits, labels))
  mask = np.repeat([1.0, 0.0], [100, 20])
  for fill in (0.0, 30.0, np.nan):
    padded = np.pad(logits, ((0, 20), (0, 0)), constant_values=fill)
    padded[100:, 0] *= 2
    got = fit(padded, np.pad(labels, (0, 20)), mask)
    assert float(got) == pytest.approx(expected, rel=1e-6)


def test_seeds_are_fitted_side_by_side(golden):
  logits, labels = (x[:100] for x in load(golden, 0))
  several = np.stack([logits, 3 * logits])
  got = jax.vmap(metrics.temperature_scale, in_axes=(0, None))(several, labels)
  np.testing.assert_allclose(got, [fit(z, labels) for z in several], rtol=1e-6)


def test_half_precision_is_promoted_and_soft_labels_refused():
  logits = jnp.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5]], jnp.bfloat16)
  assert metrics.temperature_scale(logits, jnp.array([1, 0])).dtype == jnp.float32
  assert metrics.apply_temperature(logits, 2.0).dtype == jnp.float32
  with pytest.raises(InputError, match="one integer label per row"):
    metrics.temperature_scale(logits, jnp.eye(3)[:2])

"""Noise in logits: its mean, its variance and what a swap is, from draws and from hand sums."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from jaxnoise.core import InputError

Y = np.array([2.0, -1.0, 0.5, 3.0])
P = 0.3
ROWS = 20_000
VARIANCE = 4.0


def turn(l, p, k=4):
  """The mean of one turn of the sequential swap, as a matrix."""
  matrix = (1 - p / (k - 1)) * np.eye(k)
  matrix[:, l] = p / (k - 1)
  matrix[l] = p / (k - 1)
  matrix[l, l] = 1 - p
  return matrix


SEQUENTIAL = turn(3, P) @ turn(2, P) @ turn(1, P) @ turn(0, P) @ Y


@functools.cache
def draws():
  """All that the tests look at, from one program: [ROWS, 4] of each kind."""

  @jax.jit
  def program(key):
    y = jnp.tile(jnp.asarray(Y, jnp.float32)[None], (ROWS, 1))
    out = {
      reading: losses.swap_logits(key, y, probability=P, reading=reading)
      for reading in losses.SWAP_READINGS
    }
    out["always"] = losses.swap_logits(key, y, probability=1.0)
    out["never"] = losses.swap_logits(key, y, probability=0.0, reading="transposition")
    out["gaussian"] = losses.gaussian_logit_noise(key, y, variance=VARIANCE)
    out["none"] = losses.gaussian_logit_noise(key, y, variance=0.0)
    out["other key"] = losses.gaussian_logit_noise(jax.random.fold_in(key, 1), y, variance=VARIANCE)
    return out

  return {name: np.asarray(x, np.float64) for name, x in program(jax.random.key(0)).items()}


def deviations(found, expected):
  """How many standard errors the mean over rows is from what is expected, by coordinate."""
  return np.abs(found.mean(0) - expected) / (found.std(0, ddof=1) / np.sqrt(len(found)))


def test_expected_swap_golden_and_where_nothing_is_left():
  expected = [1.65, -0.15, 0.75, 2.25]
  np.testing.assert_allclose(losses.expected_swap(jnp.asarray(Y), P), expected, rtol=1e-6)
  y = jnp.asarray(np.stack([Y, 10 * Y - 3]))
  for p in (0.0, 0.3, 1.0):
    by_hand = [[(1 - p) * row[l] + p / 3 * (row.sum() - row[l]) for l in range(4)] for row in y]
    np.testing.assert_allclose(losses.expected_swap(y, p), by_hand, rtol=1e-5)
  flat = losses.expected_swap(y, 3 / 4)
  np.testing.assert_allclose(flat, jnp.tile(y.mean(1, keepdims=True), (1, 4)), rtol=1e-5)
  reversed_ = np.argsort(losses.expected_swap(y, 1.0), axis=1)[:, ::-1]
  np.testing.assert_array_equal(reversed_, np.argsort(y, axis=1))


@pytest.mark.parametrize(("reading", "expected"), [
  ("independent", [1.65, -0.15, 0.75, 2.25]),
  ("shift", [1.65, -0.15, 0.75, 2.25]),
  ("transposition", SEQUENTIAL),
])  # fmt: skip
def test_the_mean_of_each_reading(reading, expected):
  assert np.all(deviations(draws()[reading], expected) < 4)


def test_the_mean_of_transpositions_is_not_the_paper_s():
  assert np.max(deviations(draws()["transposition"], [1.65, -0.15, 0.75, 2.25])) > 10


def test_independent_swaps_have_their_variance_and_no_covariance():
  found = draws()["independent"]
  mean = (1 - P) * Y + P / 3 * (Y.sum() - Y)
  variance = (1 - P) * Y**2 + P / 3 * ((Y**2).sum() - Y**2) - mean**2
  covariance = np.cov(found.T)
  # The standard error of a variance is at most that of the fourth moment of values within 4.
  np.testing.assert_allclose(np.diag(covariance), variance, rtol=0.05)
  assert np.max(np.abs(covariance - np.diag(np.diag(covariance)))) < 0.06
  share = [np.mean(found[:, 0] == value) for value in Y]
  np.testing.assert_allclose(share, [0.7, 0.1, 0.1, 0.1], atol=0.015)
  assert not np.any(draws()["always"] == Y[None])
  share = [np.mean(draws()["always"][:, 3] == value) for value in Y]
  np.testing.assert_allclose(share, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.015)


def test_what_is_a_permutation_and_what_repeats():
  in_order = np.sort(Y)
  for reading in ("transposition", "shift"):
    np.testing.assert_array_equal(np.sort(draws()[reading], axis=1), np.tile(in_order, (ROWS, 1)))
  repeats = np.any(np.sort(draws()["independent"], axis=1) != in_order[None], axis=1)
  # No repetition: the identity, 6 exchanges, 8 cycles of three, 9 derangements.
  once = 0.7**4 + 6 * 0.1**2 * 0.7**2 + 8 * 0.1**3 * 0.7 + 9 * 0.1**4
  np.testing.assert_allclose(repeats.mean(), 1 - once, atol=0.013)


def test_shifts_are_cyclic_and_equally_likely():
  found = draws()["shift"]
  shares = [np.all(found == np.roll(Y, k)[None], axis=1).mean() for k in range(4)]
  assert sum(shares) == 1
  np.testing.assert_allclose(shares, [0.7, 0.1, 0.1, 0.1], atol=0.01)


def test_gaussian_noise_has_the_variance_and_is_independent():
  noise = draws()["gaussian"] - Y[None]
  assert np.all(deviations(noise, 0) < 4)
  covariance = np.cov(np.concatenate([noise[:-1], noise[1:]], axis=1).T)  # next example's too
  np.testing.assert_allclose(covariance, VARIANCE * np.eye(8), atol=4 * VARIANCE * 1.5 / ROWS**0.5)
  other = draws()["other key"] - Y[None]
  assert abs(np.mean(noise * other)) < 4 * VARIANCE / np.sqrt(4 * ROWS)


def test_nothing_is_changed_at_0():
  for name in ("never", "none"):
    np.testing.assert_array_equal(draws()[name], np.tile(Y, (ROWS, 1)))


def test_the_same_key_draws_the_same_and_leading_axes_are_examples():
  y = jnp.arange(24.0).reshape(2, 3, 4)

  @jax.jit
  def program(key):
    return [losses.swap_logits(key, y, reading=r, probability=0.5) for r in losses.SWAP_READINGS]

  outs = [program(jax.random.key(k)) for k in (3, 3, 4)]
  for a, b, other in zip(*outs, strict=True):
    np.testing.assert_array_equal(a, b)
    assert np.any(np.asarray(a) != other) and a.shape == y.shape
    assert np.all(np.asarray(a) // 4 == np.asarray(y) // 4)  # no value leaves its example


def test_half_squared_error_sums_over_outputs_and_its_gradient_is_the_difference():
  z, t = jnp.array([[1.0, 2.0, -1.0], [0.0, 1.0, 1.0]]), jnp.array([[0.0, 4.0, 1.0], [0.0, 1.0, 1]])
  np.testing.assert_allclose(losses.half_squared_error(z, t), [4.5, 0.0])
  grad = jax.grad(lambda x: jnp.sum(losses.half_squared_error(x, t)))(z)
  np.testing.assert_array_equal(grad, z - t)
  half = z.astype(jnp.bfloat16)
  for value in (losses.half_squared_error(half, t), losses.expected_swap(half, 0.5)):
    assert value.dtype == jnp.float32


@pytest.mark.parametrize(("call", "message"), [
  (lambda k, y: losses.swap_logits(k, y, probability=1.5), r"probability is 1\.5; .* \[0, 1\]"),
  (lambda k, y: losses.swap_logits(k, y, reading="shfit"), "did you mean 'shift'"),
  (lambda k, y: losses.swap_logits(k, y[:, :1]), "a swap needs at least 2"),
  (lambda k, y: losses.expected_swap(y, -0.1), r"probability is -0\.1"),
  (lambda k, y: losses.expected_swap(y[:, :1], 0.1), "a swap needs at least 2"),
  (lambda k, y: losses.gaussian_logit_noise(k, y, variance=-1.0), "variance is -1; it must lie in"),
])  # fmt: skip
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call(jax.random.key(0), jnp.ones((2, 3)))

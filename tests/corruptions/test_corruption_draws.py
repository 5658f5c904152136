"""The draws themselves: moments and shares for every severity, and what keys they depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import corruptions

KEY = jax.random.key(7)
RANDOM = (
  "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur",
  "snow", "frost", "fog", "elastic_transform", "spatter",
)  # fmt: skip
COUNT = 64 * 16 * 16 * 3


def draw(name, level, severity):
  """49,152 values of a constant grey image, before the cast."""
  image = jnp.full((64, 16, 16, 3), level)
  return np.asarray(corruptions.corrupt(KEY, image, name, severity, quantize=False), np.float64)


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
def test_gaussian_noise_has_the_table_s_standard_deviation(severity):
  sd = corruptions.parameters("gaussian_noise")[severity - 1, 0]
  noise = draw("gaussian_noise", 0.5, severity) - 0.5
  assert abs(noise.mean()) < 5 * sd / np.sqrt(COUNT)
  assert noise.std() == pytest.approx(sd, rel=5 / np.sqrt(2 * COUNT))
  assert (noise**4).mean() / sd**4 == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
@pytest.mark.parametrize("level", [0.25, 0.5])
def test_speckle_noise_is_proportional_to_brightness(level, severity):
  sd = corruptions.parameters("speckle_noise")[severity - 1, 0] * level
  noise = draw("speckle_noise", level, severity) - level
  assert abs(noise.mean()) < 5 * sd / np.sqrt(COUNT)
  assert noise.std() == pytest.approx(sd, rel=5 / np.sqrt(2 * COUNT))


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
@pytest.mark.parametrize("level", [0.05, 0.4])  # expected counts on both sides of 10
def test_shot_noise_is_poisson(level, severity):
  photons = corruptions.parameters("shot_noise")[severity - 1, 0]
  counts = draw("shot_noise", level, severity) * photons
  np.testing.assert_allclose(counts, np.rint(counts), rtol=0, atol=1e-3)
  expected = level * photons
  assert counts.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / COUNT))
  # Var of the sample variance of a Poisson is (expected + 2 expected^2) / n to leading order.
  assert counts.var() == pytest.approx(
    expected, abs=5 * np.sqrt((expected + 2 * expected**2) / COUNT)
  )


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
def test_impulse_noise_replaces_the_table_s_share_by_black_and_white_alike(severity):
  amount = corruptions.parameters("impulse_noise")[severity - 1, 0]
  out = draw("impulse_noise", 0.5, severity)
  assert set(np.unique(out)) == {0.0, 0.5, 1.0}
  spread = 5 * np.sqrt(amount / COUNT)
  assert (out != 0.5).mean() == pytest.approx(amount, abs=spread)
  assert (out == 1.0).mean() == pytest.approx(amount / 2, abs=spread)
  per_channel = (out != 0.5).reshape(-1, 3)  # values flip one by one, not whole pixels
  assert per_channel.all(axis=1).mean() < 3 * amount**3 + 1e-3


@pytest.mark.parametrize("name", RANDOM)
def test_draws_do_not_depend_on_how_the_set_is_cut(name):
  images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
  index = jnp.array([3, 15, 9, 2])
  whole = corruptions.corrupt(KEY, images, name, 4, index=index)
  order = jnp.array([2, 0, 3, 1])
  shuffled = corruptions.corrupt(KEY, images[order], name, 4, index=index[order])
  np.testing.assert_array_equal(whole[order], shuffled)
  if name not in ("shot_noise", "fog"):  # one loop over the batch, one not: enough to compile
    return
  halves = [
    corruptions.corrupt(KEY, images[rows], name, 4, index=index[rows])
    for rows in (slice(0, 2), slice(2, 4))
  ]
  np.testing.assert_array_equal(whole, jnp.concatenate(halves))


@pytest.mark.parametrize("name", RANDOM)
def test_examples_severities_and_roots_have_streams_of_their_own(name):
  image = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), (8, 8, 3)), (4, 8, 8, 3))
  out = corruptions.corrupt(KEY, image, name, 3)
  # Not each from each: at 8 pixels two angles of a motion blur may read the same pixels.
  assert len(np.unique(np.asarray(out).reshape(4, -1), axis=0)) > 1
  assert not np.array_equal(out, corruptions.corrupt(jax.random.key(8), image, name, 3))
  np.testing.assert_array_equal(out, corruptions.corrupt(KEY, image, name, 3))


def test_severities_and_corruptions_do_not_share_draws():
  image = jnp.full((64, 16, 16, 3), 0.5)
  streams = [
    np.asarray(corruptions.corrupt(KEY, image, name, severity, quantize=False)).ravel()
    for name, severity in (("gaussian_noise", 1), ("gaussian_noise", 2), ("speckle_noise", 1))
  ]
  assert np.abs(np.corrcoef(streams) - np.eye(3)).max() < 5 / np.sqrt(COUNT)


def test_a_key_of_another_implementation_gives_draws_that_batching_leaves_alone():
  images = jnp.full((4, 8, 8, 3), 0.5)
  key = jax.random.key(0, impl="rbg")
  whole = corruptions.corrupt(key, images, "shot_noise", 5)
  turned = corruptions.corrupt(key, images, "shot_noise", 5, index=jnp.array([3, 2, 1, 0]))
  np.testing.assert_array_equal(whole[::-1], turned)

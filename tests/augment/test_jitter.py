"""Colour jitter against torchvision, the hue against PIL, and Gaussian noise."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from tests.augment import pil_policy

NAMES = ("brightness", "contrast", "color", "hue")
MANY = 20_000


def test_stored_draws_give_torchvisions_image(golden):
  data = golden("augment_torchvision")
  order = data["jitter/order"]
  positions = np.array([augment.POLICY_OPERATIONS.index(name) for name in NAMES])
  param = np.take_along_axis(data["jitter/draw"], order, axis=1).astype(np.float32)
  chain = functools.partial(augment.policy_chain, names=NAMES)
  images = data["images"][np.arange(len(order)) % 2]
  out = jax.jit(jax.vmap(chain))(jnp.asarray(images), positions[order], param)
  pil_policy.difference(out, data["jitter/out"], "jitter", exact=0.998, largest=3)


def test_hue_agrees_with_pil():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
  images[1] = images[1] // 16 + 100  # nearly grey
  images[2, ..., 1] = images[2, ..., 0]  # two channels share the maximum or the minimum
  images[3, :8] = images[3, :8, :, :1]  # grey
  images[4] = rng.choice([0, 128, 255], (16, 16, 3))
  turns = [0.0, 0.2, -0.2, 0.5, -0.5, 0.1]
  ours = jax.jit(jax.vmap(augment.hue))(jnp.asarray(images), jnp.asarray(turns))
  index = [augment.POLICY_OPERATIONS.index("hue")]
  expected = [pil_policy.apply(x, index, [[t, 0, 0]]) for x, t in zip(images, turns)]
  # One step of hue in 256 is up to 6 grey levels of one channel.
  pil_policy.difference(ours, np.stack(expected), "hue", exact=0.995, largest=6)
  np.testing.assert_array_equal(ours[3, :8], images[3, :8])
  grey = jnp.asarray(images[..., :1])
  np.testing.assert_array_equal(augment.hue(grey, 0.3), grey)


@pytest.fixture(scope="module")
def draws():
  sample = lambda key: augment.sample_color_jitter(key, contrast=1.5)
  return pil_policy.over_uniforms(sample, MANY, 8)


def test_every_order_is_equally_likely(draws):
  index, _ = draws
  positions = [augment.POLICY_OPERATIONS.index(name) for name in NAMES]
  for order in itertools.permutations(positions):
    assert np.mean(np.all(index == order, axis=1)) == pytest.approx(1 / 24, abs=0.006)


def test_factors_are_uniform_in_their_ranges(draws):
  index, param = draws
  ranges = {"brightness": (0.6, 1.4), "contrast": (0, 2.5), "color": (0.6, 1.4), "hue": (-0.2, 0.2)}
  for name, (low, high) in ranges.items():
    values = param[index == augment.POLICY_OPERATIONS.index(name)]
    assert len(values) == MANY and low <= values.min() and values.max() <= high
    deciles = np.quantile(values, np.linspace(0, 1, 11))
    np.testing.assert_allclose(np.diff(deciles), (high - low) / 10, rtol=0.1)


def test_a_strength_of_0_leaves_its_step_out():
  image = jnp.asarray(np.random.default_rng(1).random((4, 5, 3), np.float32))
  none = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
  levels = np.round(image * 255) / 255
  same = augment.color_jitter(jax.random.key(0), image, **none)
  np.testing.assert_allclose(same, levels, atol=1e-6)
  index, _ = augment.sample_color_jitter(jax.random.key(0), **(none | {"saturation": 0.4}))
  assert index.tolist() == [augment.POLICY_OPERATIONS.index("color")]
  one = none | {"saturation": 0.4}
  jitter = functools.partial(augment.color_jitter, jax.random.key(0), **one)
  out, back = jax.jit(lambda x: (jitter(x), jax.grad(lambda x: jitter(x).sum())(x)))(image)
  assert np.any(out != levels)
  np.testing.assert_array_equal(back, 0)


def _noise(**arguments):
  image = jnp.full((16, 16, 3), 0.5).at[:8].set(0.98)
  noisy = jax.jit(jax.vmap(lambda key: augment.gaussian_augment(key, image, **arguments)))(
    jax.random.split(jax.random.key(0), 400)
  )
  return np.asarray(noisy) - np.asarray(image)


def test_noise_has_its_standard_deviation_and_is_cut():
  noise = _noise(std=0.1)
  assert noise[:, 8:].std() == pytest.approx(0.1, rel=0.01)
  assert noise[:, 8:].mean() == pytest.approx(0, abs=0.001)
  assert noise[:, :8].max() == pytest.approx(0.02, abs=1e-6)  # at 1
  # Independent from pixel to pixel and from channel to channel.
  part = noise[:, 8:]
  assert abs(np.mean(part[..., 0] * part[..., 1])) < 2e-4
  assert abs(np.mean(part[:, :, 1:] * part[:, :, :-1])) < 2e-4


def test_without_clip_it_may_leave_the_range_and_with_random_std_it_varies():
  noise = _noise(std=0.1, clip=False, random_std=True)
  assert noise[:, :8].max() > 0.1
  deviation = noise.std(axis=(1, 2, 3))
  quartiles = np.quantile(deviation, [0.25, 0.5, 0.75])
  np.testing.assert_allclose(quartiles, [0.025, 0.05, 0.075], atol=0.01)
  assert deviation.max() < 0.106


def test_noise_passes_the_gradient_where_nothing_is_cut():
  image = jnp.asarray([[[0.5], [1.0], [0.0]]])
  noisy = lambda image: augment.gaussian_augment(jax.random.key(3), image, std=0.2)
  out, back = noisy(image), jax.grad(lambda image: noisy(image).sum())(image)
  inside = (out > 0) & (out < 1)
  np.testing.assert_array_equal(back[inside], 1)
  assert np.all(np.isfinite(back))

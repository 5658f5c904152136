"""Motion, zoom and glass blur: the authors' outputs, and what the other sizes must keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxnoise.core import InputError
from jaxnoise.corruptions import SEVERITIES, _motion, parameters, truncate_to_8_bits

KEY = jax.random.key(0)
BLURS = (_motion.motion_blur, _motion.zoom_blur, _motion.glass_blur)
severities = pytest.mark.parametrize("severity", SEVERITIES)
blurs = pytest.mark.parametrize("blur", BLURS, ids=lambda blur: blur.__name__)


@functools.cache
def batched(function, in_axes):
  return jax.jit(jax.vmap(function, in_axes=in_axes))


def images(stored):
  return jnp.asarray(stored["images"] / 255.0, jnp.float32)


@severities
def test_motion_blur_is_within_one_level_of_the_official(severity, golden):
  stored = golden("corruptions_cifar_blur")
  angles = jnp.asarray(stored["motion_blur/angle_degrees"][severity - 1], jnp.float32)
  table = parameters("motion_blur")
  taps = jnp.asarray(_motion.motion_taps(table, 1.0)[severity - 1], jnp.float32)
  out = batched(_motion.motion_blur_from, (0, 0, None))(images(stored), angles, taps)
  levels = np.rint(np.asarray(truncate_to_8_bits(out)) * 255)
  difference = np.abs(levels - stored["motion_blur/out_uint8"][severity - 1])
  assert difference.max() <= 1
  assert (difference == 0).mean() > 0.99


@severities
def test_zoom_factors_are_those_of_the_authors_floating_point_range(severity, golden):
  factors = golden("corruptions_cifar_blur")[f"zoom_blur/zoom_factors_s{severity}"]
  count, step = parameters("zoom_blur")[severity - 1]
  np.testing.assert_array_equal(1.0 + np.arange(int(count)) * ((1.0 + step) - 1.0), factors)


def official_offsets(stored, severity):
  """The stored visits (rows 31..2, columns 31..2) as [4, 2, 32, 32, 2] displacements."""
  offsets = np.zeros((4, 2, 32, 32, 2), np.int32)
  offsets[:, :, 2:, 2:] = stored["glass_blur/dx_dy"][severity - 1][:, :, ::-1, ::-1]
  if severity <= 3:
    offsets[:, 1] = 0
  return jnp.asarray(offsets)


@severities
def test_glass_blur_equals_the_official_output(severity, golden):
  """On even areas the authors' float64 falls on either side of a whole level and is then cut.

  So the first blur is taken in float64 for the strict comparison, and from end to end a value may
  be a level off.
  """
  stored = golden("corruptions_cifar_blur")
  exact = stored["glass_blur/out_float"][severity - 1]
  offsets = official_offsets(stored, severity)
  sigma = parameters("glass_blur")[severity - 1, 0]
  taps = jnp.asarray(_motion.gaussian_taps(sigma, 2), jnp.float32)

  blurred = scipy.ndimage.gaussian_filter(
    stored["images"] / 255.0, (0, sigma, sigma, 0), mode="nearest", truncate=4.0
  )
  cut = jnp.asarray(np.floor(blurred * 255) / 255, jnp.float32)
  moved = batched(_motion.displace, (0, 0))(cut, offsets)
  out = np.asarray(batched(_motion.gaussian_blur_from, (0, None))(moved, taps)) * 255
  np.testing.assert_allclose(out, exact, rtol=0, atol=0.01)

  out = np.asarray(batched(_motion.glass_blur_from, (0, 0, None))(images(stored), offsets, taps))
  difference = np.abs(out * 255 - exact)
  assert difference.max() <= 1 and (difference < 0.01).mean() > 0.96


@pytest.mark.parametrize("reach", [1, 3])
def test_displaced_pixels_chain_as_a_loop_over_the_pixels_does(reach):
  side, generator = 14, np.random.default_rng(reach)
  image = generator.integers(0, 256, (side, side, 2)) / 255.0
  offsets = np.zeros((2, side, side, 2), np.int32)
  inner = slice(reach + 1, side - reach + 1)
  offsets[:, inner, inner] = generator.integers(-reach, reach, offsets[:, inner, inner].shape)
  expected = image.copy()
  for repeat in range(2):
    for row in range(side - reach, reach, -1):
      for column in range(side - reach, reach, -1):
        right, below = offsets[repeat, row, column]
        expected[row, column] = expected[row + below, column + right]
  single = jnp.asarray(image, jnp.float32)
  out = jax.jit(_motion.displace)(single, jnp.asarray(offsets))
  np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6)
  assert not np.array_equal(expected, image)


@blurs
def test_oblong_images_and_the_imagenet_table(blur):
  # 8 by 12: lengths scale with the shorter side; the extremes stay in range.
  batch = jnp.round(jax.random.uniform(KEY, (3, 8, 12, 3))).at[0].set(1.0)
  keys = jax.random.split(KEY, 3)
  program = jax.jit(jax.vmap(functools.partial(blur, variant="imagenet"), in_axes=(0, 0, None)))
  outs = [np.asarray(program(keys, batch, jnp.int32(severity))) for severity in SEVERITIES]
  assert program._cache_size() == 1
  for out in outs:
    assert out.shape == batch.shape and out.min() >= 0 and out.max() <= 1
    np.testing.assert_allclose(out[0], 1.0, rtol=0, atol=3e-6)  # white stays white
  assert np.abs(outs[4][1:] - batch[1:]).mean() > 0.02


def test_lengths_scale_with_the_side():
  table = parameters("motion_blur")
  assert _motion.motion_taps(table, 0.25).shape == (5, 1 + 2 * 3)
  np.testing.assert_allclose(
    _motion.motion_taps(table, 2.0)[0, :13:2] / _motion.motion_taps(table, 2.0)[0, 0],
    _motion.motion_taps(table, 1.0)[0, :7] / _motion.motion_taps(table, 1.0)[0, 0],
  )


def test_draws_cover_the_angles_and_the_four_neighbours():
  wide = jnp.zeros((64, 64, 1)).at[32, 32].set(1.0)
  keys = jax.random.split(KEY, 100)
  smeared = batched(lambda key, image: _motion.motion_blur(key, image, 3), (0, None))(keys, wide)
  rows, columns = np.nonzero(np.asarray(smeared[..., 0]).max(axis=0))
  # Each pixel looks to its right, up or down within 45 degrees: light moves left, both ways.
  assert columns.max() == 32 and rows.min() < 32 < rows.max()
  assert abs((32 - rows.min()) - (rows.max() - 32)) <= 1
  assert (np.abs(rows - 32) <= 32 - columns).all()

  level = jnp.arange(16 * 16, dtype=jnp.float32).reshape(16, 16, 1) / 255
  glass = batched(lambda key, image: _motion.glass_blur(key, image, 1), (0, None))(keys, level)
  moved = np.rint((np.asarray(level) - np.asarray(glass)) * 255)[:, 3:, 3:]
  values, counts = np.unique(moved, return_counts=True)
  assert values.tolist() == [0, 1, 16, 17]
  np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.015)


@blurs
def test_bad_input_is_refused(blur):
  with pytest.raises(InputError, match="severity is 0"):
    blur(KEY, jnp.zeros((8, 8, 3)), 0)
  with pytest.raises(InputError, match="variant 'cifr' is not known"):
    blur(KEY, jnp.zeros((8, 8, 3)), 1, variant="cifr")
  with pytest.raises(InputError, match="divide 8-bit images by 255"):
    blur(KEY, jnp.zeros((8, 8, 3), jnp.uint8), 1)

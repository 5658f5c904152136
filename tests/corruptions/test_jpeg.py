"""JPEG: Pillow's own codec at other sizes and qualities than those of the stored outputs."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from PIL import Image

from jaxnoise.core import InputError
from jaxnoise.corruptions import _jpeg

KEY = jax.random.key(0)


def pillow(levels, quality):
  file = io.BytesIO()
  Image.fromarray(levels).save(file, "JPEG", quality=quality)
  return np.asarray(Image.open(file)).astype(int)


compress_from = jax.jit(_jpeg.jpeg_compression_from)


def compress(levels, quality):
  tables = jnp.asarray(_jpeg.quantization_tables(quality))
  image = jnp.asarray(levels / 255.0, jnp.float32)
  return np.rint(np.asarray(compress_from(image, tables)) * 255).astype(int)


def smooth_levels(height, width):
  """Colourful and neither flat nor noise: sums of a few waves."""
  rows, columns = np.mgrid[:height, :width]
  planes = [
    128 + 60 * np.sin(0.21 * rows + 0.1 * k) + 60 * np.cos(0.33 * columns - 0.7 * k * rows / 9)
    for k in range(3)
  ]
  return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(8, 8), (20, 12), (33, 41), (3, 4), (1, 1)])
def test_equals_pillow_at_other_sizes(size):
  """The library may be another build: 99 % within two levels is what is asked of it."""
  levels = smooth_levels(*size)
  for quality in (7, 50, 80):
    difference = np.abs(compress(levels, quality) - pillow(levels, quality))
    assert (difference <= 2).mean() >= 0.99, difference.max()


def test_equals_pillow_on_noise():
  levels = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
  for quality in (7, 40, 95):
    difference = np.abs(compress(levels, quality) - pillow(levels, quality))
    assert (difference <= 2).mean() >= 0.99


@pytest.mark.parametrize("quality", [1, 7, 40, 50, 80, 100])
def test_tables_are_those_pillow_writes(quality):
  file = io.BytesIO()
  Image.fromarray(smooth_levels(8, 8)).save(file, "JPEG", quality=quality)
  written = Image.open(file).quantization
  expected = _jpeg.quantization_tables(quality).reshape(2, 64)
  for k in (0, 1):
    np.testing.assert_array_equal(np.asarray(written[k]), expected[k])


def test_the_integer_transform_is_close_to_the_cosines():
  cosines = scipy.fft.dct(np.eye(8), axis=0, norm="ortho") * np.sqrt(8) * 2**13
  assert np.abs(_jpeg.transform_matrix() - cosines).max() < 2.5


def test_imagenet_compresses_more_and_black_and_white_stay():
  levels = smooth_levels(16, 16)
  image = jnp.asarray(levels / 255.0, jnp.float32)
  run = jax.jit(_jpeg.jpeg_compression, static_argnames="variant")
  mild, strong = (
    jnp.abs(run(KEY, image, jnp.int32(5), variant=variant) - image).mean()
    for variant in ("cifar", "imagenet")
  )
  assert strong > 1.5 * mild
  for value in (0.0, 1.0):
    flat = jnp.full((16, 16, 3), value)
    np.testing.assert_array_equal(run(KEY, flat, jnp.int32(3), variant="cifar"), flat)


def test_bad_input_is_refused():
  with pytest.raises(InputError, match="1 channels"):
    _jpeg.jpeg_compression(KEY, jnp.zeros((8, 8, 1)), 1)
  with pytest.raises(InputError, match="severity is 6"):
    _jpeg.jpeg_compression(KEY, jnp.zeros((8, 8, 3)), 6)

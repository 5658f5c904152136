"""Elastic deformation: the authors' outputs on their draws, borders, other sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxnoise.core import InputError
from jaxnoise.corruptions import SEVERITIES, _elastic, parameters
from jaxnoise.corruptions._blur import gaussian_taps

KEY = jax.random.key(0)
severities = pytest.mark.parametrize("severity", SEVERITIES)
warp = jax.jit(jax.vmap(_elastic.affine_warp))
transform = jax.jit(jax.vmap(_elastic.elastic_transform_from, (0, 0, 0, None, None)))


def draws(stored, severity):
  amplitude, sigma, reach = parameters("elastic_transform")[severity - 1]
  images = jnp.asarray(stored["images"] / 255.0, jnp.float32)
  row = {key: stored[f"elastic_transform/{key}_unit_uniform"][severity - 1] for key in (
    "affine", "dx", "dy",
  )}
  taps = np.pad(gaussian_taps(sigma, radius := int(3 * sigma + 0.5)), 19 - radius)
  field = jnp.stack([jnp.asarray(row["dx"]), jnp.asarray(row["dy"])], axis=1)
  anchors = jnp.asarray(reach * row["affine"], jnp.float32)
  return images, anchors, field, jnp.asarray(taps, jnp.float32), jnp.float32(amplitude)


@severities
def test_equals_the_official_output(severity, golden):
  stored = golden("corruptions_cifar_digital")
  out = np.asarray(transform(*draws(stored, severity))) * 255
  exact = stored["elastic_transform/out_float"][severity - 1]
  np.testing.assert_allclose(out, exact, rtol=0, atol=0.01)


@severities
def test_the_affine_step_equals_the_official_one(severity, golden):
  stored = golden("corruptions_cifar_digital")
  out = warp(*draws(stored, severity)[:2])
  exact = stored["elastic_transform/after_affine"][severity - 1]
  np.testing.assert_allclose(out, exact, rtol=0, atol=4e-5)  # 0.01 of a level


@pytest.mark.parametrize("size", [(5, 9), (3, 4)])
def test_smoothing_is_scipy_s_where_the_kernel_is_longer_than_the_image(size):
  field = np.random.default_rng(0).uniform(-1, 1, size)
  expected = scipy.ndimage.gaussian_filter(field, 4.0, mode="reflect", truncate=3.0)
  taps = jnp.asarray(gaussian_taps(4.0, 12), jnp.float32)
  rows, columns = (np.asarray(_elastic._smoother(taps, n), np.float64) for n in size)
  np.testing.assert_allclose(rows @ field @ columns.T, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("fold", "mode"), [("_reflect", "mirror"), ("_symmetric", "reflect")])
def test_sampling_far_outside_is_scipy_s(fold, mode):
  generator = np.random.default_rng(1)
  image = generator.uniform(size=(4, 6))
  row, column = generator.uniform(-9, 15, (2, 7, 7))
  expected = scipy.ndimage.map_coordinates(image, [row, column], order=1, mode=mode)
  image, row, column = (jnp.asarray(value, jnp.float32) for value in (image, row, column))
  out = _elastic._sample(image[..., None], row, column, getattr(_elastic, fold))
  np.testing.assert_allclose(out[..., 0], expected, rtol=0, atol=1e-5)


def test_oblong_images_and_the_imagenet_table():
  batch = jax.random.uniform(KEY, (3, 8, 12, 3)).at[0].set(1.0)
  keys = jax.random.split(KEY, 3)

  @jax.jit
  def run(keys, batch, severity):
    def one(key, image):
      return _elastic.elastic_transform(key, image, severity, variant="imagenet")

    return jax.vmap(one)(keys, batch)

  for severity in SEVERITIES:
    out = np.asarray(run(keys, batch, jnp.int32(severity)))
    assert out.shape == batch.shape and out.min() >= 0 and out.max() <= 1
    # White stays white: the weights of a pixel add up to 1 but for their rounding, a few spacings.
    np.testing.assert_allclose(out[0], 1.0, rtol=0, atol=16 * np.finfo(np.float32).eps)
    assert np.abs(out[1:] - batch[1:]).mean() > 0.005
  assert run._cache_size() == 1


def test_bad_input_is_refused():
  with pytest.raises(InputError, match="severity is 0"):
    _elastic.elastic_transform(KEY, jnp.zeros((8, 8, 3)), 0)
  with pytest.raises(InputError, match="variant 'x' is not known"):
    _elastic.elastic_transform(KEY, jnp.zeros((8, 8, 3)), 1, variant="x")

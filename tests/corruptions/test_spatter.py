"""Spatter: the authors' outputs on their draws, and the operators of the water one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxnoise.core import InputError
from jaxnoise.corruptions import SEVERITIES, _spatter

KEY = jax.random.key(0)


@functools.cache
def batched(variant="cifar"):
  one = functools.partial(_spatter.spatter_from, variant=variant)
  return jax.jit(jax.vmap(one, in_axes=(0, 0, None)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_equals_the_official_output(severity, golden, record_property):
  """Water (1 to 3) too: its operators are those of the OpenCV that made the outputs, in integers.

  Another release of OpenCV may draw water otherwise, so what is promised of it is less: that the
  same pixels are wet and that the difference is small on average.
  """
  stored = golden("corruptions_cifar_weather")
  images = jnp.asarray(stored["images"] / 255.0, jnp.float32)
  normal = jnp.asarray(stored["spatter/normal"][severity - 1])
  out = np.asarray(batched()(images, normal, jnp.int32(severity))) * 255
  exact = stored["spatter/out_float"][severity - 1]
  ours, theirs = (np.abs(image - stored["images"]).max(axis=-1) > 0.5 for image in (out, exact))
  overlap = (ours & theirs).sum() / (ours | theirs).sum()
  record_property("mean_difference_in_levels", float(np.abs(out - exact).mean()))
  record_property("overlap_of_wet_pixels", float(overlap))
  np.testing.assert_allclose(out, exact, rtol=0, atol=0.01)
  assert ours.any() and overlap == 1.0


def test_distances_lie_near_the_euclidean_ones_and_stop_at_20():
  marked = np.random.default_rng(0).uniform(size=(30, 50)) < 0.003
  marked[:, 25:] = False
  euclidean = scipy.ndimage.distance_transform_edt(~marked)
  out = np.asarray(jax.jit(_spatter.distances)(jnp.asarray(marked)))
  assert euclidean.max() > 22 and out.max() == 20
  near = euclidean < 19
  np.testing.assert_allclose(out[near], euclidean[near], rtol=0.03)


def test_edges_surround_a_drop_and_need_a_strong_start():
  edges = jax.jit(_spatter.edges)
  drop = np.zeros((16, 16), np.int32)
  drop[4:12, 5:13] = 200
  ring = np.asarray(edges(jnp.asarray(drop)))
  assert ring[7].sum() == 2 and ring[:, 8].sum() == 2 and not ring[6:10, 7:11].any()
  _, parts = scipy.ndimage.label(~ring)
  assert parts == 2  # the ring is closed
  assert not np.asarray(edges(jnp.asarray(drop // 8))).any()  # gradients of 100 are weak


def test_oblong_images_and_the_imagenet_table():
  batch = jax.random.uniform(KEY, (3, 8, 12, 3))
  normal = jax.random.normal(KEY, (3, 8, 12)).at[0].set(-9.0)  # the first stays dry
  run = batched("imagenet")
  before = run._cache_size()
  for severity in SEVERITIES:
    out = np.asarray(run(batch, normal, jnp.int32(severity)))
    assert out.shape == batch.shape and out.min() >= 0 and out.max() <= 1
    np.testing.assert_array_equal(out[0], batch[0])
  assert run._cache_size() == before + 1
  assert np.abs(out[1:] - batch[1:]).mean() > 0.01


def test_bad_input_is_refused():
  with pytest.raises(InputError, match="severity is 0"):
    _spatter.spatter(KEY, jnp.zeros((8, 8, 3)), 0)
  with pytest.raises(InputError, match="variant 'x' is not known"):
    _spatter.spatter(KEY, jnp.zeros((8, 8, 3)), 1, variant="x")
  with pytest.raises(InputError, match="1 channels"):
    _spatter.spatter(KEY, jnp.zeros((8, 8, 1)), 1)

"""Snow and frost: the authors' outputs on their draws, and what the generated ice looks like."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.core import InputError
from jaxnoise.corruptions import SEVERITIES, _apply, _snow, corrupt, parameters

KEY = jax.random.key(0)
severities = pytest.mark.parametrize("severity", SEVERITIES)
weathers = pytest.mark.parametrize("weather", [_snow.snow, _snow.frost])


@functools.cache
def batched(function, in_axes):
  return jax.jit(jax.vmap(function, in_axes=in_axes))


def official(golden, severity, *names):
  stored = golden("corruptions_cifar_weather")
  images = jnp.asarray(stored["images"] / 255.0, jnp.float32)
  return images, *(stored[name][severity - 1] for name in names)


@severities
def test_snow_equals_the_official_output(severity, golden):
  images, normal, angle, exact, before = official(
    golden, severity, "snow/normal", "snow/angle_degrees", "snow/out_float",
    "snow/layer_before_motion_blur",
  )
  normal, angle = jnp.asarray(normal), jnp.asarray(angle, jnp.float32)
  shared = _snow._snow_rows(images[0], severity, "cifar")
  layer = batched(_snow.snow_layer, (0, None, None, None))(normal, shared[0], shared[1], shared[3])
  levels = np.rint(np.asarray(layer)[..., 0] * 255)
  assert np.abs(levels - before).max() <= 1 and (levels == before).mean() > 0.999

  out = np.asarray(batched(_snow.snow_from, (0,) * 3 + (None,) * 4)(images, normal, angle, *shared))
  difference = np.abs(out * 255 - exact)
  # The motion blur, cut to 8 bits, is a level off in a pixel here and there.
  assert difference.max() <= 1.01 and (difference < 0.01).mean() > 0.998


@severities
def test_frost_equals_the_official_output_on_its_crops(severity, golden):
  images, crop, exact = official(golden, severity, "frost/crop_rgb", "frost/out_float")
  ice = jnp.asarray(crop / 255.0, jnp.float32)
  out = np.asarray(_snow.frost_from(images, ice, *parameters("frost")[severity - 1])) * 255
  np.testing.assert_allclose(out, exact, rtol=0, atol=0.01)


def test_generated_ice_is_about_as_bright_and_uneven_as_the_benchmark_s(golden):
  """Loose on purpose: twenty stored crops say little about five photographs."""
  crops = golden("corruptions_cifar_weather")["frost/crop_rgb"].reshape(-1, 32, 32, 3) / 255.0
  keys = jax.random.split(KEY, 200)
  ice = np.asarray(batched(lambda key: _snow.ice_texture(key, 32, 32, jnp.float32), (0,))(keys))
  assert ice.min() >= 0 and ice.max() <= 1
  np.testing.assert_allclose(ice.mean((0, 1, 2)), crops.mean((0, 1, 2)), atol=0.08)
  np.testing.assert_allclose(ice.std((1, 2)).mean(0), crops.std((1, 2)).mean(0), atol=0.04)
  np.testing.assert_allclose(ice.mean((1, 2)).std(0), crops.mean((1, 2)).std(0), atol=0.08)


@weathers
def test_oblong_images_and_the_imagenet_table(weather):
  batch = jax.random.uniform(KEY, (3, 8, 12, 3))
  keys = jax.random.split(KEY, 3)
  run = jax.jit(jax.vmap(functools.partial(weather, variant="imagenet"), in_axes=(0, 0, None)))
  outs = [np.asarray(run(keys, batch, jnp.int32(severity))) for severity in SEVERITIES]
  assert run._cache_size() == 1
  for out in outs:
    assert out.shape == batch.shape and out.min() >= 0 and out.max() <= 1
    assert np.abs(out - batch).mean() > 0.01


def test_given_textures_are_cropped_uniformly_and_mixed_as_the_authors_do():
  """Each texture holds its number and the place of each pixel, so that the window can be read."""
  sizes = ((9, 12), (8, 8), (11, 9))
  textures = [
    np.stack(np.broadcast_arrays(np.full(size, k), *np.mgrid[: size[0], : size[1]]), -1)
    for k, size in enumerate(sizes)
  ]
  textures = [jnp.asarray(texture, jnp.uint8) for texture in textures]
  black = jnp.zeros((200, 8, 8, 3))
  out = corrupt(KEY, black, "frost", 2, textures=textures, quantize=False)
  a, b = parameters("frost")[1]
  windows = np.rint(np.asarray(out) * 255 / b).astype(int)
  file, top, left = windows[:, 0, 0].T
  row, column = np.mgrid[:8, :8]
  assert (windows[..., 0] == file.reshape(-1, 1, 1)).all()
  np.testing.assert_array_equal(windows[..., 1], top.reshape(-1, 1, 1) + row)
  np.testing.assert_array_equal(windows[..., 2], left.reshape(-1, 1, 1) + column)
  assert np.bincount(file, minlength=3).min() > 40
  found = {k: (set(top[file == k]), set(left[file == k])) for k in range(3)}
  # As randint(0, size - window), whose upper end is left out; the middle one has a single place.
  assert found == {0: ({0}, {0, 1, 2, 3}), 1: ({0}, {0}), 2: ({0, 1, 2}, {0})}
  white = corrupt(KEY, black + 1.0, "frost", 2, textures=textures, quantize=False)
  np.testing.assert_allclose(white, np.minimum(a + b * windows / 255, 1.0), rtol=0, atol=1e-6)


def test_textures_are_arguments_and_read_by_frost_alone():
  textures = (jnp.full((9, 9, 3), 255, jnp.uint8),)
  images = jax.random.uniform(KEY, (4, 8, 8, 3))
  bright = corrupt(KEY, images, "frost", 5, textures=textures)
  before = _apply._corrupt._cache_size()
  dark = corrupt(KEY, images, "frost", 5, textures=(textures[0] // 2,))
  assert _apply._corrupt._cache_size() == before and float((bright - dark).mean()) > 0.1
  plain = corrupt(KEY, images, "contrast", 1)
  before = _apply._corrupt._cache_size()
  np.testing.assert_array_equal(corrupt(KEY, images, "contrast", 1, textures=textures), plain)
  assert _apply._corrupt._cache_size() == before


@pytest.mark.parametrize(
  ("textures", "message"),
  [
    ((np.zeros((7, 9, 3), np.uint8),), r"textures\[0\] is 7 x 9 pixels, smaller than the images"),
    ((np.zeros((9, 9, 3), np.float32),), r"textures\[0\] is float32 \(9, 9, 3\)"),
    ((np.zeros((9, 9), np.uint8),), "uint8 \\(9, 9\\), but a texture of ice is uint8"),
    ((), "textures is empty"),
  ],
)
def test_bad_textures_are_refused(textures, message):
  with pytest.raises(InputError, match=message):
    corrupt(KEY, jnp.zeros((1, 8, 8, 3)), "frost", 1, textures=textures)


def test_snow_falls_downwards():
  """Flakes smear along angles of -135 to -45 degrees: vertical neighbours agree, others do not."""
  run = batched(lambda key, image: _snow.snow(key, image, 5), (0, None))
  layer = np.asarray(run(jax.random.split(KEY, 64), jnp.full((32, 32, 3), 0.2)))[..., 0]
  layer = layer - layer.mean()
  vertical = (layer[:, 1:] * layer[:, :-1]).mean() / layer.var()
  horizontal = (layer[:, :, 1:] * layer[:, :, :-1]).mean() / layer.var()
  assert vertical > horizontal + 0.1


@weathers
def test_bad_input_is_refused(weather):
  with pytest.raises(InputError, match="severity is 0"):
    weather(KEY, jnp.zeros((8, 8, 3)), 0)
  with pytest.raises(InputError, match="variant 'x' is not known"):
    weather(KEY, jnp.zeros((8, 8, 3)), 1, variant="x")
  with pytest.raises(InputError, match="1 channels"):
    weather(KEY, jnp.zeros((8, 8, 1)), 1)

"""Snow and frost: the authors' outputs on their draws, and what the generated ice looks like."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.core import InputError
from jaxnoise.corruptions import SEVERITIES, _snow

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
  out = np.asarray(_snow.frost_from(images, ice, *_snow._FROST["cifar"][severity - 1])) * 255
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


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
@weathers
def test_one_program_serves_the_severities_at_any_size(weather, variant):
  batch = jax.random.uniform(KEY, (3, 8, 12, 3))
  keys = jax.random.split(KEY, 3)
  run = jax.jit(jax.vmap(functools.partial(weather, variant=variant), in_axes=(0, 0, None)))
  outs = [np.asarray(run(keys, batch, jnp.int32(severity))) for severity in SEVERITIES]
  assert run._cache_size() == 1
  for out in outs:
    assert out.shape == batch.shape and out.min() >= 0 and out.max() <= 1
    assert np.abs(out - batch).mean() > 0.01
  if variant == "cifar":
    alone = jax.jit(weather)(keys[2], batch[2], jnp.int32(5))
    np.testing.assert_allclose(alone, outs[4][2], rtol=0, atol=1e-5)


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

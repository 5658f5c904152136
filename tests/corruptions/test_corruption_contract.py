"""What every corruption promises: range, shape, jit, vmap, one program, errors, other sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from jaxnoise import corruptions, data, metrics
from jaxnoise.core import InputError, fold
from jaxnoise.corruptions import _apply, _blur, _digital

KEY = jax.random.key(3)
SIDES = (16, 32)
names = pytest.mark.parametrize("name", corruptions.NAMES)


def random_image(*shape):
  return jax.random.uniform(jax.random.key(11), shape)


@pytest.mark.parametrize(
  ("name", "variant"),
  [(name, "cifar") for name in corruptions.NAMES]
  + [(name, "imagenet") for name in ("defocus_blur", "gaussian_blur", "fog", "saturate")],
)
def test_the_extremes_stay_in_range(name, variant):
  extremes = jnp.stack([
    jnp.zeros((8, 8, 3)),
    jnp.ones((8, 8, 3)),
    jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (8, 8, 3)),
    jnp.round(random_image(8, 8, 3)),
  ])
  for severity in (1, 5):
    out = corruptions.corrupt(KEY, extremes, name, severity, variant=variant, quantize=False)
    assert out.shape == extremes.shape and out.dtype == jnp.float32
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


@names
def test_a_batch_is_the_single_corruption_with_the_documented_keys(name):
  """vmap = one by one, a severity inside the program = one outside it."""
  images, index = random_image(4, 8, 8, 3), jnp.array([7, 0, 70_000, 2])
  batched = corruptions.corrupt(KEY, images, name, 4, index=index, quantize=False)
  root = jax.random.fold_in(fold(KEY, f"corruptions/{name}"), 4)
  single = jax.jit(functools.partial(getattr(corruptions, name), severity=4))
  for row in (0, 2):
    alone = single(jax.random.fold_in(root, index[row]), images[row])
    np.testing.assert_allclose(batched[row], alone, rtol=0, atol=2e-6)


@names
def test_the_default_is_the_truncating_cast(name):
  images = random_image(4, 8, 8, 3)
  exact = corruptions.corrupt(KEY, images, name, 2, quantize=False)
  out = corruptions.corrupt(KEY, images, name, 2)
  levels = np.asarray(out) * 255
  np.testing.assert_allclose(levels, np.rint(levels), rtol=0, atol=1e-4)
  lost = np.asarray(exact) * 255 - levels
  assert lost.min() > -1e-3 and lost.max() < 1.001


@names
def test_one_compiled_program_serves_the_five_severities(name):
  images = random_image(4, 8, 8, 3)
  corruptions.corrupt(KEY, images, name, 1)
  before = _apply._corrupt._cache_size()
  out = [corruptions.corrupt(KEY, images, name, severity) for severity in corruptions.SEVERITIES]
  assert _apply._corrupt._cache_size() == before
  if name != "defocus_blur":  # which is the identity at 8 pixels, see its docstring
    assert not np.array_equal(out[0], out[4])


@pytest.mark.parametrize("name", ["gaussian_noise", "brightness", "contrast", "fog"])
def test_the_imagenet_table_is_used_where_it_is_asked_for(name):
  image = random_image(8, 8, 3)
  changes = [
    jnp.abs(getattr(corruptions, name)(KEY, image, 3, variant=variant) - image).mean()
    for variant in ("cifar", "imagenet")
  ]
  assert changes[1] > 1.3 * changes[0]


def test_half_precision_is_promoted():
  image = random_image(8, 8, 3).astype(jnp.bfloat16)
  out = corruptions.contrast(KEY, image, 2)
  np.testing.assert_array_equal(out, corruptions.contrast(KEY, image.astype(jnp.float32), 2))


@pytest.mark.parametrize(("name", "largest"), [("defocus_blur", 1e-6), ("gaussian_blur", 2e-3)])
def test_blurs_vanish_at_8_pixels_as_the_docstrings_say(name, largest):
  """The protocols' scaled lengths leave the digits untouched: whoever averages must know."""
  image = jnp.round(random_image(8, 8, 3))
  assert jnp.abs(getattr(corruptions, name)(KEY, image, 5) - image).max() < largest


@pytest.mark.parametrize("shape", [(12, 5), (1, 1)])
def test_fog_takes_sizes_that_are_no_power_of_two(shape):
  image = jnp.full((*shape, 3), 0.5)
  out = jax.jit(corruptions.fog)(KEY, image, jnp.int32(5))
  assert out.shape == image.shape and np.isfinite(out).all()
  assert shape == (1, 1) or float(out.std()) > 0.01
  np.testing.assert_array_equal(out[..., 0], out[..., 1])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_gaussian_blur_is_scipy_s_with_lengths_scaled(side, variant):
  image = random_image(side, side, 3)
  blur = jax.jit(lambda image, s: corruptions.gaussian_blur(KEY, image, s, variant=variant))
  native = {"cifar": 32, "imagenet": 224}[variant]
  for severity in corruptions.SEVERITIES:
    sigma = corruptions.parameters("gaussian_blur", variant)[severity - 1, 0] * side / native
    expected = np.stack([
      scipy.ndimage.gaussian_filter(np.asarray(image[..., c], np.float64), sigma, mode="nearest")
      for c in range(3)
    ], axis=-1)
    out = blur(image, severity)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_defocus_blur_is_a_correlation_with_borders_reflected_repeatedly(side, variant):
  image = random_image(side, side, 3)
  blur = jax.jit(lambda image, s: corruptions.defocus_blur(KEY, image, s, variant=variant))
  native = {"cifar": 32, "imagenet": 224}[variant]
  for severity in corruptions.SEVERITIES:
    lengths = corruptions.parameters("defocus_blur", variant)[severity - 1] * side / native
    kernel = _blur.disk_kernel(*lengths)[..., None]
    expected = scipy.ndimage.correlate(np.asarray(image, np.float64), kernel, mode="mirror")
    out = blur(image, severity)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


def test_reflection_repeats_where_the_kernel_is_larger_than_the_image():
  kernel = np.random.default_rng(0).uniform(size=(17, 17)) / 145
  image = np.asarray(random_image(4, 3, 2), np.float64)
  expected = scipy.ndimage.correlate(image, kernel[..., None], mode="mirror")
  single = (jnp.asarray(value, jnp.float32) for value in (image, kernel))
  out = jax.jit(_blur.defocus_blur_from)(*single)
  np.testing.assert_allclose(out, expected.clip(0, 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("radius", [3, 8, 10])
def test_imagenet_disks_have_unit_mass_inside_their_grid(radius):
  kernel = _blur.disk_kernel(radius, 0.5)
  assert kernel.shape == (17, 17) if radius <= 8 else (21, 21)
  np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)
  np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)
  if radius < 8:  # at the grid's edge the reflected softening loses or gains a little
    assert kernel.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (32, 32), (20, 12), (224, 224)])
@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_pixelate_is_pillow_s_box_resize_pixel_for_pixel(size, variant):
  height, width = size
  levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
  official = Image.fromarray(levels)
  pixelate = jax.jit(lambda image, s: corruptions.pixelate(KEY, image, s, variant=variant))
  for severity, (ratio,) in enumerate(corruptions.parameters("pixelate", variant), start=1):
    small = official.resize((int(width * ratio), int(height * ratio)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((width, height), Image.Resampling.BOX), np.float64)
    out = pixelate(jnp.asarray(levels / 255.0, jnp.float32), jnp.int32(severity))
    np.testing.assert_allclose(np.asarray(out) * 255, expected, rtol=0, atol=1e-4)


def test_box_bounds_survive_a_ratio_that_leaves_no_pixel():
  assert _digital.box_bounds(3, 0.1).tolist() == [[0, 0, 0], [3, 3, 3]]


@pytest.mark.parametrize("hue", ["red", "green", "blue", "cyan", "grey", "black"])
def test_brightness_and_saturation_keep_hue_as_colorsys_has_it(hue):
  import colorsys

  colours = {
    "red": (0.8, 0.3, 0.2), "green": (0.1, 0.7, 0.35), "blue": (0.25, 0.2, 0.6),
    "cyan": (0.1, 0.9, 0.9), "grey": (0.4, 0.4, 0.4), "black": (0.0, 0.0, 0.0),
  }
  colour = colours[hue]
  h, s, v = colorsys.rgb_to_hsv(*colour)
  image = jnp.asarray(colour, jnp.float32).reshape(1, 1, 3)
  for severity in corruptions.SEVERITIES:
    (offset,) = corruptions.parameters("brightness")[severity - 1]
    expected = colorsys.hsv_to_rgb(h, s, min(v + offset, 1.0))
    out = corruptions.brightness(KEY, image, severity)
    np.testing.assert_allclose(out[0, 0], expected, rtol=0, atol=1e-6)
    factor, offset = corruptions.parameters("saturate")[severity - 1]
    expected = colorsys.hsv_to_rgb(h, min(max(factor * s + offset, 0.0), 1.0), v)
    out = corruptions.saturate(KEY, image, severity)
    np.testing.assert_allclose(out[0, 0], expected, rtol=0, atol=1e-6)


def test_names_groups_and_tables_agree():
  assert corruptions.NAMES == corruptions.STANDARD + corruptions.EXTRA == data.BENCHMARK
  assert tuple(metrics.ALEXNET_IMAGENET_C) == corruptions.STANDARD
  grouped = [name for names_of_group in corruptions.GROUPS.values() for name in names_of_group]
  assert sorted(grouped) == sorted(corruptions.NAMES)
  for name in corruptions.NAMES:
    for variant in ("cifar", "imagenet"):
      assert len(corruptions.parameters(name, variant)) == 5


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"name": "gausian_noise"}, "did you mean 'gaussian_noise'"),
    ({"severity": 0}, "severity is 0; expected an integer from 1 to 5"),
    ({"severity": 6}, "severity is 6"),
    ({"severity": 2.0}, r"severity is 2\.0"),
    ({"variant": "cifar10"}, "variant 'cifar10' is not known; did you mean 'cifar'"),
    ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, "dtype uint8"),
    ({"image": np.zeros((8, 8, 3), np.float32)}, "add a leading axis"),
    ({"image": np.zeros((2, 8, 8, 1), np.float32), "name": "saturate"}, "1 channels"),
    ({"index": np.arange(3)}, r"index has shape \(3,\), but the batch has 2 images"),
  ],
)
def test_bad_input_is_one_clear_sentence(change, message):
  arguments = {"image": np.zeros((2, 8, 8, 3), np.float32), "name": "fog", "severity": 1} | change
  with pytest.raises(InputError, match=message):
    corruptions.corrupt(KEY, **arguments)


@pytest.mark.parametrize(
  ("images", "message"),
  [
    (np.full((2, 4, 4, 3), 255.0), "values from 255 to 255, but corruptions take"),
    (np.array([-1.0, 0.5]), "values from -1 to 0.5"),
    (np.array([0.5, np.nan]), "values from nan to nan"),
    (np.zeros((2, 4, 4, 3), np.uint8), "dtype uint8"),
  ],
)
def test_values_outside_the_range_are_found_once_per_set(images, message):
  with pytest.raises(InputError, match=message):
    corruptions.check_images(images)
  kept = np.array([0.0, 1.0])
  assert corruptions.check_images(kept) is kept


def test_a_batch_handed_to_a_single_corruption_is_refused():
  with pytest.raises(InputError, match=r"use jaxnoise\.corruptions\.corrupt for a batch"):
    corruptions.fog(KEY, jnp.zeros((2, 8, 8, 3)), 1)
  with pytest.raises(InputError, match="severity is 9"):
    corruptions.contrast(KEY, jnp.zeros((8, 8, 3)), 9)


@pytest.mark.parametrize("apply", [
  lambda x: corruptions.corrupt(jax.random.key(0), x, "contrast", 1),
  lambda x: corruptions.perturb(jax.random.key(0), x, "brightness"),
])  # fmt: skip
def test_numpy_images_in_grey_levels_are_refused_where_they_are_used(apply):
  with pytest.raises(InputError, match=r"from 0 to 255, but corruptions take \[0, 1\]; divide"):
    apply(np.linspace(0, 255, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3))

"""Perturbation sequences: geometry as Pillow and SciPy have it, and what each kind promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from jaxnoise import corruptions
from jaxnoise.core import InputError
from jaxnoise.corruptions import _frames, _sequences

KEY = jax.random.key(5)
NAMES = corruptions.SEQUENCES + corruptions.SEQUENCE_EXTRA
NOISES = ("gaussian_noise", "shot_noise", "speckle_noise")
HEIGHT, WIDTH = 16, 12
SCALE = WIDTH / 32
LEVELS = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
IMAGES = jnp.asarray(LEVELS / 255.0, jnp.float32)
names = pytest.mark.parametrize("name", NAMES)


def levels_of(frames):
  return np.rint(np.asarray(frames) * 255).astype(int)


@functools.cache
def sequence(name):
  """[2, T, H, W, 3] levels; every test has images of this one shape, so each kind compiles once."""
  return levels_of(corruptions.perturb(KEY, IMAGES, name))


def of(images, name):
  images = jnp.broadcast_to(jnp.asarray(images, jnp.float32), IMAGES.shape)
  return np.asarray(corruptions.perturb(KEY, images, name))


def pillow(coefficients, resample=Image.Resampling.BILINEAR):
  """Both images resampled at x_in = a x + b y + c, y_in = d x + e y + f."""
  return np.stack([
    np.asarray(Image.fromarray(image).transform(
      (WIDTH, HEIGHT), Image.Transform.AFFINE, coefficients, resample=resample
    ), int)
    for image in LEVELS
  ])


def assert_same_levels(found, expected):
  """A level off where the interpolated value is a whole one, which float32 may miss by a hair."""
  difference = np.abs(found - expected)
  assert difference.max() <= 1 and (difference == 0).mean() > 0.99


def test_names_lengths_and_tables():
  assert len(corruptions.SEQUENCES) == 10 and len(set(NAMES)) == 14
  assert tuple(name for name in NAMES if corruptions.is_noise(name)) == NOISES
  lengths = {
    variant: {name: corruptions.sequence_length(name, variant) for name in NAMES}
    for variant in ("cifar", "imagenet")
  }
  assert lengths["cifar"] == dict.fromkeys(NAMES, 31) | {"motion_blur": 21, "translate": 16}
  assert lengths["imagenet"] == dict.fromkeys(NAMES, 31) | {"translate": 41}
  for table in _sequences._PARAMETERS.values():
    assert sorted(table) == sorted(NAMES)


@names
def test_frames_are_8_bit_images_and_compile_once(name):
  frames = corruptions.perturb(KEY, IMAGES, name)
  before = _sequences._perturb._cache_size()
  again = corruptions.perturb(KEY, IMAGES, name, difficulty=1)
  assert _sequences._perturb._cache_size() == before
  np.testing.assert_array_equal(frames, again)
  assert frames.shape == (2, corruptions.sequence_length(name), HEIGHT, WIDTH, 3)
  assert frames.dtype == jnp.float32 and frames.min() >= 0 and frames.max() <= 1
  np.testing.assert_allclose(frames * 255, sequence(name), rtol=0, atol=1e-4)
  steps = np.abs(np.diff(sequence(name), axis=1)).mean((0, 2, 3, 4))
  # At 12 pixels some motions move by less than a pixel and pause, and flakes are rare.
  assert steps.max() > 0.1 or name == "snow"


@pytest.mark.parametrize(
  ("name", "frame"),
  [(name, 0) for name in (*NOISES, "zoom_blur")]
  + [("translate", 7)]
  + [(name, 15) for name in ("brightness", "rotate", "scale", "shear")],
)
def test_one_frame_is_the_image_itself(name, frame):
  np.testing.assert_array_equal(sequence(name)[:, frame], LEVELS)
  others = np.delete(sequence(name), frame, axis=1)
  assert (np.abs(others - LEVELS[:, None]).mean((0, 2, 3, 4)) > 0).sum() >= others.shape[1] - 2


@pytest.mark.parametrize("frame", [0, 8, 14, 20, 30])
def test_rotation_is_pillow_s_and_clockwise(frame):
  expected = np.stack([
    np.asarray(Image.fromarray(image).rotate(15 - frame, resample=Image.Resampling.BILINEAR), int)
    for image in LEVELS
  ])
  assert_same_levels(sequence("rotate")[:, frame], expected)


@pytest.mark.parametrize("frame", [0, 10, 30])
def test_scale_magnifies_about_the_centre_with_black_around(frame):
  factor = 0.7 + 0.02 * frame
  x, y = WIDTH / 2, HEIGHT / 2
  coefficients = (1 / factor, 0, x - x / factor, 0, 1 / factor, y - y / factor)
  assert_same_levels(sequence("scale")[:, frame], pillow(coefficients))
  assert (sequence("scale")[:, 0, 0] == 0).all() and (sequence("scale")[:, 30, 0] > 0).any()


@pytest.mark.parametrize("frame", [0, 17, 30])
def test_shear_moves_rows_against_their_height(frame):
  slope = np.tan(np.deg2rad(frame - 15))
  coefficients = (1, slope, -slope * HEIGHT / 2, 0, 1, 0)
  assert_same_levels(sequence("shear")[:, frame], pillow(coefficients))


def test_translation_moves_right_by_the_nearest_pixel():
  for frame in range(16):
    moved = pillow((1, 0, -SCALE * (frame - 7), 0, 1, 0), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(sequence("translate")[:, frame], moved)
  native = jnp.asarray(np.random.default_rng(1).uniform(size=(32, 40, 1)), jnp.float32)
  left, right = _frames.translate_frames(native, np.array([-7, 8]), "cifar")
  np.testing.assert_array_equal(left[:, :-7], native[:, 7:])
  np.testing.assert_array_equal(right[:, 8:], native[:, :-8])
  assert (left[:, -7:] == 0).all() and (right[:, :8] == 0).all()


def test_tilt_matrices_undo_the_projection_of_a_turned_plane():
  focal = np.hypot(HEIGHT, WIDTH)
  degrees = np.array([-11.25, 0.0, 6.0])
  x, y = 3.0, 11.0
  for angle, matrix in zip(np.deg2rad(degrees), _frames.tilt_matrices(degrees, HEIGHT, WIDTH)):
    column, row, depth = matrix @ (x, y, 1.0)
    across, down, away = column / depth - WIDTH / 2, row / depth - HEIGHT / 2, 1.0
    sine, cosine = np.sin(angle), np.cos(angle)
    across, away = cosine * across - sine * away, sine * across + cosine * away
    down, away = cosine * down - sine * away, sine * down + cosine * away
    away += focal
    seen = focal * across / away + WIDTH / 2, focal * down / away + HEIGHT / 2
    np.testing.assert_allclose(seen, (x, y), rtol=0, atol=1e-9)


@pytest.mark.parametrize("frame", [0, 15, 28])
def test_tilt_is_scipy_s_interpolation_with_black_around(frame):
  (matrix,) = _frames.tilt_matrices(np.array([0.75 * (frame - 15)]), HEIGHT, WIDTH)
  row, column = np.mgrid[:HEIGHT, :WIDTH]
  x, y, depth = np.einsum("ij,jhw->ihw", matrix, np.stack([column, row, np.ones_like(row)]))
  expected = np.stack([
    [
      scipy.ndimage.map_coordinates(
        image[..., c].astype(float), [y / depth, x / depth], order=1, mode="grid-constant"
      )
      for c in range(3)
    ]
    for image in LEVELS
  ])
  found = sequence("tilt")[:, frame]
  np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), rtol=0, atol=0.51)


def test_zoom_blur_is_the_running_mean_of_magnified_images():
  x, y = WIDTH / 2, HEIGHT / 2
  zoomed = np.stack([
    pillow((1 / z, 0, x - x / z, 0, 1 / z, y - y / z)) for z in 1 + 0.004 * np.arange(31)
  ], axis=1)
  mean = zoomed.cumsum(axis=1) / np.arange(1, 32).reshape(1, 31, 1, 1, 1)
  assert_same_levels(sequence("zoom_blur"), np.floor(mean + 1e-9).astype(int))


def test_brightness_adds_to_the_hsv_value():
  offset = (0.015 * (np.arange(31) - 15)).reshape(1, 31, 1, 1)
  value = LEVELS.max(axis=-1)[:, None] / 255.0
  expected = np.floor(np.clip(value + offset, 0, 1) * 255 + 1e-3)
  np.testing.assert_array_equal(sequence("brightness").max(axis=-1), expected)


@pytest.mark.parametrize("frame", [0, 30])
def test_gaussian_blur_is_scipy_s_and_grows(frame):
  sigma = SCALE * (0.3 + 0.015 * frame)
  smooth = scipy.ndimage.gaussian_filter(
    LEVELS.astype(float), (0, sigma, sigma, 0), mode="nearest", truncate=7.0
  )
  assert_same_levels(sequence("gaussian_blur")[:, frame], np.floor(smooth + 1e-3).astype(int))


def test_motion_blur_turns_from_the_left_over_above_to_the_right():
  dot = np.zeros(IMAGES.shape)
  dot[:, 8, 6] = 1
  frames = of(dot, "motion_blur")[0, ..., 0]
  # A path that reads to the left carries light to the right, and so on.
  for frame, beside in ((0, (8, 7)), (10, (9, 6)), (20, (8, 5))):
    assert frames[frame][beside] > 0.1, frame
    assert (frames[frame] > 0).sum(axis=None) >= 2
  assert frames[0][8, 5] == 0 and frames[20][8, 7] == 0 and frames[10][7, 6] == 0


def test_snow_is_one_layer_whose_fall_turns():
  row, (step, zero) = _sequences._PARAMETERS["cifar"]["snow"]
  angles = step * (np.arange(31) - zero)
  assert angles[0] == -150 and angles[30] == -30
  grey = jnp.full((32, 32, 3), 0.3)
  frames = np.asarray(jax.jit(_frames.snow_frames, static_argnums=(3, 4))(
    KEY, grey, angles, row, "cifar"
  ))[..., 0]
  assert frames.std(axis=(1, 2)).min() > 0.01
  related = np.corrcoef(frames.reshape(31, -1))
  assert np.diagonal(related, 1).mean() > 0.8 and related[0, 30] < 0.5
  # Halfway it falls straight down: vertical neighbours agree more than horizontal ones.
  flakes = frames[15] - frames[15].mean()
  vertical, horizontal = (flakes[1:] * flakes[:-1]).mean(), (flakes[:, 1:] * flakes[:, :-1]).mean()
  assert vertical > 1.2 * horizontal


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_water_runs_down_as_numpy_convolves(variant):
  flow = _sequences._PARAMETERS[variant]["spatter"][1]
  layer = np.random.default_rng(2).uniform(size=(9, 4))
  expected = np.stack([np.convolve(column, flow, mode="same") for column in layer.T], axis=1)
  found = _frames.run_down(jnp.asarray(layer, jnp.float32), flow)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_spatter_only_brightens():
  wet = of(0.3, "spatter") - np.floor(0.3 * 255) / 255
  assert wet.min() > -1e-6 and (wet[:, 0] > 0.02).any()


@pytest.mark.parametrize(
  ("name", "sd"), [("gaussian_noise", 0.02), ("shot_noise", (0.5 / 700) ** 0.5),
                   ("speckle_noise", 0.025)]
)  # fmt: skip
def test_noise_frames_are_draws_of_their_own(name, sd):
  noise = (of(0.5, name) - 0.5).reshape(2, 31, -1)[:, 1:]
  # Truncation takes half a level of the mean and adds a twelfth of a level to the variance.
  assert noise.mean() == pytest.approx(-0.5 / 255, abs=3e-4)
  assert noise.std() == pytest.approx(np.hypot(sd, 12**-0.5 / 255), rel=0.03)
  frames = np.corrcoef(noise.reshape(60, -1))
  assert np.abs(frames - np.eye(60)).max() < 0.25


def test_difficulty_is_the_strength_of_noise_and_of_noise_alone():
  grey = jnp.full(IMAGES.shape, 0.5)
  strong = corruptions.perturb(KEY, grey, "gaussian_noise", frames=5, difficulty=3)
  assert float(strong[:, 1:].std()) == pytest.approx(0.06, rel=0.05)
  before = _sequences._perturb._cache_size()
  turned = corruptions.perturb(KEY, IMAGES, "rotate", difficulty=3)
  np.testing.assert_array_equal(levels_of(turned), sequence("rotate"))
  assert _sequences._perturb._cache_size() <= before + 1  # one more if no test came before


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur"])
def test_a_frame_does_not_depend_on_how_many_there_are(name):
  few = corruptions.perturb(KEY, IMAGES, name, frames=3)
  np.testing.assert_array_equal(levels_of(few), sequence(name)[:, :3])


@pytest.mark.parametrize("name", [*NOISES, "snow", "spatter"])
def test_draws_follow_the_index_and_not_the_place_in_the_batch(name):
  turned = corruptions.perturb(KEY, IMAGES[::-1], name, index=jnp.array([1, 0]))
  np.testing.assert_array_equal(levels_of(turned)[::-1], sequence(name))
  other = corruptions.perturb(KEY, IMAGES, name, index=jnp.array([0, 7]))
  assert np.array_equal(levels_of(other)[0], sequence(name)[0])
  assert not np.array_equal(levels_of(other)[1], sequence(name)[1])


def test_the_imagenet_table_is_used_where_it_is_asked_for():
  moved = corruptions.perturb(KEY, IMAGES, "translate", variant="imagenet")
  assert moved.shape[1] == 41
  np.testing.assert_array_equal(levels_of(moved)[:, 20], LEVELS)
  np.testing.assert_array_equal(levels_of(moved)[:, 40, :, 1:], LEVELS[:, :, :-1])  # 20 * 12 / 224


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"name": "rotation"}, "'rotation' is not known; did you mean 'rotate'"),
    ({"name": "fog"}, "perturbation 'fog' is not known"),
    ({"variant": "cifar10"}, "did you mean 'cifar'"),
    ({"frames": 32}, "frames is 32; rotate has 31"),
    ({"frames": 0}, "frames is 0"),
    ({"frames": 2.0}, r"frames is 2\.0"),
    ({"difficulty": 4}, "difficulty is 4; expected 1, 2 or 3"),
    ({"image": LEVELS}, "dtype uint8"),
    ({"image": np.zeros((8, 8, 3), np.float32)}, "add a leading axis"),
    ({"image": np.zeros((2, 8, 8, 1), np.float32), "name": "snow"}, "1 channels"),
    ({"index": np.arange(3)}, r"index has shape \(3,\), but the batch has 2 images"),
  ],
)
def test_bad_input_is_one_clear_sentence(change, message):
  arguments = {"image": np.zeros((2, 8, 8, 3), np.float32), "name": "rotate"} | change
  with pytest.raises(InputError, match=message):
    corruptions.perturb(KEY, **arguments)

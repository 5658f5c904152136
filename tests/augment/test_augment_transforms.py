"""Geometry of float images, crops and flips, and the combinators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from jaxnoise.core import InputError


def _image(shape=(8, 8, 3)):
  return jnp.asarray(np.random.default_rng(1).random(shape, np.float32))


GEOMETRIC = {
  augment.rotate: 7.0,
  augment.shear_x: 0.08,
  augment.shear_y: -0.05,
  augment.translate_x: 2.0,
  augment.translate_y: -1.0,
}


@pytest.fixture(params=GEOMETRIC, ids=lambda operation: operation.__name__)
def geometric(request):
  return jax.jit(request.param), GEOMETRIC[request.param]


def test_parameter_zero_is_the_identity(geometric):
  np.testing.assert_array_equal(geometric[0](_image(), 0.0), _image())


@pytest.mark.usefixtures("optimised")
def test_grey_levels_are_the_truncated_float_result(geometric):
  operation, parameter = geometric
  levels = augment.grey_levels(_image((32, 32, 3)))
  exact = operation(levels.astype(jnp.float32), parameter)
  np.testing.assert_array_equal(operation(levels, parameter), jnp.floor(exact))


def test_gradient_is_that_of_a_linear_map(geometric):
  operation, parameter = geometric
  image, direction = _image(), _image()[::-1]
  change = operation(image + direction, parameter) - operation(image, parameter)
  cotangent = _image()[:, ::-1]
  product = lambda image: jnp.vdot(operation(image, parameter), cotangent)
  back = jax.jit(jax.grad(product))(image)
  np.testing.assert_allclose(jnp.vdot(back, direction), jnp.vdot(cotangent, change), rtol=1e-5)


def test_rotation_by_a_quarter_turn_is_counter_clockwise():
  image = _image()
  turned = jax.jit(augment.rotate)(image, 90.0)
  np.testing.assert_allclose(turned[1:-1, 1:-1], jnp.rot90(image)[1:-1, 1:-1], atol=1e-5)


def test_outside_is_filled_by_channel():
  move = jax.jit(lambda image: augment.translate_y(image, 3, fill=(0.1, 0.2, 0.3)))
  moved = move(_image())
  np.testing.assert_array_equal(moved[:5], _image()[3:])
  expected = np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (3, 8, 3))
  np.testing.assert_array_equal(moved[5:], expected)


def test_many_channels_and_half_precision_keep_shape_and_dtype():
  image, rotate = _image((8, 8, 5)), jax.jit(augment.rotate)
  assert rotate(image.astype(jnp.bfloat16), 5.0).dtype == jnp.bfloat16
  levels = augment.grey_levels(image)
  np.testing.assert_array_equal(rotate(levels, 5.0)[..., :3], rotate(levels[..., :3], 5.0))


def test_crop_without_padding_is_the_identity():
  image = _image()
  assert augment.random_crop(jax.random.key(0), image, 0) is image


def test_crop_takes_every_window_equally_often():
  padding, count = 1, 4000
  image = _image((4, 5, 2))
  fill = (0.25, 0.75)
  canvas = np.tile(np.float32(fill), (6, 7, 1))
  canvas[1:-1, 1:-1] = image
  windows = np.stack([canvas[y : y + 4, x : x + 5] for y in range(3) for x in range(3)])
  crop = jax.jit(jax.vmap(lambda key: augment.random_crop(key, image, padding, fill)))
  crops = np.asarray(crop(jax.random.split(jax.random.key(0), count)))
  equal = (crops[:, None] == windows[None]).all(axis=(2, 3, 4))
  np.testing.assert_array_equal(equal.sum(1), 1)
  np.testing.assert_allclose(equal.mean(0), 1 / 9, atol=0.02)


def test_crop_moves_by_at_most_the_padding():
  image = jnp.zeros((32, 32, 1)).at[16, 16].set(1.0)
  crop = jax.jit(jax.vmap(lambda key: augment.random_crop(key, image, 4)))
  crops = np.asarray(crop(jax.random.split(jax.random.key(7), 1000)))
  _, row, column, _ = np.nonzero(crops)
  assert len(row) == 1000
  for place in (row, column):
    assert set(place) == set(range(12, 21))


def test_flip_mirrors_one_half():
  image = _image()
  flip = jax.jit(jax.vmap(lambda key: augment.random_flip(key, image)))
  flipped = np.asarray(flip(jax.random.split(jax.random.key(0), 2000)))
  kept = (flipped == image[None]).all(axis=(1, 2, 3))
  mirrored = (flipped == image[None, :, ::-1]).all(axis=(1, 2, 3))
  np.testing.assert_array_equal(kept, ~mirrored)
  np.testing.assert_allclose(kept.mean(), 0.5, atol=0.04)


def test_crop_and_flip_pass_the_gradient_of_what_they_keep():
  image, key = _image(), jax.random.key(2)
  transform = jax.jit(augment.crop_flip(2))
  grad = jax.grad(lambda image: jnp.sum(transform(key, image)))(image)
  kept = transform(key, jnp.ones_like(image))
  assert set(np.unique(grad)) <= {0.0, 1.0}
  np.testing.assert_allclose(grad.sum(), kept.sum())


NOISE = lambda rng, image: image + jax.random.uniform(rng)


def test_compose_gives_each_transform_its_own_key():
  image, key = _image(), jax.random.key(3)
  out = augment.compose(NOISE, augment.identity, NOISE)(key, image)
  expected = image
  for position in (0, 2):
    expected = NOISE(jax.random.fold_in(key, position), expected)
  np.testing.assert_array_equal(out, expected)
  np.testing.assert_array_equal(augment.compose()(key, image), image)


TRANSFORMS = {
  "noise": NOISE,
  "crop_flip": augment.crop_flip(2),
  "composed": augment.compose(augment.crop_flip(1, fill=0.5), augment.augmix_policy(severity=1.0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_row_depends_neither_on_the_batch_size_nor_on_its_neighbours(name):
  images, key = _image((6, 8, 8, 3)), jax.random.key(9)
  run = jax.jit(augment.batched(TRANSFORMS[name]))
  whole = run(key, images)
  np.testing.assert_allclose(run(key, images[:2]), whole[:2], atol=1e-6)
  others = images.at[:5].set(0.5)
  np.testing.assert_allclose(run(key, others)[5], whole[5], atol=1e-6)


def test_rows_and_views_have_keys_of_their_position():
  images, key = _image((4, 2, 2, 1)), jax.random.key(9)
  rows, several = augment.batched(NOISE)(key, images), augment.views(NOISE, 3)(key, images)
  for i in range(4):
    row = jax.random.fold_in(key, i)
    np.testing.assert_array_equal(rows[i], NOISE(row, images[i]))
    for v in range(3):
      np.testing.assert_array_equal(several[i, v], NOISE(jax.random.fold_in(row, v), images[i]))


def test_jit_equals_eager():
  key, image = jax.random.key(9), _image()
  expected = augment.augmix(key, image)
  np.testing.assert_allclose(jax.jit(augment.augmix)(key, image), expected, atol=1e-6)


def test_views_of_equal_images_all_differ():
  images = jnp.broadcast_to(_image((16, 16, 3))[None], (4, 16, 16, 3))
  out = jax.jit(augment.views(TRANSFORMS["composed"], 3))(jax.random.key(5), images)
  assert out.shape == (4, 3, 16, 16, 3)
  assert len(np.unique(np.asarray(out).reshape(12, -1), axis=0)) == 12


def test_without_flip_an_image_is_never_mirrored():
  image = jnp.arange(8.0)[None, :, None] * jnp.ones((8, 1, 1))
  crop = augment.batched(augment.crop_flip(0, flip=False))
  images = jnp.broadcast_to(image[None], (50, 8, 8, 1))
  np.testing.assert_array_equal(crop(jax.random.key(0), images), images)


@pytest.mark.parametrize(
  "make",
  [
    lambda: augment.crop_flip(-1),
    lambda: augment.random_crop(jax.random.key(0), _image(), -1),
    lambda: augment.views(augment.identity, 0),
  ],
)
def test_bad_input_is_refused(make):
  with pytest.raises(InputError, match="expected"):
    make()

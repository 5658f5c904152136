"""Cutout, random erasing and the policies' rectangle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from jaxnoise.augment._erasing import sample_sides
from tests.augment import pil_policy

NRD = {"probability": 1.0, "area": (0.15, 0.15), "aspect": (1.0, 1.0), "fill": 124 / 255}


def _erased(transform, shape, count, numbers, **arguments):
  """Where a transform that paints with 1 paints on black images [count, H, W]."""
  image = jnp.zeros((*shape, 1))
  one = lambda key: transform(key, image, fill=1.0, **arguments)[..., 0] > 0
  return pil_policy.over_uniforms(one, count, numbers)


def _box(mask):
  """(top, left, rows, columns) of each mask [N, H, W], which must be a full rectangle."""
  rows, columns = mask.any(2), mask.any(1)
  np.testing.assert_array_equal(mask, rows[:, :, None] & columns[:, None, :])
  return np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], axis=1)


@pytest.mark.parametrize(("size", "side"), [(5, 4), (4, 4), (2, 2)])
def test_an_odd_cutout_is_the_even_one_below_and_is_cut_off_at_the_border(size, side):
  height, width = 9, 12
  box = _box(_erased(augment.cutout, (height, width), 4000, 2, size=size))
  half = side // 2
  for axis, length in ((0, height), (1, width)):
    first, count = box[:, axis], box[:, 2 + axis]
    assert count.max() == side and count.min() == half  # a centre in row 0 covers the rows after it
    # The centre is first + half unless the top is cut off: every one is equally likely.
    center = np.where((first == 0) & (count < side), count - half, first + half)
    share = np.bincount(center, minlength=length) / len(center)
    np.testing.assert_allclose(share, 1 / length, atol=0.025)


def test_cutout_of_size_0_does_nothing_and_fills_by_channel():
  image = jnp.asarray(np.random.default_rng(0).random((8, 8, 3), np.float32))
  cut = functools.partial(augment.cutout, jax.random.key(1), fill=(0.1, 0.2, 0.3))

  @jax.jit
  def run(image):
    out, back = jax.vjp(lambda image: cut(image, size=4), image)
    return cut(image, size=0), out, back(jnp.ones_like(image))[0]

  same, out, back = run(image)
  np.testing.assert_array_equal(same, image)
  hole = np.all(out != image, axis=-1)
  assert 4 <= hole.sum() <= 16
  np.testing.assert_array_equal(out[hole], np.tile(np.float32([0.1, 0.2, 0.3]), (hole.sum(), 1)))
  np.testing.assert_array_equal(back, np.broadcast_to(~hole[..., None], back.shape))


@pytest.mark.parametrize(
  ("name", "area", "aspect"),
  [("erase", (0.02, 0.33), (0.3, 3.3)), ("erase_wide", (0.6, 1.0), (0.2, 5.0))],
)
def test_erased_rectangles_are_torchvisions(golden, name, area, aspect):
  data = golden("augment_torchvision")
  uniform, expected = data[f"{name}/32x32/uniform"], data[f"{name}/32x32/box"]
  numbers = np.concatenate([np.full((len(uniform), 1), 0.3), uniform], axis=1)
  image = jnp.zeros((32, 32, 1))
  one = lambda u: augment.random_erasing(u, image, area=area, aspect=aspect, fill=1.0)[..., 0]
  with pil_policy.given_uniforms():
    erase = jax.jit(jax.vmap(one))
    mask = np.asarray(erase(numbers.astype(np.float32))) > 0
    numbers[:, 0] = 0.5  # not below the probability
    assert not np.any(erase(numbers.astype(np.float32)))
  nothing = (expected[:, 2] == 32) & (expected[:, 3] == 32)  # torchvision's word for no rectangle
  assert nothing.any() == (name == "erase_wide")
  assert not mask[nothing].any()
  np.testing.assert_array_equal(_box(mask[~nothing]), expected[~nothing])


def test_erasing_happens_with_its_probability():
  image = jnp.zeros((12, 12, 1))
  erase = lambda key, p: jnp.any(augment.random_erasing(key, image, probability=p, fill=1.0))
  three = lambda key: [erase(key, p) for p in (0.0, 0.3, 1.0)]
  never, some, always = pil_policy.over_uniforms(three, 4000, 23)
  assert not np.any(never) and np.all(always)
  assert np.mean(some) == pytest.approx(0.3, abs=0.03)


def test_nrds_square_has_its_size_and_lies_anywhere_inside():
  arguments = {k: v for k, v in NRD.items() if k != "fill"}
  box = _box(_erased(augment.random_erasing, (32, 32), 4000, 23, **arguments))
  np.testing.assert_array_equal(box[:, 2:], 12)
  for axis in (0, 1):
    share = np.bincount(box[:, axis], minlength=21) / len(box)
    assert len(share) == 21
    np.testing.assert_allclose(share, 1 / 21, atol=0.02)
  sides = sample_sides(jnp.full((1, 2), 0.7), 224 * 224, NRD["area"], NRD["aspect"])
  assert [side.item() for side in sides] == [87, 87]


def test_the_rectangle_on_one_channel_is_grey():
  image = jnp.zeros((6, 6, 1), jnp.uint8)
  out, nothing = jax.jit(jax.vmap(augment.cutout_abs, in_axes=(None, 0, None, None)))(
    image, jnp.array([2.0, -1.0]), 3.0, 5.5
  )
  assert set(out.ravel().tolist()) == {0, 123}
  np.testing.assert_array_equal(_box(np.asarray(out)[None, ..., 0] > 0), [[4, 2, 2, 3]])
  assert not np.any(nothing)


def test_the_rectangle_is_the_one_that_pil_draws():
  rng = np.random.default_rng(0)
  images = np.zeros((60, 16, 16, 3), np.uint8)
  param = np.concatenate([rng.uniform(0, 12, (60, 1, 1)), rng.uniform(0, 16, (60, 1, 2))], axis=-1)
  param = param.astype(np.float32)
  index = np.full((60, 1), augment.POLICY_OPERATIONS.index("cutout_abs"))
  expected = np.stack([pil_policy.apply(*work) for work in zip(images, index, param)])
  np.testing.assert_array_equal(pil_policy.run(images, index, param), expected)

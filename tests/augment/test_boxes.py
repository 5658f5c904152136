"""CutMix' boxes: where they lie, how large they are, and what is pasted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment


def boxes(seed, lam, height, width, continuous=False):
  """[N, 4] for lam [N]."""
  keys = jax.random.split(jax.random.key(seed), len(lam))
  draw = lambda key, l: augment.sample_box(key, l, height, width, continuous=continuous)
  return np.asarray(jax.jit(jax.vmap(draw))(keys, jnp.asarray(lam, jnp.float32)))


def areas(box):
  return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def areas_by_numpy(lam, height, width, continuous):
  """The two codes' rules written down once more, one axis after the other."""
  rng = np.random.default_rng(0)
  out = np.ones(len(lam))
  for length in (height, width):
    side = length * np.sqrt(1 - lam)
    if continuous:
      centre = rng.uniform(0, length, len(lam))
      low, high = centre - side / 2, centre + side / 2
      out *= np.clip(high, 0, length).astype(int) - np.clip(low, 0, length).astype(int)
    else:
      centre, half = rng.integers(0, length, len(lam)), side.astype(int) // 2
      out *= np.clip(centre + half, 0, length) - np.clip(centre - half, 0, length)
  return out


@pytest.mark.parametrize("continuous", [False, True], ids=["pixel", "continuous"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 12), (1, 3)])
def test_boxes_stay_in_the_image_and_count_their_pixels(height, width, continuous):
  lam = np.random.default_rng(1).uniform(size=600)
  lam[:2] = 0, 1
  drawn = boxes(0, lam, height, width, continuous)
  top, left, bottom, right = drawn.T
  assert drawn.dtype == np.int32
  assert np.all((top >= 0) & (top <= bottom) & (bottom <= height))
  assert np.all((left >= 0) & (left <= right) & (right <= width))
  assert areas(drawn)[1] == 0, "lam = 1 has an empty box"
  masks = np.asarray(jax.vmap(lambda b: augment.box_mask(b, height, width))(drawn))
  counted = masks.sum((1, 2))
  np.testing.assert_array_equal(counted, areas(drawn))
  for box, mask in zip(drawn[:50], masks, strict=False):
    expected = np.zeros((height, width), bool)
    expected[box[0] : box[2], box[1] : box[3]] = True
    np.testing.assert_array_equal(mask, expected)
  kept = np.asarray(jax.vmap(lambda b: augment.kept_share(b, height, width))(drawn))
  exact = ((height * width - counted) / np.float32(height * width)).astype(np.float32)
  np.testing.assert_array_max_ulp(kept, exact, 1)
  if height * width == 1024:
    np.testing.assert_array_equal(kept, exact)


def test_sides_are_those_of_the_authors_code_at_every_centre():
  """Side 5 of 8 pixels reaches 2 to either side of its centre; all centres come equally often."""
  drawn = boxes(2, np.full(8000, 0.5), 8, 16)
  for low, high, length in ((0, 2, 8), (1, 3, 16)):
    half = int(length * np.sqrt(0.5)) // 2
    expected = {}
    for centre in range(length):
      ends = (max(centre - half, 0), min(centre + half, length))
      expected[ends] = expected.get(ends, 0) + 1 / length
    pairs, counts = np.unique(drawn[:, [low, high]], axis=0, return_counts=True)
    shares = {tuple(p.tolist()): c / 8000 for p, c in zip(pairs, counts, strict=True)}
    assert set(shares) == set(expected)
    assert all(abs(shares[ends] - expected[ends]) < 0.016 for ends in expected)


@pytest.mark.parametrize("continuous", [False, True], ids=["pixel", "continuous"])
def test_area_has_the_distribution_of_the_rule(continuous):
  """Uniform lam; both samples have 20000 draws, where a distance of 0.02 has p below 1e-3."""
  lam = np.random.default_rng(3).uniform(size=20000)
  ours = np.sort(areas(boxes(4, lam, 32, 32, continuous)))
  theirs = np.sort(areas_by_numpy(np.random.default_rng(5).uniform(size=20000), 32, 32, continuous))
  grid = np.arange(1025)
  distance = [np.searchsorted(sample, grid, side="right") / 20000 for sample in (ours, theirs)]
  assert np.abs(distance[0] - distance[1]).max() < 0.02
  if continuous:
    # E (s - s^2/4)^2 over s^2 uniform: 2 (1/4 - 1/10 + 1/96), the clipping included.
    assert abs(ours.mean() / 1024 - 0.320833) < 0.006


def test_centre_rows_and_columns_are_independent():
  drawn = boxes(6, np.full(4000, 0.9), 32, 32)
  assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.06


def test_cut_paste_takes_every_pixel_from_one_of_the_two():
  image = jax.random.uniform(jax.random.key(0), (4, 6, 5, 3))
  partners = jnp.array([[1, 0], [1, 0]])
  box = jnp.array([1, 0, 4, 3])
  mixed = np.asarray(jax.jit(augment.cut_paste)(image, partners, box))
  expected = np.array(image)
  expected[:, 1:4, 0:3] = np.asarray(image)[[1, 0, 3, 2], 1:4, 0:3]
  np.testing.assert_array_equal(mixed, expected)
  weights = jax.random.normal(jax.random.key(1), image.shape)
  grad = jax.grad(lambda x: jnp.sum(weights * augment.cut_paste(x, partners, box)))(image)
  inside = np.zeros((1, 6, 5, 1), bool)
  inside[:, 1:4, 0:3] = True
  # A pixel inside reaches the partner's image only, one outside its own only.
  moved = np.asarray(weights)[[1, 0, 3, 2]]
  np.testing.assert_array_equal(grad, np.where(inside, moved, np.asarray(weights)))

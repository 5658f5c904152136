"""PuzzleMix' transport against a loop over claims, and the composed image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from jaxnoise.core import InputError


def by_hand(mask, saliency, eps):
  """The claims of one image, one after the other: place -> block or -1."""
  side = mask.shape[0]
  places = [(r, c) for r in range(side) for c in range(side)]
  cost = np.zeros((side**2, side**2))
  for i, (r, c) in enumerate(places):
    for j, (r2, c2) in enumerate(places):
      cost[i, j] = eps * ((r - r2) ** 2 + (c - c2) ** 2) / (side - 1) ** 2
      cost[i, j] -= saliency[r, c] * (mask[r2, c2] > 0)
  for _ in range(side):
    claims = [int(np.argmin(row)) for row in cost]
    winners = np.full(side**2, -1)
    raised = []
    for j in range(side**2):
      claimants = [i for i, claim in enumerate(claims) if claim == j]
      if claimants:
        winners[j] = min(claimants, key=lambda i, j=j: cost[i, j])
        raised += [(i, j) for i in claimants if i != winners[j]]
    for i, j in raised:
      cost[i, j] += 1
  return winners


@pytest.mark.parametrize("side", [2, 5])
def test_plan_equals_a_loop_over_claims(side):
  rng = np.random.default_rng(side)
  saliency = rng.dirichlet([0.3] * side**2, 24).reshape(24, side, side)
  mask = rng.integers(0, 3, (24, side, side)) / 2
  with jax.enable_x64(True):
    plan = np.asarray(augment.transport_plan(jnp.asarray(mask), jnp.asarray(saliency)))
  expected = np.stack([by_hand(m, s, 0.8) for m, s in zip(mask, saliency)])
  np.testing.assert_array_equal(plan, expected)
  assert np.any(expected != np.arange(side**2)), "nothing moves"
  assert side == 2 or np.any(expected == -1), "no place stays empty"
  for row in expected:
    assert np.unique(row[row >= 0]).size == np.sum(row >= 0), "a block came twice"


def test_blocks_move_where_the_plan_says():
  image = np.random.default_rng(0).uniform(size=(2, 6, 6, 3)).astype(np.float32)
  plan = np.array([[8, -1, 0, 1, 2, 3, 4, 5, 6], np.arange(9)])
  fill = (0.1, 0.2, 0.3)
  moved = np.asarray(augment.move_blocks(jnp.asarray(image), jnp.asarray(plan), fill))
  for place, block in enumerate(plan[0]):
    r, c, r2, c2 = (2 * x for x in (*divmod(place, 3), *divmod(block, 3)))
    expected = image[0, r2 : r2 + 2, c2 : c2 + 2] if block >= 0 else np.float32(fill)
    np.testing.assert_array_equal(moved[0, r : r + 2, c : c + 2] - expected, 0)
  np.testing.assert_array_equal(moved[1], image[1])


@pytest.mark.parametrize("transport", [True, False])
def test_a_mask_of_one_is_the_first_image_and_of_zero_the_second(transport):
  rng = np.random.default_rng(1)
  one, two = (jnp.asarray(rng.uniform(size=(2, 8, 8, 3)), jnp.float32) for _ in range(2))
  s1, s2 = (jnp.asarray(rng.uniform(size=(2, 8, 8)), jnp.float32) for _ in range(2))
  mask = jnp.stack([jnp.ones((4, 4)), jnp.zeros((4, 4))])
  run = jax.jit(functools.partial(augment.puzzle_compose, transport=transport))
  out = run(one, two, mask, s1, s2)
  np.testing.assert_array_equal(out, jnp.stack([one[0], two[1]]))


def test_transport_sees_blocks_of_its_own_size_and_empty_places_are_filled():
  """Masks of 2 x 2 blocks of 4 pixels, blocks of 2 pixels move: a 4 x 4 grid."""
  rng = np.random.default_rng(2)
  one, two = (jnp.asarray(rng.uniform(size=(3, 8, 8, 1)), jnp.float32) for _ in range(2))
  s1, s2 = (jnp.asarray(rng.gamma(0.2, size=(3, 8, 8)), jnp.float32) for _ in range(2))
  mask = jnp.asarray(rng.integers(0, 3, (3, 2, 2)) / 2, jnp.float32)
  run = functools.partial(augment.puzzle_compose, transport_size=2, fill=0.5)
  out = jax.jit(run)(one, two, mask, s1, s2)
  fine, moved = np.repeat(np.repeat(mask, 2, 1), 2, 2), []
  for image, share, saliency in ((one, fine, s1), (two, 1 - fine, s2)):
    pooled = np.asarray(saliency).reshape(3, 4, 2, 4, 2).mean((2, 4))
    pooled /= pooled.sum((1, 2), keepdims=True)
    plan = np.stack([by_hand(m, s, 0.8) for m, s in zip(share, pooled)])
    moved.append(np.asarray(augment.move_blocks(image, jnp.asarray(plan), 0.5)))
  m = np.repeat(np.repeat(fine, 2, 1), 2, 2)[..., None]
  np.testing.assert_allclose(out, m * moved[0] + (1 - m) * moved[1], rtol=1e-6)
  assert not np.array_equal(moved[0], one)


def test_ratio_is_the_mean_of_the_mask_of_each_pair():
  """Black and white images that nothing moves in: the mixture's mean is the share of the white."""
  rng = np.random.default_rng(3)
  s1, s2 = (jnp.asarray(rng.gamma(0.2, size=(6, 8, 8)), jnp.float32) for _ in range(2))
  white, black = jnp.ones((6, 8, 8, 3)), jnp.zeros((6, 8, 8, 3))
  run = functools.partial(augment.puzzle_mix, blocks=4, transport=False)
  mixed, ratio = jax.jit(run)(white, black, s1, s2, 0.6)
  np.testing.assert_allclose(jnp.mean(mixed, (1, 2, 3)), ratio, rtol=1e-6)
  assert np.unique(ratio).size > 2
  np.testing.assert_array_equal(np.asarray(ratio) * 32 % 1, 0)  # 16 blocks in halves


def test_a_transport_size_that_does_not_tile_a_block_is_refused():
  image, mask, saliency = jnp.zeros((1, 12, 12, 1)), jnp.ones((1, 2, 2)), jnp.ones((1, 12, 12))
  with pytest.raises(InputError, match="a transport size of 4; choose from 3, 4, 6, 12"):
    augment.puzzle_compose(image, image, mask, saliency, saliency)
  augment.puzzle_compose(image, image, mask, saliency, saliency, transport=False)

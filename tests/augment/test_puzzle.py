"""PuzzleMix' labelling problem against loops over blocks, and its solver against all labellings."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from jaxnoise.core import InputError

BETA, GAMMA, ETA = 1.2, 0.5, 0.2
SOLVE = jax.jit(augment.solve_puzzle)


def pictures(count, side, channels=3, seed=0):
  return np.random.default_rng(seed).uniform(size=(count, side, side, channels))


def saliencies(count, blocks, seed=0):
  drawn = np.random.default_rng(seed).dirichlet([0.5] * blocks**2, count)
  return drawn.reshape(count, blocks, blocks)


def make(count, blocks, side, seed=0, lam=0.3, **options):
  """Problems of random pairs: the arguments, and what `puzzle_problem` makes of them."""
  images, saliency = pictures(2 * count, side, seed=seed), saliencies(2 * count, blocks, seed)
  arguments = (saliency[:count], saliency[count:], images[:count], images[count:], lam)
  run = jax.jit(lambda *xs: augment.puzzle_problem(*xs, **options))
  return arguments, run(*(jnp.asarray(x) for x in arguments))


def seams(one, two, blocks, q):
  """phi(z, z') = beta' gamma D by edge: ((r, c), (r', c')) -> {(z, z'): value}, z = 1 takes `one`.

  Written from the method's description, block by block, q the side of the pooled squares.
  """
  side = one.shape[0] // blocks
  weight = BETA / (16 * blocks) * GAMMA
  take = {1: one, 0: two}

  def squares(image, r, c):
    """Means over the squares of a block, [side / q, side / q, C]."""
    block = image[r * side : (r + 1) * side, c * side : (c + 1) * side]
    cells = side // q
    out = np.zeros((cells, cells, image.shape[2]))
    for i in range(cells):
      for j in range(cells):
        out[i, j] = block[i * q : (i + 1) * q, j * q : (j + 1) * q].mean((0, 1))
    return out

  found = {}
  for r, c in itertools.product(range(blocks), repeat=2):
    for r2, c2 in ((r + 1, c), (r, c + 1)):
      if max(r2, c2) == blocks:
        continue
      found[(r, c), (r2, c2)] = phi = {}
      for z, z2 in itertools.product((0, 1), repeat=2):
        before, after = squares(take[z], r, c), squares(take[z2], r2, c2)
        line = (before[-1], after[0]) if r2 > r else (before[:, -1], after[:, 0])
        phi[z, z2] = weight * np.abs(line[0] - line[1]).mean(1).mean()
  return found


@pytest.mark.parametrize(("blocks", "side", "labels"), [(2, 8, 3), (4, 8, 4)])
def test_costs_equal_a_loop_over_blocks(blocks, side, labels):
  lam, top, beta = 0.3, labels - 1, BETA / (16 * blocks)
  with jax.enable_x64(True):
    (s1, s2, x1, x2, _), problem = make(
      2, blocks, side, lam=lam, num_labels=labels, neighbourhood=2
    )
  q = min(2, side // blocks)
  for b in range(2):
    u1, u2 = s1[b].copy(), s2[b].copy()
    for (upper, lower), phi in seams(x1[b], x2[b], blocks, q).items():
      u2[upper] += (phi[1, 0] + phi[1, 1]) / 2
      u1[upper] += (phi[0, 1] + phi[0, 0]) / 2
      u2[lower] += (phi[0, 1] + phi[1, 1]) / 2
      u1[lower] += (phi[1, 0] + phi[0, 0]) / 2
      weight = beta + (phi[1, 0] + phi[0, 1] - phi[1, 1] - phi[0, 0]) / 2
      edges = problem.vertical if lower[0] > upper[0] else problem.horizontal
      np.testing.assert_allclose(edges[b][upper], weight, rtol=1e-9)
    for t in range(labels):
      chance = math.comb(top, t) * lam ** (top - t) * (1 - lam) ** t
      prior = ETA / blocks**2 * -np.log(chance + 1e-8)
      expected = t / top * u1 + (1 - t / top) * u2 + prior
      np.testing.assert_allclose(problem.unary[b, :, :, t], expected, rtol=1e-9)


def test_folded_seams_are_the_seams():
  """Over all 16 ways to take whole blocks of 2 x 2: the energy is that of the parts, and beta'."""
  with jax.enable_x64(True):
    (s1, s2, x1, x2, _), problem = make(1, 2, 8, eta=0.0)
    takes = np.array(list(itertools.product((0, 1), repeat=4))).reshape(16, 2, 2)
    repeated = jax.tree.map(lambda x: jnp.repeat(x, 16, axis=0), problem)
    energy = np.asarray(augment.puzzle_energy(repeated, jnp.asarray(2 * (1 - takes))))
  direct = np.sum(np.where(takes == 1, s2, s1), axis=(1, 2))
  constant = 0.0
  for (upper, lower), phi in seams(x1[0], x2[0], 2, 4).items():
    for i, z in enumerate(takes):
      direct[i] += phi[z[upper], z[lower]] + BETA / 32 * (z[upper] != z[lower])
    constant += (phi[1, 0] + phi[0, 1]) / 2
  np.testing.assert_allclose(energy - direct, constant, rtol=1e-9)
  assert np.ptp(direct) > 0.1


def test_energy_equals_a_loop():
  rng = np.random.default_rng(0)
  unary, down, right = (rng.normal(size=s) for s in ((2, 3, 3, 4), (2, 2, 3), (2, 3, 2)))
  labels = rng.integers(0, 4, (2, 3, 3))
  with jax.enable_x64(True):
    problem = augment.PuzzleProblem(*(jnp.asarray(x) for x in (unary, down, right)))
    energy = augment.puzzle_energy(problem, jnp.asarray(labels))
  for b in range(2):
    total = 0.0
    for r, c in itertools.product(range(3), repeat=2):
      total += unary[b, r, c, labels[b, r, c]]
      if r < 2:
        total += down[b, r, c] * ((labels[b, r, c] - labels[b, r + 1, c]) / 3) ** 2
      if c < 2:
        total += right[b, r, c] * ((labels[b, r, c] - labels[b, r, c + 1]) / 3) ** 2
    np.testing.assert_allclose(energy[b], total, rtol=1e-9)


def cheapest(problem, row):
  """The least energy of one problem, exactly: a dynamic programme over the rows of the grid."""
  unary, down, right = (np.asarray(x[row], np.float64) for x in problem)
  blocks, labels = unary.shape[1:]
  rows = np.array(list(itertools.product(range(labels), repeat=blocks)))
  share = rows / (labels - 1)
  steps = (share[:, None] - share[None]) ** 2
  total = 0.0
  for r in range(blocks):
    own = unary[r][np.arange(blocks), rows].sum(1) + np.diff(share) ** 2 @ right[r]
    total = own + (np.min(total[:, None] + steps @ down[r - 1], axis=0) if r else 0.0)
  return total.min()


@pytest.mark.parametrize(("blocks", "solved", "excess"), [(2, 1.0, 1e-6), (4, 0.97, 1e-3)])
def test_solver_reaches_the_minimum(blocks, solved, excess):
  """Of 128 random problems all are solved, where their starts are far off; 4 x 4 is given slack."""
  _, problem = make(128, blocks, 8, lam=0.4)
  labels = SOLVE(problem)
  assert labels.dtype == jnp.int32 and labels.shape == (128, blocks, blocks)
  energy = np.asarray(augment.puzzle_energy(problem, labels))
  start = np.asarray(augment.puzzle_energy(problem, jnp.argmin(problem.unary, axis=-1)))
  least = np.array([cheapest(problem, i) for i in range(128)])
  over = energy / least - 1
  assert np.all(over > -1e-6) and np.all(energy <= start)
  assert np.mean(over < 1e-6) >= solved and over.max() < excess
  assert np.mean(start / least - 1 > 1e-4) > 0.1, "the starts already solve the problems"


def test_solver_stands_negative_edges_and_none():
  rng = np.random.default_rng(0)
  problem = augment.PuzzleProblem(
    jnp.asarray(rng.normal(size=(128, 2, 2, 3)), jnp.float32),
    jnp.asarray(rng.normal(size=(128, 1, 2)), jnp.float32).at[0].set(0.0),
    jnp.asarray(rng.normal(size=(128, 2, 1)), jnp.float32).at[0].set(0.0),
  )
  labels = SOLVE(problem)
  best = jnp.argmin(problem.unary, axis=-1)
  np.testing.assert_array_equal(labels[0], best[0])
  before, after = (augment.puzzle_energy(problem, x) for x in (best, labels))
  assert np.all(after <= before) and np.any(after < before)


def test_saliency_is_the_root_mean_square_in_blocks_that_sum_to_one():
  gradient = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
  gradient[1] *= 1e-30  # its square is 0 in float32
  gradient[2] = 0.0
  blocks = np.asarray(augment.block_saliency(augment.gradient_saliency(jnp.asarray(gradient)), 4))
  root = np.sqrt(np.mean(gradient[:2].astype(np.float64) ** 2, axis=-1))
  pooled = root.reshape(2, 4, 2, 4, 2).mean((2, 4))
  np.testing.assert_allclose(blocks[:2], pooled / pooled.sum((1, 2), keepdims=True), rtol=1e-5)
  np.testing.assert_array_equal(blocks[2], 1 / 16)


def test_constant_images_without_saliency_give_numbers():
  grey, nothing = jnp.full((2, 8, 8, 3), 0.5), jnp.zeros((2, 8, 8))
  run = jax.jit(lambda lam: augment.puzzle_mix(grey, grey, nothing, nothing, lam, blocks=4))
  for lam in (0.0, 1.0):
    mixed, ratio = run(lam)
    np.testing.assert_allclose(mixed, 0.5, rtol=1e-6)
    np.testing.assert_array_equal(ratio, lam)  # the prior is all that is left


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"blocks": 16, "side": 8}, "16 x 16 does not fit images of 8 x 8.*choose from 2, 4, 8"),
    ({"blocks": 3, "side": 8}, "3 x 3 does not fit images of 8 x 8.*choose from 2, 4, 8"),
    ({"blocks": 4, "side": 28}, "neighbourhood of 4.*choose from 7, 14, 28"),
    ({"blocks": 2, "side": 4, "num_labels": 1}, "num_labels is 1"),
    ({"blocks": 2, "side": 4, "neighbourhood": 0}, "neighbourhood is 0"),
  ],
)
def test_grids_that_do_not_fit_are_refused(options, message):
  blocks, side = options.pop("blocks"), options.pop("side")
  part, image = jnp.zeros((1, blocks, blocks)), jnp.zeros((1, side, side, 1))
  with pytest.raises(InputError, match=message):
    augment.puzzle_problem(part, part, image, image, 0.5, **options)


def test_a_negative_number_of_sweeps_is_refused():
  with pytest.raises(InputError, match="sweeps is -1"):
    augment.solve_puzzle(make(1, 2, 4)[1], sweeps=-1)

"""How close PuzzleMix' solver on the device comes to the cheapest labelling, and what it costs.

  python benchmarks/puzzlemix.py [--problems 256] [--sweeps 16] [--seeds 4]

Problems are those of training: digits (8 x 8 pixels, and enlarged to 32 x 32 as CIFAR's images
are), the saliency of networks with random weights, random partners and coefficients. The excess is
(energy - minimum) / minimum; `share` is the mean change of the first image's share of the label.
Two baselines say what the solver's starts are worth: each block by itself, and checkerboard updates
from there. Milliseconds are for the whole batch of problems.

The true minimum is found on the host, by a minimum cut, which exists because edge weights are not
negative and costs are convex in the labels. It is compared with all 81 labellings at 2 x 2, with a
dynamic programme over rows of 3^4 states at 4 x 4, and with one over cells whose state is the 3^8
labels before at 8 x 8; at 16 x 16 that would be 3^16 states.
"""

from __future__ import annotations

import argparse
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from jaxnoise import augment, data, losses, models

CASES = ((8, 2), (8, 4), (8, 8), (32, 2), (32, 4), (32, 8), (32, 16))
SCALE = 2**27  # of costs, for the integer capacities of the flow
SHARE = np.arange(3) / 2
STEP = (SHARE[:, None] - SHARE[None]) ** 2


def problems(side: int, blocks: int, count: int, seed: int) -> augment.PuzzleProblem:
  """`count` problems of one batch, from one network and one coefficient."""
  source = data.digits()
  batch = data.gather(data.device_data(source), jnp.arange(count) + seed * count)
  image, rng = batch["image"], np.random.default_rng(seed)
  if side != image.shape[1]:
    image = jax.image.resize(image, (count, side, side, image.shape[3]), "bilinear")
  network = models.network(models.wide_resnet(source.num_classes, depth=10, widen_factor=1))
  params, stats = network.init(jax.random.key(seed), image)
  targets = jax.nn.one_hot(batch["label"], source.num_classes)

  @jax.jit
  def slope(image):
    logits = lambda x: network.apply(params, stats, x).logits
    return jax.grad(lambda x: jnp.sum(losses.cross_entropy(logits(x), targets)))(image)

  saliency = augment.block_saliency(augment.gradient_saliency(slope(image)), blocks)
  perm = rng.permutation(count)
  return augment.puzzle_problem(saliency, saliency[perm], image, image[perm], rng.uniform())


def all_labellings(unary: np.ndarray, down: np.ndarray, right: np.ndarray) -> float:
  """The minimum over all 3^(n^2) labellings; for 2 x 2."""
  blocks = len(unary)
  labels = np.array(list(itertools.product(range(3), repeat=blocks**2)))
  labels = labels.reshape(-1, blocks, blocks)
  share = SHARE[labels]
  own = np.take_along_axis(unary[None], labels[..., None], axis=-1).sum((1, 2, 3))
  edges = (down * np.diff(share, axis=1) ** 2).sum((1, 2))
  return (own + edges + (right * np.diff(share, axis=2) ** 2).sum((1, 2))).min()


def by_rows(unary: np.ndarray, down: np.ndarray, right: np.ndarray) -> float:
  """The minimum, a row at a time with all 3^n labellings of a row; for up to 4 x 4."""
  blocks = len(unary)
  rows = np.array(list(itertools.product(range(3), repeat=blocks)))
  share = SHARE[rows]
  change, total = (share[:, None] - share[None]) ** 2, 0.0
  for r in range(blocks):
    own = unary[r][np.arange(blocks), rows].sum(1) + np.diff(share) ** 2 @ right[r]
    total = own + (np.min(total[:, None] + change @ down[r - 1], axis=0) if r else 0.0)
  return total.min()


def by_cells(unary: np.ndarray, down: np.ndarray, right: np.ndarray) -> float:
  """The minimum, a cell at a time, the state the labels of the n cells before; for up to 8 x 8."""
  blocks = len(unary)
  total = np.zeros(())
  for r, c in itertools.product(range(blocks), repeat=2):
    total = total[..., None] + unary[r, c]  # axes: the cells before, oldest first, and this one
    if c:
      total = total + right[r, c - 1] * STEP
    if r:
      above = STEP.reshape(3, *(1,) * (total.ndim - 2), 3)
      total = (total + down[r - 1, c] * above).min(axis=0)
  return total.min()


def by_flow(unary: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
  """A cheapest labelling, as a minimum cut.

  A label is two variables, x = [label >= 1] and y = [label >= 2], and (l - l')^2 is a sum of terms
  x (1 - x') and linear ones. What is on the source's side is 1.
  """
  blocks = len(unary)
  cells = np.arange(blocks**2).reshape(blocks, blocks)
  linear = np.diff(unary, axis=-1).reshape(-1, 2).copy()
  edges = [(cells[:-1], cells[1:], down), (cells[:, :-1], cells[:, 1:], right)]
  tails, heads, sizes = [], [], []

  def arc(tail, head, size):
    tails.append(np.ravel(tail))
    heads.append(np.ravel(head))
    sizes.append(np.ravel(size))

  for a, b, weight in edges:
    for end in (a, b):
      np.add.at(linear, end.ravel(), weight.reshape(-1, 1) / 4 * np.array([[-1.0, 1.0]]))
    for k, m in itertools.product((0, 1), repeat=2):
      arc(2 + 2 * a + k, 2 + 2 * b + m, weight / 4)
      arc(2 + 2 * b + m, 2 + 2 * a + k, weight / 4)
  node = 2 + np.arange(2 * blocks**2)
  arc(node, np.ones_like(node), np.maximum(linear.ravel(), 0))
  arc(np.zeros_like(node), node, np.maximum(-linear.ravel(), 0))
  arc(node[1::2], node[::2], np.full(blocks**2, 8.0))  # never y without x
  sizes = np.round(np.concatenate(sizes) * SCALE).astype(np.int32)
  places = (np.concatenate(tails), np.concatenate(heads))
  graph = coo_matrix((sizes, places), shape=(len(node) + 2,) * 2).tocsr()
  left = graph - maximum_flow(graph, 0, 1).flow
  left.data = np.maximum(left.data, 0)
  left.eliminate_zeros()
  chosen = np.zeros(len(node) + 2, int)
  chosen[breadth_first_order(left, 0, return_predecessors=False)] = 1
  return chosen[2:].reshape(blocks, blocks, 2).sum(-1)


def minima(problem: augment.PuzzleProblem) -> tuple[np.ndarray, np.ndarray]:
  """The exact minima, and cheapest labellings, of a batch; every method at hand has to agree."""
  blocks = problem.unary.shape[1]
  rows = [[np.asarray(x[i], np.float64) for x in problem] for i in range(len(problem.unary))]
  labels = np.stack([by_flow(*row) for row in rows])
  energy = energies(problem, labels)
  methods = {2: (all_labellings, by_rows, by_cells), 4: (by_rows, by_cells), 8: (by_cells,)}
  for method in methods.get(blocks, ()):
    # By cells at 8 x 8 takes a tenth of a second each: a few are enough to check the flow.
    checked = rows[:16] if blocks == 8 else rows
    exact = np.array([method(*row) for row in checked])
    np.testing.assert_allclose(energy[: len(exact)], exact, rtol=1e-6)
  return energy, labels


def energies(problem: augment.PuzzleProblem, labels: np.ndarray) -> np.ndarray:
  unary, down, right = (np.asarray(x, np.float64) for x in problem)
  share = SHARE[labels]
  total = np.take_along_axis(unary, labels[..., None], axis=-1).sum((1, 2, 3))
  total += (down * np.diff(share, axis=1) ** 2).sum((1, 2))
  return total + (right * np.diff(share, axis=2) ** 2).sum((1, 2))


def updates_alone(problem: augment.PuzzleProblem, sweeps: int) -> np.ndarray:
  """Checkerboard updates from the cheapest label of each block, and nothing else."""
  unary, down, right = (np.asarray(x, np.float64) for x in problem)
  labels = np.argmin(unary, axis=-1)
  colour = np.indices(labels.shape[1:]).sum(0) % 2
  for turn in range(2 * sweeps):
    cost, share = unary.copy(), SHARE[labels][..., None]
    cost[:, 1:] += down[..., None] * (SHARE - share[:, :-1]) ** 2
    cost[:, :-1] += down[..., None] * (SHARE - share[:, 1:]) ** 2
    cost[:, :, 1:] += right[..., None] * (SHARE - share[:, :, :-1]) ** 2
    cost[:, :, :-1] += right[..., None] * (SHARE - share[:, :, 1:]) ** 2
    labels = np.where(colour == turn % 2, np.argmin(cost, axis=-1), labels)
  return labels


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--problems", type=int, default=256, help="in each case, over all seeds")
  parser.add_argument("--seeds", type=int, default=4, help="networks, partners and coefficients")
  parser.add_argument("--sweeps", type=int, default=16)
  options = parser.parse_args()
  count = options.problems // options.seeds
  print(
    f"{jax.devices()[0].device_kind}, {options.sweeps} sweeps, {count * options.seeds} problems "
    "each; excess over the minimum"
  )
  print(
    f"{'pixels':>6} {'grid':>5}  {'solver':<22} {'solved':>7} {'mean':>9} {'maximum':>9} "
    f"{'share':>7} {'ms':>7}"
  )
  for side, blocks in CASES:
    batches = [problems(side, blocks, count, seed) for seed in range(options.seeds)]
    problem = jax.tree.map(lambda *x: jnp.concatenate(x), *batches)
    least, best = minima(problem)
    solve = jax.jit(lambda p: augment.solve_puzzle(p, sweeps=options.sweeps))
    jax.block_until_ready(solve(problem))
    start = time.perf_counter()
    solved = np.asarray(jax.block_until_ready(solve(problem)))
    milliseconds = 1000 * (time.perf_counter() - start)
    for name, labels in (
      ("each block by itself", np.asarray(jnp.argmin(problem.unary, axis=-1))),
      ("updates from there", updates_alone(problem, options.sweeps)),
      ("solve_puzzle", solved),
    ):
      excess = energies(problem, labels) / least - 1
      moved = np.abs(SHARE[labels].mean((1, 2)) - SHARE[best].mean((1, 2))).mean()
      spent = f"{milliseconds:7.1f}" if name == "solve_puzzle" else ""
      print(
        f"{side:>6} {blocks:>2}x{blocks:<2}  {name:<22} {np.mean(excess < 1e-6):>7.1%} "
        f"{excess.mean():>9.1e} {excess.max():>9.1e} {moved:>7.4f} {spent}",
        flush=True,
      )


if __name__ == "__main__":
  main()

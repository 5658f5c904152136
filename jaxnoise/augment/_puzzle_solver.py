"""A solver for PuzzleMix' labelling problems that runs on the device, a batch at a time.

The authors call a graph-cut library for one image after the other. Here every step is an exact
update of half the blocks at once, those of one colour of a checkerboard, which do not touch each
other. From a single start such updates stop at the first arrangement that no single block improves;
`benchmarks/puzzlemix.py` measures how far the best of several starts is from the true minimum.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise.augment._puzzle import PuzzleProblem, beside, puzzle_energy
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array

_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)  # where the relaxed solution is cut into labels


def solve_puzzle(problem: PuzzleProblem, *, sweeps: int = 16) -> Array:
  """Looks for the labelling of least energy, from L + 6 starts, and keeps the best result.

  One start is the cheapest label of each block by itself, L are one label throughout. The other
  five come from the relaxed problem, in which f = t / (L - 1) is a real number and the unary cost
  is interpolated linearly: as long as edges are not negative it is convex, so that its checkerboard
  updates see the whole grid; its solution is cut into labels at five thresholds. Each update is an
  exact minimum over one block, so no start ever gets worse.

  Args:
    problem: of B rows.
    sweeps: updates of every block, in the relaxed problem and then again in the labels; 0 only
      compares the starts.

  Returns:
    [B, n, n] int32 labels in [0, L), of at most the energy of the cheapest label of each block.

  Raises:
    InputError: for a negative number of sweeps.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> unary = jnp.array([[[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.5, 0.0]]]])
    >>> edges = jnp.ones((1, 1, 2)), jnp.ones((1, 2, 1))
    >>> augment.solve_puzzle(augment.PuzzleProblem(unary, *edges)).tolist()
    [[[0, 0], [0, 0]]]
  """
  if sweeps < 0:
    raise InputError(f"sweeps is {sweeps}; expected 0 or more")
  problem = jax.tree.map(jax.lax.stop_gradient, problem)
  unary = problem.unary[:, None]  # [B, S, n, n, L], S starts
  top, grid = unary.shape[-1] - 1, unary.shape[2:4]
  share = (jnp.arange(top + 1, dtype=unary.dtype) / top).reshape(1, 1, 1, 1, -1)
  colour = (jnp.arange(grid[0])[:, None] + jnp.arange(grid[1])[None]) % 2

  def pull(f: Array) -> Array:
    """The weighted sum of the neighbours' f, [B, S, n, n]."""
    down, right = problem.vertical[:, None], problem.horizontal[:, None]
    rows = beside(down * f[:, :, 1:], down * f[:, :, :-1], 2)
    return rows + beside(right * f[..., 1:], right * f[..., :-1], 3)

  # What the label of one block costs, its neighbours fixed, up to a constant:
  # unary(f) + stiff f^2 - 2 f pull.
  stiff = pull(jnp.ones_like(unary[..., 0]))[..., None]
  slope, low, high = top * jnp.diff(unary, axis=-1), share[..., :-1], share[..., 1:]

  def label_costs(pulled: Array) -> Array:
    return unary + stiff * jnp.square(share) - 2 * pulled * share

  def best_label(pulled: Array) -> Array:
    return jnp.argmin(label_costs(pulled), axis=-1).astype(unary.dtype) / top

  def best_number(pulled: Array) -> Array:
    """The least of the labels and of the stationary points between them."""
    f = jnp.clip((2 * pulled - slope) / jnp.where(stiff > 0, 2 * stiff, 1), low, high)
    between = unary[..., :-1] + slope * (f - low) + stiff * jnp.square(f) - 2 * pulled * f
    labels = label_costs(pulled)
    choice = jnp.argmin(jnp.concatenate([labels, between], axis=-1), axis=-1)[..., None]
    at = jnp.concatenate([jnp.broadcast_to(share, labels.shape), f], axis=-1)
    return jnp.take_along_axis(at, choice, axis=-1)[..., 0]

  def descend(f: Array, best: Callable[[Array], Array]) -> Array:
    def half_sweep(i: Array, f: Array) -> Array:
      return jnp.where((colour == i % 2)[None, None], best(pull(f)[..., None]), f)

    return jax.lax.fori_loop(0, 2 * sweeps, half_sweep, f)

  middle = jnp.full(unary.shape[:-1], 0.5, unary.dtype)
  relaxed = descend(middle, best_number)
  cut = jnp.floor(top * relaxed + jnp.asarray(_THRESHOLDS, unary.dtype).reshape(1, -1, 1, 1)) / top
  own = jnp.argmin(unary, axis=-1).astype(unary.dtype) / top
  flat = jnp.broadcast_to(share.reshape(1, -1, 1, 1), (unary.shape[0], top + 1, *grid))
  starts = jnp.concatenate([cut, own, flat], axis=1)
  labels = jnp.round(top * descend(starts, best_label)).astype(jnp.int32)
  energy = jax.vmap(puzzle_energy, in_axes=(None, 1), out_axes=1)(problem, labels)
  choice = jnp.argmin(energy, axis=1)
  return jnp.take_along_axis(labels, choice[:, None, None, None], axis=1)[:, 0]

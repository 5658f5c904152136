"""PuzzleMix' last steps: salient blocks move to where their image is kept, and images are mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise.augment._puzzle import block_saliency, check_blocks, puzzle_problem
from jaxnoise.augment._puzzle_solver import solve_puzzle
from jaxnoise.core.types import Array


def transport_plan(mask: Array, saliency: Array, *, eps: float = 0.8) -> Array:
  """Decides which block of an image goes where: salient ones to where the mask keeps the image.

  Moving block i to place j costs eps d_ij^2 / (n - 1)^2 - s_i 1[m_j > 0], d in blocks. In each of
  n rounds every block claims its cheapest place; of several claimants of a place the one with the
  least cost wins, and for each other the cost of this place rises by 1. The claims won in the last
  round are the plan: no block appears twice, and places that nobody won stay empty.

  Args:
    mask: [B, n, n], the share of the image that each place keeps.
    saliency: [B, n, n] of the image's blocks, s, from `block_saliency`.
    eps: price of distance, >= 0.

  Returns:
    [B, n^2] int32: for each place, row by row, the block that comes there, or -1 for none.

  Source: Kim et al. (2020), algorithm 1, and the authors' code for the number of rounds.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> mask = jnp.array([[[1.0, 0.0], [0.0, 0.0]]])
    >>> saliency = jnp.array([[[0.05, 0.95], [0.0, 0.0]]])
    >>> jax.jit(augment.transport_plan)(mask, saliency).tolist()  # salient block 1 wins place 0
    [[1, 0, 2, 3]]
  """
  blocks = mask.shape[1]
  count = blocks * blocks
  index = jnp.arange(count)
  position = jnp.stack(jnp.divmod(index, blocks), axis=-1).astype(saliency.dtype)
  gap = position[:, None] - position[None]
  distance = jnp.sum(jnp.square(gap), axis=-1) / max(blocks - 1, 1) ** 2

  def of_one(mask: Array, saliency: Array) -> Array:
    def play(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
      cost, _ = carry
      # A minimum and then its first place: many times faster than argmin on a CPU.
      bid = jnp.min(cost, axis=1)
      claim = jnp.min(jnp.where(cost == bid[:, None], index[None], count), axis=1)
      least = jnp.full(count, jnp.inf, cost.dtype).at[claim].min(bid)
      winner = jnp.full(count, count).at[claim].min(jnp.where(bid == least[claim], index, count))
      lost = (winner[claim] != index).astype(cost.dtype)
      plan = jnp.where(winner < count, winner, -1).astype(jnp.int32)
      return cost.at[index, claim].add(lost), plan

    salient = jnp.where((mask > 0).reshape(1, -1), saliency.reshape(-1, 1), 0)
    start = (eps * distance - salient, jnp.full(count, -1, jnp.int32))
    return jax.lax.fori_loop(0, blocks, play, start)[1]

  return jax.vmap(of_one)(mask, saliency)


def move_blocks(image: Array, plan: Array, fill: float | Sequence[float] = 0.0) -> Array:
  """Puts blocks of images where a plan says.

  Args:
    image: [B, W, W, C].
    plan: [B, n^2] from `transport_plan`, n a divisor of W.
    fill: of empty places, one number or C numbers.

  Returns:
    [B, W, W, C].

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> moved = jax.jit(augment.move_blocks)(image, jnp.array([[3, 1, -1, 0]]), 0.5)
    >>> moved.ravel().tolist()
    [4.0, 2.0, 0.5, 1.0]
  """
  batch, size, _, channels = image.shape
  blocks = math.isqrt(plan.shape[1])
  side = size // blocks
  cut = image.reshape(batch, blocks, side, blocks, side, channels)
  parts = cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch, blocks**2, side * side, channels)
  moved = jnp.take_along_axis(parts, jnp.maximum(plan, 0)[:, :, None, None], axis=1)
  fill = jnp.broadcast_to(jnp.asarray(fill, image.dtype), (channels,)).reshape(1, 1, 1, -1)
  moved = jnp.where((plan < 0)[:, :, None, None], fill, moved)
  placed = moved.reshape(batch, blocks, blocks, side, side, channels)
  return placed.transpose(0, 1, 3, 2, 4, 5).reshape(image.shape)


def puzzle_compose(
  image: Array,
  partner_image: Array,
  mask: Array,
  saliency: Array,
  partner_saliency: Array,
  *,
  transport: bool = True,
  transport_eps: float = 0.8,
  transport_size: int = 4,
  fill: float | Sequence[float] = 0.0,
) -> Array:
  """Computes m x1' + (1 - m) x2', x' an image whose salient blocks have moved to where it is kept.

  Blocks of side min(transport_size, W / n) move, those of the first image by the mask m, those of
  the second by 1 - m; smaller ones than the mask's see the mask and the saliency at their own
  resolution. A place that is empty where its image is kept shows the fill.

  Args:
    image: [B, W, W, C], the first images.
    partner_image: [B, W, W, C], the second.
    mask: [B, n, n] in [0, 1], the share of the first.
    saliency: [B, W, W] of the first, of any scale.
    partner_saliency: [B, W, W].
    transport: False leaves all blocks where they are.
    transport_eps: see `transport_plan`.
    transport_size: in pixels.
    fill: one number or C numbers, 0 after normalisation in the papers.

  Returns:
    [B, W, W, C]; exactly an image where its share is 1 and nothing has moved.

  Raises:
    InputError: if blocks of `transport_size` do not tile a block of the mask.

  Source: Kim et al. (2020), sections 3.2 and 3.3, and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> one, two = jnp.ones((1, 4, 4, 1)), jnp.full((1, 4, 4, 1), 2.0)
    >>> mask, even = jnp.array([[[1.0, 0.0], [0.5, 0.0]]]), jnp.ones((1, 4, 4))
    >>> mixed = jax.jit(augment.puzzle_compose)(one, two, mask, even, even)
    >>> mixed[0, ::2, ::2, 0].tolist()
    [[1.0, 2.0], [1.5, 2.0]]
  """
  size, blocks = image.shape[1], mask.shape[1]
  check_blocks(size, blocks, transport_size=transport_size if transport else 1)
  if transport:
    side = min(transport_size, size // blocks)
    mask = _repeat(mask, size // blocks // side)

    def move(picture: Array, share: Array, value: Array) -> Array:
      plan = transport_plan(share, block_saliency(value, size // side), eps=transport_eps)
      return move_blocks(picture, plan, fill)

    pairs = ((image, partner_image), (mask, 1 - mask), (saliency, partner_saliency))
    both = jax.vmap(move, in_axes=1, out_axes=1)(*(jnp.stack(pair, axis=1) for pair in pairs))
    image, partner_image = both[:, 0], both[:, 1]
  mask = _repeat(mask, size // mask.shape[1])[..., None].astype(image.dtype)
  return mask * image + (1 - mask) * partner_image


def puzzle_mix(
  image: Array,
  partner_image: Array,
  saliency: Array,
  partner_saliency: Array,
  lam: Array | float,
  *,
  blocks: int,
  beta: float = 1.2,
  gamma: float = 0.5,
  eta: float = 0.2,
  neighbourhood: int = 4,
  num_labels: int = 3,
  sweeps: int = 16,
  transport: bool = True,
  transport_eps: float = 0.8,
  transport_size: int = 4,
  fill: float | Sequence[float] = 0.0,
) -> tuple[Array, Array]:
  """Mixes pairs of images so that each keeps the blocks that matter to it.

  `puzzle_problem`, `solve_puzzle`, `puzzle_compose`, one after the other.

  Args:
    image: [B, W, W, C] in [0, 1], the first images.
    partner_image: [B, W, W, C], the second.
    saliency: [B, W, W] of the first, of any scale, from `gradient_saliency`.
    partner_saliency: [B, W, W].
    lam: scalar in [0, 1], the coefficient that the prior asks for.
    blocks: n, the grid is n x n.
    beta, gamma, eta, neighbourhood, num_labels: see `puzzle_problem`.
    sweeps: see `solve_puzzle`.
    transport, transport_eps, transport_size, fill: see `puzzle_compose`.

  Returns:
    (mixed images [B, W, W, C], [B] the mean of the mask: the share of the first image's label).

  Raises:
    InputError: for a grid, a neighbourhood or a transport size that does not fit the images.

  Source: Kim et al. (2020), Puzzle Mix.

  Example:
    >>> import functools
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> dark, light = jnp.zeros((1, 4, 4, 3)), jnp.ones((1, 4, 4, 3))
    >>> top = jnp.array([[[1.0] * 4] * 2 + [[0.0] * 4] * 2])
    >>> mix = jax.jit(functools.partial(augment.puzzle_mix, blocks=2, gamma=0.0))
    >>> mixed, ratio = mix(dark, light, top, 1 - top, 0.5)
    >>> mixed[0, ::3, 0, 0].tolist(), ratio.tolist()
    ([0.0, 1.0], [0.5])
  """
  problem = puzzle_problem(
    block_saliency(saliency, blocks),
    block_saliency(partner_saliency, blocks),
    image,
    partner_image,
    lam,
    beta=beta,
    gamma=gamma,
    eta=eta,
    neighbourhood=neighbourhood,
    num_labels=num_labels,
  )
  mask = 1 - solve_puzzle(problem, sweeps=sweeps) / (num_labels - 1)
  mixed = puzzle_compose(
    image,
    partner_image,
    mask,
    saliency,
    partner_saliency,
    transport=transport,
    transport_eps=transport_eps,
    transport_size=transport_size,
    fill=fill,
  )
  return mixed, jnp.mean(mask, axis=(1, 2))


def _repeat(mask: Array, times: int) -> Array:
  """Each block as times x times blocks of its value."""
  return jnp.repeat(jnp.repeat(mask, times, axis=1), times, axis=2)

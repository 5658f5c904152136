"""PuzzleMix: how much of each of two images to keep, block by block, as a labelling problem.

A block's label t in {0, ..., L - 1} is the mask value m = 1 - t / (L - 1): 0 keeps the first image,
L - 1 the second, in between both. A labelling costs the saliency that it gives up, the seams that
it makes, and its distance from the drawn mixing coefficient; `solve_puzzle` looks for the cheapest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array

_PRIOR_FLOOR = 1e-8  # of the binomial probability inside the logarithm


class PuzzleProblem(NamedTuple):
  """A labelling problem for every row of a batch.

  Attributes:
    unary: [B, n, n, L], the cost of each label at each block.
    vertical: [B, n - 1, n], the weight of the edge between block (r, c) and the one below it.
    horizontal: [B, n, n - 1], likewise with the one to its right.
  """

  unary: Array
  vertical: Array
  horizontal: Array


def gradient_saliency(gradient: Array) -> Array:
  """Computes sqrt(mean_c g_c^2) at each pixel, up to a positive factor for each image.

  The gradients are divided by the largest of their image first, so that those of a well fitted
  example do not vanish when squared; block saliencies are normalised in any case.

  Args:
    gradient: [B, H, W, C] of a loss with respect to the images.

  Returns:
    [B, H, W], non-negative; 0 for an image without a gradient.

  Source: Kim et al. (2020), section 3.1, and the authors' code (the root of the mean square).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> gradient = 1e-30 * jnp.array([[3.0, 3.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    >>> augment.gradient_saliency(gradient).tolist()
    [[[1.0, 0.0]]]
  """
  largest = jnp.max(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
  scaled = gradient / jnp.where(largest > 0, largest, 1)
  return jnp.sqrt(jnp.mean(jnp.square(scaled), axis=-1))


def block_saliency(saliency: Array, blocks: int) -> Array:
  """Averages a saliency over the blocks of an n x n grid and divides by the sum over blocks.

  Args:
    saliency: [B, W, W], non-negative, of any scale.
    blocks: n, a divisor of W.

  Returns:
    [B, n, n]; each row of the batch sums to 1, and is 1 / n^2 throughout where there is none.

  Source: Kim et al. (2020), section 3.2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> augment.block_saliency(jnp.array([[[1.0, 2.0], [0.0, 1.0]]]), 2).tolist()
    [[[0.25, 0.5], [0.0, 0.25]]]
  """
  pooled = _pool(saliency, saliency.shape[1] // blocks)
  total = jnp.sum(pooled, axis=(1, 2), keepdims=True)
  return jnp.where(total > 0, pooled / jnp.where(total > 0, total, 1), 1 / blocks**2)


def puzzle_problem(
  saliency: Array,
  partner_saliency: Array,
  image: Array,
  partner_image: Array,
  lam: Array | float,
  *,
  beta: float = 1.2,
  gamma: float = 0.5,
  eta: float = 0.2,
  neighbourhood: int = 4,
  num_labels: int = 3,
) -> PuzzleProblem:
  """Writes down the labelling problem of PuzzleMix for each pair of images.

  With f = t / (L - 1), b = beta / (16 n), and D_ac the mean absolute difference, over channels and
  along the border, between image a on the upper (or left) side and image c on the other, a label
  costs f V1 + (1 - f) V2 + prior_t, and an edge (w + b) (f - f')^2, where

    prior_t = -(eta / n^2) log(Binom(L - 1, t) lam^(L-1-t) (1 - lam)^t + 1e-8),
    w = b gamma (D_12 + D_21 - D_11 - D_22) / 2,
    V1 = the first image's saliency + b gamma times, for each edge, (D_21 + D_22) / 2 if the block
      is above (left of) it and (D_12 + D_22) / 2 if below (right),
    V2 = the second's + b gamma times (D_12 + D_11) / 2 above and (D_21 + D_11) / 2 below.

  Up to a constant, the V's and w together are b gamma D_ac for the images that the two sides take.
  Costs stay real numbers: rounding them to integers, as the authors do for their graph-cut library,
  is not part of the method.

  Args:
    saliency: [B, n, n] from `block_saliency`, of the first images.
    partner_saliency: [B, n, n], of the second.
    image: [B, W, W, C] in [0, 1], the first images.
    partner_image: [B, W, W, C].
    lam: scalar in [0, 1]; 1 favours the first image.
    beta: weight of a change of label between neighbours.
    gamma: weight of the seams, relative to beta; with at most 1 no edge weight is negative.
    eta: weight of the prior.
    neighbourhood: side, in pixels, of the squares that images are averaged over before borders are
      compared; at most a block.
    num_labels: L, at least 2.

  Returns:
    The problems, constants for differentiation.

  Raises:
    InputError: if n does not divide W, the neighbourhood not a block, or for fewer than 2 labels.

  Source: Kim et al. (2020), eq. (3) and the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> left, right = (jnp.array([[[1.0, 0.0], [1.0, 0.0]]]) / 2, jnp.array([[[0.0, 1.0]] * 2]) / 2)
    >>> grey = jnp.full((1, 4, 4, 1), 0.5)
    >>> problem = augment.puzzle_problem(left, right, grey, grey, 0.5)
    >>> augment.solve_puzzle(problem)[0].tolist()  # each side from the image that is salient there
    [[0, 2], [0, 2]]
  """
  if num_labels < 2:
    raise InputError(f"num_labels is {num_labels}; expected 2 or more mask values")
  blocks, size = saliency.shape[1], image.shape[1]
  check_blocks(size, blocks, neighbourhood=neighbourhood)
  image, partner_image, saliency, partner_saliency = (
    jax.lax.stop_gradient(x) for x in (image, partner_image, saliency, partner_saliency)
  )
  edge = beta / (16 * blocks)
  pool = min(neighbourhood, size // blocks)
  pair = jnp.stack([_pool(x, pool) for x in (image, partner_image)], axis=1)
  first, second, weights = saliency, partner_saliency, []
  for axis in (1, 2):
    seam = edge * gamma * _border(pair, blocks, axis)
    d11, d12, d21, d22 = seam[:, 0, 0], seam[:, 0, 1], seam[:, 1, 0], seam[:, 1, 1]
    first += beside(d21 + d22, d12 + d22, axis) / 2
    second += beside(d12 + d11, d21 + d11, axis) / 2
    weights.append(edge + (d12 + d21 - d11 - d22) / 2)

  top = num_labels - 1
  share = _shares(num_labels, first.dtype)
  lam = jax.lax.stop_gradient(jnp.asarray(lam, first.dtype))
  count = jnp.asarray([math.comb(top, t) for t in range(num_labels)], first.dtype)
  index = jnp.arange(num_labels)
  chance = count * lam ** (top - index) * (1 - lam) ** index
  prior = -(eta / blocks**2) * jnp.log(chance + _PRIOR_FLOOR)
  row = (1, 1, 1, -1)
  unary = (
    share.reshape(row) * first[..., None]
    + (1 - share).reshape(row) * second[..., None]
    + prior.reshape(row)
  )
  return PuzzleProblem(unary, *weights)


def check_blocks(
  size: int, blocks: int, *, neighbourhood: int = 1, transport_size: int = 1
) -> None:
  """Refuses a grid that images of `size` pixels cannot have.

  Raises:
    InputError: if n is below 2 or does not divide the side, or if squares of the neighbourhood or
      of the transport do not tile a block; the sentence names the values of n that fit.

  Example:
    >>> check_blocks(32, 16, neighbourhood=4)
  """

  def fits(n: int) -> bool:
    side = size // n
    return not size % n and not any(
      side % min(square, side) for square in (neighbourhood, transport_size)
    )

  for name, value in (("neighbourhood", neighbourhood), ("transport_size", transport_size)):
    if value < 1:
      raise InputError(f"{name} is {value}; expected a side of at least 1 pixel")
  if blocks < 2 or blocks > size or not fits(blocks):
    allowed = ", ".join(str(n) for n in range(2, size + 1) if fits(n))
    squares = f"a neighbourhood of {neighbourhood} and a transport size of {transport_size}"
    raise InputError(
      f"blocks: a grid of {blocks} x {blocks} does not fit images of {size} x {size} pixels with "
      f"{squares}; choose from {allowed or 'other image sizes'}"
    )


def puzzle_energy(problem: PuzzleProblem, labels: Array) -> Array:
  """Computes the cost of a labelling: sum of unaries + sum over edges of w (f - f')^2.

  Args:
    problem: of B rows.
    labels: [B, n, n] integers in [0, L); f = labels / (L - 1).

  Returns:
    [B].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> edges = jnp.ones((1, 1, 2)), jnp.ones((1, 2, 1))
    >>> problem = augment.PuzzleProblem(jnp.zeros((1, 2, 2, 3)), *edges)
    >>> augment.puzzle_energy(problem, jnp.array([[[0, 0], [0, 2]]])).tolist()
    [2.0]
  """
  unary = jnp.take_along_axis(problem.unary, labels[..., None], axis=-1)[..., 0]
  share = labels / jnp.asarray(problem.unary.shape[-1] - 1, unary.dtype)
  edges = (
    jnp.sum(weight * jnp.square(jnp.diff(share, axis=axis)), axis=(1, 2))
    for weight, axis in ((problem.vertical, 1), (problem.horizontal, 2))
  )
  return sum(edges, jnp.sum(unary, axis=(1, 2)))


def _shares(num_labels: int, dtype) -> Array:
  return jnp.arange(num_labels, dtype=dtype) / (num_labels - 1)


def _pool(x: Array, side: int) -> Array:
  """Means over squares: [B, W, W, ...] -> [B, W / side, W / side, ...]."""
  cells = x.shape[1] // side
  return jnp.mean(x.reshape(x.shape[0], cells, side, cells, side, *x.shape[3:]), axis=(2, 4))


def _border(images: Array, blocks: int, axis: int) -> Array:
  """Mean absolute differences across each border along an axis, between any two images.

  [B, 2, P, P, C] -> [B, 2, 2, n - 1, n] for axis 1, [B, 2, 2, n, n - 1] for axis 2; the first of
  the two axes of length 2 is the image before the border.
  """
  cells = images.shape[2] // blocks
  inner = jax.lax.slice_in_dim(images, cells - 1, (blocks - 1) * cells, cells, axis + 1)
  outer = jax.lax.slice_in_dim(images, cells, None, cells, axis + 1)
  gap = jnp.mean(jnp.abs(inner[:, :, None] - outer[:, None]), axis=-1)
  along = (blocks - 1, blocks, cells) if axis == 1 else (blocks, cells, blocks - 1)
  return jnp.mean(gap.reshape(*gap.shape[:3], *along), axis=4 + (axis == 1))


def beside(before: Array, after: Array, axis: int) -> Array:
  """Gives blocks the values of their edges along an axis, one for each side, summed.

  Args:
    before: n - 1 values along the axis, for the block above (left of) each edge.
    after: likewise, for the block below (right).
    axis: of the grid.

  Returns:
    n values along the axis.

  Example:
    >>> import jax.numpy as jnp
    >>> beside(jnp.array([1.0, 2.0]), jnp.array([10.0, 20.0]), 0).tolist()
    [1.0, 12.0, 20.0]
  """

  def pad(value: Array, side: tuple[int, int]) -> Array:
    return jnp.pad(value, [side if a == axis else (0, 0) for a in range(value.ndim)])

  return pad(before, (0, 1)) + pad(after, (1, 0))

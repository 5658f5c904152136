"""CutMix: a box of one image is replaced by the same box of another.

A box is four integers (top, left, bottom, right); row top is inside, row bottom is not. The share
of the image that stays is taken from the box as it was clipped and rounded to pixels, so labels
that are mixed by it name exactly the pixels that were pasted.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.augment._mixing import take_partners
from jaxnoise.core.types import Array, PRNGKey


def sample_box(
  rng: PRNGKey, lam: Array, height: int, width: int, *, continuous: bool = False
) -> Array:
  """Draws a box of sides H sqrt(1 - lam) and W sqrt(1 - lam) around a uniform centre, clipped.

  The box's share of the image is 1 - lam before the clipping and the rounding to pixels, and at
  most that afterwards, but for the part of a pixel that truncation may add to a side.

  Args:
    rng: key.
    lam: scalar in [0, 1].
    height: H, in pixels.
    width: W.
    continuous: False is the authors' code: the centre c is a pixel, the side s is truncated to
      whole pixels, and the box reaches from c - s // 2 to c + s // 2, so that its sides are even.
      True is the paper: the centre is a real number, and the corners are truncated.

  Returns:
    [4] int32: 0 <= top <= bottom <= H and 0 <= left <= right <= W.

  Source: Yun et al. (2019), eq. (2) and the authors' code; PuzzleMix' code for `continuous`.

  Example:
    >>> import jax
    >>> from jaxnoise import augment
    >>> top, left, bottom, right = augment.sample_box(jax.random.key(0), 0.75, 32, 32).tolist()
    >>> 0 <= bottom - top <= 16 and 0 <= right - left <= 16
    True
  """
  lam = jnp.asarray(lam, jnp.promote_types(jnp.result_type(lam), jnp.float32))
  share = jnp.sqrt(jnp.maximum(1 - lam, 0))
  sides = []
  for key, length in zip(jax.random.split(rng), (height, width), strict=True):
    if continuous:
      centre = length * jax.random.uniform(key, (), lam.dtype)
      half = length * share / 2
      ends = jnp.stack([centre - half, centre + half])
      sides.append(jnp.clip(ends, 0, length).astype(jnp.int32))
    else:
      centre = jax.random.randint(key, (), 0, length)
      half = (length * share).astype(jnp.int32) // 2
      sides.append(jnp.clip(jnp.stack([centre - half, centre + half]), 0, length))
  return jnp.stack(sides, axis=1).reshape(4).astype(jnp.int32)


def box_mask(box: Array, height: int, width: int) -> Array:
  """Marks the pixels of a box.

  Args:
    box: [4] from `sample_box`.
    height: H.
    width: W.

  Returns:
    [H, W] bool, true inside the box.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> augment.box_mask(jnp.array([0, 1, 1, 3]), 2, 3).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
  """
  top, left, bottom, right = box
  row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
  rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
  return rows & columns


def kept_share(box: Array, height: int, width: int) -> Array:
  """Computes 1 - area(box) / (H W), the share of the image outside the box.

  Args:
    box: [4] from `sample_box`.
    height: H.
    width: W.

  Returns:
    A scalar in [0, 1], the quotient of two pixel counts; 1 for an empty box.

  Source: Yun et al. (2019), the authors' code: the coefficient of the labels after clipping.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> float(augment.kept_share(jnp.array([0, 1, 1, 3]), 2, 4))
    0.75
  """
  top, left, bottom, right = box
  kept = height * width - (bottom - top) * (right - left)
  return kept / (height * width)


def cut_paste(image: Array, partners: Array, box: Array) -> Array:
  """Replaces a box of every image by the same box of its partner.

  Args:
    image: [B, H, W, C].
    partners: [G, B / G] from `sample_partners`.
    box: [4] from `sample_box`, one for the batch.

  Returns:
    [B, H, W, C]; every pixel is that of one of the two images, unchanged.

  Source: Yun et al. (2019), eq. (1).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> image = jnp.stack([jnp.zeros((1, 3, 1)), jnp.ones((1, 3, 1))])
    >>> mixed = augment.cut_paste(image, jnp.array([[1, 0]]), jnp.array([0, 0, 1, 2]))
    >>> mixed[..., 0].tolist()
    [[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]
  """
  inside = box_mask(box, image.shape[1], image.shape[2])[None, :, :, None]
  return jnp.where(inside, take_partners(image, partners), image)

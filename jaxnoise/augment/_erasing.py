"""Rectangles painted over an image: cutout, random erasing and the policies' rectangle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.augment._geometric import Fill
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey

POLICY_COLOR = (125, 123, 114)
"""The grey levels (red, green, blue) that `cutout_abs` paints."""


def cutout_abs(image: Array, size: Array | float, x: Array | float, y: Array | float) -> Array:
  """Paints the rectangle of the RandAugment and Fast AutoAugment policies.

  Its first column is x_0 = trunc(max(0, x - size / 2)), its last min(W, trunc(x_0 + size)), both
  included: size 4 paints 5 columns where they fit. Rows alike.

  Args:
    image: [H, W, C] uint8.
    size: scalar, pixels; below 0 nothing is painted.
    x: scalar, place of the centre, 0 to W.
    y: scalar, 0 to H.

  Returns:
    [H, W, C] uint8; the colour is `POLICY_COLOR`, on one channel its grey.

  Raises:
    InputError: if there are neither one nor three channels.

  Source: operation CutoutAbs of ildoonet's pytorch-randaugment and of kakaobrain's
    fast-autoaugment.

  Example:
    >>> import jax.numpy as jnp
    >>> cutout_abs(jnp.zeros((6, 6, 1), jnp.uint8), 2.0, 3.0, 0.5)[..., 0].tolist()[2]
    [0, 0, 123, 123, 123, 0]
  """
  height, width, channels = image.shape
  if channels not in (1, 3):
    raise InputError(f"image has {channels} channels; the rectangle's colour needs 1 or 3")
  weights = np.array([0.299, 0.587, 0.114])
  color = POLICY_COLOR if channels == 3 else [int(weights @ POLICY_COLOR + 0.5)]
  inside = jnp.ones((), bool)
  for axis, place, length in ((1, x, width), (0, y, height)):
    first = jnp.trunc(jnp.maximum(0.0, place - size / 2.0))
    last = jnp.trunc(jnp.minimum(float(length), first + size))
    at = jnp.arange(length, dtype=jnp.float32)
    within = (at >= first) & (at <= last)
    inside = inside & (within[None, :] if axis else within[:, None])
  inside &= jnp.asarray(size) >= 0
  paint = jnp.asarray(color, jnp.uint8)[None, None, :]
  return jnp.where(inside[:, :, None], paint, image)


def cutout(rng: PRNGKey, image: Array, *, size: int = 16, fill: Fill = 0.5) -> Array:
  """Puts a constant square at a random place, cut off at the image's border.

  Rows y - size // 2 to y + size // 2, the last one excluded, with y uniform over the rows; columns
  alike. An odd size therefore makes the hole of the even size below it: 5 gives 4x4.

  Args:
    rng: key.
    image: [H, W, C] float.
    size: side of the square, in pixels. GJS's configurations use 16, the GJS and NRD papers 5.
    fill: what the square holds, on the image's own scale, one number or C numbers. The papers put
      0 after normalisation, which in pixels is the mean that the model's first layer subtracts: 0.5
      for mean = std = 0.5, otherwise the data set's mean.

  Returns:
    [H, W, C]; no gradient reaches what is covered.

  Raises:
    InputError: if the size is negative or the fill has another number of channels.

  Source: DeVries and Taylor 2017; the rule is that of the code which GJS uses.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = cutout(jax.random.key(0), jnp.zeros((8, 8, 1)), size=2, fill=1.0)
    >>> image.sum().item() in (1.0, 2.0, 4.0)
    True
  """
  if size < 0:
    raise InputError(f"size is {size}; expected 0 or more pixels")
  height, width, _ = image.shape
  u = jax.random.uniform(rng, (2,))
  row, column = jnp.floor(u[0] * height), jnp.floor(u[1] * width)
  half = size // 2
  top, left = jnp.maximum(row - half, 0), jnp.maximum(column - half, 0)
  return _paint(image, top, left, row + half - top, column + half - left, fill)


def random_erasing(
  rng: PRNGKey,
  image: Array,
  *,
  probability: float = 0.5,
  area: tuple[float, float] = (0.02, 0.33),
  aspect: tuple[float, float] = (0.3, 3.3),
  fill: Fill = 0.0,
  tries: int = 10,
) -> Array:
  """Erases a random rectangle that lies wholly inside the image.

  With S ~ U(area) H W and r = exp(U(log aspect)) the rectangle has round(sqrt(S r)) rows and
  round(sqrt(S / r)) columns, and every place inside the image is equally likely. A rectangle must
  be smaller than the image in both directions; the first of several tries that is, is taken, and
  nothing is erased if none is.

  NRD's authors erase one square of exactly 15 % of every image, grey 124:
  `probability=1.0, area=(0.15, 0.15), aspect=(1.0, 1.0), fill=124 / 255`.

  Args:
    rng: key.
    image: [H, W, C] float.
    probability: of erasing at all.
    area: the range of the rectangle's share of the image, in [0, 1].
    aspect: the range of height over width, above 0.
    fill: what the rectangle holds, on the image's own scale, one number or C numbers.
    tries: rectangles drawn until one fits.

  Returns:
    [H, W, C]; no gradient reaches what is erased.

  Raises:
    InputError: if an argument is out of range.

  Source: Zhong et al. 2020; the rule and the defaults are those of torchvision's `RandomErasing`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> square = dict(probability=1.0, area=(0.15, 0.15), aspect=(1.0, 1.0), fill=1.0)
    >>> erase = jax.jit(lambda key, image: random_erasing(key, image, **square))
    >>> erase(jax.random.key(0), jnp.zeros((32, 32, 1))).sum().item()
    144.0
  """
  if not 0 <= probability <= 1:
    raise InputError(f"probability is {probability}; expected a number from 0 to 1")
  if not 0 <= area[0] <= area[1] <= 1:
    raise InputError(f"area is {area}; expected a range (low, high) of shares in [0, 1]")
  if tries < 1:
    raise InputError(f"tries is {tries}; expected at least 1")
  height, width, _ = image.shape
  u = jax.random.uniform(rng, (2 * tries + 3,))
  rows, columns = sample_sides(u[3:].reshape(tries, 2), height * width, area, aspect)
  fits = (rows < height) & (columns < width)
  which = jnp.argmax(fits)
  rows, columns = rows[which], columns[which]
  erased = fits[which] & (u[0] < probability)
  top = jnp.floor(u[1] * (height - rows + 1))
  left = jnp.floor(u[2] * (width - columns + 1))
  return _paint(image, top, left, jnp.where(erased, rows, 0), columns, fill)


def sample_sides(
  uniform: Array, total: int, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[Array, Array]:
  """Sides of rectangles of random area S and aspect r: round(sqrt(S r)), round(sqrt(S / r)).

  Args:
    uniform: [N, 2] in [0, 1).
    total: pixels of the image.
    area: range of S as a share of the total; S is uniform.
    aspect: range of r; log r is uniform.

  Returns:
    Two [N] float32 of whole numbers.

  Raises:
    InputError: if the aspects are no range of positive numbers.

  Example:
    >>> import jax.numpy as jnp
    >>> [side.tolist() for side in sample_sides(jnp.zeros((1, 2)), 1024, (0.15, 1.0), (1.0, 2.0))]
    [[12.0], [12.0]]
  """
  if not 0 < aspect[0] <= aspect[1]:
    raise InputError(f"aspect is {aspect}; expected a range (low, high) of numbers above 0")
  surface = total * (area[0] + (area[1] - area[0]) * uniform[:, 0])
  low, high = np.log(aspect[0]), np.log(aspect[1])
  ratio = jnp.exp(low + (high - low) * uniform[:, 1])
  return jnp.round(jnp.sqrt(surface * ratio)), jnp.round(jnp.sqrt(surface / ratio))


def _paint(image: Array, top: Array, left: Array, rows: Array, columns: Array, fill: Fill) -> Array:
  """Puts the fill into a rectangle given by its corner and its sides, in pixels."""
  height, width, channels = image.shape
  row, column = jnp.arange(height), jnp.arange(width)
  in_rows = (row >= top) & (row < top + rows)
  in_columns = (column >= left) & (column < left + columns)
  color = jnp.asarray(fill, image.dtype)
  if color.shape not in ((), (1,), (channels,)):
    raise InputError(
      f"fill has shape {color.shape} for an image of {channels} channels; give one number or one "
      "per channel"
    )
  inside = in_rows[:, None] & in_columns[None, :]
  color = jnp.broadcast_to(color, (channels,))
  return jnp.where(inside[:, :, None], color[None, None, :], image)

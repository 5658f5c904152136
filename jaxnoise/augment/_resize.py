"""Crops of random size and aspect, resized; and the resizing of evaluation images."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.augment._erasing import sample_sides
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey

TRIES = 10


def crop_resize(
  image: Array,
  top: Array | float,
  left: Array | float,
  rows: Array | float,
  columns: Array | float,
  size: tuple[int, int],
) -> Array:
  """Cuts a rectangle out of one image and resizes it, bilinear with antialiasing.

  Row o of the output is a weighted mean of the rectangle's rows i: with s = rows / height of the
  output, w = max(0, 1 - |i + 1/2 - top - (o + 1/2) s| / max(s, 1)), normalised to sum 1. Nothing
  outside the rectangle enters. Columns alike.

  Args:
    image: [H, W, C] float.
    top, left: scalars, the rectangle's first row and column, whole numbers.
    rows, columns: scalars, its sides, at least 1.
    size: (height, width) of the output; static.

  Returns:
    [height, width, C] of the image's dtype; differentiable in the image.

  Source: PIL's `Image.resize` with BILINEAR on a crop, without its two roundings to grey levels.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.arange(16.0).reshape(4, 4, 1)
    >>> jax.jit(lambda image: crop_resize(image, 0, 0, 2, 4, (1, 2)))(image).ravel().tolist()
    [2.714, 4.286]
  """
  vertical = _weights(top, rows, size[0], image.shape[0])
  horizontal = _weights(left, columns, size[1], image.shape[1])
  return _resample(image, vertical, horizontal)


def _weights(start: Array | float, length: Array | float, count: int, total: int) -> Array:
  """The weights [count, total] of the input's pixels in those of the output, along one axis."""
  start, length = jnp.asarray(start, jnp.float32), jnp.asarray(length, jnp.float32)
  scale = length / count
  center = start + (jnp.arange(count, dtype=jnp.float32) + 0.5) * scale
  pixel = jnp.arange(total, dtype=jnp.float32)
  distance = jnp.abs((pixel + 0.5)[None, :] - center[:, None]) / jnp.maximum(scale, 1.0)
  inside = (pixel >= start) & (pixel < start + length)
  weight = jnp.where(inside[None, :], jnp.maximum(0.0, 1.0 - distance), 0.0)
  return weight / jnp.sum(weight, axis=1, keepdims=True)


def _resample(image: Array, vertical: Array, horizontal: Array) -> Array:
  dtype = jnp.promote_types(image.dtype, jnp.float32)
  precision = jax.lax.Precision.HIGHEST
  out = jnp.einsum("ph,hwc->pwc", vertical, image.astype(dtype), precision=precision)
  out = jnp.einsum("qw,pwc->pqc", horizontal, out, precision=precision)
  return out.astype(image.dtype)


def sample_resized_crop(
  rng: PRNGKey,
  size: tuple[int, int],
  *,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[Array, Array, Array, Array, Array]:
  """Draws the rectangle of `random_resized_crop` and whether its image is mirrored.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    scale, ratio: see `random_resized_crop`.

  Returns:
    Scalars top, left, rows, columns (float32, whole) and mirrored (bool).

  Raises:
    InputError: if a range is out of order or out of bounds.

  Example:
    >>> import jax
    >>> draw = jax.jit(sample_resized_crop, static_argnums=1, static_argnames=("scale", "ratio"))
    >>> crop = draw(jax.random.key(0), (32, 32), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    >>> [side.item() for side in crop[:4]]
    [0.0, 0.0, 32.0, 32.0]
  """
  if not 0 < scale[0] <= scale[1] <= 1:
    raise InputError(f"scale is {scale}; expected a range (low, high) of shares in (0, 1]")
  if not 0 < ratio[0] <= ratio[1]:
    raise InputError(f"ratio is {ratio}; expected a range (low, high) of numbers above 0")
  height, width = size
  numbers = jax.random.uniform(rng, (2 * TRIES + 3,))
  columns, rows = sample_sides(numbers[3:].reshape(TRIES, 2), height * width, scale, ratio)
  fits = (rows > 0) & (rows <= height) & (columns > 0) & (columns <= width)
  which, found = jnp.argmax(fits), jnp.any(fits)
  # Otherwise the largest rectangle about the centre whose aspect is allowed.
  most_rows, most_columns = height, width
  if width / height < ratio[0]:
    most_rows = round(width / ratio[0])
  elif width / height > ratio[1]:
    most_columns = round(height * ratio[1])
  rows = jnp.where(found, rows[which], most_rows)
  columns = jnp.where(found, columns[which], most_columns)
  top = jnp.floor(numbers[0] * (height - rows + 1))
  left = jnp.floor(numbers[1] * (width - columns + 1))
  top = jnp.where(found, top, (height - most_rows) // 2)
  left = jnp.where(found, left, (width - most_columns) // 2)
  return top, left, rows, columns, numbers[2] < 0.5


def random_resized_crop(
  rng: PRNGKey,
  image: Array,
  *,
  size: int | None = None,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  flip: bool = True,
) -> Array:
  """Cuts out a rectangle of random size and aspect, resizes it, and mirrors every other one.

  With S ~ U(scale) H W and r = exp(U(log ratio)) the rectangle is round(sqrt(S r)) pixels wide and
  round(sqrt(S / r)) high, at a uniform place. The first of ten that fit into the image is taken, if
  none does the largest about the centre whose aspect is allowed. See `crop_resize`.

  Args:
    rng: key.
    image: [H, W, C] float.
    size: side of the output, in pixels; None keeps the image's own (H, W).
    scale: range of the rectangle's share of the image, in (0, 1].
    ratio: range of width over height, above 0.
    flip: also mirrors left to right with probability one half; False never does.

  Returns:
    [size, size, C] of the image's dtype; differentiable in the image.

  Raises:
    InputError: if a range or the size is out of bounds.

  Source: Szegedy et al. 2015; the rule is that of torchvision's `RandomResizedCrop`, the resampling
    that of PIL.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> crop = jax.jit(lambda key, image: random_resized_crop(key, image, size=32))
    >>> crop(jax.random.key(0), jnp.ones((40, 50, 3))).shape
    (32, 32, 3)
  """
  if size is not None and size < 1:
    raise InputError(f"size is {size}; expected at least 1 pixel, or None for the image's own")
  height, width, _ = image.shape
  target = (height, width) if size is None else (int(size), int(size))
  crop = sample_resized_crop(rng, (height, width), scale=scale, ratio=ratio)
  top, left, rows, columns, mirrored = crop
  vertical = _weights(top, rows, target[0], height)
  horizontal = _weights(left, columns, target[1], width)
  if flip:
    horizontal = jnp.where(mirrored, horizontal[::-1], horizontal)
  return _resample(image, vertical, horizontal)


def resize_center_crop(image: Array, *, resize: int = 256, size: int = 224) -> Array:
  """Resizes the shorter side of one image and cuts a square out of its centre.

  The longer side becomes trunc(resize * longer / shorter); the square's first row is
  round((height - size) / 2), halves to the even number.

  Args:
    image: [H, W, C] float.
    resize: the shorter side, in pixels.
    size: the square's side, at most `resize`.

  Returns:
    [size, size, C] of the image's dtype; differentiable in the image.

  Raises:
    InputError: if `size` is below 1 or above `resize`.

  Source: torchvision's `Resize(resize)` and `CenterCrop(size)`, the papers' treatment of ImageNet's
    and WebVision's test images; the resampling is PIL's, see `crop_resize`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> whole = jax.jit(resize_center_crop, static_argnames=("resize", "size"))
    >>> whole(jnp.ones((40, 50, 3)), resize=32, size=28).shape
    (28, 28, 3)
  """
  if not 1 <= size <= resize:
    raise InputError(f"size is {size}; expected 1 to resize = {resize} pixels")
  height, width, _ = image.shape
  shorter = min(height, width)
  target = [resize if side == shorter else int(resize * side / shorter) for side in (height, width)]
  weights = []
  for side, length in zip((height, width), target):
    first = round((length - size) / 2)
    weights.append(_weights(0.0, side, length, side)[first : first + size])
  return _resample(image, *weights)

"""Geometric operations on one image: affine resampling as PIL does it, crops and flips.

An affine operation maps the centre of every output pixel to a place in the input and interpolates
there. The map is kept as a *displacement*, input place minus output place: displacements are small
numbers, so float32 loses nothing that could change a grey level.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey

Fill = float | Sequence[float] | Array

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def displacements(parameter: Array | float, height: int, width: int) -> Array:
  """The displacement matrices of the five geometric operations, all with the same parameter.

  Args:
    parameter: scalar; degrees, shear or pixels, whichever the operation understands.
    height: H, in pixels; shears leave the top left corner of the image where it is.
    width: W.

  Returns:
    [5, 2, 3] float32 in the order of `GEOMETRIC`, to be used with `affine`.

  Example:
    >>> import jax
    >>> moves = jax.jit(displacements, static_argnums=(1, 2))(2.0, 32, 32)
    >>> moves[GEOMETRIC.index("translate_x")].tolist()
    [[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
  """
  p = jnp.asarray(parameter, jnp.float32)
  zero = jnp.zeros_like(p)
  angle = jnp.deg2rad(p)
  sin, cos_minus_one = jnp.sin(angle), -2.0 * jnp.sin(angle / 2.0) ** 2
  rows = (
    (cos_minus_one, -sin, zero, sin, cos_minus_one, zero),
    (zero, p, p * (height / 2), zero, zero, zero),
    (zero, zero, zero, p, zero, p * (width / 2)),
    (zero, zero, p, zero, zero, zero),
    (zero, zero, zero, zero, zero, p),
  )
  return jnp.stack([jnp.stack(row) for row in rows]).reshape(len(GEOMETRIC), 2, 3)


def affine(image: Array, displacement: Array, *, fill: Fill = 0.0) -> Array:
  """Resamples one image at places given by an affine displacement.

  The output pixel whose centre is (u, v), measured from the image's centre with v downwards, takes
  the bilinear interpolation of the input at (u, v) + D (u, v, 1)^T. Neighbours beyond the border
  are clamped to it; a place outside the image gives the fill.

  Args:
    image: [H, W, C]; a float image is differentiable, in the image and (almost everywhere) in the
      displacement; a uint8 image is interpolated on 0..255 and truncated, as PIL does.
    displacement: [2, 3], D, in pixels; zeros are the identity.
    fill: the value outside the image on the image's own scale, one number or C numbers.

  Returns:
    [H, W, C] of the image's dtype.

  Source: behaviour of PIL's `Image.transform` with AFFINE and BILINEAR.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.arange(4.0).reshape(1, 4, 1)
    >>> jax.jit(affine)(image, jnp.array([[0, 0, 0.5], [0, 0, 0]]), fill=9.0).ravel().tolist()
    [0.5, 1.5, 2.5, 9.0]
  """
  height, width, channels = image.shape
  grey_levels = image.dtype == jnp.uint8
  dtype = jnp.float32 if grey_levels else jnp.promote_types(image.dtype, jnp.float32)
  displacement = displacement.astype(dtype)
  row, column = jnp.mgrid[:height, :width]
  v = row.astype(dtype) + (0.5 - height / 2)
  u = column.astype(dtype) + (0.5 - width / 2)
  dx = displacement[0, 0] * u + displacement[0, 1] * v + displacement[0, 2]
  dy = displacement[1, 0] * u + displacement[1, 1] * v + displacement[1, 2]
  inside = (u + dx >= -width / 2) & (u + dx < width / 2)
  inside &= (v + dy >= -height / 2) & (v + dy < height / 2)

  whole_x, whole_y = jnp.floor(dx), jnp.floor(dy)
  part_x, part_y = dx - whole_x, dy - whole_y
  x, y = column + whole_x.astype(jnp.int32), row + whole_y.astype(jnp.int32)
  left, right = jnp.clip(x, 0, width - 1), jnp.clip(x + 1, 0, width - 1)
  top, bottom = jnp.clip(y, 0, height - 1), jnp.clip(y + 1, 0, height - 1)
  corners = [top * width + left, top * width + right, bottom * width + left, bottom * width + right]

  fill = jnp.broadcast_to(jnp.asarray(fill, dtype), (channels,))
  out = []
  for channel, taps in enumerate(_gather(image, corners)):
    a, b, c, d = (tap.astype(dtype) for tap in taps)
    upper, lower = a + (b - a) * part_x, c + (d - c) * part_x
    value = upper + (lower - upper) * part_y
    out.append(jnp.where(inside, value, fill[channel]).astype(image.dtype))
  return jnp.stack(out, axis=-1)


def affine_nearest(image: Array, displacement: Array, *, fill: Fill = 0.0) -> Array:
  """Resamples one image like `affine`, taking the nearest pixel instead of interpolating.

  Places are 16.16 fixed-point numbers, as in PIL, so that a place on the border of two pixels falls
  to the same one: x_in = (a_0 x + a_1 y + a_2) >> 16 with a_i = floor(65536 A_i + 1/2).

  Args:
    image: [H, W, C], any dtype; sides below 32768.
    displacement: [2, 3], in pixels about the image's centre; zeros are the identity.
    fill: the value outside the image on the image's own scale, one number or C numbers.

  Returns:
    [H, W, C] of the image's dtype; differentiable in the image.

  Source: behaviour of PIL's `Image.transform` with AFFINE and NEAREST.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.arange(4.0).reshape(1, 4, 1)
    >>> move = jnp.array([[0, 0, 0.7], [0, 0, 0]])
    >>> jax.jit(affine_nearest)(image, move, fill=9.0).ravel().tolist()
    [1.0, 2.0, 3.0, 9.0]
  """
  height, width, channels = image.shape
  d = displacement.astype(jnp.float32)
  # From the displacement of the centre to that of the first pixel's centre.
  start = d[:, 2] + d[:, 0] * (0.5 - width / 2) + d[:, 1] * (0.5 - height / 2) + 0.5
  slopes = jnp.floor(d[:, :2] * 65536 + 0.5).astype(jnp.int32)
  start = jnp.floor(start * 65536 + 0.5).astype(jnp.int32)
  row, column = jnp.mgrid[:height, :width]
  x = column + ((slopes[0, 0] * column + slopes[0, 1] * row + start[0]) >> 16)
  y = row + ((slopes[1, 0] * column + slopes[1, 1] * row + start[1]) >> 16)
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
  fill = jnp.broadcast_to(jnp.asarray(fill, image.dtype), (channels,))
  out = [
    jnp.where(inside, taps[0].astype(image.dtype), fill[channel])
    for channel, taps in enumerate(_gather(image, [index]))
  ]
  return jnp.stack(out, axis=-1)


def _gather(image: Array, indices: list[Array]) -> list[list[Array]]:
  """Returns, per channel, the pixels at each of the flat indices."""
  height, width, channels = image.shape
  if image.dtype != jnp.uint8 or channels > 4:
    flat = image.reshape(height * width, channels)
    taps = [flat.at[index].get(mode="promise_in_bounds") for index in indices]
    return [[tap[..., channel] for tap in taps] for channel in range(channels)]
  # Gathers cost by the element: four grey levels in one 32-bit word are fetched together.
  words = sum(image[..., c].astype(jnp.uint32) << (8 * c) for c in range(channels)).ravel()
  taps = [words.at[index].get(mode="promise_in_bounds") for index in indices]
  return [[(tap >> (8 * c)) & 255 for tap in taps] for c in range(channels)]


def rotate(image: Array, degrees: Array | float, *, fill: Fill = 0.0) -> Array:
  """Rotates one image counter-clockwise about its centre.

  Args:
    image: [H, W, C], float or uint8 (see `affine`).
    degrees: scalar.
    fill: the value outside the image.

  Source: PIL's `Image.rotate` with BILINEAR, for angles between -90 and 90 degrees.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(rotate)(jnp.ones((4, 4, 1)), 30.0)[1, 1, 0].item()
    1.0
  """
  return _apply("rotate", image, degrees, fill)


def shear_x(image: Array, shear: Array | float, *, fill: Fill = 0.0) -> Array:
  """Shears one image along its rows: x_in = x + shear * y, both from the top left corner.

  Args:
    image: [H, W, C], float or uint8 (see `affine`).
    shear: scalar, pixels per pixel.
    fill: the value outside the image.

  Source: PIL's `Image.transform` with coefficients (1, shear, 0, 0, 1, 0).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(shear_x)(jnp.arange(3.0).reshape(1, 3, 1), 2.0).ravel().tolist()
    [1.0, 2.0, 0.0]
  """
  return _apply("shear_x", image, shear, fill)


def shear_y(image: Array, shear: Array | float, *, fill: Fill = 0.0) -> Array:
  """Shears one image along its columns: y_in = y + shear * x. See `shear_x`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(shear_y)(jnp.ones((3, 3, 1)), 2.0)[0, :, 0].tolist()
    [1.0, 0.0, 0.0]
  """
  return _apply("shear_y", image, shear, fill)


def translate_x(image: Array, pixels: Array | float, *, fill: Fill = 0.0) -> Array:
  """Moves one image to the left: x_in = x + pixels.

  Args:
    image: [H, W, C], float or uint8 (see `affine`).
    pixels: scalar; a fraction interpolates.
    fill: the value outside the image.

  Source: PIL's `Image.transform` with coefficients (1, 0, pixels, 0, 1, 0).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(translate_x)(jnp.arange(4.0).reshape(1, 4, 1), 1, fill=9.0).ravel().tolist()
    [1.0, 2.0, 3.0, 9.0]
  """
  return _apply("translate_x", image, pixels, fill)


def translate_y(image: Array, pixels: Array | float, *, fill: Fill = 0.0) -> Array:
  """Moves one image upwards: y_in = y + pixels. See `translate_x`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(translate_y)(jnp.arange(3.0).reshape(3, 1, 1), 1).ravel().tolist()
    [1.0, 2.0, 0.0]
  """
  return _apply("translate_y", image, pixels, fill)


def _apply(name: str, image: Array, parameter: Array | float, fill: Fill) -> Array:
  matrix = displacements(parameter, *image.shape[:2])[GEOMETRIC.index(name)]
  return affine(image, matrix, fill=fill)


def random_crop(rng: PRNGKey, image: Array, padding: int, fill: Fill = 0.0) -> Array:
  """Pads one image on all sides and cuts a window of the original size at a random place.

  out[y, x] = padded[y + s, x + t] with s, t uniform on {0, ..., 2 * padding}.

  Args:
    rng: key.
    image: [H, W, C].
    padding: pixels; 0 is the identity.
    fill: value of the padding, one number or C numbers.

  Returns:
    [H, W, C]; differentiable in the image.

  Raises:
    InputError: if the padding is negative.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.ones((32, 32, 3))
    >>> jax.eval_shape(lambda key: random_crop(key, image, padding=4), jax.random.key(0)).shape
    (32, 32, 3)
  """
  if padding < 0:
    raise InputError(f"padding is {padding}; expected 0 or more pixels")
  if padding == 0:
    return image
  height, width, channels = image.shape
  place = jnp.floor(jax.random.uniform(rng, (2,)) * (2 * padding + 1)).astype(jnp.int32)
  shift_y, shift_x = place - padding
  row, column = jnp.arange(height) + shift_y, jnp.arange(width) + shift_x
  inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))[None, :]
  rows = jnp.take(image, row, axis=0, mode="clip")
  window = jnp.take(rows, column, axis=1, mode="clip")
  fill = jnp.broadcast_to(jnp.asarray(fill, image.dtype), (channels,))
  return jnp.where(inside[:, :, None], window, fill[None, None, :])


def random_flip(rng: PRNGKey, image: Array) -> Array:
  """Mirrors one image left to right with probability one half.

  Args:
    rng: key.
    image: [H, W, C].

  Returns:
    [H, W, C]; differentiable in the image.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> random_flip(jax.random.key(0), jnp.ones((8, 8, 1))).shape
    (8, 8, 1)
  """
  return jnp.where(jax.random.bernoulli(rng), image[:, ::-1], image)

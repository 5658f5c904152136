"""JPEG compression: the lossy part of the baseline codec, in the integers of the usual library.

Entropy coding loses nothing, so it is left out: colours are converted and halved, 8 x 8 blocks are
transformed, quantised, and everything is undone. Source: ITU-T T.81 (tables K.1 and K.2, colour
from JFIF); for the roundings, the documented behaviour of libjpeg with its accurate integer
transform (Loeffler, Ligtenberg and Moschytz, 1989) and its smooth chroma upsampling.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, select
from jaxnoise.corruptions._tables import parameters

# At quality 50, rows of vertical frequency.
_LUMINANCE = (
  (16, 11, 10, 16, 24, 40, 51, 61),
  (12, 12, 14, 19, 26, 58, 60, 55),
  (14, 13, 16, 24, 40, 57, 69, 56),
  (14, 17, 22, 29, 51, 87, 80, 62),
  (18, 22, 37, 56, 68, 109, 103, 77),
  (24, 35, 55, 64, 81, 104, 113, 92),
  (49, 64, 78, 87, 103, 121, 120, 101),
  (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
  (17, 18, 24, 47, 99, 99, 99, 99),
  (18, 21, 26, 66, 99, 99, 99, 99),
  (24, 26, 56, 99, 99, 99, 99, 99),
  (47, 66, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
)

# Factors times 2^16 of R, G, B in Y, Cb, Cr, and of (Y, Cb - 128, Cr - 128) in R, G, B.
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_TO_RGB = ((65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0))


def quantization_tables(quality: int) -> np.ndarray:
  """The luminance and chrominance tables of a quality from 1 to 100.

  Entry (t s + 50) / 100, cut to 1..255, with s = 5000 / quality below 50 and 200 - 2 quality from
  there on; all divisions of integers.

  Returns:
    [2, 8, 8] int32.

  Example:
    >>> from jaxnoise.corruptions import _jpeg
    >>> _jpeg.quantization_tables(80)[:, 0, :3].tolist()
    [[6, 4, 4], [7, 7, 10]]
  """
  scale = 5000 // quality if quality < 50 else 200 - 2 * quality
  tables = np.asarray((_LUMINANCE, _CHROMINANCE))
  return np.clip((tables * scale + 50) // 100, 1, 255).astype(np.int32)


def transform_matrix() -> np.ndarray:
  """The 8-point cosine transform times sqrt(8) 2^13, as the integer algorithm computes it.

  The algorithm's constants are rounded to 13 bits each, and an entry is the sum of the constants
  on its path; so entries differ a little from the rounded cosines.

  Returns:
    [8, 8] int32, row k for frequency k; the inverse transform uses its transpose.

  Example:
    >>> from jaxnoise.corruptions import _jpeg
    >>> _jpeg.transform_matrix()[1].tolist()
    [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363]
  """
  c = [math.sqrt(2) * math.cos(k * math.pi / 16) for k in range(8)]

  def fixed(value: float) -> int:
    return round(value * 2**13)

  x = np.eye(8, dtype=np.int64)
  near, far = x[:4] + x[7:3:-1], x[:4] - x[7:3:-1]
  outer, inner = near[:2] + near[3:1:-1], near[:2] - near[3:1:-1]
  out = np.empty((8, 8), np.int64)
  out[0], out[4] = (outer[0] + outer[1]) << 13, (outer[0] - outer[1]) << 13
  shared = (inner[0] + inner[1]) * fixed(c[6])
  out[2] = shared + inner[0] * fixed(c[2] - c[6])
  out[6] = shared - inner[1] * fixed(c[2] + c[6])
  # The odd half: far[3 - k] meets frequency 7 - 2 k through one own and three shared products.
  own = (-c[1] + c[3] + c[5] - c[7], c[1] + c[3] - c[5] + c[7])
  own += (c[1] + c[3] + c[5] - c[7], c[1] + c[3] - c[5] - c[7])
  t = far[::-1]
  both = (t[0] + t[2] + t[1] + t[3]) * fixed(c[3])
  even = both - (t[0] + t[2]) * fixed(c[3] + c[5])
  odd = both - (t[1] + t[3]) * fixed(c[3] - c[5])
  ends = -(t[0] + t[3]) * fixed(c[3] - c[7])
  middle = -(t[1] + t[2]) * fixed(c[1] + c[3])
  pairs = ((ends, even), (middle, odd), (middle, even), (ends, odd))
  for k, (first, second) in enumerate(pairs):
    out[7 - 2 * k] = t[k] * fixed(own[k]) + first + second
  return out.astype(np.int32)


def jpeg_compression(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Encodes and decodes as JPEG, chroma at half the resolution.

  Parameters: the quality, 1..100. Blocks are 8 pixels at every size, so nothing is scaled. The
  image is rounded to 8 bits first, and the result is on the 8-bit grid; the gradient is zero.

  Args:
    rng: not used; nothing here is random.
    image: [H, W, 3] in [0, 1].
    severity: 1..5.
    variant: "cifar" or "imagenet".

  Returns:
    [H, W, 3], multiples of 1/255 in [0, 1].

  Raises:
    InputError: for an integer, batched or not three-channel image, a severity outside 1..5, an
      unknown variant.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> grey = jax.numpy.full((16, 16, 3), 0.5)
    >>> float(jax.jit(corruptions.jpeg_compression)(jax.random.key(0), grey, 5)[3, 3, 0] * 255)
    128.0
  """
  del rng
  image = check_image(image, rgb=True)
  qualities = parameters("jpeg_compression", variant)[:, 0].astype(int)
  tables = np.stack([quantization_tables(quality) for quality in qualities.tolist()])
  return jpeg_compression_from(image, select(tables, severity, jnp.int32))


def jpeg_compression_from(image: Array, tables: Array) -> Array:
  """JPEG with given quantisation tables [2, 8, 8], see `jpeg_compression`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _jpeg
    >>> image = jnp.linspace(0, 1, 8 * 8 * 3).reshape(8, 8, 3)
    >>> out = jax.jit(_jpeg.jpeg_compression_from)(image, jnp.full((2, 8, 8), 255))
    >>> out.shape, bool((out == image).all())
    ((8, 8, 3), False)
  """
  height, width = image.shape[:2]
  levels = jnp.round(image * 255.0).astype(jnp.int32)
  half = 1 << 15
  luma, blue, red = (
    # Chroma is shifted by 128 and rounds its halves down.
    (_weigh(levels, factors) + (half if k == 0 else (128 << 16) + half - 1)) >> 16
    for k, factors in enumerate(_TO_YCC)
  )
  luma = _code(luma, tables[0])
  blue, red = (_enlarge(_code(_halve(plane), tables[1]), height, width) for plane in (blue, red))
  planes = jnp.stack([luma, blue - 128, red - 128], axis=-1)
  colours = jnp.stack([(_weigh(planes, factors) + half) >> 16 for factors in _TO_RGB], axis=-1)
  return jnp.clip(colours, 0, 255).astype(image.dtype) / 255.0


def _weigh(planes: Array, factors: tuple[int, ...]) -> Array:
  """The weighted sum over the last axis, in integers."""
  return sum(planes[..., k] * factor for k, factor in enumerate(factors))


def _halve(plane: Array) -> Array:
  """Averages 2 x 2 pixels; the rounding alternates down and up along a row."""
  height, width = plane.shape
  # The encoder completes rows to whole blocks before it averages, columns only to an even number.
  plane = jnp.pad(plane, ((0, height % 2), (0, -width % 16)), mode="edge")
  total = plane[0::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 0::2] + plane[1::2, 1::2]
  return (total + (1 + jnp.arange(total.shape[1]) % 2)[None, :]) >> 2


def _code(plane: Array, table: Array) -> Array:
  """Transforms, quantises and transforms back a plane [H, W] of 0..255, in 8 x 8 blocks."""
  height, width = plane.shape
  padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge") - 128
  rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
  blocks = padded.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
  matrix = jnp.asarray(transform_matrix())
  # Two bits more are kept between the two passes; the coefficients come out times 8.
  blocks = _shift(jnp.einsum("kx,rcyx->rcyk", matrix, blocks), 11)
  blocks = _shift(jnp.einsum("ky,rcyl->rckl", matrix, blocks), 15)
  divisor = (8 * table)[None, None]
  blocks = jnp.sign(blocks) * ((jnp.abs(blocks) + divisor // 2) // divisor)
  blocks = blocks * table[None, None]
  blocks = _shift(jnp.einsum("ky,rckl->rcyl", matrix, blocks), 11)
  blocks = _shift(jnp.einsum("lx,rcyl->rcyx", matrix, blocks), 18)
  plane = blocks.transpose(0, 2, 1, 3).reshape(8 * rows, 8 * columns)
  return jnp.clip(plane + 128, 0, 255)[:height, :width]


def _shift(value: Array, bits: int) -> Array:
  return (value + (1 << (bits - 1))) >> bits


def _enlarge(plane: Array, height: int, width: int) -> Array:
  """Doubles a chroma plane to [height, width] with weights 3/4 and 1/4 along both axes."""
  rows, columns = -(-height // 2), -(-width // 2)
  plane = plane[:rows, :columns]
  if columns <= 2:  # too narrow for the decoder's filter: it repeats pixels
    return jnp.repeat(jnp.repeat(plane, 2, axis=0), 2, axis=1)[:height, :width]
  tall = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
  mixed = jnp.stack([3 * plane + tall[:-2], 3 * plane + tall[2:]], axis=1)
  mixed = mixed.reshape(2 * rows, columns)
  wide = jnp.pad(mixed, ((0, 0), (1, 1)), mode="edge")
  # Sixteenths; of the two pixels one rounds its halves up and the other down.
  left, right = 3 * mixed + wide[:, :-2] + 8, 3 * mixed + wide[:, 2:] + 7
  return (jnp.stack([left, right], axis=2).reshape(2 * rows, 2 * columns) >> 4)[:height, :width]

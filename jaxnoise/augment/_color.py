"""Operations on grey levels: tables per channel and blends, with PIL's 8-bit arithmetic.

Images here are [H, W, C] uint8. Quotients are floor((a + 1/2) / b) of integers a, b: the half keeps
the float32 quotient away from whole numbers, so its rounding, which differs between devices,
cannot move it across one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array


def autocontrast(image: Array) -> Array:
  """Stretches every channel to the full range: floor(255 (x - min) / (max - min)).

  A channel of one value is left alone. PIL forms the quotient in another order, in double
  precision, and falls one grey level short on 0.4 % of all (min, max, x).

  Args:
    image: [H, W, C] uint8.

  Returns:
    [H, W, C] uint8.

  Source: PIL's `ImageOps.autocontrast` with cutoff 0.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(autocontrast)(jnp.array([[[10], [15], [20]]], jnp.uint8)).ravel().tolist()
    [0, 127, 255]
  """
  level = image.astype(jnp.float32)
  low = jnp.min(level, axis=(0, 1), keepdims=True)
  high = jnp.max(level, axis=(0, 1), keepdims=True)
  stretched = jnp.floor(((level - low) * 255 + 0.5) / jnp.maximum(high - low, 1))
  return jnp.where(high > low, stretched, level).astype(jnp.uint8)


def equalize(image: Array) -> Array:
  """Makes the histogram of every channel as even as a table of grey levels can.

  table[g] = (step // 2 + #{x < g}) // step, step = #{x < max x} // 255, cut at 255; a channel with
  step 0 is left alone.

  Args:
    image: [H, W, C] uint8, fewer than 2^22 pixels.

  Returns:
    [H, W, C] uint8.

  Source: PIL's `ImageOps.equalize`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.arange(0, 128, dtype=jnp.uint8).repeat(8).reshape(32, 32, 1)
    >>> equal = jax.jit(equalize)(image)
    >>> equal[0, 8, 0].item(), equal.max().item()
    (3, 255)
  """
  channels = image.shape[-1]
  entry = image.astype(jnp.int32) + (256 * jnp.arange(channels, dtype=jnp.int32))[None, None, :]
  counts = jnp.zeros((256 * channels,), jnp.int32)
  counts = counts.at[entry.ravel()].add(1, mode="promise_in_bounds").reshape(channels, 256)
  below = jax.lax.optimization_barrier(jnp.cumsum(counts, axis=1) - counts)
  step = jnp.max(jnp.where(counts > 0, below, 0), axis=1, keepdims=True) // 255
  table = (step // 2 + below).astype(jnp.float32) + 0.5
  table = jnp.floor(table / jnp.maximum(step, 1).astype(jnp.float32))
  same = jnp.arange(256, dtype=jnp.float32)[None, :]
  table = jnp.where(step > 0, jnp.minimum(table, 255), same).astype(jnp.uint8)
  # Without the barriers the compiler recomputes the table for every pixel.
  table = jax.lax.optimization_barrier(table.ravel())
  return table.at[entry].get(mode="promise_in_bounds")


def posterize(image: Array, bits: Array | float) -> Array:
  """Keeps the top bits of every grey level and zeroes the rest.

  Args:
    image: [H, W, C] uint8.
    bits: scalar, how many to keep, 0 to 8.

  Source: PIL's `ImageOps.posterize`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(posterize)(jnp.array([[[255, 100, 7]]], jnp.uint8), 3).ravel().tolist()
    [224, 96, 0]
  """
  dropped = 8 - jnp.asarray(bits).astype(jnp.int32)
  return image & (255 << dropped).astype(jnp.uint8)


def solarize(image: Array, threshold: Array | float) -> Array:
  """Inverts the grey levels at or above a threshold.

  Args:
    image: [H, W, C] uint8.
    threshold: scalar, 0 (all inverted) to 256 (none).

  Source: PIL's `ImageOps.solarize`.

  Example:
    >>> import jax.numpy as jnp
    >>> solarize(jnp.array([[[255, 100, 7]]], jnp.uint8), 100).ravel().tolist()
    [0, 155, 7]
  """
  return jnp.where(image.astype(jnp.float32) >= threshold, 255 - image, image)


def solarize_add(image: Array, addition: Array | float) -> Array:
  """Adds to every grey level, cuts at 255, truncates, and inverts the levels at or above 128.

  Args:
    image: [H, W, C] uint8.
    addition: scalar, in grey levels, 0 to 110 in the published policies.

  Source: the operation of this name in ildoonet's pytorch-randaugment.

  Example:
    >>> import jax.numpy as jnp
    >>> solarize_add(jnp.array([[[250, 117, 116]]], jnp.uint8), 11.0).ravel().tolist()
    [0, 127, 127]
  """
  added = image.astype(jnp.float32) + addition
  return solarize(jnp.clip(added, 0, 255).astype(jnp.uint8), 128)


def invert(image: Array) -> Array:
  """255 minus every grey level of one image [H, W, C] uint8.

  Source: PIL's `ImageOps.invert`.

  Example:
    >>> import jax.numpy as jnp
    >>> invert(jnp.array([[[255, 100, 7]]], jnp.uint8)).ravel().tolist()
    [0, 155, 248]
  """
  return 255 - image


def luma(image: Array) -> Array:
  """The grey version of one image, round(0.299 R + 0.587 G + 0.114 B) in 16-bit fixed point.

  Args:
    image: [H, W, 3] uint8; [H, W, 1] is grey already.

  Returns:
    [H, W] int32.

  Raises:
    InputError: if there are neither one nor three channels.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(luma)(jnp.array([[[255, 0, 0], [0, 255, 0]]], jnp.uint8)).tolist()
    [[76, 150]]
  """
  channels = image.shape[-1]
  level = image.astype(jnp.int32)
  if channels == 1:
    return level[..., 0]
  if channels != 3:
    raise InputError(f"image has {channels} channels; grey and colour need 1 or 3, drop the others")
  weighted = 19595 * level[..., 0] + 38470 * level[..., 1] + 7471 * level[..., 2]
  return (weighted + 32768) >> 16


def blend(degenerate: Array, image: Array, factor: Array | float) -> Array:
  """degenerate + factor * (image - degenerate), cut to 0..255 and truncated.

  Args:
    degenerate: [H, W, C] or [H, W, 1] integers, the image that factor 0 gives.
    image: [H, W, C] uint8.
    factor: scalar; 1 gives the image, more exaggerates it.

  Returns:
    [H, W, C] uint8.

  Source: PIL's `Image.blend`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(blend)(jnp.array(10), jnp.array([[[40]]], jnp.uint8), 0.25).item()
    17
  """
  base = jnp.broadcast_to(degenerate, image.shape).astype(jnp.float32)
  value = base + jnp.asarray(factor, jnp.float32) * (image.astype(jnp.float32) - base)
  return jnp.clip(value, 0, 255).astype(jnp.uint8)


def color(image: Array, factor: Array | float) -> Array:
  """Blends one image [H, W, C] uint8 with its grey version.

  Source: PIL's `ImageEnhance.Color`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(color)(jnp.array([[[255, 0, 0]]], jnp.uint8), 0.5).ravel().tolist()
    [165, 38, 38]
  """
  return blend(luma(image)[:, :, None], image, factor)


def contrast(image: Array, factor: Array | float) -> Array:
  """Blends one image [H, W, C] uint8 with the constant of its rounded mean luma.

  Source: PIL's `ImageEnhance.Contrast`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(contrast)(jnp.array([[[0], [100]]], jnp.uint8), 0.5).ravel().tolist()
    [25, 75]
  """
  grey = luma(image)
  mean = (2 * jnp.sum(grey) + grey.size) // (2 * grey.size)
  return blend(mean, image, factor)


def brightness(image: Array, factor: Array | float) -> Array:
  """Blends one image [H, W, C] uint8 with black.

  Source: PIL's `ImageEnhance.Brightness`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(brightness)(jnp.array([[[0], [101]]], jnp.uint8), 0.5).ravel().tolist()
    [0, 50]
  """
  return blend(jnp.zeros((), jnp.uint8), image, factor)


def sharpness(image: Array, factor: Array | float) -> Array:
  """Blends one image [H, W, C] uint8 with a smoothed copy.

  The smoothing is the kernel (1, 1, 1; 1, 5, 1; 1, 1, 1) / 13, rounded; border pixels are copied.

  Source: PIL's `ImageEnhance.Sharpness`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.zeros((3, 3, 1), jnp.uint8).at[1, 1, 0].set(130)
    >>> jax.jit(sharpness)(image, 0.0)[1, 1, 0].item()
    50
  """
  height, width, _ = image.shape
  if min(height, width) < 3:
    return image
  level = image.astype(jnp.int32)
  total = 4 * level[1:-1, 1:-1]
  for i in range(3):
    for j in range(3):
      total += level[i : height - 2 + i, j : width - 2 + j]
  smooth = level.at[1:-1, 1:-1].set((2 * total + 13) // 26)
  return blend(smooth, image, factor)


def hue(image: Array, turns: Array | float) -> Array:
  """Turns the hue of one image, in 8-bit HSV: h + trunc(255 turns) modulo 256.

  The way to HSV and back rounds, so that even turn 0 changes grey levels. Integer arithmetic
  throughout; PIL's floats fall one step of 256 short in the hue of 0.3 % of all colours.

  Args:
    image: [H, W, 3] uint8; [H, W, 1] is grey and returned as it is.
    turns: scalar, -0.5 to 0.5; 1/3 makes red green.

  Returns:
    [H, W, C] uint8.

  Raises:
    InputError: if there are neither one nor three channels.

  Source: torchvision's `adjust_hue` of a PIL image.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(hue)(jnp.array([[[200, 0, 0]]], jnp.uint8), 1 / 3).ravel().tolist()
    [0, 200, 0]
  """
  channels = image.shape[-1]
  if channels == 1:
    return image
  if channels != 3:
    raise InputError(f"image has {channels} channels; a hue needs 3 (or 1), drop the others")
  div = jax.lax.div
  red, green, blue = (image[..., c].astype(jnp.int32) for c in range(3))
  high = jnp.maximum(red, jnp.maximum(green, blue))
  spread = high - jnp.minimum(red, jnp.minimum(green, blue))
  divisor = jnp.maximum(spread, 1)
  # The hue in sixths of a turn, times the spread; the brightest channel says which third it is in.
  third = jnp.where(green == high, 2 * divisor + blue - red, 4 * divisor + red - green)
  third = jnp.where(red == high, green - blue, third)
  third = jnp.where(third < 0, third + 6 * divisor, third)
  angle = jnp.where(spread > 0, div(third * 85, 2 * divisor), 0)
  saturation = div(spread * 255, jnp.maximum(high, 1))

  angle = (angle + jnp.trunc(jnp.asarray(turns, jnp.float32) * 255).astype(jnp.int32)) & 255
  sector = div(angle * 6, jnp.full_like(angle, 255))
  part = angle * 6 - sector * 255
  sector = jnp.where(sector == 6, 0, sector)
  low = _round_quotient(high * (255 - saturation), 255)
  falling = _round_quotient(high * (65025 - saturation * part), 65025)
  rising = _round_quotient(high * (65025 - saturation * (255 - part)), 65025)
  which = [sector == i for i in range(6)]
  out = (
    jnp.select(which, [high, falling, low, low, rising, high]),
    jnp.select(which, [rising, high, high, falling, low, low]),
    jnp.select(which, [low, low, rising, high, high, falling]),
  )
  return jnp.stack(out, axis=-1).astype(jnp.uint8)


def _round_quotient(numerator: Array, denominator: int) -> Array:
  """round(numerator / denominator), halves up, of non-negative integers."""
  return jax.lax.div(2 * numerator + denominator, jnp.full_like(numerator, 2 * denominator))

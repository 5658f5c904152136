"""Digital: contrast, saturation, pixelation.

Source: Hendrycks and Dietterich (2019), authors' code.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, select
from jaxnoise.corruptions._tables import parameters


def contrast(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Shrinks the contrast: clip((x - mean_c) c + mean_c, 0, 1), the mean over pixels per channel.

  Parameters: c in (0, 1).

  Args:
    rng: not used; nothing here is random.
    image: [H, W, C] in [0, 1].
    severity: 1..5.
    variant: "cifar" or "imagenet".

  Returns:
    [H, W, C] in [0, 1], not quantised.

  Raises:
    InputError: for an integer or batched image, a severity outside 1..5, an unknown variant.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> image = jax.numpy.array([[[0.0], [1.0]]])
    >>> print(corruptions.contrast(jax.random.key(0), image, 2)[0, :, 0])
    [0.25 0.75]
  """
  del rng
  image = check_image(image)
  return contrast_from(image, select(parameters("contrast", variant), severity, image.dtype)[0])


def contrast_from(image: Array, factor: Array | float) -> Array:
  """Scales [H, W, C] by `factor` about each channel's mean, see `contrast`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _digital
    >>> _digital.contrast_from(jnp.array([[[0.0], [1.0]]]), 0.0).ravel().tolist()
    [0.5, 0.5]
  """
  mean = jnp.mean(image, axis=(0, 1), keepdims=True)
  return jnp.clip((image - mean) * factor + mean, 0.0, 1.0)


def saturate(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Changes the HSV saturation: S' = clip(a S + b, 0, 1), hue and value kept.

  With V = max and D = max - min over the channels, x = V (1 - S h), S = D / V, where
  h = (V - x) / D depends on the hue alone; so x' = V (1 - S' h) and no hue is computed. Grey has
  hue 0 (red) by convention, h = (0, 1, 1): with b > 0 it turns reddish, as in the authors' code.

  Parameters: a, b.

  Args:
    rng: not used; nothing here is random.
    image: [H, W, 3] in [0, 1].
    severity: 1..5.
    variant: "cifar" or "imagenet".

  Returns:
    [H, W, 3] in [0, 1], not quantised.

  Raises:
    InputError: for an integer, batched or not three-channel image, a severity outside 1..5, an
      unknown variant.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> image = jax.numpy.array([[[0.8, 0.6, 0.4]]])
    >>> paler = jax.jit(corruptions.saturate)(jax.random.key(0), image, 2)
    >>> [round(float(channel), 2) for channel in paler[0, 0]]
    [0.8, 0.78, 0.76]
  """
  del rng
  image = check_image(image, rgb=True)
  factor, offset = select(parameters("saturate", variant), severity, image.dtype)
  return saturate_from(image, factor, offset)


def saturate_from(image: Array, factor: Array | float, offset: Array | float) -> Array:
  """Maps the HSV saturation S of [H, W, 3] to clip(factor S + offset, 0, 1), see `saturate`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _digital
    >>> _digital.saturate_from(jnp.full((1, 1, 3), 0.5), 1.0, 0.5).tolist()
    [[[0.5, 0.25, 0.25]]]
  """
  value = jnp.max(image, axis=-1, keepdims=True)
  spread = value - jnp.min(image, axis=-1, keepdims=True)
  grey = spread <= 0
  red = jnp.broadcast_to(jnp.asarray([0.0, 1.0, 1.0], image.dtype), image.shape)
  hue = jnp.where(grey, red, (value - image) / jnp.where(grey, 1.0, spread))
  saturation = spread / jnp.where(value <= 0, 1.0, value)
  saturation = jnp.clip(factor * saturation + offset, 0.0, 1.0)
  return jnp.clip(value * (1.0 - saturation * hue), 0.0, 1.0)


def pixelate(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Shrinks the image with a box filter and enlarges it again by repeating pixels.

  Parameters: c, the ratio of the small image's side, int(c H) by int(c W) pixels (at least 1).

  The authors' resize works on 8-bit images: it takes the columns, rounds, takes the rows, rounds.
  The same rounding is done here, because at this corruption it decides most of the values that
  the final cast keeps; so the result is on the 8-bit grid, unlike every other corruption's here,
  and its gradient is zero.

  Args:
    rng: not used; nothing here is random.
    image: [H, W, C] in [0, 1].
    severity: 1..5.
    variant: "cifar" or "imagenet".

  Returns:
    [H, W, C], multiples of 1/255 in [0, 1].

  Raises:
    InputError: for an integer or batched image, a severity outside 1..5, an unknown variant.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> image = jax.numpy.array([[0.0, 0.0, 0.0, 1.0]] * 4)[..., None]
    >>> pixelate = jax.jit(corruptions.pixelate, static_argnames="variant")
    >>> print(pixelate(jax.random.key(0), image, 5, variant="imagenet")[0, :, 0] * 255)
    [64. 64. 64. 64.]
  """
  del rng
  image = check_image(image)
  ratios = parameters("pixelate", variant)[:, 0]
  rows, columns = (
    select(np.stack([box_bounds(size, c) for c in ratios]), severity, jnp.int32)
    for size in image.shape[:2]
  )
  return pixelate_from(image, rows, columns)


def box_bounds(size: int, ratio: float) -> np.ndarray:
  """Which input pixels an output pixel averages after shrinking by a box filter and enlarging.

  Pixel i of the small axis, n = max(1, int(ratio size)) long, covers size / n input pixels around
  its centre; an input pixel belongs to it wholly or not at all, as its centre is inside. Each
  output pixel repeats the small pixel that holds its centre.

  Args:
    size: pixels of the axis.
    ratio: c in (0, 1].

  Returns:
    [2, size] int32: first input pixel of each output pixel, and one past the last.

  Example:
    >>> from jaxnoise.corruptions import _digital
    >>> _digital.box_bounds(4, 0.5).tolist()
    [[0, 0, 2, 2], [2, 2, 4, 4]]
  """
  small = max(1, int(ratio * size))
  width = size / small
  centre = (np.arange(small) + 0.5) * width
  # An input centre j + 1/2 is inside when -width/2 < j + 1/2 - centre <= width/2.
  first = np.floor(centre - width / 2 + 0.5)
  last = np.floor(centre + width / 2 - 0.5)
  source = np.minimum((np.arange(size) + 0.5) * small / size, small - 1).astype(int)
  bounds = np.stack([first, last + 1])[:, source]
  return np.clip(bounds, 0, size).astype(np.int32)


def pixelate_from(image: Array, rows: Array, columns: Array) -> Array:
  """Averages runs of columns, rounds to 8 bits, averages runs of rows, rounds to 8 bits.

  Args:
    image: [H, W, C] in [0, 1].
    rows: [2, H], the run of rows that each output row averages, as `box_bounds` gives it.
    columns: [2, W].

  Returns:
    [H, W, C], multiples of 1/255.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise.corruptions import _digital
    >>> image = jnp.array([[0.0, 1.0]])[..., None]
    >>> run = jnp.array([[0, 0], [2, 2]])
    >>> (jax.jit(_digital.pixelate_from)(image, jnp.array([[0], [1]]), run) * 255).ravel().tolist()
    [128.0, 128.0]
  """
  exact = jax.lax.Precision.HIGHEST
  levels = jnp.round(image * 255.0)
  levels = jnp.einsum("jw,hwc->hjc", _averages(columns, levels.dtype), levels, precision=exact)
  levels = _round_half_up(levels)
  levels = jnp.einsum("ih,hwc->iwc", _averages(rows, levels.dtype), levels, precision=exact)
  return jnp.clip(_round_half_up(levels) / 255.0, 0.0, 1.0)


def _averages(bounds: Array, dtype: jnp.dtype) -> Array:
  """The matrix [n, n] whose row i averages the entries bounds[0, i] to bounds[1, i] - 1."""
  first, stop = bounds[0, :, None], bounds[1, :, None]
  position = np.arange(bounds.shape[1])[None, :]
  inside = (jnp.asarray(position) >= first) & (jnp.asarray(position) < stop)
  return inside.astype(dtype) / (stop - first).astype(dtype)


def _round_half_up(levels: Array) -> Array:
  # The offset absorbs the rounding of thirds and sevenths; true ties (halves) are exact.
  return jnp.floor(levels + 0.5 + 1e-4)

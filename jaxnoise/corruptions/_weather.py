"""Weather: fog (a fractal height map) and brightness.

Source: Hendrycks and Dietterich (2019), authors' code.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, select
from jaxnoise.corruptions._tables import check_variant, parameters


def fog(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Covers the image with plasma fog: clip((x + a P) m / (m + a), 0, 1), m = max x.

  Parameters: a, the amount; the decay of the plasma's roughness. P is a diamond-square map in
  [0, 1] whose side is the first power of two that holds the image, cropped at the upper left:
  32 for 32 pixels, 256 for 224, 8 for 8. Neither parameter is a length, so neither is scaled.

  Args:
    rng: a typed key.
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
    >>> image = jax.numpy.linspace(0, 1, 4 * 4 * 3).reshape(4, 4, 3)
    >>> foggy = jax.jit(corruptions.fog)(jax.random.key(0), image, 5)
    >>> bool(foggy.std() < image.std())
    True
  """
  image = check_image(image)
  amount, decay = select(parameters("fog", check_variant(variant)), severity, image.dtype)
  side = 1 << (max(image.shape[:2]) - 1).bit_length()
  unit_uniform = jax.random.uniform(rng, (side * side - 1,), image.dtype, -1.0, 1.0)
  return fog_from(image, unit_uniform, amount, decay)


def fog_from(
  image: Array, unit_uniform: Array, amount: Array | float, decay: Array | float
) -> Array:
  """Fog for given draws, see `fog`.

  Args:
    image: [H, W, C] in [0, 1].
    unit_uniform: [S^2 - 1] in [-1, 1), S a power of two of at least max(H, W), see `plasma`.
    amount: a.
    decay: of the plasma's roughness.

  Returns:
    [H, W, C] in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _weather
    >>> black = jnp.zeros((2, 2, 3))  # the brightest value bounds the fog
    >>> float(_weather.fog_from(black, jnp.array([0.5, 0.1, -0.2]), 1.5, 2.0).max())
    0.0
  """
  brightest = jnp.max(image)
  height_map = plasma(unit_uniform, decay)[: image.shape[0], : image.shape[1], None]
  veiled = image + amount * jnp.broadcast_to(height_map, image.shape)
  return jnp.clip(veiled * brightest / (brightest + amount), 0.0, 1.0)


def plasma(unit_uniform: Array, decay: Array | float) -> Array:
  """Builds the diamond-square map on a torus, scaled to [0, 1].

  From an n x n grid of corners the next level is 2n x 2n: a centre is the mean of its four
  corners plus noise; then the middle of an edge is the mean of the edge's two ends and of the two
  centres beside it, plus noise. The noise is w^2 u with w = 100 at first, divided by `decay` per
  level (the authors scale by w twice).

  Args:
    unit_uniform: [S^2 - 1] in [-1, 1), S a power of two: per level the n^2 draws of the centres,
      then those of the middles to the right of each corner, then of those below.
    decay: above 1; larger is smoother.

  Returns:
    [S, S], minimum 0 and maximum 1; all 0 for S = 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _weather
    >>> _weather.plasma(jnp.array([0.0, 0.5, -0.5]), 2.0).tolist()
    [[0.5, 1.0], [0.0, 0.5]]
  """
  side = math.isqrt(unit_uniform.shape[0] + 1)
  grid = jnp.zeros((1, 1), unit_uniform.dtype)
  wibble = jnp.asarray(100.0, unit_uniform.dtype)
  used = 0
  while (n := grid.shape[0]) < side:
    noise = jnp.square(wibble) * unit_uniform[used : used + 3 * n * n].reshape(3, n, n)
    right, below = jnp.roll(grid, -1, axis=1), jnp.roll(grid, -1, axis=0)
    centre = (grid + right + below + jnp.roll(right, -1, axis=0)) / 4 + noise[0]
    across = (grid + right + centre + jnp.roll(centre, 1, axis=0)) / 4 + noise[1]
    down = (grid + below + centre + jnp.roll(centre, 1, axis=1)) / 4 + noise[2]
    upper = jnp.stack([grid, across], axis=-1)
    lower = jnp.stack([down, centre], axis=-1)
    grid = jnp.stack([upper, lower], axis=1).reshape(2 * n, 2 * n)
    wibble = wibble / decay
    used += 3 * n * n
  grid = grid - jnp.min(grid)
  highest = jnp.max(grid)
  return grid / jnp.where(highest > 0, highest, 1.0)


def brightness(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Raises the HSV value: V' = clip(V + c, 0, 1), hue and saturation kept.

  Colours are linear in V at fixed hue and saturation, so x' = x V' / V with V = max over the
  channels, and no hue is computed; black becomes the grey c.

  Parameters: c, in units of the full range.

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
    >>> image = jax.numpy.array([[[0.4, 0.2, 0.0]]])
    >>> brighter = corruptions.brightness(jax.random.key(0), image, 4)
    >>> [round(float(channel), 2) for channel in brighter[0, 0]]
    [0.6, 0.3, 0.0]
  """
  del rng
  image = check_image(image, rgb=True)
  return brightness_from(image, select(parameters("brightness", variant), severity, image.dtype)[0])


def brightness_from(image: Array, offset: Array | float) -> Array:
  """Adds `offset` to the HSV value of [H, W, 3], see `brightness`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _weather
    >>> _weather.brightness_from(jnp.zeros((1, 1, 3)), 0.25).tolist()
    [[[0.25, 0.25, 0.25]]]
  """
  value = jnp.max(image, axis=-1, keepdims=True)
  brighter = jnp.clip(value + offset, 0.0, 1.0)
  black = value <= 0
  gain = brighter / jnp.where(black, 1.0, value)
  return jnp.clip(jnp.where(black, brighter, image * gain), 0.0, 1.0)

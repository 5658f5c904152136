"""Spatter: drops of water (severities 1 to 3) or of mud (4 and 5) on the lens.

Source: Hendrycks and Dietterich (2019), authors' code, which chains image operators of OpenCV for
water; they are written out here from their definitions, in the same integers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._blur import gaussian_blur_from, gaussian_taps
from jaxnoise.corruptions._common import check_image, flat_normal, length_scale, select
from jaxnoise.corruptions._tables import parameters

_WATER, _MUD = (175, 238, 238), (63, 42, 20)
_FARTHEST = 20  # distances from an edge are cut here


def spatter(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Spatters the image: water brightens it, mud covers it.

  The liquid is smoothed Gaussian noise, 0 below a threshold, see `water` and `mud`.

  Parameters: mean and standard deviation of the noise, standard deviation of its smoothing, the
  threshold, the strength. The smoothing is in pixels at the variant's native side and multiplied
  by `length_scale` at another size; so is mud's strength, a smoothing as well. Water's strength
  and the reach of its operators are the same at every size.

  Args:
    rng: a typed key.
    image: [H, W, 3] in [0, 1].
    severity: 1..5; one of 1..3 gives water, 4 and 5 mud.
    variant: "cifar" or "imagenet".

  Returns:
    [H, W, 3] in [0, 1], not quantised.

  Raises:
    InputError: for an integer, batched or not three-channel image, a severity outside 1..5, an
      unknown variant.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> grey = jax.numpy.full((32, 32, 3), 0.4)
    >>> wet = jax.jit(corruptions.spatter)(jax.random.key(0), grey, 3)
    >>> bool((wet >= grey).all()), bool((wet > grey).any())
    (True, True)
  """
  image = check_image(image, rgb=True)
  normal = flat_normal(rng, image.shape[:2], image.dtype)
  return spatter_from(image, normal, severity, variant=variant)


def spatter_from(
  image: Array, normal: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Spatter for given standard normal draws [H, W], see `spatter`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _spatter
    >>> black = jnp.zeros((8, 8, 3))
    >>> dry = jax.jit(_spatter.spatter_from)(black, jnp.full((8, 8), -3.0), 4)
    >>> float(dry.max())
    0.0
  """
  table = parameters("spatter", variant)
  scale = length_scale(image.shape[0], image.shape[1], variant)
  mean, deviation, _, threshold, strength = select(table, severity, image.dtype)
  taps = select(_taps(scale * table[:, 2]), severity, image.dtype)
  mud_taps = select(_taps(scale * table[:, 4]), severity, image.dtype)
  layer = gaussian_blur_from((mean + deviation * normal)[..., None], taps)[..., 0]
  return jax.lax.cond(
    jnp.asarray(severity) <= 3,
    lambda: water(image, jnp.where(layer < threshold, 0.0, layer), strength),
    lambda: mud(image, layer > threshold, mud_taps),
  )


def _taps(sigmas: np.ndarray) -> np.ndarray:
  radii = [int(4.0 * sigma + 0.5) for sigma in sigmas]
  return np.stack([
    np.pad(gaussian_taps(sigma, radius), max(radii) - radius)
    for sigma, radius in zip(sigmas, radii)
  ])


def mud(image: Array, mask: Array, taps: Array) -> Array:
  """Covers [H, W, 3] by x (1 - m) + brown m, m the mask [H, W] smoothed, 0 where below 0.8.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _spatter
    >>> mask = jnp.array([[True, False]])
    >>> (jax.jit(_spatter.mud)(jnp.ones((1, 2, 3)), mask, jnp.ones(1)) * 255).ravel().tolist()
    [63.0, 42.0, 20.0, 255.0, 255.0, 255.0]
  """
  cover = gaussian_blur_from(mask.astype(image.dtype)[..., None], taps)
  cover = jnp.broadcast_to(jnp.where(cover < 0.8, 0.0, cover), image.shape)
  colour = jnp.asarray(_MUD, image.dtype).reshape(1, 1, 3) / 255.0
  return jnp.clip(image * (1.0 - cover) + colour * cover, 0.0, 1.0)


def water(image: Array, layer: Array, strength: Array | float) -> Array:
  """Adds drops that shine on one side: clip(x + s m turquoise, 0, 1), m in [0, 1].

  m is the layer times its relief, divided by the largest product. The relief: distance from the
  layer's edges (`edges`, `distances`) up to 20 pixels, averaged over 3 x 3 and cut to integers,
  its histogram equalised, embossed from the upper left, averaged over 3 x 3. A layer without a
  positive value leaves the image as it is.

  Args:
    image: [H, W, 3] in [0, 1].
    layer: [H, W] in [0, 1].
    strength: s.

  Returns:
    [H, W, 3] in [0, 1].

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _spatter
    >>> drop = jnp.zeros((8, 8)).at[2:6, 2:6].set(0.8)
    >>> round(float(jax.jit(_spatter.water)(jnp.zeros((8, 8, 3)), drop, 0.5).max()), 3)
    0.467
  """
  levels = jnp.floor(layer * 255.0 + 2.0**-12).astype(jnp.int32)
  far = distances(edges(levels)).astype(image.dtype)
  # The margin absorbs the rounding of ninths before the cut.
  far = jnp.floor(_around(far, np.ones((3, 3))) / 9.0 + 1e-4).astype(jnp.int32)
  emboss = np.asarray(((-2, -1, 0), (-1, 1, 1), (0, 1, 2)))
  relief = jnp.clip(_around(_equalize(far), emboss), 0, 255)
  relief = (2 * _around(relief, np.ones((3, 3), int)) + 9) // 18
  product = (levels * relief).astype(image.dtype)
  highest = jnp.max(product)
  drops = strength * product / jnp.where(highest > 0, highest, 1.0)
  colour = jnp.asarray(_WATER, image.dtype).reshape(1, 1, 3) / 255.0
  return jnp.clip(image + drops[..., None] * colour, 0.0, 1.0)


def _around(plane: Array, kernel: np.ndarray) -> Array:
  """Correlates [H, W] with a 3 x 3 kernel, borders reflected, the border pixel not repeated."""
  height, width = plane.shape
  padded = jnp.pad(plane, 1, mode="reflect")
  return sum(
    padded[i : i + height, j : j + width] * kernel[i, j].item() for i in range(3) for j in range(3)
  )


def _equalize(plane: Array) -> Array:
  """Spreads integers 0..20 over 0..255 by rank; a plane of one value keeps it."""
  value = jnp.arange(_FARTHEST + 1)
  counts = jnp.sum(plane[..., None] == value.reshape(1, 1, -1), axis=(0, 1))
  others = plane.size - counts[jnp.min(plane)]
  scale = 255.0 / jnp.maximum(others, 1).astype(jnp.float32)
  ranks = jnp.cumsum(counts) - counts[jnp.min(plane)]
  table = jnp.clip(jnp.round(ranks.astype(jnp.float32) * scale), 0, 255).astype(jnp.int32)
  return jnp.where(others == 0, plane, table[plane])


def edges(levels: Array) -> Array:
  """Canny's edges: Sobel gradients, thinning, hysteresis from 150 down to 50.

  The gradient's magnitude is |gx| + |gy|; a pixel stays if it is the largest along the nearest of
  four directions, above 50, and joined (8 neighbours) to one above 150.

  Args:
    levels: [H, W] integers in 0..255; borders are repeated.

  Returns:
    [H, W] bool.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _spatter
    >>> step = jnp.array([[0, 0, 200, 200]] * 3)
    >>> jax.jit(_spatter.edges)(step)[1].tolist()
    [False, True, False, False]
  """
  height, width = levels.shape

  def shifts(plane: Array, **kwargs: str) -> dict[tuple[int, int], Array]:
    padded = jnp.pad(plane, 1, **kwargs)
    return {
      (i, j): padded[1 + i : 1 + i + height, 1 + j : 1 + j + width]
      for i in (-1, 0, 1)
      for j in (-1, 0, 1)
    }

  at = shifts(levels, mode="edge")
  across = at[-1, 1] + 2 * at[0, 1] + at[1, 1] - at[-1, -1] - 2 * at[0, -1] - at[1, -1]
  down = at[1, -1] + 2 * at[1, 0] + at[1, 1] - at[-1, -1] - 2 * at[-1, 0] - at[-1, 1]
  size = abs(across) + abs(down)
  at = shifts(size)
  # tan(22.5 degrees) in 15 bits; tan(67.5) is 2 more.
  shallow = abs(across) * 13573
  rise = abs(down) << 15
  falling = (across ^ down) >= 0
  first = jnp.where(falling, at[-1, -1], at[-1, 1])
  second = jnp.where(falling, at[1, 1], at[1, -1])
  # Of two equal neighbours across a straight edge the upper or left one stays.
  ridge = jnp.where(
    rise < shallow,
    (size > at[0, -1]) & (size >= at[0, 1]),
    jnp.where(
      rise > shallow + (abs(across) << 16),
      (size > at[-1, 0]) & (size >= at[1, 0]),
      (size > first) & (size > second),
    ),
  )
  weak = ridge & (size > 50)

  def grow(state: tuple[Array, Array]) -> tuple[Array, Array]:
    old, _ = state
    new = weak & jnp.any(jnp.stack(list(shifts(old).values())), axis=0)
    return new, jnp.any(new != old)

  strong = weak & (size > 150)
  return jax.lax.while_loop(lambda state: state[1], grow, (strong, jnp.any(strong)))[0]


def distances(marked: Array) -> Array:
  """Distance to the nearest marked pixel of [H, W], at most 20, in steps of a 5 x 5 mask.

  Steps along an axis cost 1, diagonal ones 1.4, knight's moves 2.1969: the customary approximation
  of the Euclidean distance.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _spatter
    >>> [round(float(d), 3) for d in _spatter.distances(jnp.eye(3, 4, dtype=bool))[0]]
    [0.0, 1.0, 1.4, 2.197]
  """
  height, width = marked.shape
  cost = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
  steps = [
    (i, j, cost[key])
    for i in range(-2, 3)
    for j in range(-2, 3)
    if (key := tuple(sorted((abs(i), abs(j))))) in cost
  ]

  def relax(_: Array, distance: Array) -> Array:
    padded = jnp.pad(distance, 2, constant_values=_FARTHEST)
    for i, j, length in steps:
      window = padded[2 + i : 2 + i + height, 2 + j : 2 + j + width]
      distance = jnp.minimum(distance, window + length)
    return distance

  # No step costs less than 1, so a path shorter than 20 has fewer than 20 steps.
  start = jnp.where(marked, 0.0, float(_FARTHEST)).astype(jnp.float32)
  return jax.lax.fori_loop(0, _FARTHEST, relax, start)

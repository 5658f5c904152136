"""Weather: snow, and frost with generated ice.

Not yet among `NAMES`: the functions take and return what the registered corruptions do. Source:
Hendrycks and Dietterich (2019), authors' code; the ice textures are this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, length_scale, select
from jaxnoise.corruptions._motion import motion_blur_from, motion_taps, zoom, zoom_positions
from jaxnoise.corruptions._tables import check_variant
from jaxnoise.corruptions._weather import plasma

# mean and deviation of the flakes, zoom, threshold, radius and deviation of the motion blur, share
# of the image that keeps its colour
_SNOW: Mapping[str, tuple] = {
  "cifar": (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
  ),
  "imagenet": (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
  ),
}
# factor of the image, factor of the ice
_FROST: Mapping[str, tuple] = {
  "cifar": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
  "imagenet": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
}


def snow(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Whitens the image and adds flakes that fall: clip(x' + L + rot180(L), 0, 1).

  With k the share that keeps its colour, x' = k x + (1 - k) max(x, 1.5 grey + 0.5). The layer L
  is Gaussian noise, magnified, set to 0 below a threshold, cut to 8 bits and smeared downwards
  (angle ~ U(-135, -45) degrees), see `_motion.motion_blur_from`.

  Parameters: mean and standard deviation of the noise, its magnification, the threshold, length
  over two and standard deviation of the smear, k. The smear is in pixels at the variant's native
  side and multiplied by `length_scale` at another size.

  Args:
    rng: a typed key.
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
    >>> from jaxnoise.corruptions import _snow
    >>> grey = jax.numpy.full((8, 8, 3), 0.4)
    >>> snowy = _snow.snow(jax.random.key(0), grey, 5)
    >>> bool((snowy > grey).all())
    True
  """
  image = check_image(image, rgb=True)
  height, width = image.shape[:2]
  normal_rng, angle_rng = jax.random.split(rng)
  normal = jax.random.normal(normal_rng, (height, width), image.dtype)
  angle = jax.random.uniform(angle_rng, (), image.dtype, -135.0, -45.0)
  return snow_from(image, normal, angle, *_snow_rows(image, severity, variant))


def _snow_rows(image: Array, severity: int | Array, variant: str) -> tuple[Array, ...]:
  """What `snow_from` takes beside its draws."""
  height, width = image.shape[:2]
  scale = length_scale(height, width, variant)
  table = np.asarray(_SNOW[variant], np.float64)
  rows, columns = (
    select(np.stack([zoom_positions(size, z) for z in table[:, 2]]), severity, image.dtype)
    for size in (height, width)
  )
  taps = select(motion_taps(table[:, 4:6], scale), severity, image.dtype)
  return rows, columns, taps, select(table, severity, image.dtype)


def snow_from(
  image: Array,
  normal: Array,
  angle_degrees: Array | float,
  rows: Array,
  columns: Array,
  taps: Array,
  row: Array,
) -> Array:
  """Snow for given draws, see `snow`.

  Args:
    image: [H, W, 3] in [0, 1].
    normal: [H, W] standard normal.
    angle_degrees: of the fall.
    rows: [H] positions that the magnified noise is read at, see `_motion.zoom_positions`.
    columns: [W].
    taps: [K] of the smear.
    row: [7] parameters in the order that `snow` lists them.

  Returns:
    [H, W, 3] in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> row = jnp.array([0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 1.0])
    >>> flake = jnp.array([[1.0, 0.0]])
    >>> at = jnp.zeros(1), jnp.arange(2.0), jnp.ones(1)
    >>> _snow.snow_from(jnp.zeros((1, 2, 3)), flake, -90.0, *at, row)[0, :, 0].tolist()
    [1.0, 1.0]
  """
  layer = snow_layer(normal, rows, columns, row)
  layer = motion_blur_from(layer, angle_degrees, taps)
  layer = jnp.floor(layer * 255.0 + 2.0**-12) / 255.0
  keep = row[6]
  grey = 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]
  white = jnp.maximum(image, jnp.broadcast_to(1.5 * grey + 0.5, image.shape))
  fallen = layer + layer[::-1, ::-1]
  return jnp.clip(
    keep * image + (1.0 - keep) * white + jnp.broadcast_to(fallen, image.shape), 0.0, 1.0
  )


def snow_layer(normal: Array, rows: Array, columns: Array, row: Array) -> Array:
  """The flakes [H, W, 1] before they fall, multiples of 1/255; arguments as in `snow_from`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> row = jnp.array([0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 1.0])
    >>> normal = jnp.array([[0.4, 2.0]])
    >>> _snow.snow_layer(normal, jnp.zeros(1), jnp.arange(2.0), row).ravel().tolist()
    [0.0, 1.0]
  """
  mean, deviation, threshold = row[0], row[1], row[3]
  layer = zoom((mean + deviation * normal)[..., None], rows, columns)
  layer = jnp.where(layer < threshold, 0.0, jnp.clip(layer, 0.0, 1.0))
  return jnp.floor(layer * 255.0 + 2.0**-12) / 255.0


def frost(rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar") -> Array:
  """Lays ice over the image: clip(a x + b ice, 0, 1).

  The benchmark crops its ice from five photographs, which cannot be drawn from a key; here every
  example gets a texture of its own, see `ice_texture`. So the arithmetic and the strengths are the
  benchmark's, the patterns are not: report numbers on the published files where they must
  compare.

  Parameters: a, b.

  Args:
    rng: a typed key.
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
    >>> from jaxnoise.corruptions import _snow
    >>> frozen = _snow.frost(jax.random.key(0), jax.numpy.zeros((8, 8, 3)), 5)
    >>> bool(0 < frozen.max() <= 0.45 + 1e-6)
    True
  """
  image = check_image(image, rgb=True)
  factors = select(np.asarray(_FROST[check_variant(variant)]), severity, image.dtype)
  ice = ice_texture(rng, image.shape[0], image.shape[1], image.dtype)
  return frost_from(image, ice, factors[0], factors[1])


def frost_from(image: Array, ice: Array, a: Array | float, b: Array | float) -> Array:
  """clip(a x + b ice, 0, 1) for a given texture of the image's shape, in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> float(_snow.frost_from(jnp.array(0.5), jnp.array(0.5), 1.0, 0.5))
    0.75
  """
  return jnp.clip(a * image + b * ice, 0.0, 1.0)


def ice_texture(rng: PRNGKey, height: int, width: int, dtype: jnp.dtype) -> Array:
  """Draws ice: bright needles on an uneven ground, from dark blue-green to white.

  Lightness is l + 0.3 (T + N - 1), cut to [0, 1]: l ~ U(0.2, 1.2) is the texture's own, T a smooth
  diamond-square map (`_weather.plasma`), N = (1 - |2 P - 1|)^4 the ridges of a rougher one. The
  numbers make means and spreads those of the benchmark's crops, roughly.

  Returns:
    [height, width, 3] in [0, 1].

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> _snow.ice_texture(jax.random.key(0), 5, 7, jnp.float32).shape
    (5, 7, 3)
  """
  side = max(2, 1 << (max(height, width) - 1).bit_length())
  # One draw for all: every threefry costs compile time.
  draws = jax.random.uniform(rng, (2 * side * side - 1,), dtype, -1.0, 1.0)
  level = 0.7 + 0.5 * draws[0]
  maps = jax.vmap(plasma)(draws[1:].reshape(2, -1), jnp.asarray([1.7, 1.4], dtype))
  ground, ridges = maps[:, :height, :width, None]
  needles = (1.0 - jnp.abs(2.0 * ridges - 1.0)) ** 4
  light = jnp.clip(level + 0.3 * (ground + needles - 1.0), 0.0, 1.0)
  dark, bright = (
    jnp.asarray(colour, dtype).reshape(1, 1, 3)
    for colour in ((0.15, 0.4, 0.48), (0.92, 0.94, 0.97))
  )
  return dark + (bright - dark) * light

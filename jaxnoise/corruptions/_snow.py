"""Weather: snow, and frost with generated ice or with given photographs of it.

Source: Hendrycks and Dietterich (2019), authors' code; the ice textures are this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, length_scale, select
from jaxnoise.corruptions._motion import motion_blur_from, motion_taps, zoom, zoom_positions
from jaxnoise.corruptions._tables import parameters
from jaxnoise.corruptions._weather import plasma


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
    >>> from jaxnoise import corruptions
    >>> grey = jax.numpy.full((8, 8, 3), 0.4)
    >>> snowy = jax.jit(corruptions.snow)(jax.random.key(0), grey, 5)
    >>> bool((snowy > grey).all())
    True
  """
  image = check_image(image, rgb=True)
  height, width = image.shape[:2]
  # One draw for both: every threefry costs compile time. The last number's rank is the angle.
  draws = jax.random.normal(rng, (height * width + 1,), image.dtype)
  normal = draws[:-1].reshape(height, width)
  angle = -90.0 + 45.0 * jax.lax.erf(draws[-1] / math.sqrt(2.0))
  return snow_from(image, normal, angle, *_snow_rows(image, severity, variant))


def _snow_rows(image: Array, severity: int | Array, variant: str) -> tuple[Array, ...]:
  """What `snow_from` takes beside its draws."""
  height, width = image.shape[:2]
  scale = length_scale(height, width, variant)
  table = parameters("snow", variant)
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
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> row = jnp.array([0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 1.0])
    >>> flake = jnp.array([[1.0, 0.0]])
    >>> at = jnp.zeros(1), jnp.arange(2.0), jnp.ones(1)
    >>> snow_from = jax.jit(_snow.snow_from)
    >>> snow_from(jnp.zeros((1, 2, 3)), flake, -90.0, *at, row)[0, :, 0].tolist()
    [1.0, 1.0]
  """
  return snow_fall(image, snow_layer(normal, rows, columns, row), angle_degrees, taps, row[6])


def snow_fall(
  image: Array, layer: Array, angle_degrees: Array | float, taps: Array, keep: Array | float
) -> Array:
  """Smears given flakes [H, W, 1] and adds them, arguments as in `snow_from`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> flake = jnp.array([[[1.0], [0.0], [0.0]]])
    >>> fallen = jax.jit(_snow.snow_fall)(jnp.zeros((1, 3, 3)), flake, -90.0, jnp.ones(1), 1.0)
    >>> fallen[0, :, 0].tolist()
    [1.0, 0.0, 1.0]
  """
  layer = motion_blur_from(layer, angle_degrees, taps)
  layer = jnp.floor(layer * 255.0 + 2.0**-12) / 255.0
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


def frost(
  rng: PRNGKey,
  image: Array,
  severity: int | Array,
  *,
  variant: str = "cifar",
  textures: Sequence[Array] | None = None,
) -> Array:
  """Lays ice over the image: clip(a x + b ice, 0, 1).

  The benchmark crops its ice from five photographs, which are no part of this package. Without
  them every example gets a texture that this project generates, see `ice_texture`: the arithmetic
  and the strengths are then the benchmark's, the patterns are not. With `textures` (the
  photographs, as `data.frost_textures` reads them) the ice is a window of one of them, file and
  place drawn uniformly as the authors draw them.

  Parameters: a, b.

  Args:
    rng: a typed key.
    image: [H, W, 3] in [0, 1].
    severity: 1..5.
    variant: "cifar" or "imagenet".
    textures: [h, w, 3] uint8 images of any sizes not below the image's, or None. They are large:
      hand them to a compiled function as an argument, do not close over them.

  Returns:
    [H, W, 3] in [0, 1], not quantised.

  Raises:
    InputError: for an integer, batched or not three-channel image, a severity outside 1..5, an
      unknown variant, textures that are too small or not uint8 RGB.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> frozen = jax.jit(corruptions.frost)(jax.random.key(0), jax.numpy.zeros((8, 8, 3)), 5)
    >>> bool(0 < frozen.max() <= 0.45 + 1e-6)
    True
  """
  image = check_image(image, rgb=True)
  factors = select(parameters("frost", variant), severity, image.dtype)
  if textures is None:
    ice = ice_texture(rng, image.shape[0], image.shape[1], image.dtype)
  else:
    check_textures(textures, image.shape)
    ice = ice_window(rng, textures, image.shape[0], image.shape[1]).astype(image.dtype) / 255.0
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


def check_textures(textures: Sequence[Array], image_shape: Sequence[int]) -> None:
  """Checks photographs of ice against the shape [H, W, 3] of the images that they go on.

  Raises:
    InputError: for none, for one that is not [h, w, 3] uint8, or smaller than the image.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _snow
    >>> _snow.check_textures([np.zeros((40, 50, 3), np.uint8)], (32, 32, 3))
  """
  height, width = image_shape[:2]
  if not len(textures):
    raise InputError("textures is empty; give at least one image of ice, or None to generate ice")
  for k, texture in enumerate(textures):
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[-1] != 3:
      raise InputError(
        f"textures[{k}] is {texture.dtype} {tuple(texture.shape)}, but a texture of ice is uint8 "
        "[h, w, 3]; convert it to 8-bit RGB"
      )
    if texture.shape[0] < height or texture.shape[1] < width:
      raise InputError(
        f"textures[{k}] is {texture.shape[0]} x {texture.shape[1]} pixels, smaller than the images "
        f"of {height} x {width}; give a larger one (variant 'imagenet' keeps the full size)"
      )


def ice_window(rng: PRNGKey, textures: Sequence[Array], height: int, width: int) -> Array:
  """Cuts [height, width, 3] out of one of the textures, which one and where drawn uniformly.

  As in the authors' code the last possible row and column are left out (but where it is the only
  one).

  Example:
    >>> import jax
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _snow
    >>> textures = [np.full((4, 5, 3), 7, np.uint8)]
    >>> int(_snow.ice_window(jax.random.key(0), textures, 2, 3).min())
    7
  """
  chosen, row, column = jax.random.uniform(rng, (3,))

  def cut(texture: Array) -> Array:
    top, left = (
      jnp.floor(place * max(size - window, 1)).astype(jnp.int32)
      for place, size, window in zip((row, column), texture.shape, (height, width))
    )
    return jax.lax.dynamic_slice(texture, (top, left, 0), (height, width, 3))

  number = jnp.floor(chosen * len(textures)).astype(jnp.int32)
  return jax.lax.switch(number, [lambda t=t: cut(jnp.asarray(t)) for t in textures])


def ice_texture(rng: PRNGKey, height: int, width: int, dtype: jnp.dtype) -> Array:
  """Draws ice of this project's own: bright needles on an uneven ground, blue-green to white.

  Lightness is l + 0.3 (T + N - 1), cut to [0, 1]: l ~ U(0.2, 1.2) is the texture's own, T a smooth
  diamond-square map (`_weather.plasma`), N = (1 - |2 P - 1|)^4 the ridges of a rougher one. The
  numbers make means and spreads those of the benchmark's crops, roughly.

  Returns:
    [height, width, 3] in [0, 1].

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _snow
    >>> ice = jax.jit(lambda key: _snow.ice_texture(key, 5, 7, jnp.float32))(jax.random.key(0))
    >>> ice.shape, bool(ice[..., 2].min() >= 0.48)
    ((5, 7, 3), True)
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

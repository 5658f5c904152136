"""Elastic deformation: a small affine warp, then a smooth random displacement.

Source: Hendrycks and Dietterich (2019), authors' code, after Simard, Steinkraus and Platt (2003).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._blur import _banded, gaussian_taps
from jaxnoise.corruptions._common import check_image, length_scale, select
from jaxnoise.corruptions._tables import parameters


def elastic_transform(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Moves three anchor points at random (affine), then every pixel by smoothed noise.

  Parameters: the displacement's amplitude, the standard deviation of its smoothing (0: no
  displacement), the anchor points' reach. All three are lengths, multiplied by `length_scale` at
  another size than the native one.

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
    >>> image = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    >>> bent = jax.jit(corruptions.elastic_transform)(jax.random.key(0), image, 3)
    >>> bool((bent != image).any())
    True
  """
  image = check_image(image)
  height, width = image.shape[:2]
  scale = length_scale(height, width, variant)
  lengths = scale * parameters("elastic_transform", variant)
  # One draw for both: every threefry costs compile time.
  draws = jax.random.uniform(rng, (6 + 2 * height * width,), image.dtype, -1.0, 1.0)
  anchors, field = draws[:6].reshape(3, 2), draws[6:].reshape(2, height, width)
  radii = [int(3.0 * sigma + 0.5) for sigma in lengths[:, 1]]
  taps = np.stack([
    np.pad(gaussian_taps(sigma, radius), max(radii) - radius)
    for sigma, radius in zip(lengths[:, 1], radii)
  ])
  amplitude, _, reach = select(lengths, severity, image.dtype)
  taps = select(taps, severity, image.dtype)
  return elastic_transform_from(image, reach * anchors, field, taps, amplitude)


def elastic_transform_from(
  image: Array, anchors: Array, field: Array, taps: Array, amplitude: Array | float
) -> Array:
  """Elastic deformation for given draws, see `elastic_transform`.

  Args:
    image: [H, W, C] in [0, 1].
    anchors: [3, 2] displacements (x, y) of the anchor points, in pixels, see `affine_warp`.
    field: [2, H, W] values in [-1, 1) of the displacements (x, y), not yet smoothed.
    taps: [K] of the Gaussian that smooths them, K odd.
    amplitude: factor on the smoothed field, in pixels.

  Returns:
    [H, W, C] in [0, 1].

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _elastic
    >>> image = jnp.array([[0.0, 0.5, 1.0]])[..., None]
    >>> field = jnp.stack([jnp.ones((1, 3)), jnp.zeros((1, 3))])
    >>> still = jnp.zeros((3, 2))
    >>> deform = jax.jit(_elastic.elastic_transform_from)
    >>> deform(image, still, field, jnp.ones(1), 0.5).ravel().tolist()
    [0.25, 0.75, 1.0]
  """
  height, width = image.shape[:2]
  exact = jax.lax.Precision.HIGHEST
  image = affine_warp(image, anchors)
  field = jnp.einsum("ih,khw->kiw", _smoother(taps, height), field, precision=exact)
  field = jnp.einsum("jw,kiw->kij", _smoother(taps, width), field, precision=exact)
  column = jnp.arange(width, dtype=image.dtype)[None, :] + amplitude * field[0]
  row = jnp.arange(height, dtype=image.dtype)[:, None] + amplitude * field[1]
  return jnp.clip(_sample(image, row, column, _symmetric), 0.0, 1.0)


def affine_warp(image: Array, anchors: Array) -> Array:
  """Warps so that three anchor points move by given amounts; bilinear, borders reflected.

  The points stand around the centre (W // 2, H // 2) at a distance of s = min(H, W) // 3 (at
  least 1) along both axes: at (+s, +s), (+s, -s), (-s, -s). The border pixel is not repeated.

  Args:
    image: [H, W, C].
    anchors: [3, 2] displacements (x, y) in pixels.

  Returns:
    [H, W, C].

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _elastic
    >>> ramp = jnp.linspace(0, 1, 5).reshape(1, 5, 1)
    >>> right = jnp.tile(jnp.array([[1.0, 0.0]]), (3, 1))
    >>> jax.jit(_elastic.affine_warp)(ramp, right)[0, :, 0].tolist()
    [0.25, 0.0, 0.25, 0.5, 0.75]
  """
  height, width = image.shape[:2]
  reach = max(min(height, width) // 3, 1)
  middle = np.asarray((width // 2, height // 2))
  before = jnp.asarray(middle + reach * np.asarray(((1, 1), (1, -1), (-1, -1))), image.dtype)
  after = before + anchors
  # The inverse map, from where a pixel lands to where it comes from, by Cramer's rule.
  down, right = after[0] - after[1], after[1] - after[2]
  determinant = right[0] * down[1] - right[1] * down[0]
  x = jnp.arange(width, dtype=image.dtype)[None, :] - after[1, 0]
  y = jnp.arange(height, dtype=image.dtype)[:, None] - after[1, 1]
  length = 2.0 * reach / determinant
  column = before[1, 0] + length * (down[1] * x - down[0] * y)
  row = before[1, 1] + length * (right[0] * y - right[1] * x)
  return _sample(image, row, column, _reflect)


def _smoother(taps: Array, size: int) -> Array:
  """The matrix [size, size] of a smoothing whose borders reflect, the border pixel repeated."""
  half = taps.shape[0] // 2
  image_of = _symmetric(np.arange(-half, size + half), size)
  return jnp.zeros((size, size), taps.dtype).at[:, image_of].add(_banded(taps, size))


def _reflect(index: Array, size: int) -> Array:
  """Folds any index into 0..size - 1, the border pixel not repeated."""
  index = index % max(2 * size - 2, 1)
  return (size - 1) - abs(size - 1 - index)


def _symmetric(index: Array, size: int) -> Array:
  """Folds any index into 0..size - 1, the border pixel repeated."""
  index = index % (2 * size)
  return index + (index >= size) * (2 * size - 1 - 2 * index)


def _sample(
  image: Array, row: Array, column: Array, fold: Callable[[Array, int], Array]
) -> Array:
  """Reads [H, W, C] bilinearly at [N, M] rows and columns, extended by `fold`."""
  height, width, channels = image.shape
  flat = image.reshape(height * width, channels)
  top, left = jnp.floor(row), jnp.floor(column)
  below, right = (row - top)[..., None], (column - left)[..., None]
  top, left = top.astype(jnp.int32), left.astype(jnp.int32)
  rows = [fold(top + k, height) * width for k in (0, 1)]
  columns = [fold(left + k, width) for k in (0, 1)]
  upper = flat[rows[0] + columns[0]] * (1 - right) + flat[rows[0] + columns[1]] * right
  lower = flat[rows[1] + columns[0]] * (1 - right) + flat[rows[1] + columns[1]] * right
  return upper * (1 - below) + lower * below

"""Blur by movement: motion, zoom, and frosted glass.

Source: Hendrycks and Dietterich (2019), authors' code; the motion step follows ImageMagick, which
the authors call.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._blur import gaussian_blur_from, gaussian_taps
from jaxnoise.corruptions._common import check_image, flat_uniform, length_scale, select
from jaxnoise.corruptions._tables import parameters


def motion_taps(table: np.ndarray, scale: float) -> np.ndarray:
  """The weights along the path of a motion blur, for the five severities.

  Weight i is exp(-i^2 / (2 sigma^2)) for i = 0..2 ceil(radius), normalised to sum 1.

  Args:
    table: [5, 2] radii and standard deviations in pixels of the native side.
    scale: factor on both, see `length_scale`.

  Returns:
    [5, K] float64, K = 1 + 2 ceil(largest radius), zero beyond a severity's own length.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _motion
    >>> print(_motion.motion_taps(np.array([[1.0, 1.0]]), 1.0).round(3))
    [[0.574 0.348 0.078]]
  """
  lengths = 2 * np.ceil(scale * table[:, 0]).astype(int)
  step = np.arange(lengths.max() + 1)[None, :]
  taps = np.exp(-0.5 * np.square(step / np.maximum(scale * table[:, 1:], 1e-6)))
  taps = np.where(step <= lengths[:, None], taps, 0.0)
  return taps / taps.sum(axis=1, keepdims=True)


def motion_blur(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Smears the image along a random direction, angle ~ U(-45, 45) degrees, borders replicated.

  Parameters: length of the path over two and standard deviation of the weights along it, both in
  pixels at the variant's native side, multiplied by `length_scale` at another size.

  The authors' program truncates to 8 bits, as the final cast does anyway.

  Args:
    rng: a typed key, for the angle.
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
    >>> edge = jax.numpy.zeros((32, 32, 3)).at[:, 16:].set(1.0)
    >>> smeared = jax.jit(corruptions.motion_blur)(jax.random.key(0), edge, 5)
    >>> bool(((smeared > 0) & (smeared < 1)).any())
    True
  """
  image = check_image(image)
  scale = length_scale(image.shape[0], image.shape[1], variant)
  taps = motion_taps(parameters("motion_blur", variant), scale)
  angle = jax.random.uniform(rng, (), image.dtype, -45.0, 45.0)
  return motion_blur_from(image, angle, select(taps, severity, image.dtype))


def motion_blur_from(image: Array, angle_degrees: Array | float, taps: Array) -> Array:
  """Averages [H, W, C] over the nearest pixels of a path that starts at each pixel.

  Tap i reads the pixel at (ceil(i cos a - 1/2), ceil(i sin a - 1/2)) to the right and below,
  where the border pixel is repeated outside the image.

  Args:
    image: [H, W, C] in [0, 1].
    angle_degrees: a, clockwise from the right.
    taps: [K] weights of sum 1, see `motion_taps`.

  Returns:
    [H, W, C] in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _motion
    >>> ramp = jnp.linspace(0, 1, 5).reshape(1, 5, 1)
    >>> _motion.motion_blur_from(ramp, 0.0, jnp.array([0.0, 1.0]))[0, :, 0].tolist()
    [0.25, 0.5, 0.75, 1.0, 1.0]
  """
  reach = taps.shape[0] - 1
  padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
  angle = jnp.asarray(angle_degrees, image.dtype) * (math.pi / 180)
  step = jnp.stack([jnp.sin(angle), jnp.cos(angle)])

  def add_tap(tap: Array, total: Array) -> Array:
    row, column = jnp.ceil(tap * step - 0.5).astype(jnp.int32) + reach
    return total + taps[tap] * jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)

  smeared = jax.lax.fori_loop(0, taps.shape[0], add_tap, jnp.zeros_like(image))
  return jnp.clip(smeared, 0.0, 1.0)


def zoom_positions(size: int, factor: float) -> np.ndarray:
  """Where each pixel of an axis lies in the axis before zooming into its centre.

  The middle ceil(size / factor) pixels are stretched linearly, first pixel on first and last on
  last, to round(factor ceil(size / factor)) pixels, whose middle `size` are kept.

  Args:
    size: pixels of the axis.
    factor: of magnification, at least 1.

  Returns:
    [size] float64 positions in [0, size - 1].

  Example:
    >>> from jaxnoise.corruptions import _motion
    >>> _motion.zoom_positions(4, 2.0).round(3).tolist()
    [1.0, 1.333, 1.667, 2.0]
  """
  crop = math.ceil(size / factor)
  stretched = round(crop * factor)
  kept = np.arange(size) + (stretched - size) // 2
  return (size - crop) // 2 + kept * ((crop - 1) / max(stretched - 1, 1))


def _interpolation(position: Array, size: int) -> Array:
  """The matrix [..., n, size] that reads an axis of `size` pixels linearly at [..., n] places."""
  pixel = jnp.arange(size, dtype=position.dtype).reshape((1,) * position.ndim + (size,))
  return jnp.maximum(1.0 - jnp.abs(position[..., None] - pixel), 0.0)


def zoom(image: Array, rows: Array, columns: Array) -> Array:
  """Reads [H, W, C] linearly at the given rows and columns.

  Args:
    image: [H, W, C].
    rows: [N] positions in [0, H - 1], as `zoom_positions` gives them.
    columns: [M] positions in [0, W - 1].

  Returns:
    [N, M, C].

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise.corruptions import _motion
    >>> image = jnp.array([[0.0, 1.0]])[..., None]
    >>> jax.jit(_motion.zoom)(image, jnp.zeros(1), jnp.array([0.25, 0.5])).ravel().tolist()
    [0.25, 0.5]
  """
  exact = jax.lax.Precision.HIGHEST
  height, width = image.shape[:2]
  image = jnp.einsum("ih,hwc->iwc", _interpolation(rows, height), image, precision=exact)
  return jnp.einsum("jw,iwc->ijc", _interpolation(columns, width), image, precision=exact)


def zoom_blur(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Averages the image with itself magnified: (x + sum_k zoom(x, 1 + k step)) / (n + 1).

  Parameters: n, the number of factors, k = 0..n - 1; the step. Ratios, so neither is scaled. A
  side of an oblong image is zoomed about its own middle.

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
    >>> corner = jax.numpy.zeros((32, 32, 3)).at[0, 0].set(1.0)
    >>> bool(jax.jit(corruptions.zoom_blur)(jax.random.key(0), corner, 5)[0, 0, 0] < 0.5)
    True
  """
  del rng
  image = check_image(image)
  table = parameters("zoom_blur", variant)
  most = int(table[:, 0].max())
  positions = [
    # Written as numpy's arange adds, so that a quotient of whole pixels rounds as the authors'.
    np.stack([
      [zoom_positions(size, 1.0 + k * ((1.0 + step) - 1.0)) for k in range(most)]
      for _, step in table
    ])
    for size in image.shape[:2]
  ]
  rows, columns = (select(position, severity, image.dtype) for position in positions)
  count = select(table[:, 0], severity, jnp.int32)
  return zoom_blur_from(image, rows, columns, count)


def zoom_blur_from(image: Array, rows: Array, columns: Array, count: Array | int) -> Array:
  """Averages [H, W, C] and its first `count` zooms, see `zoom_blur`.

  Args:
    image: [H, W, C] in [0, 1].
    rows: [K, H] positions of each zoom, see `zoom_positions`.
    columns: [K, W].
    count: how many of the K are used.

  Returns:
    [H, W, C] in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _motion
    >>> image = jnp.array([[0.0, 1.0]])[..., None]
    >>> right = jnp.array([[1.0, 1.0]])
    >>> _motion.zoom_blur_from(image, jnp.zeros((1, 1)), right, 1).ravel().tolist()
    [0.5, 1.0]
  """

  def add_zoom(k: Array, total: Array) -> Array:
    return total + zoom(image, rows[k], columns[k])

  total = jax.lax.fori_loop(0, count, add_zoom, image)
  return jnp.clip(total / (count + 1.0), 0.0, 1.0)


def glass_blur(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Blurs, cuts to 8 bits, displaces pixels within a small reach, blurs again.

  Parameters: standard deviation of both Gaussians (`gaussian_blur`), reach d of the displacement,
  how often it is repeated. The first two are in pixels at the variant's native side and are
  multiplied by `length_scale` at another size, d rounded and at least 1.

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
    >>> out = jax.jit(corruptions.glass_blur)(jax.random.key(0), image, 5)
    >>> bool((out != image).any())
    True
  """
  image = check_image(image)
  height, width = image.shape[:2]
  scale = length_scale(height, width, variant)
  table = parameters("glass_blur", variant)
  sigmas = scale * table[:, 0]
  half = max(int(4.0 * sigma + 0.5) for sigma in sigmas)
  radii = [int(4.0 * sigma + 0.5) for sigma in sigmas]
  taps = [np.pad(gaussian_taps(s, radius), half - radius) for s, radius in zip(sigmas, radii)]
  reach = select(np.maximum(np.rint(scale * table[:, 1]), 1), severity, jnp.int32)
  repeats = select(table[:, 2], severity, jnp.int32)
  shape = (int(table[:, 2].max()), height, width, 2)
  uniform = flat_uniform(rng, shape, image.dtype)
  offsets = jnp.floor(uniform * (2 * reach)).astype(jnp.int32) - reach
  # Only the pixels that the authors' loops visit move, and only in this severity's repeats.
  row, column = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
  visited = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
  visited = visited & (jnp.arange(shape[0])[:, None, None] < repeats)
  offsets = jnp.where(visited[..., None], offsets, 0)
  return glass_blur_from(image, offsets, select(np.stack(taps), severity, image.dtype))


def glass_blur_from(image: Array, offsets: Array, taps: Array) -> Array:
  """Glass blur for given displacements, see `glass_blur` and `displace`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise.corruptions import _motion
    >>> image = jnp.full((1, 1, 1), 0.5)  # 127.5 levels, cut to 127
    >>> out = jax.jit(_motion.glass_blur_from)(image, jnp.zeros((1, 1, 1, 2), int), jnp.ones(1))
    >>> round(float(out[0, 0, 0] * 255), 3)
    127.0
  """
  image = jnp.floor(gaussian_blur_from(image, taps) * 255.0 + 2.0**-12) / 255.0
  return gaussian_blur_from(displace(image, offsets), taps)


def displace(image: Array, offsets: Array) -> Array:
  """Lets each pixel take another's value, in the order of the authors' loops.

  Pixels are visited from the lower right, a row at a time, and each takes the value that the pixel
  `offsets` away has by then. (The authors mean to swap the two, but their arrays are views, and
  the other pixel keeps its value.) A pixel that takes from one visited before takes what that one
  took, and so on: the chains are followed by doubling, all pixels at once.

  Args:
    image: [H, W, C].
    offsets: [R, H, W, 2] integers, (column, row) for each of R passes; (0, 0) leaves a pixel.

  Returns:
    [H, W, C].

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise.corruptions import _motion
    >>> image = jnp.array([[0.0, 1.0, 2.0]])[..., None]
    >>> left = jnp.zeros((1, 1, 3, 2), int).at[0, 0, 2, 0].set(-1)
    >>> jax.jit(_motion.displace)(image, left).ravel().tolist()
    [0.0, 1.0, 1.0]
  """
  height, width, channels = image.shape
  pixels = height * width
  own = jnp.arange(pixels, dtype=jnp.int32)
  flat = image.reshape(pixels, channels)
  for offset in offsets.astype(jnp.int32):
    source = own + (offset[..., 1] * width + offset[..., 0]).reshape(pixels)
    # A link to a pixel visited before (of larger index) goes on from that pixel's own link.
    link = jnp.where(source > own, source + pixels, source)

    def follow(_: Array, link: Array) -> Array:
      return jnp.where(link >= pixels, link[jnp.maximum(link - pixels, 0)], link)

    flat = flat[jax.lax.fori_loop(0, max(pixels - 1, 1).bit_length(), follow, link)]
  return flat.reshape(image.shape)

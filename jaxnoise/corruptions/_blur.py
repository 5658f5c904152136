"""Blur: defocus (a disk) and Gaussian.

The kernels of all five severities are built with numpy at trace time and padded to one size, so
one compiled program serves them all; the severity only selects a row. Source: Hendrycks and
Dietterich (2019), authors' code.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, length_scale, select
from jaxnoise.corruptions._tables import parameters


def gaussian_taps(sigma: float, radius: int) -> np.ndarray:
  """Samples exp(-k^2 / (2 sigma^2)) at k = -radius..radius and normalises it to sum 1.

  Returns:
    [2 radius + 1] float64; a single 1 in the middle as sigma goes to 0.

  Example:
    >>> from jaxnoise.corruptions import _blur
    >>> print(_blur.gaussian_taps(1.0, 1).round(4))
    [0.2741 0.4519 0.2741]
  """
  offsets = np.arange(-radius, radius + 1)
  taps = np.exp(-0.5 * np.square(offsets / max(sigma, 1e-6)))
  return taps / taps.sum()


def disk_kernel(radius: float, alias_sigma: float) -> np.ndarray:
  """A normalised disk x^2 + y^2 <= r^2 on the pixel grid, softened by a small Gaussian.

  Up to radius 8 the grid is 17 x 17 and the Gaussian 3 x 3; beyond, the grid reaches to the
  radius and the Gaussian is 5 x 5. The softening reflects at the grid's border, border not
  repeated.

  Args:
    radius: in pixels; below 1 the disk is a single pixel.
    alias_sigma: standard deviation of the Gaussian, in pixels.

  Returns:
    [2 R + 1, 2 R + 1] float64, R = max(8, ceil(radius)).

  Example:
    >>> from jaxnoise.corruptions import _blur
    >>> kernel = _blur.disk_kernel(1.0, 0.01)
    >>> int((kernel > 0).sum()), float(kernel.max())
    (5, 0.2)
  """
  half, soft = (8, 1) if radius <= 8 else (int(np.ceil(radius)), 2)
  axis = np.arange(-half, half + 1)
  disk = (axis[:, None] ** 2 + axis[None, :] ** 2 <= radius**2).astype(np.float64)
  kernel = disk / disk.sum()
  taps = gaussian_taps(alias_sigma, soft)
  for _ in range(2):  # one axis, then the other
    padded = np.pad(kernel, ((soft, soft), (0, 0)), mode="reflect")
    kernel = sum(taps[k] * padded[k : k + 2 * half + 1] for k in range(2 * soft + 1)).T
  return kernel


def _trim(kernels: np.ndarray) -> np.ndarray:
  """Cuts [5, K, K] kernels to the smallest common square that holds every weight above 1e-9."""
  half = kernels.shape[-1] // 2
  rows, columns = np.nonzero(np.max(kernels, axis=0) > 1e-9)
  keep = int(max(np.abs(rows - half).max(), np.abs(columns - half).max()))
  return kernels[:, half - keep : half + keep + 1, half - keep : half + keep + 1]


def defocus_blur(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Correlates every channel with a softened disk; borders are reflected, repeatedly if needed.

  Parameters: radius of the disk, standard deviation of its softening, both in pixels at the
  variant's native side; at another size both are multiplied by `length_scale`. As in the authors'
  code the disk is sampled at pixel centres, so a scaled radius below 1 with a scaled softening
  far below 1 leaves the image as it is (every severity at 8 pixels with the CIFAR table).

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
    >>> dot = jax.numpy.zeros((32, 32, 3)).at[16, 16].set(1.0)
    >>> blurred = corruptions.defocus_blur(jax.random.key(0), dot, 5)
    >>> [round(float(value), 3) for value in blurred[15, 14:19, 0]]
    [0.0, 0.111, 0.111, 0.111, 0.0]
  """
  del rng
  image = check_image(image)
  scale = length_scale(image.shape[0], image.shape[1], variant)
  lengths = scale * parameters("defocus_blur", variant)
  disks = [disk_kernel(radius, sigma) for radius, sigma in lengths]
  size = max(len(disk) for disk in disks)
  kernels = np.stack([np.pad(disk, (size - len(disk)) // 2) for disk in disks])
  return defocus_blur_from(image, select(_trim(kernels), severity, image.dtype))


def defocus_blur_from(image: Array, kernel: Array) -> Array:
  """Correlates every channel of [H, W, C] with one kernel [K, K], K odd, borders reflected.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _blur
    >>> shift = jnp.zeros((3, 3)).at[1, 2].set(1.0)
    >>> ramp = jnp.linspace(0, 1, 5).reshape(1, 5, 1)
    >>> _blur.defocus_blur_from(ramp, shift)[0, :, 0].tolist()
    [0.25, 0.5, 0.75, 1.0, 0.75]
  """
  height, width, channels = image.shape
  size = kernel.shape[0]
  half = size // 2
  padded = jnp.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")

  def add_tap(tap: Array, total: Array) -> Array:
    row, column = tap // size, tap % size
    window = jax.lax.dynamic_slice(padded, (row, column, 0), (height, width, channels))
    return total + kernel[row, column] * window

  # A loop over shifted copies: under vmap it is several times faster on CPU than a convolution.
  return jnp.clip(jax.lax.fori_loop(0, size * size, add_tap, jnp.zeros_like(image)), 0.0, 1.0)


def gaussian_blur(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Smooths rows and columns with a Gaussian cut at 4 standard deviations, borders replicated.

  Parameters: the standard deviation in pixels at the variant's native side, multiplied by
  `length_scale` at another size. The Gaussian is sampled at pixel centres, as in the authors'
  code: far below half a pixel little or nothing of it is left (at 8 pixels with the CIFAR table
  the neighbour's weight is at most 3e-4).

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
    >>> dot = jax.numpy.zeros((32, 32, 3)).at[16, 16].set(1.0)
    >>> blurred = corruptions.gaussian_blur(jax.random.key(0), dot, 5)
    >>> [round(float(value), 3) for value in blurred[16, 14:19, 0]]
    [0.022, 0.097, 0.159, 0.097, 0.022]
  """
  del rng
  image = check_image(image)
  scale = length_scale(image.shape[0], image.shape[1], variant)
  sigmas = scale * parameters("gaussian_blur", variant)[:, 0]
  radii = [int(4.0 * sigma + 0.5) for sigma in sigmas]
  taps = [
    np.pad(gaussian_taps(sigma, radius), max(radii) - radius)
    for sigma, radius in zip(sigmas, radii)
  ]
  return gaussian_blur_from(image, select(np.stack(taps), severity, image.dtype))


def gaussian_blur_from(image: Array, taps: Array) -> Array:
  """Correlates rows and columns of [H, W, C] with the same taps [K], K odd, borders replicated.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _blur
    >>> ramp = jnp.linspace(0, 1, 5).reshape(1, 5, 1)
    >>> _blur.gaussian_blur_from(ramp, jnp.array([0.0, 0.0, 1.0]))[0, :, 0].tolist()
    [0.25, 0.5, 0.75, 1.0, 1.0]
  """
  half = taps.shape[0] // 2
  padded = jnp.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
  rows = _banded(taps, image.shape[0])
  columns = _banded(taps, image.shape[1])
  # Full precision: the default of an accelerator is coarser than the 8-bit grid of the result.
  smooth = jnp.einsum("ip,pwc->iwc", rows, padded, precision=jax.lax.Precision.HIGHEST)
  smooth = jnp.einsum("jp,hpc->hjc", columns, smooth, precision=jax.lax.Precision.HIGHEST)
  return jnp.clip(smooth, 0.0, 1.0)


def _banded(taps: Array, size: int) -> Array:
  """The matrix [size, size + K - 1] whose row i holds the taps from column i on."""
  length = taps.shape[0]
  offset = np.arange(size + length - 1)[None, :] - np.arange(size)[:, None]
  inside = (offset >= 0) & (offset < length)
  return jnp.where(inside, taps[np.clip(offset, 0, length - 1)], 0.0)

"""Noise: Gaussian, shot (Poisson), impulse (salt and pepper), speckle.

Each corruption is two functions: `<name>_from` is arithmetic on given draws, `<name>` draws and
calls it. Source: Hendrycks and Dietterich (2019), authors' code.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._common import check_image, flat_normal, flat_uniform, select, threefry
from jaxnoise.corruptions._tables import parameters


def gaussian_noise(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Adds Gaussian noise: clip(x + sd z, 0, 1), z ~ N(0, 1) for every value.

  Parameters: sd, in units of the full range.

  Args:
    rng: a typed key.
    image: [H, W, C] in [0, 1].
    severity: 1..5.
    variant: "cifar" or "imagenet", whose table of parameters.

  Returns:
    [H, W, C] in [0, 1], not quantised.

  Raises:
    InputError: for an integer or batched image, a severity outside 1..5, an unknown variant.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> image = jax.numpy.full((32, 32, 3), 0.5)
    >>> noisy = corruptions.gaussian_noise(jax.random.key(0), image, 5)
    >>> bool(0.09 < noisy.std() < 0.11)
    True
  """
  image = check_image(image)
  sd = select(parameters("gaussian_noise", variant), severity, image.dtype)[0]
  return gaussian_noise_from(image, flat_normal(rng, image.shape, image.dtype), sd)


def gaussian_noise_from(image: Array, normal: Array, sd: Array | float) -> Array:
  """clip(x + sd z, 0, 1) for given standard normal z, of the image's shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _noise
    >>> float(_noise.gaussian_noise_from(jnp.array(0.5), jnp.array(2.0), 0.125))
    0.75
  """
  return jnp.clip(image + sd * normal, 0.0, 1.0)


def shot_noise(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Counts photons: clip(n / c, 0, 1), n ~ Poisson(c x) for every value.

  Parameters: c, the expected count at full brightness; mean x, variance x / c before clipping.

  Args:
    rng: a typed key of any implementation.
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
    >>> black = jax.numpy.zeros((8, 8, 3))
    >>> float(corruptions.shot_noise(jax.random.key(0), black, 5).max())
    0.0
  """
  image = check_image(image)
  photons = select(parameters("shot_noise", variant), severity, image.dtype)[0]
  counts = jax.random.poisson(threefry(rng), (image * photons).ravel()).reshape(image.shape)
  return shot_noise_from(counts, photons, image.dtype)


def shot_noise_from(counts: Array, photons: Array | float, dtype: jnp.dtype) -> Array:
  """clip(n / c, 0, 1) for given integer counts n and c photons at full brightness.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _noise
    >>> float(_noise.shot_noise_from(jnp.array(25), 50.0, jnp.float32))
    0.5
  """
  return jnp.clip(counts.astype(dtype) / photons, 0.0, 1.0)


def impulse_noise(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Replaces each value (per channel) with probability p by 0 or by 1, equally likely.

  Parameters: p, the share of replaced values.

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
    >>> image = jax.numpy.full((32, 32, 3), 0.5)
    >>> noisy = corruptions.impulse_noise(jax.random.key(0), image, 5)
    >>> bool(0.05 < (noisy != 0.5).mean() < 0.09)
    True
  """
  image = check_image(image)
  amount = select(parameters("impulse_noise", variant), severity, image.dtype)[0]
  uniform = flat_uniform(rng, image.shape, image.dtype)
  return impulse_noise_from(image, uniform < amount, uniform < 0.5 * amount)


def impulse_noise_from(image: Array, flipped: Array, salted: Array) -> Array:
  """1 where flipped and salted, 0 where flipped and not salted, x elsewhere; masks are boolean.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _noise
    >>> flipped, salted = jnp.array([True, True, False]), jnp.array([True, False, True])
    >>> _noise.impulse_noise_from(jnp.full(3, 0.5), flipped, salted).tolist()
    [1.0, 0.0, 0.5]
  """
  return jnp.where(flipped, salted.astype(image.dtype), image)


def speckle_noise(
  rng: PRNGKey, image: Array, severity: int | Array, *, variant: str = "cifar"
) -> Array:
  """Multiplies by noise: clip(x + x sd z, 0, 1), z ~ N(0, 1) for every value.

  Parameters: sd, relative to the value's brightness.

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
    >>> black = jax.numpy.zeros((8, 8, 3))
    >>> float(corruptions.speckle_noise(jax.random.key(0), black, 5).max())
    0.0
  """
  image = check_image(image)
  sd = select(parameters("speckle_noise", variant), severity, image.dtype)[0]
  return speckle_noise_from(image, flat_normal(rng, image.shape, image.dtype), sd)


def speckle_noise_from(image: Array, normal: Array, sd: Array | float) -> Array:
  """clip(x + x sd z, 0, 1) for given standard normal z, of the image's shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _noise
    >>> float(_noise.speckle_noise_from(jnp.array(0.5), jnp.array(2.0), 0.25))
    0.75
  """
  return jnp.clip(image + image * sd * normal, 0.0, 1.0)

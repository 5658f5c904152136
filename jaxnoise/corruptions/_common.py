"""What every corruption needs: checks, the row of a severity, the scale of lengths, keys."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._tables import NATIVE_SIDE, SEVERITIES, check_variant


def check_image(image: Array, *, rgb: bool = False) -> Array:
  """Returns one image in at least float32, or says what is wrong with it.

  Args:
    image: [H, W, C], floating point, values in [0, 1] (values are not looked at).
    rgb: whether the corruption is defined on colours, so that C must be 3.

  Raises:
    InputError: for an integer image, another rank, or C that is not 3 where colours are needed.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _common
    >>> _common.check_image(jnp.zeros((8, 8, 1), jnp.bfloat16)).dtype
    dtype('float32')
  """
  image = jnp.asarray(image)
  check_float(image)
  if image.ndim != 3:
    raise InputError(
      f"image has shape {image.shape}, but a corruption takes one image [H, W, C]; use "
      "jaxnoise.corruptions.corrupt for a batch"
    )
  if rgb and image.shape[-1] != 3:
    raise InputError(
      f"image has {image.shape[-1]} channels, but this corruption is defined on 3 (RGB); repeat "
      "a grey image along the last axis"
    )
  return promote(image)


def check_float(image: Array) -> None:
  """Refuses images that are not floating point: their range would be 0..255, not [0, 1].

  Raises:
    InputError: for an integer image.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _common
    >>> _common.check_float(jnp.zeros((8, 8, 3)))
  """
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise InputError(
      f"image has dtype {image.dtype}, but corruptions take floats in [0, 1]; divide 8-bit "
      "images by 255"
    )


def check_batch(image: Array, index: Array | None) -> Array:
  """Checks a batch of images and returns its examples' indices, 0..B-1 where none are given.

  Raises:
    InputError: for integer images, a shape other than [B, H, W, C], an index of another length.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _common
    >>> _common.check_batch(jnp.zeros((3, 8, 8, 1)), None).tolist()
    [0, 1, 2]
  """
  check_float(image)
  if image.ndim != 4:
    raise InputError(
      f"image has shape {image.shape}, but a batch is [B, H, W, C]; add a leading axis to a single "
      "image"
    )
  index = jnp.arange(image.shape[0]) if index is None else jnp.asarray(index)
  if index.shape != image.shape[:1]:
    raise InputError(
      f"index has shape {index.shape}, but the batch has {image.shape[0]} images; give one integer "
      "per image"
    )
  return index


def check_images(images: Array) -> Array:
  """Checks the values of a data set's images, once, before any of them is corrupted or perturbed.

  `corrupt` and `perturb` look at dtypes and shapes alone, as their programs run without waiting
  for the device. Images of another range (0..255, or normalised) would be clipped silently.

  Args:
    images: floats of any shape; not inside jit, where there are no values to look at.

  Returns:
    The images as they are.

  Raises:
    InputError: for integers, values outside [0, 1], or nan.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import corruptions
    >>> images = corruptions.check_images(jnp.full((2, 8, 8, 3), 0.5))
  """
  check_float(images)
  if not images.size:
    return images
  lowest, highest = float(images.min()), float(images.max())  # nan if any value is
  if not (lowest >= 0.0 and highest <= 1.0):
    raise InputError(
      f"images have values from {lowest:g} to {highest:g}, but corruptions take [0, 1]; divide "
      "8-bit images by 255, and normalise in the network's first layer instead of before it"
    )
  return images


def check_severity(severity: int | Array) -> int | Array:
  """Returns the severity if it is an integer from 1 to 5.

  A traced severity (one compiled program for all five) has no value to look at and is returned as
  it is: whoever traces it has checked it on the host.

  Raises:
    InputError: for anything else.

  Example:
    >>> from jaxnoise.corruptions import _common
    >>> _common.check_severity(5)
    5
  """
  if isinstance(severity, jax.core.Tracer):
    return severity
  try:
    value = operator.index(severity)  # refuses floats, takes integer scalars of numpy and jax
  except TypeError:
    value = 0
  if value not in SEVERITIES:
    raise InputError(f"severity is {severity!r}; expected an integer from 1 to 5")
  return value


def select(table: np.ndarray, severity: int | Array, dtype: jnp.dtype) -> Array:
  """Takes the row of one severity out of a table over all five.

  Args:
    table: [5, ...].
    severity: 1..5, a Python int or a traced int32 scalar.
    dtype: of the result.

  Returns:
    [...], row `severity - 1`.

  Raises:
    InputError: for a severity that is known and not in 1..5.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _common
    >>> float(_common.select(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 5, np.float32))
    0.5
  """
  return jnp.asarray(table, dtype)[check_severity(severity) - 1]


def length_scale(height: int, width: int, variant: str) -> float:
  """The factor on every length (radius, standard deviation) at another size than the native one.

  min(H, W) / 32 for "cifar" and min(H, W) / 224 for "imagenet": 1 at the native size. Amplitudes
  (noise levels, contrast factors) and ratios (pixelate) do not scale.

  Raises:
    InputError: for an unknown variant.

  Example:
    >>> from jaxnoise.corruptions import _common
    >>> _common.length_scale(8, 8, "cifar")
    0.25
  """
  return min(height, width) / NATIVE_SIDE[check_variant(variant)]


def threefry(rng: PRNGKey) -> PRNGKey:
  """Returns a threefry key: `rng` itself if it is one, else one seeded with 64 bits of `rng`.

  Two things need it: Poisson draws are implemented for threefry alone, and only threefry gives an
  example of a batch the numbers that it would get alone.

  Example:
    >>> import jax
    >>> from jaxnoise.corruptions import _common
    >>> key = jax.random.key(0, impl="rbg")
    >>> str(jax.random.key_impl(_common.threefry(key)))
    'threefry2x32'
  """
  if str(jax.random.key_impl(rng)) == "threefry2x32":
    return rng
  return jax.random.wrap_key_data(jax.random.bits(rng, (2,)), impl="threefry2x32")


def flat_normal(rng: PRNGKey, shape: Sequence[int], dtype: jnp.dtype) -> Array:
  """Draws standard normal numbers of a shape along one axis: the generator compiles by its rank.

  Example:
    >>> import jax
    >>> from jaxnoise.corruptions import _common
    >>> _common.flat_normal(jax.random.key(0), (8, 8, 3), jax.numpy.float32).shape
    (8, 8, 3)
  """
  return jax.random.normal(rng, (math.prod(shape),), dtype).reshape(shape)


def flat_uniform(rng: PRNGKey, shape: Sequence[int], dtype: jnp.dtype) -> Array:
  """Draws numbers in [0, 1), see `flat_normal`.

  Example:
    >>> import jax
    >>> from jaxnoise.corruptions import _common
    >>> _common.flat_uniform(jax.random.key(0), (8, 8, 3), jax.numpy.float32).shape
    (8, 8, 3)
  """
  return jax.random.uniform(rng, (math.prod(shape),), dtype).reshape(shape)

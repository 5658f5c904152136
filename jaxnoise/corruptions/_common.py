"""What every corruption needs: checks, the row of a severity, the scale of lengths, keys."""

from __future__ import annotations

import operator

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

"""RandAugment in the two forms that the papers on noisy labels use."""

from __future__ import annotations

from jaxnoise.augment._policy_tables import (
  PolicyDraw,
  PolicyTable,
  apply_policy,
  make_table,
  sample_policy,
  torchvision_parameters,
)
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, PRNGKey

TORCHVISION = (
  "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color",
  "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
"""torchvision's 14 operations, in its order."""

ILDOONET = {
  "autocontrast": (0.0, 1.0),
  "equalize": (0.0, 1.0),
  "invert": (0.0, 1.0),
  "rotate": (0.0, 30.0),
  "posterize": (0.0, 4.0),
  "solarize": (0.0, 256.0),
  "solarize_add": (0.0, 110.0),
  "color": (0.1, 1.9),
  "contrast": (0.1, 1.9),
  "brightness": (0.1, 1.9),
  "sharpness": (0.1, 1.9),
  "shear_x": (0.0, 0.3),
  "shear_y": (0.0, 0.3),
  "cutout_abs": (0.0, 40.0),
  "translate_x": (0.0, 100.0),
  "translate_y": (0.0, 100.0),
}
"""pytorch-randaugment's 16 operations with the parameters at magnitudes 0 and 30, in its order."""

SIGNED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_ZERO_BITS = {"black": 0.0, "one": 1.0, "identity": 8.0}


def rand_augment_table(size: tuple[int, int], magnitude: int, bins: int) -> PolicyTable:
  """torchvision's 14 operations at one magnitude, one a row.

  Args:
    size: (H, W) of the image, in pixels.
    magnitude: 0 to bins - 1.
    bins: at least 2.

  Raises:
    InputError: if the magnitude or the number of bins is out of range.
  """
  if bins < 2 or bins != int(bins):
    raise InputError(f"bins is {bins}; expected a whole number of at least 2 magnitudes")
  if magnitude not in range(int(bins)):
    raise InputError(f"magnitude is {magnitude}; expected a whole number from 0 to {bins - 1}")
  rows = [[(name, 1.0, magnitude)] for name in TORCHVISION]
  return make_table(rows, torchvision_parameters(size, int(bins)))


def sample_rand_augment(
  rng: PRNGKey, size: tuple[int, int], *, num_ops: int = 2, magnitude: int = 9, bins: int = 31
) -> PolicyDraw:
  """Draws operations and their signs as torchvision's RandAugment does.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    num_ops, magnitude, bins: see `rand_augment`.

  Raises:
    InputError: if a hyper-parameter is out of range.

  Example:
    >>> import jax
    >>> sample_rand_augment(jax.random.key(0), (32, 32)).op_param.shape
    (2, 3)
  """
  _check_count(num_ops)
  return sample_policy(rng, size, rand_augment_table(size, magnitude, bins), rows=num_ops)


def rand_augment(
  rng: PRNGKey, image: Array, *, num_ops: int = 2, magnitude: int = 9, bins: int = 31
) -> Array:
  """RandAugment as torchvision has it: operations drawn uniformly, all at one magnitude.

  Fourteen operations, the identity among them, with replacement; those with a sign have it from a
  fair coin. Parameters are those of `torchvision_parameters`. Geometry takes the nearest pixel and
  is black outside. At magnitude 3 of 31 bins this is far milder than `ildoonet_rand_augment`.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1], C one or three; rounded to grey levels.
    num_ops: operations applied, one after the other.
    magnitude: 0 to bins - 1.
    bins: number of magnitudes.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255; no gradient reaches the image.

  Raises:
    InputError: if a hyper-parameter is out of range.

  Source: Cubuk et al. 2020 (RandAugment), torchvision's `RandAugment` on PIL images.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 0.5)
    >>> jax.eval_shape(rand_augment, jax.random.key(0), image).shape
    (8, 8, 3)
  """
  _check_count(num_ops)
  table = rand_augment_table(image.shape[:2], magnitude, bins)
  draw = sample_policy(rng, image.shape[:2], table, rows=num_ops)
  return apply_policy(image, draw, names=table.names)


def ildoonet_table(magnitude: float, posterize_zero: str) -> PolicyTable:
  """pytorch-randaugment's 16 operations at one magnitude, one a row.

  Args:
    magnitude: 0 to 30.
    posterize_zero: see `ildoonet_rand_augment`.

  Raises:
    InputError: if an argument is out of range.
  """
  if not 0 <= magnitude <= 30:
    raise InputError(f"magnitude is {magnitude}; expected a number from 0 to 30")
  if posterize_zero not in _ZERO_BITS:
    near = closest(str(posterize_zero), _ZERO_BITS)
    raise InputError(f"posterize_zero is {posterize_zero!r}, no such choice: {near}")
  parameters = {}
  for name, (low, high) in ILDOONET.items():
    value = magnitude / 30 * (high - low) + low
    if name == "posterize":
      value = float(int(value)) or _ZERO_BITS[posterize_zero]
    parameters[name] = [(0.0, value) if name in SIGNED else (value, 0.0)]
  return make_table([[(name, 1.0, 0)] for name in ILDOONET], parameters)


def sample_ildoonet_rand_augment(
  rng: PRNGKey,
  size: tuple[int, int],
  *,
  num_ops: int = 1,
  magnitude: float = 3,
  posterize_zero: str = "black",
) -> PolicyDraw:
  """Draws operations, their signs and the place of their rectangle.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    num_ops, magnitude, posterize_zero: see `ildoonet_rand_augment`.

  Raises:
    InputError: if a hyper-parameter is out of range.

  Example:
    >>> import jax
    >>> sample_ildoonet_rand_augment(jax.random.key(0), (32, 32)).op_param.shape
    (1, 3)
  """
  _check_count(num_ops)
  return sample_policy(rng, size, ildoonet_table(magnitude, posterize_zero), rows=num_ops)


def ildoonet_rand_augment(
  rng: PRNGKey,
  image: Array,
  *,
  num_ops: int = 1,
  magnitude: float = 3,
  posterize_zero: str = "black",
) -> Array:
  """RandAugment as the GJS repository has it, from the library pytorch-randaugment.

  Sixteen operations, uniformly with replacement. An operation's parameter is
  low + (M / 30) (high - low) of its range, whether that makes it stronger or weaker: at M = 3
  posterize keeps 0 bits, solarize inverts from 25.6 on, color, contrast, brightness and sharpness
  have the factor 0.28, and translations are 10 pixels at any size of image. One image in sixteen is
  inverted. Geometry takes the nearest pixel and is black outside; cutout_abs paints a rectangle
  of (125, 123, 114).

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1], C one or three; rounded to grey levels.
    num_ops: operations applied, one after the other.
    magnitude: M, 0 to 30.
    posterize_zero: what posterizing to 0 bits does: "black" makes the image black, as PIL does when
      the library asks it to; "one" keeps one bit, as a later version of the library; "identity"
      leaves the image alone.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255; no gradient reaches the image.

  Raises:
    InputError: if a hyper-parameter is out of range.

  Source: ildoonet's pytorch-randaugment, `augment_list`; N = 1 and M = 3 are GJS's and NRD's.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 0.5)
    >>> jax.eval_shape(ildoonet_rand_augment, jax.random.key(0), image).shape
    (8, 8, 3)
  """
  _check_count(num_ops)
  table = ildoonet_table(magnitude, posterize_zero)
  draw = sample_policy(rng, image.shape[:2], table, rows=num_ops)
  return apply_policy(image, draw, names=table.names)


def _check_count(num_ops: int) -> None:
  if num_ops < 1:
    raise InputError(f"num_ops is {num_ops}; expected at least 1 operation")

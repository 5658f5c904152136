"""AutoAugment as torchvision applies it: 25 pairs of operations found by a search."""

from __future__ import annotations

import functools
from collections.abc import Sequence

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

BINS = 10

# One sub-policy a line: (operation, probability, magnitude) twice; operations without a magnitude
# have 0. Cubuk et al. 2019, tables 7 and 9, as torchvision has them.
CIFAR10 = (
  (("invert", 0.1, 0), ("contrast", 0.2, 6)),
  (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
  (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
  (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
  (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
  (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
  (("color", 0.4, 3), ("brightness", 0.6, 7)),
  (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
  (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
  (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
  (("color", 0.7, 7), ("translate_x", 0.5, 8)),
  (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
  (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
  (("brightness", 0.9, 6), ("color", 0.2, 8)),
  (("solarize", 0.5, 2), ("invert", 0.0, 0)),
  (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
  (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
  (("color", 0.9, 9), ("equalize", 0.6, 0)),
  (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
  (("brightness", 0.1, 3), ("color", 0.7, 0)),
  (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
  (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
  (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
  (("equalize", 0.8, 0), ("invert", 0.1, 0)),
  (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)

IMAGENET = (
  (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
  (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
  (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
  (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
  (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
  (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
  (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
  (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
  (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
  (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
  (("rotate", 0.8, 8), ("color", 0.4, 0)),
  (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
  (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
  (("invert", 0.6, 0), ("equalize", 1.0, 0)),
  (("color", 0.6, 4), ("contrast", 1.0, 8)),
  (("rotate", 0.8, 8), ("color", 1.0, 2)),
  (("color", 0.8, 8), ("solarize", 0.8, 7)),
  (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
  (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
  (("color", 0.4, 0), ("equalize", 0.6, 0)),
  (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
  (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
  (("invert", 0.6, 0), ("equalize", 1.0, 0)),
  (("color", 0.6, 4), ("contrast", 1.0, 8)),
  (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)

_POLICIES = {"cifar10": CIFAR10, "imagenet": IMAGENET}


@functools.cache
def auto_augment_table(policy: str, size: tuple[int, int]) -> PolicyTable:
  """The 25 sub-policies of one of AutoAugment's policies, with parameters for an image of a size.

  Args:
    policy: "cifar10" or "imagenet".
    size: (H, W) of the image, in pixels.

  Raises:
    InputError: if there is no such policy.
  """
  if policy not in _POLICIES:
    raise InputError(f"policy is {policy!r}, no such policy: {closest(str(policy), _POLICIES)}")
  return make_table(_POLICIES[policy], torchvision_parameters(size, BINS))


def sample_auto_augment(
  rng: PRNGKey, size: tuple[int, int], *, policy: str = "cifar10"
) -> PolicyDraw:
  """Draws a sub-policy, which of its two operations are executed, and their signs.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    policy: see `auto_augment`.

  Returns:
    The draws of two operations.

  Raises:
    InputError: if there is no such policy.

  Example:
    >>> import jax
    >>> draw = jax.jit(sample_auto_augment, static_argnums=1)
    >>> draw(jax.random.key(0), (32, 32)).op_index.shape
    (2,)
  """
  return sample_policy(rng, size, auto_augment_table(policy, tuple(size)))


def auto_augment(
  rng: PRNGKey,
  image: Array,
  *,
  policy: str = "cifar10",
  fill: float | Sequence[float] = 0.0,
) -> Array:
  """AutoAugment: one of 25 pairs of operations, each executed with a probability of its own.

  The pair is drawn uniformly and applied in order; an operation is executed if u <= p and has its
  sign from a fair coin. Magnitudes are those of `torchvision_parameters` with 10 bins. Geometry
  takes the nearest pixel.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1], C one or three; rounded to grey levels.
    policy: "cifar10", which is also the one for CIFAR-100, or "imagenet".
    fill: what geometry puts outside the image, in [0, 1], one number or C; torchvision's is black.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255; no gradient reaches the image.

  Raises:
    InputError: if there is no such policy, or the fill is out of range.

  Source: Cubuk et al. 2019 (AutoAugment), with the magnitudes and the resampling of torchvision's
    `AutoAugment` on PIL images, which NRD's authors use for student views.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.jit(auto_augment)(jax.random.key(0), jnp.full((8, 8, 3), 0.5)).shape
    (8, 8, 3)
  """
  table = auto_augment_table(policy, image.shape[:2])
  draw = sample_policy(rng, image.shape[:2], table)
  return apply_policy(image, draw, names=table.names, fill=fill)

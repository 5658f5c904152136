"""Fast AutoAugment: the policies that its authors found and published."""

from __future__ import annotations

import functools
import json
import pathlib

import numpy as np

from jaxnoise.augment._operations import POLICY_OPERATIONS
from jaxnoise.augment._policy_tables import PolicyDraw, PolicyTable, apply_policy, sample_policy
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, PRNGKey

POLICIES = ("cifar10", "imagenet")

RANGES = {
  "shear_x": (-0.3, 0.3),
  "shear_y": (-0.3, 0.3),
  "translate_x": (-0.45, 0.45),
  "translate_y": (-0.45, 0.45),
  "rotate": (-30.0, 30.0),
  "solarize": (0.0, 256.0),
  "posterize": (4.0, 8.0),
  "contrast": (0.1, 1.9),
  "color": (0.1, 1.9),
  "brightness": (0.1, 1.9),
  "sharpness": (0.1, 1.9),
  "cutout_abs": (0.0, 0.2),
}
"""What an operation is given at levels 0 and 1; translations and cutout_abs as shares of a side."""

SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


@functools.cache
def _rows(policy: str) -> tuple[np.ndarray, np.ndarray]:
  """The operations [P, 2], positions in `POLICY_OPERATIONS`, and [P, 2, 2] probability, level."""
  if policy not in POLICIES:
    raise InputError(f"policy is {policy!r}, no such policy: {closest(str(policy), POLICIES)}")
  path = pathlib.Path(__file__).with_suffix(".json")
  data = json.loads(path.read_text(encoding="utf-8"))
  rows = np.asarray(data[policy]).reshape(-1, 2, 3)
  index = np.array([POLICY_OPERATIONS.index(name) for name in data["operations"]], np.int32)
  return index[rows[..., 0]], rows[..., 1:] / 1e6


@functools.cache
def fast_auto_augment_table(policy: str, size: tuple[int, int]) -> PolicyTable:
  """The sub-policies of one of the policies, with parameters for an image of a size.

  Args:
    policy: "cifar10" or "imagenet".
    size: (H, W) of the image, in pixels.

  Raises:
    InputError: if there is no such policy.
  """
  index, numbers = _rows(policy)
  probability, level = numbers[..., 0], numbers[..., 1]
  base, signed = np.zeros_like(level), np.zeros_like(level)
  for name, (low, high) in RANGES.items():
    value = level * (high - low) + low
    if name == "posterize":
      value = np.trunc(value)
    if name in ("translate_x", "cutout_abs"):
      value = value * size[1]
    if name == "translate_y":
      value = value * size[0]
    target = signed if name in SIGNED else base
    chosen = index == POLICY_OPERATIONS.index(name)
    target[chosen] = value[chosen]
  return PolicyTable(index, *(column.astype(np.float32) for column in (probability, base, signed)))


def sample_fast_auto_augment(
  rng: PRNGKey, size: tuple[int, int], *, policy: str = "cifar10"
) -> PolicyDraw:
  """Draws a sub-policy, which of its operations are executed, their signs and places.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    policy: see `fast_auto_augment`.

  Returns:
    The draws of two operations.

  Raises:
    InputError: if there is no such policy.

  Example:
    >>> import jax
    >>> sample_fast_auto_augment(jax.random.key(0), (32, 32)).op_param.shape
    (2, 3)
  """
  return sample_policy(rng, size, fast_auto_augment_table(policy, tuple(size)))


def fast_auto_augment(rng: PRNGKey, image: Array, *, policy: str = "cifar10") -> Array:
  """Fast AutoAugment: one of some 500 pairs of operations, each with its own probability.

  The pair is drawn uniformly and applied in order; an operation is executed if u <= p. At level l
  it is given low + l (high - low) of its range: shear -0.3 to 0.3, translate -0.45 to 0.45 of the
  side, rotate -30 to 30 degrees (these mirrored by a fair coin as well), solarize 0 to 256,
  posterize trunc of 4 to 8 bits, color, contrast, brightness and sharpness 0.1 to 1.9, and
  cutout_abs 0 to 0.2 of the width. Geometry takes the nearest pixel and is black outside.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1], C one or three; rounded to grey levels.
    policy: "cifar10", 493 pairs found with WRN-40-2 on a part of CIFAR-10, which its authors use
      for CIFAR-100 too, or "imagenet", 498 pairs found with ResNet-50 on a part of ImageNet.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255; no gradient reaches the image.

  Raises:
    InputError: if there is no such policy.

  Source: Lim et al. 2019 (Fast AutoAugment); policies, ranges and operations are those of the
    authors' code, kakaobrain/fast-autoaugment, probabilities and levels to six decimals. It comes
    before the crop and the flip there, and is followed by cutout 16 on CIFAR.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 0.5)
    >>> jax.eval_shape(fast_auto_augment, jax.random.key(0), image).shape
    (8, 8, 3)
  """
  table = fast_auto_augment_table(policy, image.shape[:2])
  draw = sample_policy(rng, image.shape[:2], table)
  return apply_policy(image, draw, names=table.names)

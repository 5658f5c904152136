"""The benchmark's numbers: names, groups, and the parameters of the five severities.

Source of every number: the authors' generators of CIFAR-10-C and ImageNet-C (Hendrycks and
Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
2019). Lengths are in pixels of the variant's native side; `_common.length_scale` adapts them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)
"""The severities of the benchmark, mildest first."""

STANDARD: tuple[str, ...] = (
  "gaussian_noise",
  "shot_noise",
  "impulse_noise",
  "defocus_blur",
  "fog",
  "brightness",
  "contrast",
  "pixelate",
)
"""Implemented corruptions of the benchmark's 15 standard ones, in the benchmark's order."""

EXTRA: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "saturate")
"""Implemented corruptions of the benchmark's 4 further ones, kept for validation."""

NAMES: tuple[str, ...] = STANDARD + EXTRA
"""Every name that `corrupt` takes."""

GROUPS: Mapping[str, tuple[str, ...]] = {
  "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
  "blur": ("defocus_blur", "gaussian_blur"),
  "weather": ("fog", "brightness"),
  "digital": ("contrast", "pixelate", "saturate"),
}
"""The benchmark's four groups; a further corruption stands in the group whose kind it is."""

NATIVE_SIDE: Mapping[str, int] = {"cifar": 32, "imagenet": 224}
"""The side, in pixels, that the lengths of a variant's table refer to."""

_PARAMETERS: Mapping[str, Mapping[str, tuple]] = {
  "cifar": {
    # standard deviation
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    # photons at full brightness
    "shot_noise": (500, 250, 100, 75, 50),
    # share of replaced values
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    # standard deviation over brightness
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    # radius, standard deviation of the anti-aliasing blur
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    # standard deviation
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    # amount, decay of the plasma's roughness
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    # added to the HSV value
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    # factor about the channel mean
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    # factor and offset of the HSV saturation
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    # ratio of the small image's side
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
  },
  "imagenet": {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "gaussian_blur": (1, 2, 3, 4, 6),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
  },
}


def check_name(name: str) -> str:
  """Returns `name` if it is an implemented corruption, and names the closest ones if it is not.

  Raises:
    InputError: for an unknown name.

  Example:
    >>> from jaxnoise.corruptions import _tables
    >>> _tables.check_name("fog")
    'fog'
  """
  if name not in NAMES:
    raise InputError(f"corruption {name!r} is not known; {closest(str(name), NAMES)}")
  return name


def check_variant(variant: str) -> str:
  """Returns `variant` if there is a table of that name ("cifar" or "imagenet").

  Raises:
    InputError: for an unknown variant.

  Example:
    >>> from jaxnoise.corruptions import _tables
    >>> _tables.check_variant("imagenet")
    'imagenet'
  """
  if variant not in _PARAMETERS:
    raise InputError(f"variant {variant!r} is not known; {closest(str(variant), _PARAMETERS)}")
  return variant


def parameters(name: str, variant: str = "cifar") -> np.ndarray:
  """Looks up the parameters of all five severities of one corruption.

  Args:
    name: one of `NAMES`.
    variant: "cifar" (for 32 pixels) or "imagenet" (for 224).

  Returns:
    [5, P] float64, row s - 1 for severity s; the P parameters in the order that the corruption's
    own docstring gives, lengths in pixels of the variant's native side.

  Raises:
    InputError: for an unknown name or variant.

  Example:
    >>> from jaxnoise.corruptions import parameters
    >>> print(parameters("fog")[4])
    [1.5  1.75]
  """
  table = _PARAMETERS[check_variant(variant)][check_name(name)]
  return np.asarray(table, np.float64).reshape(len(SEVERITIES), -1)

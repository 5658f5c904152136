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
  "glass_blur",
  "motion_blur",
  "zoom_blur",
  "snow",
  "frost",
  "fog",
  "brightness",
  "contrast",
  "elastic_transform",
  "pixelate",
  "jpeg_compression",
)
"""The benchmark's 15 standard corruptions, in its order: what published means are taken over."""

EXTRA: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The benchmark's 4 further corruptions, kept for validation."""

NAMES: tuple[str, ...] = STANDARD + EXTRA
"""Every name that `corrupt` takes."""

GROUPS: Mapping[str, tuple[str, ...]] = {
  "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
  "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
  "weather": ("snow", "frost", "fog", "brightness", "spatter"),
  "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
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
    # standard deviation, reach of the shuffle, number of shuffles
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    # radius, standard deviation
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    # number of zoom factors, step from one to the next; the first is 1
    "zoom_blur": ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
    # standard deviation
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    # mean and deviation of the flakes, zoom, threshold, radius and deviation of the motion blur,
    # share of the image that keeps its colour
    "snow": (
      (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
      (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
      (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
      (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
      (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    # factor of the image, factor of the ice
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    # amount, decay of the plasma's roughness
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    # added to the HSV value
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    # mean, deviation and smoothing of the liquid, threshold, strength (mud: deviation of a blur)
    "spatter": (
      (0.62, 0.1, 0.7, 0.7, 0.5),
      (0.65, 0.1, 0.8, 0.7, 0.5),
      (0.65, 0.3, 1, 0.69, 0.5),
      (0.65, 0.1, 0.7, 0.69, 0.6),
      (0.65, 0.1, 0.5, 0.68, 0.6),
    ),
    # factor about the channel mean
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    # factor and offset of the HSV saturation
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    # displacement, standard deviation of its smoothing, reach of the anchor points
    "elastic_transform": (
      (0, 0, 2.56),
      (1.6, 6.4, 2.24),
      (2.56, 1.92, 1.92),
      (3.2, 1.28, 1.6),
      (3.2, 0.96, 0.96),
    ),
    # ratio of the small image's side
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    # quality
    "jpeg_compression": (80, 65, 58, 50, 40),
  },
  "imagenet": {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
    "gaussian_blur": (1, 2, 3, 4, 6),
    "snow": (
      (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
      (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
      (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
      (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
      (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "spatter": (
      (0.65, 0.3, 4, 0.69, 0.6),
      (0.65, 0.3, 3, 0.68, 0.6),
      (0.65, 0.3, 2, 0.68, 0.5),
      (0.65, 0.3, 1, 0.65, 1.5),
      (0.67, 0.4, 1, 0.65, 1.5),
    ),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    # The authors give these in sides of 244 pixels, for images of 224.
    "elastic_transform": (
      (488, 170.8, 24.4),
      (488, 19.52, 48.8),
      (12.2, 2.44, 4.88),
      (17.08, 2.44, 4.88),
      (29.28, 2.44, 4.88),
    ),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": (25, 18, 15, 10, 7),
  },
}


def check_name(name: str) -> str:
  """Returns `name` if it is a corruption, and names the closest ones if it is not.

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

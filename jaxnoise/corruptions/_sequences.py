"""Perturbation sequences: one image and its ever more perturbed versions (ImageNet-P, CIFAR-10-P).

What stability is measured on, see `metrics.flip_probability`. Source of every number: the authors'
generators of the two benchmarks (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations", 2019).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.rng import fold
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions import _frames
from jaxnoise.corruptions._apply import example_keys, truncate_to_8_bits
from jaxnoise.corruptions._common import (
  check_batch,
  check_image,
  check_images,
  flat_normal,
  threefry,
)
from jaxnoise.corruptions._noise import (
  gaussian_noise_from,
  shot_noise_from,
  speckle_noise_from,
)
from jaxnoise.corruptions._tables import check_variant
from jaxnoise.corruptions._weather import brightness_from

SEQUENCES: tuple[str, ...] = (
  "gaussian_noise",
  "shot_noise",
  "motion_blur",
  "zoom_blur",
  "snow",
  "brightness",
  "translate",
  "rotate",
  "tilt",
  "scale",
)
"""The benchmark's 10 standard perturbations, in its order: what mFP and mFR are taken over.

The authors' example of an evaluation on CIFAR-10-P takes spatter in the place of snow."""

SEQUENCE_EXTRA: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "shear")
"""The benchmark's 4 further perturbations, kept for validation."""

DIFFICULTIES = (1, 2, 3)

_LENGTHS: Mapping[str, Mapping[str, int]] = {
  "cifar": {"motion_blur": 21, "translate": 16},
  "imagenet": {"translate": 41},
}
_LENGTH = 31

# Of a motion: (step, z), for frame i the value step * (i - z).
_PARAMETERS: Mapping[str, Mapping[str, tuple]] = {
  "cifar": {
    # standard deviation, photons at full brightness: for each difficulty
    "gaussian_noise": (0.02, 0.04, 0.06),
    "shot_noise": (700, 400, 200),
    # radius, standard deviation, motion of the angle in degrees
    "motion_blur": (6, 1.8, (9, 20)),
    # step of the magnification
    "zoom_blur": (0.004,),
    # parameters of the corruption, motion of the angle in degrees
    "snow": ((0.05, 0.3, 2, 0.5, 10, 2, 0.85), (4, 37.5)),
    # motions: of what is added to the HSV value, pixels, degrees, degrees, magnification - 1
    "brightness": ((0.015, 15),),
    "translate": ((1, 7),),
    "rotate": ((1, 15),),
    "tilt": ((0.75, 15),),
    "scale": ((0.02, 15),),
    # standard deviation over brightness: for each difficulty
    "speckle_noise": (0.05, 0.07, 0.1),
    # first standard deviation, its step, where the Gaussian is cut
    "gaussian_blur": (0.3, 0.015, 7.0),
    # parameters of the water, its flow per frame
    "spatter": ((0.6, 0.265, 1.75, 0.7, 0.6), (0.2, 0.8)),
    # motion in degrees
    "shear": ((1, 15),),
  },
  "imagenet": {
    "gaussian_noise": (0.03, 0.05, 0.08),
    "shot_noise": (300, 120, 60),
    "motion_blur": (10, 3, (4, 30)),
    "zoom_blur": (0.004,),
    "snow": ((0.05, 0.3, 3, 0.5, 14, 4, 0.85), (4, 37.5)),
    "brightness": ((0.02, 15),),
    "translate": ((1, 20),),
    "rotate": ((1, 15),),
    "tilt": ((1, 15),),
    "scale": ((0.025, 24),),
    "speckle_noise": (0.05, 0.1, 0.15),
    "gaussian_blur": (0.25, 0.035, 6.0),
    "spatter": ((0.65, 0.27, 3.7, 0.69, 0.6), (0.05, 0.1, 0.15, 0.7)),
    "shear": ((1, 15),),
  },
}

_COLOUR = ("snow", "brightness", "spatter")


def is_noise(name: str) -> bool:
  """Whether a perturbation's frames are draws of their own that are compared with the first frame.

  Those of the others follow one another, and neighbours are compared: `noise` of
  `metrics.flip_probability` and `metrics.ranking_distance`.

  Raises:
    InputError: for an unknown name.

  Example:
    >>> from jaxnoise import corruptions
    >>> corruptions.is_noise("shot_noise"), corruptions.is_noise("rotate")
    (True, False)
  """
  return "noise" in _check_name(name)


def sequence_length(name: str, variant: str = "cifar") -> int:
  """The number of frames of a perturbation, the first one included.

  Raises:
    InputError: for an unknown name or variant.

  Example:
    >>> from jaxnoise import corruptions
    >>> corruptions.sequence_length("translate"), corruptions.sequence_length("rotate", "imagenet")
    (16, 31)
  """
  return _LENGTHS[check_variant(variant)].get(_check_name(name), _LENGTH)


def perturb(
  rng: PRNGKey,
  image: Array,
  name: str,
  *,
  index: Array | None = None,
  variant: str = "cifar",
  frames: int | None = None,
  difficulty: int = 1,
) -> Array:
  """Makes the sequence of one perturbation for every image of a batch.

  For frame i = 0, 1, ... (parameters of the table "cifar", of "imagenet" where they differ):

    gaussian_noise, shot_noise, speckle_noise: the image; then draws of their own, standard
      deviation 0.02 (0.03), 700 (300) photons, standard deviation 0.05 of the brightness
    motion_blur: angle 9 (i - 20) degrees (4 (i - 30)), one strength
    zoom_blur: mean of the magnifications 1 to 1 + 0.004 i; frame 0 is the image
    snow: one layer of flakes, which falls along 4 i - 150 degrees
    brightness: HSV value plus 0.015 (i - 15) (0.02)
    translate: i - 7 (i - 20) pixels to the right
    rotate: i - 15 degrees clockwise
    tilt: 0.75 (i - 15) degrees (1) about both axes, in perspective; no frame is the image
    scale: magnification 1 + 0.02 (i - 15) (1 + 0.025 (i - 24))
    gaussian_blur: standard deviation 0.3 + 0.015 i pixels (0.25 + 0.035 i)
    spatter: one layer of water, which runs down
    shear: x_in = x + y tan(i - 15 degrees), from the centre

  What comes in at the border of a motion is black. The published ImageNet-P was made before the
  central crop of 224 pixels, so that the image goes on there: for that, perturb the larger image
  and crop the frames. Its files are compressed videos besides, which is not done here. Rotations,
  scales and shears are about the image's centre, as the authors' library now has it; releases of
  2018 took a point half a pixel to the lower right.

  The key of an example is folded from `rng`, the name and the example's index, as in `corrupt`, and
  a frame does not depend on how many are made. One program is compiled per name and batch shape.

  Args:
    rng: a typed key, the same for the whole evaluation.
    image: [B, H, W, C] floats in [0, 1], 8-bit levels over 255 as in the benchmark; C = 3 for snow,
      brightness and spatter. Values are not looked at, see `check_images`.
    name: one of `SEQUENCES` or `SEQUENCE_EXTRA`.
    index: [B] integers that identify the examples; None means 0..B-1.
    variant: "cifar" (parameters for 32 pixels; other sizes scale the lengths by min(H, W) / 32) or
      "imagenet" (for 224).
    frames: how many, from the first on; None means all, see `sequence_length`.
    difficulty: of a noise, 1 to 3: its strength. Other perturbations do not read it, their
      difficulty is the `difficulty` of `metrics.flip_probability`.

  Returns:
    [B, T, H, W, C] in [0, 1], at least float32, multiples of 1/255 as in the published files
    (truncated, tilt rounded): no gradient.

  Raises:
    InputError: for an unknown name (the closest ones are named) or variant, an integer image, a
      shape other than [B, H, W, C], an index of another length, frames outside 1..the sequence's
      length, a difficulty outside 1..3.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> image = jax.numpy.linspace(0, 1, 8 * 8).reshape(1, 8, 8, 1)
    >>> moved = corruptions.perturb(jax.random.key(0), image, "translate")
    >>> moved.shape, bool((moved[:, 7] == corruptions.truncate_to_8_bits(image)).all())
    ((1, 16, 8, 8, 1), True)
  """
  length = sequence_length(name, variant)
  if isinstance(image, np.ndarray):
    check_images(image)
  image = jnp.asarray(image)
  index = check_batch(image, index)
  frames = length if frames is None else frames
  if not isinstance(frames, int) or not 1 <= frames <= length:
    raise InputError(f"frames is {frames!r}; {name} has {length}, so give 1 to {length}, or None")
  if difficulty not in DIFFICULTIES:
    raise InputError(f"difficulty is {difficulty!r}; expected 1, 2 or 3")
  difficulty = difficulty if is_noise(name) else 1
  keys = example_keys(fold(threefry(rng), f"sequences/{name}"), index)
  return _perturb(keys, image, name=name, variant=variant, frames=frames, difficulty=difficulty)


@functools.partial(jax.jit, static_argnames=("name", "variant", "frames", "difficulty"))
def _perturb(
  keys: PRNGKey, image: Array, *, name: str, variant: str, frames: int, difficulty: int
) -> Array:
  def one(key: PRNGKey, row: Array) -> Array:
    row = check_image(row, rgb=name in _COLOUR)
    return truncate_to_8_bits(_sequence(key, row, name, variant, frames, difficulty))

  return jax.vmap(one)(keys, image)


def _sequence(
  key: PRNGKey, image: Array, name: str, variant: str, frames: int, difficulty: int
) -> Array:
  """The frames [T, H, W, C] of one image, before the cast."""
  row = _PARAMETERS[variant][name]
  time = np.arange(frames)

  def motion(pair: tuple[float, float]) -> np.ndarray:
    step, zero = pair
    return step * (time - zero)

  match name:
    case "gaussian_noise" | "speckle_noise":
      noisy = gaussian_noise_from if name == "gaussian_noise" else speckle_noise_from

      def draw(key: PRNGKey, image: Array) -> Array:
        return noisy(image, flat_normal(key, image.shape, image.dtype), row[difficulty - 1])

      return _frames.noise_frames(key, image, draw, frames)
    case "shot_noise":
      photons = row[difficulty - 1]

      def count(key: PRNGKey, image: Array) -> Array:
        counts = jax.random.poisson(key, (image * photons).ravel()).reshape(image.shape)
        return shot_noise_from(counts, photons, image.dtype)

      return _frames.noise_frames(key, image, count, frames)
    case "motion_blur":
      return _frames.motion_frames(image, motion(row[2]), row[0], row[1], variant)
    case "zoom_blur":
      return _frames.zoom_frames(image, 1.0 + row[0] * time)
    case "snow":
      return _frames.snow_frames(key, image, motion(row[1]), row[0], variant)
    case "brightness":
      offsets = jnp.asarray(motion(row[0]), image.dtype)
      return jax.lax.map(lambda offset: brightness_from(image, offset), offsets)
    case "translate":
      return _frames.translate_frames(image, motion(row[0]), variant)
    case "rotate":
      return _frames.affine_frames(image, _frames.rotation_matrices(motion(row[0])))
    case "tilt":
      matrices = _frames.tilt_matrices(motion(row[0]), *image.shape[:2])
      return _frames.tilt_frames(image, matrices)
    case "scale":
      return _frames.affine_frames(image, _frames.scale_matrices(1.0 + motion(row[0])))
    case "gaussian_blur":
      return _frames.gaussian_frames(image, row[0] + row[1] * time, row[2], variant)
    case "spatter":
      return _frames.spatter_frames(key, image, row[0], row[1], frames, variant)
    case _:
      return _frames.affine_frames(image, _frames.shear_matrices(motion(row[0])))


def _check_name(name: str) -> str:
  known = SEQUENCES + SEQUENCE_EXTRA
  if name not in known:
    raise InputError(f"perturbation {name!r} is not known; {closest(str(name), known)}")
  return name

"""Random changes of colour, and additive Gaussian noise as an augmentation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.augment._operations import POLICY_OPERATIONS, policy_chain
from jaxnoise.augment._policies import grey_levels
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey


def sample_color_jitter(
  rng: PRNGKey,
  *,
  brightness: float = 0.4,
  contrast: float = 0.4,
  saturation: float = 0.4,
  hue: float = 0.2,
) -> tuple[Array, Array]:
  """Draws the order of the operations and the strength of each.

  Args:
    rng: key.
    brightness, contrast, saturation, hue: see `color_jitter`.

  Returns:
    op_index [D] int32, positions in `POLICY_OPERATIONS`, and op_param [D] float32, the factors and
    the hue's turns; D counts the strengths that are not 0.

  Raises:
    InputError: if a strength is out of range.

  Example:
    >>> import jax
    >>> index, param = sample_color_jitter(jax.random.key(0), hue=0.0)
    >>> sorted(POLICY_OPERATIONS[i] for i in index)
    ['brightness', 'color', 'contrast']
  """
  strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
  for name, strength in strengths.items():
    if strength < 0:
      raise InputError(f"{name} is {strength}; expected a strength of at least 0")
  if not 0 <= hue <= 0.5:
    raise InputError(f"hue is {hue}; expected 0 to 0.5 turns")
  strengths["color"] = strengths.pop("saturation")
  ranges = {name: (max(0.0, 1 - s), 1 + s) for name, s in strengths.items() if s}
  if hue:
    ranges["hue"] = (-hue, hue)
  count = len(ranges)
  numbers = jax.random.uniform(rng, (2 * count,))
  index = jnp.asarray([POLICY_OPERATIONS.index(name) for name in ranges], jnp.int32)
  low, high = jnp.asarray(list(ranges.values()), jnp.float32).reshape(count, 2).T
  order = jnp.argsort(numbers[:count])
  return index[order], (low + (high - low) * numbers[count:])[order]


def color_jitter(
  rng: PRNGKey,
  image: Array,
  *,
  brightness: float = 0.4,
  contrast: float = 0.4,
  saturation: float = 0.4,
  hue: float = 0.2,
) -> Array:
  """Changes brightness, contrast, saturation and hue of one image, in random order.

  The factors are U(max(0, 1 - s), 1 + s) for a strength s: brightness blends with black, contrast
  with the mean grey, saturation with the grey image; the hue turns by U(-hue, hue). Each step works
  on grey levels and cuts to 0..255. A strength of 0 leaves its step out.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1], C one or three; rounded to grey levels.
    brightness, contrast, saturation: strengths, at least 0.
    hue: in turns, 0 to 0.5.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255; no gradient reaches the image.

  Raises:
    InputError: if a strength is out of range.

  Source: torchvision's `ColorJitter` on PIL images; the defaults are those of GJS and NRD on
    WebVision, where it follows the crop and the flip.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> color_jitter(jax.random.key(0), jnp.full((4, 4, 3), 0.5)).shape
    (4, 4, 3)
  """
  strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
  index, param = sample_color_jitter(rng, **strengths, hue=hue)
  names = ("brightness", "contrast", "color", "hue")
  chosen = [s != 0 for s in (brightness, contrast, saturation, hue)]
  names = tuple(name for name, used in zip(names, chosen) if used)
  levels = grey_levels(image)
  out = policy_chain(levels, index, param, names=names) if names else levels
  return (out.astype(jnp.float32) / 255).astype(image.dtype)


def gaussian_augment(
  rng: PRNGKey, image: Array, *, std: float = 0.1, clip: bool = True, random_std: bool = False
) -> Array:
  """Adds Gaussian noise to one image: x + s n with n ~ N(0, 1) in every number.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1].
    std: standard deviation, in units of pixels in [0, 1].
    clip: cuts the result to [0, 1].
    random_std: s ~ U(0, std) for every image, instead of s = std.

  Returns:
    [H, W, C] of the image's dtype; differentiable in the image where nothing is cut.

  Raises:
    InputError: if `std` is negative.

  Source: the noise of Rusak et al. 2020 (Gaussian noise training) and, on the whole image, of Lopes
    et al. 2019 (Patch Gaussian).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> noisy = gaussian_augment(jax.random.key(0), jnp.full((32, 32, 3), 0.5), std=0.1)
    >>> bool(abs(noisy.std() - 0.1) < 0.01)
    True
  """
  if std < 0:
    raise InputError(f"std is {std}; expected at least 0")
  # One flat draw: a generator of higher rank takes seconds to compile, and so does a second one.
  noise = jax.random.normal(rng, (image.size + 1,))
  scale = std * jax.scipy.special.ndtr(noise[0]) if random_std else std
  noisy = image + (scale * noise[1:]).reshape(image.shape).astype(image.dtype)
  return jnp.clip(noisy, 0.0, 1.0) if clip else noisy

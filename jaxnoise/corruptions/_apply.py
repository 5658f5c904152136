"""Corrupting a batch by name: dispatch, one key per example, the published files' final cast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.rng import fold
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._blur import defocus_blur, gaussian_blur
from jaxnoise.corruptions._common import check_float, check_severity, threefry
from jaxnoise.corruptions._digital import contrast, pixelate, saturate
from jaxnoise.corruptions._noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from jaxnoise.corruptions._tables import check_name, check_variant
from jaxnoise.corruptions._weather import brightness, fog

_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
  function.__name__: function
  for function in (
    gaussian_noise,
    shot_noise,
    impulse_noise,
    speckle_noise,
    defocus_blur,
    gaussian_blur,
    fog,
    brightness,
    contrast,
    saturate,
    pixelate,
  )
}


def corrupt(
  rng: PRNGKey,
  image: Array,
  name: str,
  severity: int | Array,
  *,
  index: Array | None = None,
  variant: str = "cifar",
  quantize: bool = True,
) -> Array:
  """Applies one corruption to a batch, each example with a key of its own.

  The key of an example is folded from `rng`, the corruption's name, the severity and the example's
  index, so with the position in the data set as index the result depends neither on how the set
  is cut into batches nor on what else is evaluated. One program is compiled per name and batch
  shape; it serves the five severities.

  Args:
    rng: a typed key, the same for the whole evaluation.
    image: [B, H, W, C] floats in [0, 1]; C = 3 for brightness and saturate.
    name: one of `corruptions.NAMES`.
    severity: 1..5.
    index: [B] integers that identify the examples; None means 0..B-1.
    variant: "cifar" (parameters for 32 pixels; other sizes scale the lengths by min(H, W) / 32) or
      "imagenet" (for 224).
    quantize: whether to cast as the published files do, see `truncate_to_8_bits`.

  Returns:
    [B, H, W, C] in [0, 1], at least float32.

  Raises:
    InputError: for an unknown name (the closest ones are named) or variant, a severity outside
      1..5, an integer image, a shape other than [B, H, W, C], an index of another length.

  Example:
    >>> import jax
    >>> from jaxnoise import corruptions
    >>> image = jax.numpy.full((4, 8, 8, 3), 0.5)
    >>> key = jax.random.key(0)
    >>> whole = corruptions.corrupt(key, image, "gaussian_noise", 3)
    >>> last = corruptions.corrupt(
    ...   key, image[3:], "gaussian_noise", 3, index=jax.numpy.array([3])
    ... )
    >>> bool((whole[3:] == last).all())
    True
  """
  check_name(name)
  check_variant(variant)
  check_severity(severity)
  image = jnp.asarray(image)
  check_float(image)
  if image.ndim != 4:
    raise InputError(
      f"image has shape {image.shape}, but corrupt takes a batch [B, H, W, C]; add a leading axis "
      "to a single image"
    )
  index = jnp.arange(image.shape[0]) if index is None else jnp.asarray(index)
  if index.shape != image.shape[:1]:
    raise InputError(
      f"index has shape {index.shape}, but the batch has {image.shape[0]} images; give one integer "
      "per image"
    )
  severity = jnp.asarray(severity, jnp.int32)
  # Folded here and not in the compiled program: every threefry inside one costs compile time.
  root = jax.random.fold_in(fold(threefry(rng), f"corruptions/{name}"), severity)
  out = _corrupt(root, image, index, severity, name=name, variant=variant)
  return truncate_to_8_bits(out) if quantize else out


@functools.partial(jax.jit, static_argnames=("name", "variant"))
def _corrupt(
  root: PRNGKey,
  image: Array,
  index: Array,
  severity: Array,
  *,
  name: str,
  variant: str,
) -> Array:
  def one(row: Array, example: Array) -> Array:
    key = jax.random.fold_in(root, example)
    return _FUNCTIONS[name](key, row, severity, variant=variant)

  return jax.vmap(one)(image, index)


@jax.jit
def truncate_to_8_bits(image: Array) -> Array:
  """Casts as the published corruption files were: floor(255 x) / 255.

  A value within 2^-12 levels below a level counts as that level, so that float32 rounding does
  not turn an untouched pixel into the one below.

  Args:
    image: any shape, in [0, 1], at least float32.

  Returns:
    The same shape and dtype, multiples of 1/255.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import corruptions
    >>> image = corruptions.truncate_to_8_bits(jnp.array([0.5, 127 / 255, 1.0]))
    >>> [round(255 * float(value), 3) for value in image]
    [127.0, 127.0, 255.0]
  """
  return jnp.floor(image * 255.0 + 2.0**-12) / 255.0

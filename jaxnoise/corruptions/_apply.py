"""Corrupting a batch by name: dispatch, one key per example, the published files' final cast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.rng import fold
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._blur import defocus_blur, gaussian_blur
from jaxnoise.corruptions._common import check_batch, check_images, check_severity, threefry
from jaxnoise.corruptions._digital import contrast, pixelate, saturate
from jaxnoise.corruptions._elastic import elastic_transform
from jaxnoise.corruptions._jpeg import jpeg_compression
from jaxnoise.corruptions._motion import glass_blur, motion_blur, zoom_blur
from jaxnoise.corruptions._noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from jaxnoise.corruptions._snow import check_textures, frost, snow
from jaxnoise.corruptions._spatter import spatter
from jaxnoise.corruptions._tables import check_name, check_variant
from jaxnoise.corruptions._weather import brightness, fog

_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
  function.__name__: function
  for function in (
    gaussian_noise,
    shot_noise,
    impulse_noise,
    defocus_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
    snow,
    frost,
    fog,
    brightness,
    contrast,
    elastic_transform,
    pixelate,
    jpeg_compression,
    speckle_noise,
    gaussian_blur,
    spatter,
    saturate,
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
  textures: Sequence[Array] | None = None,
) -> Array:
  """Applies one corruption to a batch, each example with a key of its own.

  The key of an example is folded from `rng`, the corruption's name, the severity and the example's
  index, so with the position in the data set as index the result depends neither on how the set
  is cut into batches nor on what else is evaluated. One program is compiled per name and batch
  shape; it serves the five severities.

  Args:
    rng: a typed key, the same for the whole evaluation.
    image: [B, H, W, C] floats in [0, 1]; C = 3 for snow, frost, brightness, jpeg_compression,
      spatter and saturate. Values of a NumPy array are looked at; those on a device are not
      (that would wait for it at every call): `check_images` does so once per data set.
    name: one of `corruptions.NAMES`.
    severity: 1..5.
    index: [B] integers that identify the examples; None means 0..B-1.
    variant: "cifar" (parameters for 32 pixels; other sizes scale the lengths by min(H, W) / 32) or
      "imagenet" (for 224).
    quantize: whether to cast as the published files do, see `truncate_to_8_bits`.
    textures: photographs of ice, see `frost`; None generates ice. No other corruption reads them.

  Returns:
    [B, H, W, C] in [0, 1], at least float32.

  Raises:
    InputError: for an unknown name (the closest ones are named) or variant, a severity outside
      1..5, an integer image, NumPy values outside [0, 1], a shape other than [B, H, W, C], an
      index of another length, textures that are smaller than the images.

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
  if isinstance(image, np.ndarray):
    check_images(image)
  image = jnp.asarray(image)
  index = check_batch(image, index)
  if name != "frost":
    textures = None
  elif textures is not None:
    textures = tuple(textures)
    check_textures(textures, image.shape[1:])
  severity = jnp.asarray(severity, jnp.int32)
  # Folded outside the compiled program: every threefry inside one costs compile time.
  root = jax.random.fold_in(fold(threefry(rng), f"corruptions/{name}"), severity)
  keys = example_keys(root, index)
  out = _corrupt(keys, image, severity, textures, name=name, variant=variant)
  return truncate_to_8_bits(out) if quantize else out


@jax.jit
def example_keys(root: PRNGKey, index: Array) -> PRNGKey:
  """Folds the indices [B] of examples into one key: [B] keys, one program for all corruptions.

  Example:
    >>> import jax
    >>> from jaxnoise.corruptions import _apply
    >>> _apply.example_keys(jax.random.key(0), jax.numpy.arange(3)).shape
    (3,)
  """
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(root, index)


@functools.partial(jax.jit, static_argnames=("name", "variant"))
def _corrupt(
  keys: PRNGKey,
  image: Array,
  severity: Array,
  textures: tuple[Array, ...] | None,
  *,
  name: str,
  variant: str,
) -> Array:
  function = _FUNCTIONS[name]
  if textures is not None:
    function = functools.partial(function, textures=textures)

  def one(key: PRNGKey, row: Array) -> Array:
    return function(key, row, severity, variant=variant)

  return jax.vmap(one)(keys, image)


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

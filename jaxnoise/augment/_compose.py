"""Transforms of one image, `(rng, image) -> image`, and what makes larger ones of them.

A transform is written for one image [H, W, C]. `batched` and `views` give every row and every view
a key of its own, derived from its position, so that what happens to row i depends neither on the
size of the batch nor on where its rows lie.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise.augment._geometric import Fill, random_crop, random_flip
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey

Transform = Callable[[PRNGKey, Array], Array]
"""`(rng, image [H, W, C]) -> image`."""


def identity(rng: PRNGKey, image: Array) -> Array:
  """The transform that does nothing.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> identity(jax.random.key(0), jnp.ones((2, 2, 1))).shape
    (2, 2, 1)
  """
  del rng
  return image


def compose(*transforms: Transform) -> Transform:
  """Applies transforms from left to right, the i-th with the key `fold_in(rng, i)`.

  Args:
    *transforms: `(rng, image) -> image` each; none at all is the identity.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> twice = compose(random_flip, random_flip)
    >>> twice(jax.random.key(0), jnp.ones((2, 2, 1))).shape
    (2, 2, 1)
  """

  def transform(rng: PRNGKey, image: Array) -> Array:
    for position, step in enumerate(transforms):
      image = step(jax.random.fold_in(rng, position), image)
    return image

  return transform


def batched(transform: Transform) -> Callable[[PRNGKey, Array], Array]:
  """Makes a transform of one image into one of a batch; row i has the key `fold_in(rng, i)`.

  Args:
    transform: (rng, image [H, W, C]) -> [H, W, C].

  Returns:
    (rng, images [B, H, W, C]) -> [B, H, W, C].

  Example:
    >>> import jax, jax.numpy as jnp
    >>> batched(random_flip)(jax.random.key(0), jnp.ones((5, 2, 2, 1))).shape
    (5, 2, 2, 1)
  """

  def transform_batch(rng: PRNGKey, images: Array) -> Array:
    return jax.vmap(transform)(_keys(rng, images.shape[0]), images)

  return transform_batch


def views(transform: Transform, count: int) -> Callable[[PRNGKey, Array], Array]:
  """Draws several independent views of every image of a batch.

  View v of row i has the key `fold_in(fold_in(rng, i), v)`.

  Args:
    transform: (rng, image [H, W, C]) -> [H, W, C].
    count: V, the number of views.

  Returns:
    (rng, images [B, H, W, C]) -> [B, V, H, W, C].

  Raises:
    InputError: if `count` is below 1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> views(random_flip, 3)(jax.random.key(0), jnp.ones((5, 2, 2, 1))).shape
    (5, 3, 2, 2, 1)
  """
  if count < 1:
    raise InputError(f"count is {count}; expected at least 1 view")

  def all_views(rng: PRNGKey, image: Array) -> Array:
    return jax.vmap(transform, in_axes=(0, None))(_keys(rng, count), image)

  return batched(all_views)


def _keys(rng: PRNGKey, count: int) -> Array:
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, jnp.arange(count))


def crop_flip(padding: int, *, flip: bool = True, fill: Fill = 0.0) -> Transform:
  """The standard augmentation of small images: a random mirror image, then a random crop.

  Args:
    padding: pixels added on every side before the crop.
    flip: False leaves the mirroring out (digits).
    fill: value of the padding, one number or C numbers.

  Raises:
    InputError: if the padding is negative.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> crop_flip(4)(jax.random.key(0), jnp.ones((32, 32, 3))).shape
    (32, 32, 3)
  """
  if padding < 0:
    raise InputError(f"padding is {padding}; expected 0 or more pixels")

  def crop(rng: PRNGKey, image: Array) -> Array:
    return random_crop(rng, image, padding, fill)

  return compose(random_flip, crop) if flip else crop

"""Losses between a student's and a teacher's features: where they look, what they hold alike."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.losses import _checks

_SMALLEST_NORM = 1e-12
# Sums over features in full: an accelerator's default multiplies them in half precision.
_PRECISION = jax.lax.Precision.HIGHEST


def unit(x: Array) -> Array:
  """Computes x / max(|x|, 1e-12) along the last axis; where |x| <= 1e-12 with a zero gradient."""
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  some = square > _SMALLEST_NORM**2
  norm = jnp.sqrt(jnp.where(some, square, 1.0))
  return jnp.where(some, x / norm, jax.lax.stop_gradient(x) / _SMALLEST_NORM)


def flat(features: Array) -> Array:
  """Turns features [B, ...] into vectors [B, D], at least float32."""
  return promote(features).reshape(features.shape[0], -1)


def check_batches(features: Array, teacher_features: Array) -> None:
  """Raises InputError unless both are [B, ...] of one B."""
  shapes = tuple(features.shape), tuple(teacher_features.shape)
  if min(map(len, shapes)) < 2 or shapes[0][0] != shapes[1][0]:
    raise InputError(
      f"features have shape {shapes[0]} and teacher_features {shapes[1]}; both must be [B, ...], "
      "of the same B examples in the same order"
    )


def attention_map(features: Array, *, power: float = 2.0) -> Array:
  """Computes q / max(|q|, 1e-12) with q = mean_c |F_c|^p: how much a network looks at each place.

  A positive factor on an example's features leaves its map as it is.

  Args:
    features: [..., H, W, C] F; half precision is promoted to float32.
    power: p, at least 1.

  Returns:
    [..., H W] non-negative rows of Euclidean norm 1; 0, with a zero gradient, where F is 0.

  Raises:
    InputError: for features that are no map, or a power out of range.

  Source: Zagoruyko and Komodakis (2017), section 3.1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> losses.attention_map(jnp.array([[[3.0, 1.0]], [[0.0, 0.0]]])).tolist()
    [1.0, 0.0]
  """
  _checks.within("power", power, 1)
  if features.ndim < 3:
    raise InputError(
      f"features have shape {tuple(features.shape)}; attention needs a map, [..., height, width, "
      "channels]"
    )
  f = promote(features)
  q = jnp.mean(f * f if power == 2 else jnp.abs(f) ** power, axis=-1)
  return unit(q.reshape(*q.shape[:-2], -1))


def attention_transfer(
  features: Array, teacher_features: Array, *, power: float = 2.0
) -> Array:
  """Computes mean_h (Q_s - Q_t)^2 over the places h of one layer, Q the `attention_map`s.

  The numbers of channels may differ. So may height and width: features, not maps, are averaged down
  to the smaller of each by adaptive pooling (cell i of n is the mean of the places floor(i L / n)
  to ceil((i + 1) L / n) - 1 out of L).

  The mean, not the sum, is what the usual weight of 1000 belongs to. No gradient is cut here: a
  method stops the one to the teacher.

  Args:
    features: [..., H, W, C] the student's; half precision is promoted to float32.
    teacher_features: [..., H', W', C'] the teacher's.
    power: p of the map, at least 1.

  Returns:
    [...] one value per example, in [0, 4 / (H W)] of the smaller map.

  Raises:
    InputError: for features that are no map or have other leading axes, or a power out of range.

  Source: Zagoruyko and Komodakis (2017), section 3.1, as the code of RepDistiller has it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> left, right = jnp.eye(2).reshape(2, 1, 2, 1)
    >>> float(losses.attention_transfer(left, right)), float(losses.attention_transfer(left, left))
    (1.0, 0.0)
  """
  lead, teacher_lead = features.shape[:-3], teacher_features.shape[:-3]
  if min(features.ndim, teacher_features.ndim) < 3 or lead != teacher_lead:
    raise InputError(
      f"features have shape {tuple(features.shape)} and teacher_features "
      f"{tuple(teacher_features.shape)}; both must be maps [..., height, width, channels] of the "
      "same examples"
    )
  pairs = zip(features.shape[-3:-1], teacher_features.shape[-3:-1])
  size = tuple(min(pair) for pair in pairs)
  q_s, q_t = (
    attention_map(_pooled(promote(f), size), power=power) for f in (features, teacher_features)
  )
  return jnp.mean((q_s - q_t) ** 2, axis=-1)


def _pooled(features: Array, size: tuple[int, int]) -> Array:
  """Averages [..., H, W, C] down to the height and width of `size`."""
  for axis, cells in zip((-3, -2), size):
    length = features.shape[axis]
    if length != cells:
      share = np.zeros((cells, length))
      for i in range(cells):
        start, stop = i * length // cells, math.ceil((i + 1) * length / cells)
        share[i, start:stop] = 1 / (stop - start)
      moved = jnp.moveaxis(features, axis, -1)
      averaged = jnp.matmul(moved, jnp.asarray(share.T, moved.dtype), precision=_PRECISION)
      features = jnp.moveaxis(averaged, -1, axis)
  return features


def similarity_preserving(features: Array, teacher_features: Array) -> Array:
  """Computes mean_j (G_s - G_t)_ij^2 with G the rows of A A^T over their norms, A [B, D] features.

  The mean of the rows is the published value, sum_ij (G_s - G_t)_ij^2 / B^2. Every pair of the
  batch counts, so that the value depends on what it is made of and on its size; the features of the
  two networks may have any shapes. A rotation of all features, or one factor for all of them,
  changes nothing; a factor for one example does.

  Args:
    features: [B, ...] the student's; half precision is promoted to float32.
    teacher_features: [B, ...] the teacher's. A method stops its gradient.

  Returns:
    [B] the means of the rows, >= 0.

  Raises:
    InputError: for features of different batches.

  Source: Tung and Mori (2019), section 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> losses.similarity_preserving(jnp.eye(2), jnp.ones((2, 3))).round(4).tolist()
    [0.2929, 0.2929]
  """
  check_batches(features, teacher_features)
  g_s, g_t = (_similarities(f) for f in (features, teacher_features))
  return jnp.mean((g_s - g_t) ** 2, axis=-1)


def _similarities(features: Array) -> Array:
  a = flat(features)
  return unit(jnp.matmul(a, a.T, precision=_PRECISION))

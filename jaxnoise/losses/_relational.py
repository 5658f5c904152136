"""Relational distillation: the distances and angles within a batch, not the embeddings."""

from __future__ import annotations

import jax.numpy as jnp

from jaxnoise.core.types import Array
from jaxnoise.losses._feature_distillation import _PRECISION, check_batches, flat, unit

_SMALLEST_SQUARE = 1e-12


def pairwise_distances(features: Array) -> Array:
  """Computes d_ij = sqrt(max(|e_i - e_j|^2, 1e-12)) for i != j, and d_ii = 0.

  Embeddings that coincide are 1e-6 apart, without a gradient.

  Args:
    features: [B, ...] embeddings e, flattened; half precision is promoted to float32.

  Returns:
    [B, B].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> losses.pairwise_distances(jnp.array([[0.0, 0.0], [3.0, 4.0]])).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
  """
  # Of the differences: |e_i|^2 + |e_j|^2 - 2 e_i e_j loses all digits where embeddings are close.
  square = jnp.sum(_differences(features) ** 2, axis=-1)
  apart = square > _SMALLEST_SQUARE
  distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), _SMALLEST_SQUARE**0.5)
  return jnp.where(jnp.eye(len(square), dtype=bool), 0.0, distance)


def rkd_distance(features: Array, teacher_features: Array) -> Array:
  """Computes mean_j huber(d_ij / mu - d'_ij / mu'), d the student's distances, d' the teacher's.

  d are the `pairwise_distances`, mu their mean over i != j, of which the gradient is taken too, and
  huber(a) is a^2 / 2 for |a| < 1 and |a| - 1/2 beyond. The mean of the rows is the published
  value, over all B^2 entries, the diagonal included. Moving, rotating or scaling all embeddings
  of a network changes nothing.

  Args:
    features: [B, ...] the student's embeddings; half precision is promoted to float32.
    teacher_features: [B, ...] the teacher's, of any shape. A method stops its gradient.

  Returns:
    [B] the means of the rows, >= 0; finite, with its gradient, where embeddings coincide.

  Raises:
    InputError: for features of different batches.

  Source: Park et al. (2019), section 3.2.1, as the authors' code has it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> corners = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> losses.rkd_distance(corners, jnp.eye(3)).round(4).tolist()
    [0.0104, 0.0208, 0.0104]
  """
  check_batches(features, teacher_features)
  student, teacher = (_relative_distances(f) for f in (features, teacher_features))
  return jnp.mean(_huber(student - teacher), axis=-1)


def rkd_angle(features: Array, teacher_features: Array) -> Array:
  """Computes mean_jk huber(c_ijk - c'_ijk), c_ijk the cosine of the angle at e_i, between e_j, e_k.

  c_ijk = <v_ij, v_ik> with v_ij = (e_j - e_i) / max(|e_j - e_i|, 1e-12), c' the teacher's; `huber`
  as in `rkd_distance`. The mean of the rows is the published value, over all B^3 entries, those of
  coinciding indices included. Moving, rotating or scaling all embeddings changes nothing.

  It holds arrays of B^3 and B^2 D numbers for each network: 2 x 8 MB at B = D = 128 in float32, but
  4 GB for the angles of a batch of 1000. Take a smaller batch, or accumulate gradients over parts.

  Args:
    features: [B, ...] the student's embeddings; half precision is promoted to float32.
    teacher_features: [B, ...] the teacher's, of any shape. A method stops its gradient.

  Returns:
    [B] one value for each vertex i, >= 0; finite, with its gradient, where embeddings coincide.

  Raises:
    InputError: for features of different batches.

  Source: Park et al. (2019), section 3.2.2, as the authors' code has it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> line = jnp.array([[0.0], [1.0], [3.0]])
    >>> losses.rkd_angle(line, jnp.eye(3)).round(4).tolist()
    [0.0278, 0.2222, 0.0278]
  """
  check_batches(features, teacher_features)
  student, teacher = (_cosines(f) for f in (features, teacher_features))
  return jnp.mean(_huber(student - teacher), axis=(-2, -1))


def _differences(features: Array) -> Array:
  """[B, B, D]: entry [i, j] is e_j - e_i."""
  e = flat(features)
  # In this order the compiler splits the pairs of a split batch by i, as all that follows wants
  # them, and gathers [B, D] embeddings; in the other by j, and gathers [B, B, D] differences.
  return -e[:, None, :] + e[None, :, :]


def _relative_distances(features: Array) -> Array:
  distance = pairwise_distances(features)
  pairs = len(distance) * (len(distance) - 1)
  # One example alone has no distances.
  return distance / (jnp.sum(distance) / pairs) if pairs else distance


def _cosines(features: Array) -> Array:
  v = unit(_differences(features))
  return jnp.einsum("ijd,ikd->ijk", v, v, precision=_PRECISION)


def _huber(x: Array) -> Array:
  size = jnp.abs(x)
  return jnp.where(size < 1, 0.5 * x * x, size - 0.5)

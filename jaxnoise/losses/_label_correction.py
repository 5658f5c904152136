"""Losses that know how labels go wrong: a matrix of P(given label | true class)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.losses import _checks

Matrix = Array | np.ndarray | Sequence[Sequence[float]]

# Below it the inverse of the matrix has numbers that float32 logits turn into noise.
_SMALLEST_SINGULAR_VALUE = 1e-6


def forward_correction(logits: Array, targets: Array, *, matrix: Matrix) -> Array:
  """Computes -sum_j t_j log sum_i p_i T_ij: cross-entropy of the predicted *given* label.

  p = softmax(z) is then the prediction of the true class. Linear in the target; the identity matrix
  is cross-entropy.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t over given labels; gradients flow to them if they carry any.
    matrix: [K, K], T_ij the probability of the given label j for an example of the true class i;
      an array or nested sequences. Rows sum to 1. An array may be traced; then it is not checked.

  Returns:
    [...] one value per example, in [0, inf). A label that no class can be given costs
    -log(smallest float), with no gradient, instead of infinity.

  Raises:
    InputError: for a matrix that is not [K, K], or whose rows are no distributions.

  Source: Patrini et al. (2017), Theorem 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> flips = ((0.8, 0.2), (0.4, 0.6))
    >>> sure = jnp.array([50.0, 0.0])
    >>> loss = losses.forward_correction(sure, jnp.array([0.0, 1.0]), matrix=flips)
    >>> round(float(jnp.exp(-loss)), 6)
    0.2
  """
  log_p = jax.nn.log_softmax(promote(logits))
  transition = jnp.asarray(_checked(matrix, log_p.shape[-1]), log_p.dtype)
  # In log space a certain prediction of a class that cannot have been given this label still has
  # a finite loss and a gradient. log 0 is kept out of the differentiated branch.
  possible = transition > 0
  log_t = jnp.where(possible, jnp.log(jnp.where(possible, transition, 1)), -jnp.inf)
  never = ~jnp.any(possible, axis=0, keepdims=True)
  log_t = jnp.where(never, jnp.log(jnp.finfo(log_p.dtype).tiny), log_t)
  log_t = log_t.reshape((1,) * (log_p.ndim - 1) + log_t.shape)
  log_given = jax.nn.logsumexp(log_p[..., :, None] + log_t, axis=-2)
  return -jnp.sum(promote(targets) * log_given, axis=-1)


def backward_correction(logits: Array, targets: Array, *, matrix: Matrix) -> Array:
  """Computes -sum_j t_j sum_i (T^-1)_ji log p_i, whose mean over given labels is cross-entropy.

  For an example of class i, whose given label j has probability T_ij, the expected loss is -log p_i
  exactly. Values can be negative, and the loss is unbounded below for a certain prediction. Linear
  in the target; the identity matrix is cross-entropy.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t over given labels; gradients flow to them if they carry any.
    matrix: [K, K], T_ij the probability of the given label j for an example of the true class i;
      an array or nested sequences. Rows sum to 1. An array may be traced; then it is not checked.

  Returns:
    [...] one value per example, any real number.

  Raises:
    InputError: for a matrix that is not [K, K], whose rows are no distributions, or that has no
      inverse.

  Source: Patrini et al. (2017), Theorem 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> flips = ((0.8, 0.2), (0.4, 0.6))
    >>> z = jnp.array([1.0, 0.0])
    >>> given = [losses.backward_correction(z, t, matrix=flips) for t in jnp.eye(2)]
    >>> mean = 0.8 * given[0] + 0.2 * given[1]
    >>> round(float(mean - losses.cross_entropy(z, jnp.array([1.0, 0.0]))), 6)
    0.0
  """
  log_p = jax.nn.log_softmax(promote(logits))
  transition = _checked(matrix, log_p.shape[-1])
  if isinstance(transition, np.ndarray):
    smallest = np.linalg.svd(transition, compute_uv=False)[-1]
    if smallest < _SMALLEST_SINGULAR_VALUE:
      raise InputError(
        f"matrix has no usable inverse: its smallest singular value is {smallest:.3g}, below "
        f"{_SMALLEST_SINGULAR_VALUE:g}; different classes give the same labels, take "
        "forward_correction or a lower noise rate"
      )
    inverse = jnp.asarray(np.linalg.inv(transition), log_p.dtype)
  else:
    inverse = jnp.linalg.inv(transition.astype(log_p.dtype))
  corrected = jnp.einsum("...j,ji->...i", promote(targets), inverse, precision="highest")
  return -jnp.sum(corrected * log_p, axis=-1)


def _checked(matrix: Matrix, num_classes: int) -> np.ndarray | Array:
  """The matrix as float64 numbers that were checked, or as it is while it is traced."""
  if _checks.is_traced(matrix):
    return jnp.asarray(matrix)
  try:
    found = np.asarray(matrix, np.float64)
  except (TypeError, ValueError):
    raise InputError(
      f"matrix is not a table of numbers; it must be {num_classes} rows of {num_classes} numbers"
    ) from None
  expected = f"it must be [{num_classes}, {num_classes}], P(given label | true class)"
  if found.shape != (num_classes, num_classes):
    raise InputError(f"matrix has shape {list(found.shape)}; {expected}")
  if not np.all((found >= 0) & (found <= 1)):
    row, column = np.argwhere(~((found >= 0) & (found <= 1)))[0]
    raise InputError(
      f"matrix[{row}][{column}] is {found[row, column]:g}; {expected}, every entry in [0, 1]"
    )
  sums = found.sum(axis=1)
  if not np.all(np.abs(sums - 1) <= 1e-5):
    row = int(np.argmax(np.abs(sums - 1)))
    columns = found.sum(axis=0)
    turned = "; its columns do: transpose it" if np.all(np.abs(columns - 1) <= 1e-5) else ""
    raise InputError(
      f"matrix row {row} sums to {sums[row]:.6g}; {expected}, every row with sum 1{turned}"
    )
  return found

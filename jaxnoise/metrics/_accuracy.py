"""Per-example correctness and proper scores: values [B], reduced by the caller."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def check_labels(scores: Array, labels: Array) -> None:
  """Refuses labels that are not one integer per row of `scores` [B, K].

  Raises:
    InputError: for one-hot or soft labels, or another number of rows.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.metrics import _accuracy
    >>> _accuracy.check_labels(jnp.zeros((2, 3)), jnp.array([0, 2]))
  """
  integer = jnp.issubdtype(labels.dtype, jnp.integer)
  if scores.ndim != 2 or labels.shape != scores.shape[:1] or not integer:
    raise InputError(
      f"labels are {labels.dtype}{list(labels.shape)} for scores {list(scores.shape)}; a metric "
      "takes scores [B, K] and one integer label per row [B]"
    )


def correct(logits: Array, labels: Array) -> Array:
  """Says for each example whether the arg-max is the label: 1[argmax_k z_k = y].

  Ties go to the lowest class. A row with a nan is wrong, so that a diverged network does not score
  chance by always naming class 0.

  Args:
    logits: [B, K], logits or probabilities.
    labels: [B] integers in 0..K-1.

  Returns:
    [B] float32, 1 or 0.

  Raises:
    InputError: where the labels are not one integer per row.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> metrics.correct(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0])).tolist()
    [1.0, 0.0]
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  check_labels(logits, labels)
  hit = jnp.argmax(logits, axis=-1) == labels
  return (hit & ~jnp.any(jnp.isnan(logits), axis=-1)).astype(jnp.float32)


def negative_log_likelihood(logits: Array, labels: Array) -> Array:
  """Computes -log softmax(z)_y for each example, in nats.

  Args:
    logits: [B, K].
    labels: [B] integers in 0..K-1.

  Returns:
    [B], at least float32 (bfloat16 is promoted first), non-negative; finite for finite logits.

  Raises:
    InputError: where the labels are not one integer per row.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> value = metrics.negative_log_likelihood(jnp.zeros((1, 4)), jnp.array([2]))
    >>> round(float(value[0]), 4)
    1.3863
  """
  logits, labels = promote(jnp.asarray(logits)), jnp.asarray(labels)
  check_labels(logits, labels)
  log_probabilities = jax.nn.log_softmax(logits, axis=-1)
  return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


def brier_score(probabilities: Array, labels: Array) -> Array:
  """Computes sum_k (p_k - 1[k = y])^2 for each example, the sum over all K classes.

  Brier's own definition: with two classes it is twice the (p_1 - y)^2 that some call by the name;
  others divide by K.

  Args:
    probabilities: [B, K], rows sum to 1.
    labels: [B] integers in 0..K-1.

  Returns:
    [B], at least float32, in [0, 2]: 0 for certain and right, 1 - 1 / K for uniform, 2 for certain
    and wrong.

  Raises:
    InputError: where the labels are not one integer per row.

  Source:
    Brier, *Verification of forecasts expressed in terms of probability*, 1950.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> metrics.brier_score(jnp.array([[0.5, 0.5], [0.0, 1.0]]), jnp.array([0, 0])).tolist()
    [0.5, 2.0]
  """
  probabilities, labels = promote(jnp.asarray(probabilities)), jnp.asarray(labels)
  check_labels(probabilities, labels)
  target = jax.nn.one_hot(labels, probabilities.shape[-1], dtype=probabilities.dtype)
  return jnp.sum((probabilities - target) ** 2, axis=-1)

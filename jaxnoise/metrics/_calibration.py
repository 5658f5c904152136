"""Calibration: does a confidence of 0.8 mean right in 80 % of the cases?"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.metrics._accuracy import check_labels, correct


class CalibrationBins(NamedTuple):
  """What calibration errors and reliability diagrams are computed from; `+` merges two batches.

  Attributes:
    count: [num_bins], how many examples have their confidence in the bin.
    confidence: [num_bins], the sum of their confidences.
    correct: [num_bins], how many of them are classified correctly.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> one = metrics.CalibrationBins(jnp.ones(2), jnp.array([0.3, 0.8]), jnp.array([0.0, 1.0]))
    >>> (one + one).count.tolist()
    [2.0, 2.0]
  """

  count: Array
  confidence: Array
  correct: Array

  def __add__(self, other: Any) -> CalibrationBins:  # type: ignore[override]
    if not isinstance(other, CalibrationBins):
      return NotImplemented
    return jax.tree.map(lambda a, b: a + b, self, other)


def calibration_bins(
  probabilities: Array, labels: Array, mask: Array | None = None, num_bins: int = 15
) -> CalibrationBins:
  """Sorts examples by confidence max_k p_k into equal bins (i / n, (i + 1) / n].

  Args:
    probabilities: [B, K], rows sum to 1.
    labels: [B] integers in 0..K-1.
    mask: [B], 1 for real rows and 0 for padding; None means all are real.
    num_bins: n; 15 in NoisyMix, 10 for NRD's diagrams.

  Returns:
    The statistics of the n bins, in at least float32. A confidence above 1 by rounding counts as
    1; one of exactly 0 or nan is in no bin.

  Raises:
    InputError: where the labels are not one integer per row.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> p = jnp.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    >>> metrics.calibration_bins(p, jnp.array([0, 0, 1]), num_bins=2).correct.tolist()
    [0.0, 2.0]
  """
  probabilities, labels = promote(jnp.asarray(probabilities)), jnp.asarray(labels)
  check_labels(probabilities, labels)
  confidence = jnp.minimum(jnp.max(probabilities, axis=-1), 1.0)
  edges = jnp.asarray(np.linspace(0.0, 1.0, num_bins + 1), confidence.dtype)
  above = confidence[:, None] > edges[None, :-1]
  member = above & (confidence[:, None] <= edges[None, 1:])
  if mask is not None:
    member &= (jnp.asarray(mask) > 0)[:, None]
  hit = correct(probabilities, labels).astype(confidence.dtype)

  def per_bin(value: Array) -> Array:
    return jnp.sum(jnp.where(member, value[:, None], 0.0), axis=0)

  return CalibrationBins(per_bin(jnp.ones_like(confidence)), per_bin(confidence), per_bin(hit))


def expected_calibration_error(bins: CalibrationBins) -> Array:
  """ECE = sum_b (n_b / n) |accuracy_b - mean confidence_b| (Guo et al. 2017, eq. 3).

  Args:
    bins: of all batches, added up.

  Returns:
    A scalar in [0, 1]; nan where no example is in a bin.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> bins = metrics.CalibrationBins(jnp.array([4.0]), jnp.array([3.0]), jnp.array([2.0]))
    >>> float(metrics.expected_calibration_error(bins))
    0.25
  """
  return jnp.sum(jnp.abs(bins.correct - bins.confidence)) / jnp.sum(bins.count)


def reliability(bins: CalibrationBins) -> tuple[Array, Array, Array]:
  """Gives a reliability diagram's data: for each bin mean confidence, accuracy, share of examples.

  Args:
    bins: of all batches, added up.

  Returns:
    Three arrays [num_bins]; confidence and accuracy are nan in an empty bin.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> bins = metrics.CalibrationBins(
    ...   jnp.array([0.0, 4.0]), jnp.array([0.0, 3.0]), jnp.array([0.0, 2.0])
    ... )
    >>> [column.tolist() for column in metrics.reliability(bins)]
    [[nan, 0.75], [nan, 0.5], [0.0, 1.0]]
  """
  confidence, accuracy = bins.confidence / bins.count, bins.correct / bins.count
  return confidence, accuracy, bins.count / jnp.sum(bins.count)

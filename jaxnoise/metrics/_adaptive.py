"""Calibration over bins of equally many examples, and accuracy by confidence.

Both need the whole test set sorted, so they run once, at the end, on the host, in NumPy's float64.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxnoise.core import InputError
from jaxnoise.core.types import Array
from jaxnoise.metrics._calibration import CalibrationBins


def _sorted(confidence: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Both in ascending order of confidence, nan first; equal confidences share their mean."""
  confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
  if confidence.ndim != 1 or confidence.shape != correct.shape:
    raise InputError(
      f"confidence has shape {list(confidence.shape)} and correct {list(correct.shape)}; give one "
      "value of each per example [N], in the same order"
    )
  confidence = np.where(np.isnan(confidence), -np.inf, np.minimum(confidence, 1.0))
  levels, level = np.unique(confidence, return_inverse=True)
  share = np.bincount(level, correct) / np.bincount(level)
  order = np.argsort(level, kind="stable")
  return levels[level[order]], share[level[order]]


def adaptive_bins(
  confidence: ArrayLike, correct: ArrayLike, *, bin_size: int = 100
) -> CalibrationBins:
  """Sorts a whole test set by confidence and cuts it into bins of equally many examples.

  Bin b of n = max(1, floor(N / bin_size)) holds the examples b * bin_size .. (b + 1) * bin_size - 1
  in ascending order of confidence; the last bin also takes the remainder. The errors of these bins
  are the adaptive ones: `rms_calibration_error(bins)` the RMS error, `maximum_calibration_error`
  the maximum, and `expected_calibration_error` what the authors' tools call MAD (p = 1).

  Examples of equal confidence count with their mean correctness, so that the order of the test set
  plays no part where many confidences are 1 by rounding. Runs on the host, in float64.

  Args:
    confidence: [N], max_k p_k of every example, padding left out. Above 1 by rounding counts as
      1; nan is in no bin.
    correct: [N], 1 where the prediction is right, from `correct`.
    bin_size: examples per bin; 100 in the papers.

  Returns:
    The statistics of the n bins, NumPy arrays. Bins of two test sets or batches must not be added:
    concatenate the examples. Without an example there is one empty bin, whose errors are nan.

  Raises:
    InputError: where the two are not [N] each, or bin_size is not at least 1.

  Source:
    Hendrycks, Mazeika and Dietterich, *Deep Anomaly Detection with Outlier Exposure*, 2019,
    appendix (bins of 100, after Nguyen and O'Connor 2015). They do not say what fewer examples than
    `bin_size` give: here one bin.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import metrics
    >>> confidence, correct = np.array([0.9, 0.5, 0.8, 0.6, 1.0]), np.array([1, 0, 1, 1, 0])
    >>> bins = metrics.adaptive_bins(confidence, correct, bin_size=2)
    >>> bins.count.tolist(), bins.correct.tolist()
    ([2.0, 3.0], [1.0, 2.0])
    >>> round(float(metrics.rms_calibration_error(bins)), 4)
    0.1835
  """
  if bin_size < 1:
    raise InputError(f"bin_size is {bin_size}; a bin holds at least 1 example, 100 in the papers")
  confidence, correct = _sorted(confidence, correct)
  known = confidence > -np.inf
  confidence, correct = confidence[known], correct[known]
  bins = max(1, len(confidence) // bin_size)
  bin_of = np.minimum(np.arange(len(confidence)) // bin_size, bins - 1)

  def per_bin(value: np.ndarray) -> np.ndarray:
    return np.bincount(bin_of, value, minlength=bins)

  return CalibrationBins(per_bin(np.ones_like(confidence)), per_bin(confidence), per_bin(correct))


def _gaps(bins: CalibrationBins, drop_last_bin: bool) -> tuple[Array, Array]:
  """Share of examples and |accuracy - mean confidence| of each bin; an empty bin has no gap."""
  count = jnp.asarray(bins.count)
  gap = jnp.abs(jnp.asarray(bins.correct) - jnp.asarray(bins.confidence)) / jnp.maximum(count, 1)
  share = count / jnp.sum(count)
  if not drop_last_bin:
    return share, gap
  if len(count) < 2:
    raise InputError(
      f"drop_last_bin leaves no bin of {len(count)}; give a smaller bin_size or drop_last_bin=False"
    )
  return share[:-1], gap[:-1]


def rms_calibration_error(bins: CalibrationBins, *, drop_last_bin: bool = False) -> Array:
  """RMS = sqrt(sum_b (n_b / n) (accuracy_b - mean confidence_b)^2).

  Args:
    bins: of the whole test set, from `adaptive_bins` (the papers') or added up from
      `calibration_bins` (equally wide ones).
    drop_last_bin: leave the most confident bin out of the sum, its examples still counted in n, as
      the authors' tools do by a loop that ends one bin early. Published numbers have it; with 300
      bins it matters little, with few much.

  Returns:
    A scalar in [0, 1]; nan where no example is in a bin.

  Raises:
    InputError: where no bin would be left (the authors' tools print 0 there).

  Source:
    Hendrycks, Mazeika and Dietterich 2019, appendix.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> bins = metrics.CalibrationBins(
    ...   jnp.array([2.0, 2.0]), jnp.array([1.2, 1.8]), jnp.array([0.0, 2.0])
    ... )
    >>> round(float(metrics.rms_calibration_error(bins)), 4)
    0.4301
    >>> round(float(metrics.rms_calibration_error(bins, drop_last_bin=True)), 4)
    0.4243
  """
  share, gap = _gaps(bins, drop_last_bin)
  return jnp.sqrt(jnp.sum(share * gap**2))


def maximum_calibration_error(bins: CalibrationBins) -> Array:
  """MCE = max_b |accuracy_b - mean confidence_b| over the bins with an example (Guo et al. 2017).

  Args:
    bins: of the whole test set, from `adaptive_bins` or added up from `calibration_bins`.

  Returns:
    A scalar in [0, 1]; nan where no example is in a bin.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> bins = metrics.CalibrationBins(
    ...   jnp.array([0.0, 4.0]), jnp.array([0.0, 3.0]), jnp.array([0.0, 2.0])
    ... )
    >>> float(metrics.maximum_calibration_error(bins))
    0.25
  """
  share, gap = _gaps(bins, False)
  return jnp.max(jnp.where(jnp.isnan(share), jnp.nan, gap))


def aurra(confidence: ArrayLike, correct: ArrayLike) -> float:
  """Computes the area under the response rate accuracy curve, (1 / N) sum_(k=1..N) A_k.

  A_k is the accuracy among the k most confident examples: how good a network is that may decline
  to answer. Examples of equal confidence count with their mean correctness, the expectation over
  their order. Runs on the host, in float64.

  Args:
    confidence: [N], max_k p_k of every example, padding left out; nan ranks last.
    correct: [N], 1 where the prediction is right, from `correct`.

  Returns:
    A number in [0, 1]; the papers print 100 times it.

  Raises:
    InputError: where the two are not [N] each, or there is no example.

  Source:
    Hendrycks et al., *Natural Adversarial Examples*, 2021.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import metrics
    >>> round(metrics.aurra(np.array([0.5, 0.9, 0.7]), np.array([0, 1, 1])), 4)
    0.8889
  """
  confidence, correct = _sorted(confidence, correct)
  if not len(confidence):
    raise InputError("confidence has no example, AURRA needs one at least; give a whole test set")
  return float(np.mean(np.cumsum(correct[::-1]) / np.arange(1, len(correct) + 1)))

"""How well wrong labels are found, and how far a network has fitted them.

The ranking metrics need the whole training set sorted, so they run once, on the host, in NumPy's
float64. `memorisation` is counts that add across batches, and runs anywhere.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxnoise.core import InputError
from jaxnoise.core.reduce import SumCount, mean_count
from jaxnoise.core.types import Array


def _levels(scores: ArrayLike, positives: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """(examples, positives) at each distinct score, the highest first; nan is the lowest."""
  scores, positives = np.asarray(scores, np.float64), np.asarray(positives)
  if scores.ndim != 1 or scores.shape != positives.shape:
    raise InputError(
      f"scores have shape {list(scores.shape)} and positives {list(positives.shape)}; give one "
      "value of each per example [N], in the same order"
    )
  if positives.dtype != bool and not np.isin(positives, (0, 1)).all():
    raise InputError(
      f"positives are {positives.dtype} with other values than 0 and 1; give true where the label "
      "is wrong, such as given != true"
    )
  # nan as one value of its own: -inf is a score like any other.
  order = np.where(np.isnan(scores), -np.inf, scores)
  keys = np.stack([~np.isnan(scores), order])
  _, level = np.unique(keys, axis=1, return_inverse=True)
  level = level.reshape(-1)
  return np.bincount(level)[::-1], np.bincount(level, positives.astype(np.float64))[::-1]


def auroc(scores: ArrayLike, positives: ArrayLike) -> float:
  """Computes the area under the ROC curve, P(s+ > s-) + P(s+ = s-) / 2.

  The chance that a positive example, such as one with a wrong label, is ranked above a negative
  one; equal scores count half, which is what midranks give. Runs on the host, in float64.

  Args:
    scores: [N], higher is more suspicious; nan ranks last.
    positives: [N] bool (or 0 and 1), true where the label is wrong.

  Returns:
    A number in [0, 1]: 0.5 for chance. nan where all examples are positive, or none is.

  Raises:
    InputError: where the two are not [N] each, or positives are not bool.

  Source:
    Mann and Whitney 1947 (the U statistic); Hanley and McNeil 1982 (that it is the area).

  Example:
    >>> import numpy as np
    >>> from jaxnoise import metrics
    >>> metrics.auroc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    0.875
  """
  count, positive = _levels(scores, positives)
  negative = count - positive
  if not positive.sum() or not negative.sum():
    return float("nan")
  above = np.cumsum(positive) - positive / 2
  return float(np.sum(negative * above) / (positive.sum() * negative.sum()))


def average_precision(scores: ArrayLike, positives: ArrayLike) -> float:
  """Computes AP = sum_n (R_n - R_(n-1)) P_n over the distinct scores, the highest first.

  P_n and R_n are precision and recall when everything with at least the n-th score is called
  positive: equal scores come in together, and nothing is interpolated. Runs on the host, in
  float64.

  Args:
    scores: [N], higher is more suspicious; nan ranks last.
    positives: [N] bool (or 0 and 1), true where the label is wrong.

  Returns:
    A number in [0, 1]: the share of positives for chance. nan without a positive.

  Raises:
    InputError: where the two are not [N] each, or positives are not bool.

  Source:
    The definition of scikit-learn's `average_precision_score`.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import metrics
    >>> round(metrics.average_precision(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1])), 4)
    0.8333
  """
  count, positive = _levels(scores, positives)
  if not positive.sum():
    return float("nan")
  precision = np.cumsum(positive) / np.cumsum(count)
  return float(np.sum(positive * precision) / positive.sum())


def precision_at(scores: ArrayLike, positives: ArrayLike, k: int) -> float:
  """Gives the share of positives among the k highest scores.

  Where the k-th score is shared, the examples that have it count with their mean: the expectation
  over their order. With k the number of positives it equals the recall there (R-precision). Runs
  on the host, in float64.

  Args:
    scores: [N], higher is more suspicious; nan ranks last.
    positives: [N] bool (or 0 and 1), true where the label is wrong.
    k: 1..N.

  Returns:
    A number in [0, 1]; the share of positives for chance.

  Raises:
    InputError: where the two are not [N] each, positives are not bool, or k is out of range.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import metrics
    >>> metrics.precision_at(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]), 2)
    0.75
  """
  count, positive = _levels(scores, positives)
  total = int(count.sum())
  if not 1 <= k <= total:
    raise InputError(f"k is {k}; precision is taken among 1 to {total} examples")
  taken = np.clip(k - (np.cumsum(count) - count), 0, count)
  return float(np.sum(taken * positive / count) / k)


def memorisation(
  predictions: Array, given: Array, true: Array, mask: Array | None = None
) -> dict[str, SumCount]:
  """Counts how far a network has fitted wrong labels, and what its agreement with a label is worth.

  With c the prediction, y~ the given label and y the true one,

    memorised        #{c = y~, y~ != y} / #{y~ != y}: of the wrong labels, the share fitted
    corrected        #{c = y,  y~ != y} / #{y~ != y}: ... the share seen through
    label_precision  #{c = y~, y~ = y} / #{c = y~}: of the labels it predicts, the share right
    label_recall     #{c = y~, y~ = y} / #{y~ = y}: of the right labels, the share it predicts

  Args:
    predictions: [B] integers, the predicted class of each training image; a negative one, of a
      network that gave no number, agrees with no label.
    given: [B] integers in 0..K-1, the labels that training sees.
    true: [B] integers in 0..K-1.
    mask: [B], 1 for real rows; None means all are.

  Returns:
    (sum, count) of each by name, at least float32: added over batches with `core.reduce.merge`,
    divided once with `core.reduce.divide`, where an empty count (no wrong label) gives nan.

  Raises:
    InputError: where the three are not integers [B] each.

  Source:
    The fraction of flipped labels fitted as in "Neural Vicinal Risk Minimization"; label precision
    and recall of the examples taken for clean as in Han et al. 2018 (Co-teaching).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import core, metrics
    >>> predictions, given = jnp.array([1, 0, 1, 1]), jnp.array([1, 1, 1, 0])
    >>> found = metrics.memorisation(predictions, given, true=jnp.array([0, 0, 1, 0]))
    >>> core.reduce.divide(found) == {
    ...   "memorised": 0.5, "corrected": 0.5, "label_precision": 0.5, "label_recall": 0.5}
    True
  """
  predictions, given, true = (jnp.asarray(x) for x in (predictions, given, true))
  arrays = {"predictions": predictions, "given": given, "true": true}
  if predictions.ndim != 1 or not all(
    x.shape == predictions.shape and jnp.issubdtype(x.dtype, jnp.integer) for x in arrays.values()
  ):
    found = ", ".join(f"{name} {x.dtype}{list(x.shape)}" for name, x in arrays.items())
    raise InputError(f"found {found}; memorisation is counted on one integer each per example [B]")
  real = jnp.ones(predictions.shape, bool) if mask is None else mask > 0
  wrong, agrees = given != true, predictions == given

  def share(part: Array, whole: Array) -> SumCount:
    return mean_count(part.astype(jnp.float32), (whole & real).astype(jnp.float32))

  return {
    "memorised": share(agrees, wrong),
    "corrected": share(predictions == true, wrong),
    "label_precision": share(~wrong, agrees),
    "label_recall": share(agrees, ~wrong),
  }

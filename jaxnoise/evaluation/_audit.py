"""Label audit: which training labels are probably wrong, from what a run knows of each example."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxnoise import metrics, stats
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array

VIEWS = "views"
"""What the signal is called that comes from predictions."""
DISAGREEMENT = "disagreement"
"""What the probability is said to come from where no signal falls into two kinds of examples."""
_TAILS = (1.0, 99.0)
# Between normals whose means are 1.5 of their summed standard deviations apart there is a point
# beyond which no more than 7 % of either lies.
_APART = 1.5


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
  """How likely the label of each of N examples is wrong.

  Attributes:
    score: [N] float64 in (0, 1), higher is more suspicious; what to rank by.
    probability: [N] float64 in [0, 1], that the given label is wrong; never falls as the score
      rises. Their sum is the number of wrong labels to expect.
    suggested: [N] int32, the most probable class other than the given one; -1 where no predictions
      were given.
    signals: what the score was made of, [N] float64 each, higher more suspicious, by name.
    basis: the signals that the probability comes from, or ("disagreement",).
  """

  score: np.ndarray
  probability: np.ndarray
  suggested: np.ndarray
  signals: Mapping[str, np.ndarray]
  basis: tuple[str, ...] = ()

  @property
  def order(self) -> np.ndarray:
    """[N] int64, the positions of the examples, the most suspicious first; ties by position."""
    return np.argsort(-self.score, kind="stable")


def audit_labels(
  labels: ArrayLike,
  predictions: ArrayLike | None = None,
  *,
  signals: Mapping[str, ArrayLike] | None = None,
) -> Audit:
  """Ranks examples by how likely their given label is wrong.

  Signals are what any source says of each example, in any unit, higher for more suspicious: mean
  losses over training, a method's posterior, minus its example weight. Predictions p_i (averaged
  over views that the network was not trained on, or out of fold) make one more, "views",
  1 - p_i[y_i]: under noise that is the same for all classes it orders examples as the posterior
  does if p is that of the true class.

    score_i       = mean_s (rank_s(i) - 1/2) / N_s      midranks among the N_s examples that s knows
    posterior_s,i = P(upper component | value)          of two normal components fitted to signal s
    probability   = isotonic regression on the score of mean_s posterior_s

  A mean of ranks needs no common unit and no tuned weight, and no loss's tail decides it; but it
  is nearly uniform, so the probability comes from the values themselves. The mixture is fitted to
  values cut off at their 1st and 99th percentiles and scaled to [0, 1] (a few huge losses would
  else be a component of their own), and its posterior is made monotone. Two components are always
  found, in a set without errors too, where the upper one holds the hardest examples: only signals
  whose components lie apart, |m1 - m0| > 1.5 (s1 + s0), have a say, and "views" only with an upper
  mean above 1/2. Where none do, what is regressed on the score is the disagreement
  1[argmax_k p_ik != y_i], which a network that has memorised the labels shows too rarely; without
  predictions, all posteriors. Everything is on the host, in float64.

  Args:
    labels: [N] integers in 0..K-1, as given.
    predictions: [N, K] probabilities, rows sum to 1; None where only signals are known.
    signals: [N] each, by name; nan where a signal does not know an example.

  Returns:
    Scores, probabilities and suggested labels. A signal that is the same for all examples says
    nothing and is left out of all of them.

  Raises:
    InputError: without a signal that tells examples apart, for arrays of another shape, labels out
      of range, predictions that are no probabilities, or an example that no signal knows.

  Source:
    The views: "Neural Vicinal Risk Minimization". Mixtures of losses: Arazo et al. 2019, section
    3.1; Li et al. 2020 (DivideMix), section 3.1 (two normals). Their combination is this project's.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.1, 0.9]])
    >>> found = evaluation.audit_labels([0, 0, 0, 1], p, signals={"loss": [0.2, 2.0, 0.1, 0.3]})
    >>> found.order.tolist(), found.suggested.tolist(), list(found.signals)
    ([1, 3, 0, 2], [1, 1, 1, 0], ['views', 'loss'])
    >>> bool(found.probability[1] > 0.9), bool(found.probability[2] < 0.1)
    (True, True)
  """
  labels = np.asarray(labels)
  if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
    raise InputError(
      f"labels are {labels.dtype}{list(labels.shape)}; give one integer class per example [N]"
    )
  given: dict[str, np.ndarray] = {}
  suggested = np.full(len(labels), -1, np.int32)
  if predictions is not None:
    p = _checked(predictions, labels)
    own = np.take_along_axis(p, labels[:, None], axis=1)[:, 0]
    given[VIEWS] = 1.0 - own
    others = np.where(np.arange(p.shape[1])[None, :] == labels[:, None], -np.inf, p)
    known = ~np.isnan(p).any(axis=1)
    suggested = np.where(known, np.argmax(others, axis=1), -1).astype(np.int32)
  for name, values in (signals or {}).items():
    if name in given:
      raise InputError(f"signals has {name!r}, which is that of the predictions; rename it")
    given[name] = _signal(name, values, len(labels))
  telling = {name: x for name, x in given.items() if np.nanmin(x) < np.nanmax(x)}
  if not telling:
    raise InputError(
      f"no signal tells the examples apart ({', '.join(given) or 'none was given'}); give "
      "predictions, or a signal that differs between examples"
    )
  unknown = np.all([np.isnan(x) for x in telling.values()], axis=0)
  if unknown.any():
    raise InputError(
      f"{unknown.sum()} of {len(labels)} examples, the first at {np.flatnonzero(unknown)[0]}, have "
      "nan in every signal; is the network's output finite?"
    )
  score = _mean(_share(x) for x in telling.values())
  fits = {name: _posterior(x) for name, x in telling.items()}
  every = {name: fit.posterior for name, fit in fits.items()}
  basis = {
    name: fit.posterior
    for name, fit in fits.items()
    if fit.distance > _APART and (name != VIEWS or fit.upper > 0.5)
  }
  if not basis and predictions is not None and VIEWS in telling:
    basis = {DISAGREEMENT: np.where(known, np.argmax(p, axis=1) != labels, np.nan)}
  basis = basis or every
  value = _mean(basis.values())
  value = np.where(np.isnan(value), _mean(every.values()), value)  # known to other signals alone
  return Audit(score, _isotonic(score, value), suggested, telling, tuple(basis))


def _mean(several: Iterable[np.ndarray]) -> np.ndarray:
  """Mean of what is known of each example; nan where nothing is."""
  x = np.stack(list(several))
  count = (~np.isnan(x)).sum(axis=0)
  return np.where(count > 0, np.nansum(x, axis=0) / np.maximum(count, 1), np.nan)


def _checked(predictions: ArrayLike, labels: np.ndarray) -> np.ndarray:
  p = np.asarray(predictions, np.float64)
  if p.ndim != 2 or len(p) != len(labels) or p.shape[1] < 2:
    raise InputError(
      f"predictions have shape {list(p.shape)} for {len(labels)} labels; give probabilities [N, K] "
      "of at least two classes, one row for each label"
    )
  if labels.min() < 0 or labels.max() >= p.shape[1]:
    raise InputError(
      f"labels: found {labels.min()}..{labels.max()}, but the predictions are of {p.shape[1]} "
      f"classes, 0 to {p.shape[1] - 1}"
    )
  total = p.sum(axis=1)
  if np.nanmin(p, initial=0.0) < 0 or np.nanmax(np.abs(total - 1), initial=0.0) > 1e-3:
    raise InputError(
      "predictions have rows that are no probabilities (negative, or of a sum other than 1); give "
      "the softmax of the logits"
    )
  return p


def _signal(name: str, values: ArrayLike, count: int) -> np.ndarray:
  x = np.asarray(values, np.float64)
  if x.shape != (count,):
    raise InputError(
      f"the signal {name!r} has shape {list(x.shape)}; give one number per example [{count}]"
    )
  if np.isinf(x).any() or np.isnan(x).all():
    raise InputError(
      f"the signal {name!r} has infinite values, or none at all; give finite numbers, and nan only "
      "for examples that it does not know"
    )
  return x


def _share(x: np.ndarray) -> np.ndarray:
  """(midrank - 1/2) / N among the known values, in (0, 1); nan where unknown."""
  known = ~np.isnan(x)
  _, level, count = np.unique(x[known], return_inverse=True, return_counts=True)
  middle = np.cumsum(count) - count / 2
  out = np.full(len(x), np.nan)
  out[known] = middle[level] / known.sum()
  return out


class _Kinds(NamedTuple):
  """Two kinds of examples that a signal tells apart.

  Attributes:
    posterior: [N] of the upper component, non-decreasing in the signal; nan where unknown.
    distance: of the two means, in sums of the two standard deviations.
    upper: the larger mean, in the signal's unit.
  """

  posterior: np.ndarray
  distance: float
  upper: float


def _posterior(x: np.ndarray) -> _Kinds:
  """Fits two normals to a signal [N]."""
  known = ~np.isnan(x)
  values = x[known]
  low, high = np.percentile(values, _TAILS)
  if low == high:  # nearly all are equal: the cut would leave nothing of what differs
    low, high = values.min(), values.max()
  scaled = (np.clip(values, low, high) - low) / (high - low)
  # Padded to a power of two, so that sets of all sizes share a few compiled programs.
  padded = np.zeros(1 << (len(scaled) - 1).bit_length())
  padded[: len(scaled)] = scaled
  fit, p = _mixture(padded, np.arange(len(padded)) < len(scaled))
  order = np.argsort(scaled, kind="stable")
  p = np.asarray(p, np.float64)[: len(scaled)][order]
  # The wider component takes over beyond the narrower one's far side: flat from there on.
  if fit.variances[1] > fit.variances[0]:
    bottom = int(np.argmin(p))
    p[:bottom] = p[bottom]
  else:
    top = int(np.argmax(p))
    p[top:] = p[top]
  out = np.full(len(x), np.nan)
  out[np.flatnonzero(known)[order]] = p
  distance = float(np.diff(fit.means)[0] / np.sqrt(fit.variances).sum())
  return _Kinds(out, distance, float(low + (high - low) * fit.means[1]))


@jax.jit
def _mixture(values: Array, mask: Array) -> tuple[stats.GaussianMixture, Array]:
  """Two normals fitted to the values [N] under the mask, and P(upper component | value) [N]."""
  # Run until it has converged, unlike DivideMix' ten rounds: its start should leave no trace.
  fit = stats.gaussian_mixture(values, mask=mask, max_iter=200, tol=1e-6)
  return fit, stats.gaussian_posterior(fit, values)[:, 1]


def _isotonic(score: np.ndarray, value: np.ndarray) -> np.ndarray:
  """The non-decreasing function of the score that is closest to `value` in squares.

  Neighbouring levels that fall are pooled to their mean, so the sum stays as it is.
  """
  _, level, count = np.unique(score, return_inverse=True, return_counts=True)
  mean = np.bincount(level, value) / count
  blocks: list[list[float]] = []  # value, weight, levels
  for m, n in zip(mean, count, strict=True):
    blocks.append([m, n, 1])
    while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
      m2, n2, k2 = blocks.pop()
      m1, n1, k1 = blocks[-1]
      blocks[-1] = [(m1 * n1 + m2 * n2) / (n1 + n2), n1 + n2, k1 + k2]
  fitted = np.repeat([b[0] for b in blocks], [int(b[2]) for b in blocks])
  return np.clip(fitted[level], 0.0, 1.0)


def audit_metrics(audit: Audit, labels: np.ndarray, true: np.ndarray) -> dict[str, Any]:
  """Measures an audit where the true labels are known.

  Args:
    audit: of N examples.
    labels: [N] integers, as given.
    true: [N] integers.

  Returns:
    {"wrong" (how many labels are), "auroc", "average_precision", "precision_at_wrong" (among as
    many of the most suspicious as there are wrong labels), "suggestion_accuracy" (of the wrong
    labels, the share whose suggestion is the true one), "expected" (the sum of the probabilities),
    "brier" (mean squared error of the probability), "reliability": ten bins of equal width of the
    probability, each {"low", "high", "count", "probability" (mean), "wrong" (share)}}; None where
    there is nothing to measure on.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> labels, true = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
    >>> audit = evaluation.audit_labels(labels, signals={"loss": [0.2, 2.0, 0.1, 0.3]})
    >>> found = evaluation.audit_metrics(audit, labels, true)
    >>> found["wrong"], found["auroc"], found["precision_at_wrong"]
    (1, 1.0, 1.0)
  """
  wrong = np.asarray(labels) != np.asarray(true)
  count, p = int(wrong.sum()), audit.probability
  bin_of = np.minimum((10 * p).astype(int), 9)
  size = np.bincount(bin_of, minlength=10)
  share, mean = (np.bincount(bin_of, x, 10) / np.maximum(size, 1) for x in (wrong, p))
  suggests = count and (audit.suggested >= 0).any()
  found = {
    "wrong": count,
    "auroc": metrics.auroc(audit.score, wrong),
    "average_precision": metrics.average_precision(audit.score, wrong),
    "precision_at_wrong": metrics.precision_at(audit.score, wrong, count) if count else np.nan,
    "suggestion_accuracy": (audit.suggested == true)[wrong].mean() if suggests else np.nan,
    "expected": p.sum(),
    "brier": np.mean((p - wrong) ** 2),
  }
  return {
    **{name: None if np.isnan(x) else type(count)(x) if name == "wrong" else float(x)
       for name, x in found.items()},
    "reliability": [
      {"low": k / 10, "high": (k + 1) / 10, "count": int(size[k]),
       "probability": float(mean[k]) if size[k] else None,
       "wrong": float(share[k]) if size[k] else None}
      for k in range(10)
    ],
  }  # fmt: skip

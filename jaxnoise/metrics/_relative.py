"""Errors and flip probabilities as multiples of a reference network's: mCE, relative mCE, mFR.

Runs on the host, on the finished numbers of a whole test set. Fractions and ratios throughout; the
papers print 100 times them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.metrics._corruption import CorruptionTable, cell_accuracies

ALEXNET_IMAGENET_C: Mapping[str, float] = {
  "gaussian_noise": 0.886428,
  "shot_noise": 0.894468,
  "impulse_noise": 0.922640,
  "defocus_blur": 0.819880,
  "glass_blur": 0.826268,
  "motion_blur": 0.785948,
  "zoom_blur": 0.798360,
  "snow": 0.866816,
  "frost": 0.826572,
  "fog": 0.819324,
  "brightness": 0.564592,
  "contrast": 0.853204,
  "elastic_transform": 0.646056,
  "pixelate": 0.717840,
  "jpeg_compression": 0.606500,
}
"""AlexNet's top-1 error on ImageNet-C, mean of severities 1 to 5, that mCE is relative to: the
standard 15 (Hendrycks and Dietterich 2019; digits from the AugMix authors' code)."""

_SEVERITIES = (1, 2, 3, 4, 5)


def mean_errors(
  table: CorruptionTable, names: Collection[str] | None = None
) -> dict[str, float]:
  """Averages 1 - accuracy over the severities of each corruption, unnormalised.

  This is how errors on CIFAR-10-C are printed, and what another network's `corruption_errors` can
  be relative to.

  Args:
    table: (name, severity) -> (sum, count) of the plain accuracy.
    names: which corruptions, in this order; None means all in the table.

  Returns:
    name -> error in [0, 1].

  Raises:
    InputError: for an incomplete table or an unknown name.

  Example:
    >>> from jaxnoise import metrics
    >>> metrics.mean_errors({("fog", 1): (4, 4), ("fog", 2): (1, 2)})
    {'fog': 0.25}
  """
  rows, _, accuracies = cell_accuracies(table, names)
  return {name: float(np.mean(1.0 - row)) for name, row in zip(rows, accuracies, strict=True)}


def _ratios(
  what: str,
  values: Mapping[str, float],
  reference: Mapping[str, float],
  names: Collection[str] | None,
) -> dict[str, float]:
  """values / reference by name, all of the reference's names unless told otherwise."""
  names = tuple(reference if names is None else names)
  if not names:
    raise InputError(f"names of {what} are empty; a ratio to a reference needs at least one")
  for name in names:
    for whose, known in (("reference's", reference), ("network's", values)):
      if name not in known:
        raise InputError(
          f"{name!r} is not among the {whose} {what}; {closest(name, known)} "
          "(names= restricts the comparison)"
        )
    if not reference[name] > 0:
      raise InputError(
        f"the reference's {what} for {name!r} is {reference[name]:g}; a ratio needs a positive one"
      )
  return {name: float(values[name] / reference[name]) for name in names}


def flip_rates(
  probabilities: Mapping[str, float],
  reference: Mapping[str, float],
  *,
  names: Collection[str] | None = None,
) -> dict[str, float]:
  """FR_p = FP_p / FP_p^ref for each perturbation p.

  Ranking distances are put in units of the reference's in the same way (T5D to mT5D). The papers'
  reference on ImageNet-P is AlexNet, whose values are not part of this package: pass them in. On
  CIFAR-10-P the papers print flip probabilities as they are.

  Args:
    probabilities: perturbation -> mean `flip_probability`; those not asked for are left out.
    reference: the same of the reference network.
    names: which, in this order, e.g. those without noise; None means all of the reference's, so
      that a perturbation that was not measured is an error.

  Returns:
    perturbation -> ratio; 1 where the two networks are alike.

  Raises:
    InputError: where a name is missing on either side, or the reference has a value that is not
      positive.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-P metrics).

  Example:
    >>> from jaxnoise import metrics
    >>> metrics.flip_rates({"tilt": 0.02, "snow": 0.1}, {"tilt": 0.08, "snow": 0.1})
    {'tilt': 0.25, 'snow': 1.0}
  """
  return _ratios("flip probabilities", probabilities, reference, names)


def mean_flip_rate(
  probabilities: Mapping[str, float],
  reference: Mapping[str, float],
  *,
  names: Collection[str] | None = None,
) -> float:
  """mFR = mean_p FR_p, the mean of `flip_rates`, whose arguments it takes.

  Returns:
    1 for the reference itself; the papers print 100.

  Raises:
    InputError: as `flip_rates`.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-P metrics).

  Example:
    >>> from jaxnoise import metrics
    >>> metrics.mean_flip_rate({"tilt": 0.02, "snow": 0.1}, {"tilt": 0.08, "snow": 0.1})
    0.625
  """
  return float(np.mean(list(flip_rates(probabilities, reference, names=names).values())))


def _check_severities(table: CorruptionTable, severities: Sequence[int]) -> None:
  found = sorted({severity for _, severity in table})
  if table and found != sorted(severities):
    raise InputError(
      f"the corruption table has severities {found} and the reference's errors are means over "
      f"{sorted(severities)}; evaluate the severities of the reference"
    )


def corruption_errors(
  table: CorruptionTable,
  reference: Mapping[str, float],
  *,
  names: Collection[str] | None = None,
  severities: Sequence[int] = _SEVERITIES,
) -> dict[str, float]:
  """CE_c = sum_s E_(s,c) / sum_s E_(s,c)^ref for each corruption.

  Args:
    table: (name, severity) -> (sum, count) of the plain accuracy; rows beyond `names` are left out.
    reference: name -> the reference network's error, mean over `severities`:
      `ALEXNET_IMAGENET_C`, or `mean_errors` of another network's table.
    names: which corruptions; None means all of the reference's.
    severities: those that the reference's errors are means over; the table must have just these.

  Returns:
    name -> ratio.

  Raises:
    InputError: where the table lacks a name or cell, or has other severities.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-C metrics).

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", s): (70, 100) for s in range(1, 6)}
    >>> round(metrics.corruption_errors(table, metrics.ALEXNET_IMAGENET_C, names=["fog"])["fog"], 4)
    0.3662
  """
  names = tuple(reference if names is None else names)
  _check_severities(table, severities)
  return _ratios("errors", mean_errors(table, names), reference, names)


def mean_corruption_error(
  table: CorruptionTable,
  reference: Mapping[str, float],
  *,
  names: Collection[str] | None = None,
  severities: Sequence[int] = _SEVERITIES,
) -> float:
  """mCE = mean_c CE_c, the mean of `corruption_errors`, whose arguments it takes.

  Returns:
    1 for the reference itself; the paper prints 100.

  Raises:
    InputError: as `corruption_errors`.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-C metrics).

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", 1): (8, 10), ("snow", 1): (6, 10)}
    >>> round(metrics.mean_corruption_error(table, {"fog": 0.4, "snow": 0.5}, severities=[1]), 4)
    0.65
  """
  errors = corruption_errors(table, reference, names=names, severities=severities)
  return float(np.mean(list(errors.values())))


def relative_mean_corruption_error(
  table: CorruptionTable,
  clean_error: float,
  reference: Mapping[str, float],
  reference_clean_error: float,
  *,
  names: Collection[str] | None = None,
  severities: Sequence[int] = _SEVERITIES,
) -> float:
  """Relative mCE = mean_c sum_s (E_(s,c) - E_clean) / sum_s (E_(s,c)^ref - E_clean^ref).

  How much of its accuracy a network loses under corruption, as a multiple of what the reference
  loses; a network may be accurate and lose more.

  Args:
    table: (name, severity) -> (sum, count) of the plain accuracy.
    clean_error: E_clean of the network, 1 - accuracy on the clean test set.
    reference: name -> the reference network's error, mean over `severities`.
    reference_clean_error: E_clean of the reference network.
    names: which corruptions; None means all of the reference's.
    severities: those that the reference's errors are means over; the table must have just these.

  Returns:
    1 for the reference itself; negative where corrupted images are classified better than clean.

  Raises:
    InputError: as `corruption_errors`; where an error is not in [0, 1]; or where the reference
      loses nothing under a corruption.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-C metrics).

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", 1): (8, 10), ("snow", 1): (6, 10)}
    >>> round(metrics.relative_mean_corruption_error(
    ...   table, 0.1, {"fog": 0.4, "snow": 0.5}, 0.2, severities=[1]
    ... ), 4)
    0.75
  """
  clean = {"clean_error": clean_error, "reference_clean_error": reference_clean_error}
  for field, error in clean.items():
    if not 0 <= error <= 1:
      raise InputError(f"{field} is {error}; it is 1 - accuracy on the clean test set, in [0, 1]")
  names = tuple(reference if names is None else names)
  _check_severities(table, severities)
  lost = {name: error - clean_error for name, error in mean_errors(table, names).items()}
  lost_by_reference = {n: reference[n] - reference_clean_error for n in names if n in reference}
  ratios = _ratios("losses of accuracy", lost, lost_by_reference, names)
  return float(np.mean(list(ratios.values())))

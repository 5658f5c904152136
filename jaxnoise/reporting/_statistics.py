"""Means with their spread over seeds, and differences with 95 % intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxnoise.core.errors import InputError

LEVEL = 0.95
"""Of every interval."""
MIN_FOR_INTERVAL = 3
"""With fewer values no interval is given: with two, it is 13 standard errors wide."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean over seeds.

  Attributes:
    mean: of the values.
    error: its standard error, sd / sqrt(n) with n - 1 under sd; nan for one value.
    low: the smallest value.
    high: the largest value.
    n: how many values.
  """

  mean: float
  error: float
  low: float
  high: float
  n: int

  @property
  def sd(self) -> float:
    """The standard deviation of the values, with n - 1; nan for one value."""
    return self.error * float(np.sqrt(self.n))

  @property
  def interval(self) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean, mean ± t(n - 1) error; None below three values."""
    if self.n < MIN_FOR_INTERVAL:
      return None
    # Here, not above: loading it takes longer than all else that a page needs.
    from scipy import special

    half = float(special.stdtrit(self.n - 1, 0.5 + LEVEL / 2)) * self.error
    return self.mean - half, self.mean + half

  def text(self, scale: float = 100.0, digits: int = 2, sign: str = "") -> str:
    """ "97.31 ± 0.12" in units of 1 / scale; the mean alone where n is 1."""
    mean = f"{self.mean * scale:{sign}.{digits}f}"
    return mean if self.n == 1 else f"{mean} ± {self.error * scale:.{digits}f}"

  def range_text(self, scale: float = 100.0, digits: int = 1) -> str:
    """ "95.3 (95.2 / 95.4)", mean (min / max), as NoisyMix prints it; alone where n is 1."""
    mean, low, high = (f"{v * scale:.{digits}f}" for v in (self.mean, self.low, self.high))
    return mean if self.n == 1 else f"{mean} ({low} / {high})"


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
  """Returns the mean with its standard error, sd / sqrt(n), and the range.

  Args:
    values: [n], one per seed.

  Raises:
    InputError: where there is no value.

  Example:
    >>> from jaxnoise import reporting
    >>> values = reporting.estimate([0.90, 0.92, 0.94])
    >>> values.text(), [round(end, 4) for end in values.interval]
    ('92.00 ± 1.15', [0.8703, 0.9697])
  """
  values = np.asarray(values, float)
  if values.ndim != 1 or not values.size:
    raise InputError(f"values have shape {values.shape}; give one number per seed, one at least")
  n = values.size
  error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
  return Estimate(float(values.mean()), error, float(values.min()), float(values.max()), n)


@dataclasses.dataclass(frozen=True)
class ExampleDifference:
  """A difference of accuracies on one test set, example by example.

  Attributes:
    mean: of the differences, as a fraction.
    error: its standard error over the examples; nan for one example.
    n: how many examples.
    gained: pairs (seed, example) that only the second is right on; None where no seed is shared.
    lost: those that only the first is right on; None likewise.
  """

  mean: float
  error: float
  n: int
  gained: int | None
  lost: int | None

  @property
  def interval(self) -> tuple[float, float]:
    """The normal 95 % interval, mean ± 1.96 error."""
    from scipy import special

    half = float(special.ndtri(0.5 + LEVEL / 2)) * self.error
    return self.mean - half, self.mean + half


def difference_by_example(
  first: np.ndarray, second: np.ndarray, *, same_seeds: bool
) -> ExampleDifference:
  """Returns the difference of two accuracies, with its standard error over paired examples.

  d_i = mean_s second[s, i] - mean_s first[s, i]; the mean of d and sd(d) / sqrt(N), with N - 1
  under sd.

  An example that is easy for both takes no part in the error, which is what pairing is for. The
  counts are those of McNemar's test, added over seeds.

  Args:
    first: [S, N] bool, whether each network of the baseline is right on each example.
    second: [T, N] bool, of the other.
    same_seeds: whether row s of both is the same seed, so that pairs can be counted.

  Raises:
    InputError: where the numbers of examples differ.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import reporting
    >>> a, b = np.array([[1, 0, 0, 1]]) > 0, np.array([[1, 1, 1, 0]]) > 0
    >>> got = reporting.difference_by_example(a, b, same_seeds=True)
    >>> got.mean, round(got.error, 4), got.gained, got.lost
    (0.25, 0.4787, 2, 1)
  """
  if first.shape[1] != second.shape[1]:
    raise InputError(
      f"one network was tested on {first.shape[1]} images, the other on {second.shape[1]}; compare "
      "networks on one test set"
    )
  change = second.mean(axis=0) - first.mean(axis=0)
  n = change.size
  error = float(np.std(change, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
  gained, lost = None, None
  if same_seeds:
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
  return ExampleDifference(float(change.mean()), error, n, gained, lost)

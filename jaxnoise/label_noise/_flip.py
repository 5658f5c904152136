"""The rules by which labels are flipped, as functions of the draws, so that draws can be given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def num_flips(rate: float, count: int, *, rounding: str = "ceil") -> int:
  """How many of `count` labels are flipped at the rate eta.

  "ceil" is the number of i in 0, 1, ... with i < eta * count, the comparison that GJS' and ELR's
  code makes; "floor" is int(eta * count), as in DivideMix and in NRD's CIFAR-10. Both are computed
  in float64 as there: 0.55 * 100 is a little more than 55, so "ceil" gives 56.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.num_flips(0.4, 203), label_noise.num_flips(0.4, 203, rounding="floor")
    (82, 81)
  """
  product = rate * count
  return min(math.ceil(product) if rounding == "ceil" else int(product), count)


def replace_labels(labels: Any, positions: Any, replacement: Any) -> np.ndarray:
  """Puts replacement[k] at positions[k] (or, of a mask, at its k-th true position).

  Symmetric noise with given draws: NRD's CIFAR-10 is (labels, mask, replacement), GJS' and ELR's
  (labels, permutation[:num_flips(rate, N)], replacement).

  Args:
    labels: [N] integers.
    positions: [M] distinct positions, or [N] bool with M true.
    replacement: [M] integers.

  Returns:
    [N] int32.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.replace_labels([0, 1, 2], [2, 0], [7, 8]).tolist()
    [8, 1, 7]
  """
  out = np.array(labels, np.int32)
  positions = np.asarray(positions)
  if positions.dtype == bool:
    positions = np.flatnonzero(positions)
  out[positions] = replacement
  return out


def flip_classes(labels: Any, rate: float, targets: Sequence[int], permutation: Any) -> np.ndarray:
  """Flips the first ceil(eta n_c) examples of each class c in the order of `permutation`.

  Classes are those of the true labels: what was flipped to a class is not flipped again.

  Args:
    labels: [N] true labels.
    rate: eta in [0, 1].
    targets: K classes, what each becomes; a class with targets[c] = c is left alone.
    permutation: [N] positions, shuffled.

  Returns:
    [N] int32.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.flip_classes([0, 1, 0, 1], 0.5, (1, 0), [3, 2, 1, 0]).tolist()
    [0, 1, 1, 0]
  """
  labels, order = np.asarray(labels), np.asarray(permutation)
  out = labels.astype(np.int32)
  for now, then in enumerate(targets):
    if now != then:
      members = order[labels[order] == now]
      out[members[: num_flips(rate, len(members))]] = then
  return out


def flip_sequentially(
  labels: Any,
  rate: float,
  targets: Sequence[int],
  shuffle: Callable[[int, np.ndarray], np.ndarray],
) -> np.ndarray:
  """The same on the labels as they are by then, class after class, which flips some twice.

  For c = 0 .. K-1: of the n examples that carry label c *now*, shuffled, the first ceil(eta n)
  become targets[c]. With cat (3) <-> dog (5), the examples of class 5 include cats that became
  dogs before, and some of them are flipped back.

  Args:
    labels: [N] true labels.
    rate: eta in [0, 1].
    targets: K classes, what each becomes; a class with targets[c] = c is left alone.
    shuffle: (c, positions [n], ascending) -> the positions in the order of the draw.

  Returns:
    [N] int32.

  Source: GJS' and ELR's code for CIFAR-10, taken over by NRD's author.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.flip_sequentially([0, 0, 1, 1], 0.5, (1, 0), lambda c, members: members)
    array([0, 0, 0, 1], dtype=int32)
  """
  out = np.array(labels, np.int32)
  for now, then in enumerate(targets):
    members = shuffle(now, np.flatnonzero(out == now))
    if now != then:
      out[members[: num_flips(rate, len(members))]] = then
  return out


def apportion(probabilities: Any, count: int) -> np.ndarray:
  """Shares `count` out in proportion to probabilities, by the largest-remainder rule.

  Args:
    probabilities: [K], sum one.
    count: how many.

  Returns:
    [K] int64 that sums to `count`; each is within one of count * p. Equal remainders go to the
    lower class.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.apportion([0.7, 0.2, 0.1], 12).tolist()
    [9, 2, 1]
  """
  # Rounded, or 0.1 * 30 = 3.0000000000000004 and 0.7 * 30 = 21 would not tie.
  exact = np.round(np.asarray(probabilities, np.float64) * count, 9)
  quota = np.floor(exact).astype(np.int64)
  order = np.argsort(-(exact - quota), kind="stable")
  quota[order[: count - int(quota.sum())]] += 1
  return quota


def inverse_sample(probabilities: Any, uniforms: Any) -> np.ndarray:
  """Draws from each row's distribution by its inverse: the first j with sum_{k <= j} p_k > u.

  Args:
    probabilities: [N, K] rows that sum to one.
    uniforms: [N] numbers in [0, 1).

  Returns:
    [N] int32.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.inverse_sample([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], [0.75, 0.0]).tolist()
    [1, 1]
  """
  cumulative = np.cumsum(np.asarray(probabilities, np.float64), axis=1)
  # Divided by its own end, so that rounding cannot leave a number beyond the last class.
  threshold = np.asarray(uniforms)[:, None] * cumulative[:, -1:]
  return (cumulative <= threshold).sum(axis=1).astype(np.int32)

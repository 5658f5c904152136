"""Noise that depends on the image: each example has a rate and a direction of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

SPREAD = 0.1
"""The standard deviation of the examples' rates before truncation."""


def truncated_rates(rate: float, count: int, rng: np.random.RandomState) -> np.ndarray:
  """Draws q_n ~ N(eta, 0.1^2), cut off to [0, 1].

  Args:
    rate: eta in [0, 1]. At its ends the cut moves the mean, by 0.08 at eta = 0 or 1.
    count: N.
    rng: NumPy's legacy generator.

  Returns:
    [N] float64.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import label_noise
    >>> q = label_noise.truncated_rates(0.3, 1000, np.random.RandomState(0))
    >>> bool(0 <= q.min() < 0.1), bool(0.5 < q.max() <= 1)
    (True, True)
  """
  out = np.empty(0)
  while len(out) < count:  # at least half of a draw is kept
    drawn = rate + SPREAD * rng.standard_normal(count)
    out = np.concatenate([out, drawn[(drawn >= 0) & (drawn <= 1)]])
  return out[:count]


def instance_distribution(
  images: Any, labels: Any, rates: Any, num_classes: int, rng: np.random.RandomState
) -> np.ndarray:
  """P(given label | image n, true label y): a softmax over the other classes, and 1 - q_n for y.

  With x the image as a vector and W_y [S, K] of standard normal numbers, one for each class y,
  P(j) = q_n exp(x W_y)_j / sum_{k != y} exp(x W_y)_k for j != y. S is in the thousands, so that
  most examples have nearly all of q_n on one class, which is another one for another image.

  Args:
    images: [N, ...] the last axis its channels; of any scale, as each channel is standardised.
    labels: [N] true labels y.
    rates: [N] q_n in [0, 1].
    num_classes: K, at least 2.
    rng: NumPy's legacy generator; the classes draw their W in ascending order.

  Returns:
    [N, K] float64, rows that sum to one.

  Source: Xia et al., Part-dependent label noise, 2020, Algorithm 2. The paper takes x as it is; its
    channels are standardised here over the images given, because x W_y of images that are nowhere
    negative is mostly that of their mean, and then the noise would depend on the class alone.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import label_noise
    >>> images = np.arange(24.0).reshape(2, 2, 2, 3)
    >>> p = label_noise.instance_distribution(
    ...   images, [0, 2], [0.25, 0.5], 3, np.random.RandomState(0))
    >>> p[[0, 1], [0, 2]].tolist(), p.sum(axis=1).round(6).tolist()
    ([0.75, 0.5], [1.0, 1.0])
  """
  images, labels = np.asarray(images), np.asarray(labels)
  rates, flat = np.asarray(rates, np.float64), images.reshape(len(images), -1)
  mean, std = _channel_statistics(flat, images.shape[-1])
  out = np.zeros((len(images), num_classes))
  for k in range(num_classes):
    # The weights are scaled, not the images: those are large.
    weights = rng.standard_normal((flat.shape[1], num_classes)) / std[:, None]
    members = np.flatnonzero(labels == k)
    score = flat[members].astype(np.float64) @ weights - mean @ weights
    score[:, k] = -np.inf
    share = np.exp(score - score.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    out[members] = rates[members, None] * share
    out[members, k] = 1 - rates[members]
  return out


def systematic(weights: Any, count: int, permutation: Any, uniform: float) -> np.ndarray:
  """Chooses exactly `count` of N, example n with a probability in proportion to weights[n].

  Probabilities beyond one are cut to one and the rest scaled up. The chosen are those in whose
  stretch of the running sum, taken in the order of `permutation`, a number u + 0, 1, 2, ... falls.

  Args:
    weights: [N] not negative, `count` of them positive.
    count: how many, at most N.
    permutation: [N] positions, shuffled.
    uniform: u in [0, 1).

  Returns:
    [count] positions.
  """
  weights = np.maximum(np.asarray(weights, np.float64), 1e-12)
  certain = np.zeros(len(weights), bool)
  p = np.ones(len(weights))
  while certain.sum() < count:
    free = ~certain
    p[free] = weights[free] * (count - certain.sum()) / weights[free].sum()
    over = free & (p >= 1)
    if not over.any():
      break
    certain |= over
    p[over] = 1
  if certain.sum() >= count:
    return np.flatnonzero(certain)[:count]
  rest = np.asarray(permutation)
  rest = rest[~certain[rest]]
  wanted = count - int(certain.sum())
  running = np.cumsum(p[rest])
  marks = uniform + np.arange(wanted)
  # Rounding can leave the last mark beyond the end of the running sum.
  chosen = np.minimum(np.searchsorted(running, marks, side="right"), len(rest) - 1)
  return np.concatenate([np.flatnonzero(certain), rest[chosen]])


def _channel_statistics(flat: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each number's channel [S]; one without spread is divided by 1.

  Args:
    flat: [N, S] images whose last axis was `channels`.
  """
  total, square = np.zeros((2, flat.shape[1]))
  # A thousand images at a time: as float64, a data set would be eight times its size.
  for start in range(0, len(flat), 1000):
    part = flat[start : start + 1000].astype(np.float64)
    total += part.sum(axis=0)
    square += np.einsum("ns,ns->s", part, part)
  count = flat.size / channels
  mean = total.reshape(-1, channels).sum(axis=0) / count
  std = np.sqrt(np.maximum(square.reshape(-1, channels).sum(axis=0) / count - mean**2, 0))
  repeats = flat.shape[1] // channels
  return np.tile(mean, repeats), np.tile(np.where(std > 1e-6, std, 1.0), repeats)

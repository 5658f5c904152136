"""Which examples go where: random choices on the host that never change between versions.

A split is part of an experiment's definition, so it is drawn from NumPy's frozen legacy generator,
whose numbers are guaranteed to stay the same, and not from the newer one, whose are not.
"""

from __future__ import annotations

import zlib

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_count


def host_rng(seed: int, stream: str) -> np.random.RandomState:
  """A generator for one purpose: it depends on the seed and on the CRC32 of the stream's name.

  Example:
    >>> from jaxnoise.data import _splits
    >>> _splits.host_rng(0, "holdout").randint(100) == _splits.host_rng(0, "holdout").randint(100)
    True
  """
  seed = check_count("seed", seed, 0, 2**32 - 1)
  return np.random.RandomState([seed, zlib.crc32(stream.encode())])


def equal_quota(count: int, num_classes: int, seed: int, stream: str) -> np.ndarray:
  """Shares `count` equally among the classes; what is left over goes to randomly chosen ones.

  Returns:
    [K] int64 that sums to `count`; entries differ by one at most.

  Example:
    >>> from jaxnoise.data import _splits
    >>> sorted(_splits.equal_quota(7, 3, seed=0, stream="holdout").tolist())
    [2, 2, 3]
  """
  quota = np.full(num_classes, count // num_classes, np.int64)
  first = host_rng(seed, stream + "/classes").permutation(num_classes)[: count % num_classes]
  quota[first] += 1
  return quota


def proportional_quota(sizes: np.ndarray, count: int) -> np.ndarray:
  """Shares `count` in proportion to class sizes by the largest-remainder rule.

  Args:
    sizes: [K] examples of each class.
    count: how many to share out.

  Returns:
    [K] int64 that sums to `count`; each is within one of count * size / sum(sizes).

  Example:
    >>> import numpy as np
    >>> from jaxnoise.data import _splits
    >>> _splits.proportional_quota(np.array([10, 20, 30]), 7).tolist()
    [1, 2, 4]
  """
  product = np.asarray(sizes, np.int64) * count
  total = int(np.sum(sizes))
  quota, remainder = product // total, product % total
  quota[np.argsort(-remainder, kind="stable")[: count - int(quota.sum())]] += 1
  return quota


def choose(
  labels: np.ndarray,
  quota: np.ndarray,
  seed: int,
  stream: str,
  *,
  free: np.ndarray | None = None,
  leave: int = 0,
) -> np.ndarray:
  """Draws `quota[k]` examples of each class k without replacement.

  A smaller quota at the same seed draws a subset of what a larger one draws.

  Args:
    labels: [N] class numbers.
    quota: [K] how many of each class.
    seed: the seed of the draw.
    stream: its purpose; names the choice in messages.
    free: [N] bool, which examples may be drawn; None means all.
    leave: how many of each class must stay behind.

  Returns:
    [sum(quota)] int64, ascending positions.

  Raises:
    InputError: a class has too few examples.
  """
  order = host_rng(seed, stream).permutation(len(labels))
  if free is not None:
    order = order[free[order]]
  chosen = []
  for k, wanted in enumerate(quota):
    members = order[labels[order] == k]
    if wanted > max(0, len(members) - leave):
      keep = f" and leave {leave}" if leave else ""
      raise InputError(
        f"{stream}: {int(quota.sum())} class-balanced examples take {wanted} of class {k}{keep}, "
        f"but it has {len(members)} to choose from; ask for fewer"
      )
    chosen.append(members[:wanted])
  return np.sort(np.concatenate(chosen)).astype(np.int64)

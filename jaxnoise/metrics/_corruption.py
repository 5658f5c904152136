"""Accuracy under corruptions: the whole (corruption, severity) table, and what derives from it.

A table maps (name, severity) to (sum, count), the sums of `corruption_counts` over all batches;
every aggregate is an unweighted mean over cells, so a cell counts once however many examples it
has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.reduce import SumCount, mean_count
from jaxnoise.core.types import Array

CorruptionTable: TypeAlias = Mapping[tuple[str, int], SumCount]
"""{(corruption, severity): (sum, count)}: the sums of one measure over a whole test set."""


def corruption_counts(
  correct: Array, clean_correct: Array, mask: Array | None = None
) -> tuple[SumCount, SumCount]:
  """Counts one cell for a batch: plain accuracy, and accuracy given a correct clean prediction.

  plain = #(corrupted correct) / #; conditional = #(clean and corrupted correct) / #(clean correct)
  (the latter as in the noise-in-distillation paper, following Gu et al.).

  Args:
    correct: [B], 1 where the corrupted image is classified correctly.
    clean_correct: [B], 1 where the clean image of the same example is.
    mask: [B], 1 for real rows and 0 for padding; None means all are real.

  Returns:
    (sum, count) of the plain and of the conditional accuracy; both add across batches.

  Raises:
    InputError: where the two do not have the same shape [B].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> plain, conditional = metrics.corruption_counts(
    ...   jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([1.0, 1.0, 0.0, 0.0])
    ... )
    >>> [float(v) for v in (*plain, *conditional)]
    [2.0, 4.0, 1.0, 2.0]
  """
  correct, clean_correct = jnp.asarray(correct), jnp.asarray(clean_correct)
  if correct.ndim != 1 or correct.shape != clean_correct.shape:
    raise InputError(
      f"correct has shape {correct.shape} and clean_correct {clean_correct.shape}; both are one "
      "value [B] for the same examples in the same order"
    )
  known = clean_correct > 0
  if mask is not None:
    known &= jnp.asarray(mask) > 0
  return mean_count(correct, mask), mean_count(correct, known)


def cell_accuracies(
  table: CorruptionTable, names: Collection[str] | None = None
) -> tuple[tuple[str, ...], tuple[int, ...], np.ndarray]:
  """Lays the table out as an array of accuracies.

  Args:
    table: (name, severity) -> (sum, count); every name with the same severities.
    names: which rows, in this order; None means all, in the table's order.

  Returns:
    The names, the severities in ascending order, and [names, severities] float64 accuracies in
    [0, 1]; nan where the count is 0 (conditional accuracy of a network that is never right).

  Raises:
    InputError: for an empty table, a name that is not in it, or a missing cell: an unweighted mean
      over an incomplete table would be a different metric under the same name.

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", 2): (3, 4), ("fog", 1): (4, 4)}
    >>> metrics.cell_accuracies(table)[2].tolist()
    [[1.0, 0.75]]
  """
  rows = tuple(dict.fromkeys(name for name, _ in table))
  for name in names or ():
    if name not in rows:
      raise InputError(f"corruption {name!r} is not in the table; {closest(name, rows)}")
  rows = rows if names is None else tuple(names)
  severities = tuple(sorted({severity for _, severity in table}))
  if not rows:
    raise InputError("the corruption table has no rows to average; evaluate at least one cell")
  out = np.empty((len(rows), len(severities)))
  for i, name in enumerate(rows):
    for j, severity in enumerate(severities):
      if (name, severity) not in table:
        raise InputError(
          f"the corruption table has no cell for {name!r} at severity {severity}, which other "
          "corruptions have; evaluate every corruption at the same severities"
        )
      total, count = (float(v) for v in table[name, severity])
      out[i, j] = total / count if count else float("nan")
  return rows, severities, out


def mean_corruption_accuracy(
  table: CorruptionTable, names: Collection[str] | None = None
) -> float:
  """Averages the accuracies of all cells, unweighted: mean over corruptions and severities.

  Args:
    table: (name, severity) -> (sum, count), plain or conditional.
    names: which corruptions, e.g. the benchmark's standard ones; None means all in the table.

  Returns:
    A number in [0, 1].

  Raises:
    InputError: for an incomplete table or an unknown name.

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", 1): (4, 4), ("contrast", 1): (1, 2)}
    >>> metrics.mean_corruption_accuracy(table)
    0.75
  """
  return float(np.mean(cell_accuracies(table, names)[2]))


def accuracy_by_group(
  table: CorruptionTable, groups: Mapping[str, Collection[str]]
) -> dict[str, float]:
  """Averages within each group of corruptions; names that the table lacks are left out.

  Args:
    table: (name, severity) -> (sum, count).
    groups: group -> names, e.g. `corruptions.GROUPS`; a group with no row in the table is absent
      from the result.

  Returns:
    group -> mean accuracy in [0, 1] over the group's corruptions and all severities.

  Raises:
    InputError: for an incomplete table.

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", 1): (4, 4), ("contrast", 1): (1, 2)}
    >>> metrics.accuracy_by_group(table, {"weather": ["fog", "snow"], "blur": ["zoom_blur"]})
    {'weather': 1.0}
  """
  rows = {name for name, _ in table}
  present = {group: [n for n in names if n in rows] for group, names in groups.items()}
  return {
    group: mean_corruption_accuracy(table, names) for group, names in present.items() if names
  }


def accuracy_without(table: CorruptionTable, excluded: Collection[str]) -> float:
  """Averages over all corruptions but some: "without noise" where noise was trained on.

  Args:
    table: (name, severity) -> (sum, count).
    excluded: names to leave out, e.g. `corruptions.GROUPS["noise"]`; the table need not have them.

  Returns:
    A number in [0, 1].

  Raises:
    InputError: for an incomplete table, or where nothing is left.

  Example:
    >>> from jaxnoise import metrics
    >>> table = {("fog", 1): (4, 4), ("shot_noise", 1): (1, 2)}
    >>> metrics.accuracy_without(table, ["shot_noise", "gaussian_noise"])
    1.0
  """
  return mean_corruption_accuracy(
    table, tuple(dict.fromkeys(name for name, _ in table if name not in excluded))
  )

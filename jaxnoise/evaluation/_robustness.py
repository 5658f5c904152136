"""The (corruption, severity) table of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import corruptions, metrics
from jaxnoise import data as data_lib
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.evaluation import _classification

Cells = dict[str, metrics.CorruptionTable]
""""accuracy", "conditional", "nll", "ece" -> {(corruption, severity): (sum, count)}."""


Views = Callable[[str, int], Iterator[tuple[Array, Array, Array]]]
"""(corruption, severity) -> the corrupted test set in batches of (image, label, mask), every time
the same examples in the same order."""


class CorruptedPools(Protocol):
  """Corrupted test sets that were made beforehand, such as the files of a benchmark.

  Attributes:
    names: of the corruptions.
    severities: of each.
  """

  names: Sequence[str]
  severities: Sequence[int]

  def pool(self, name: str, severity: int) -> data_lib.Pool:
    """The test set's examples under one corruption, in the test set's order, with its labels."""
    ...


def generated_views(test_set: _classification.TestSet, rng: PRNGKey) -> Views:
  """Corrupts the test set on the device, batch by batch.

  The draws depend on the key, the corruption, the severity and the example's position alone: every
  network is tested on the same corrupted images.

  Args:
    test_set: the clean images.
    rng: key of the corruptions.
  """

  def views(name: str, severity: int) -> Iterator[tuple[Array, Array, Array]]:
    for image, label, mask, index in test_set:
      yield corruptions.corrupt(rng, image, name, severity, index=index), label, mask

  return views


def stored_views(test_set: _classification.TestSet, pools: CorruptedPools) -> Views:
  """Serves corrupted images that were made beforehand; one pool is on the device at a time.

  Args:
    test_set: the clean images, whose labels and order the pools must have.
    pools: where the corrupted ones come from.

  Raises:
    InputError: while they are read, for a pool that is not of the same examples.
  """

  def views(name: str, severity: int) -> Iterator[tuple[Array, Array, Array]]:
    pool = pools.pool(name, severity)
    for image, label, mask, _ in test_set.like(pool, f"{name} at severity {severity}"):
      yield image, label, mask

  return views


def corruption_table(
  measure: _classification.Measure,
  states: Sequence[TrainState],
  test_set: _classification.TestSet,
  views: Views,
  *,
  names: Sequence[str],
  severities: Sequence[int],
  stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Cells]] | None:
  """Measures every predictor on every corruption and severity.

  Args:
    measure: from `make_measure`.
    states: of the networks to test, one per seed.
    test_set: the clean images.
    views: the corrupted ones, from `generated_views` or `stored_views`.
    names: of corruptions.
    severities: which of each.
    stop: asked before each cell whether to give up.

  Returns:
    For each state: predictor -> the tables of accuracy, of accuracy among the images that are
    classified correctly when clean ("conditional"), of NLL, and of ECE (its count is that of the
    cell). None when asked to stop.
  """
  clean = [_classification.measure_set(measure, state, test_set) for state in states]
  out: list[dict[str, Cells]] = [{predictor: {} for predictor in of_state} for of_state in clean]
  for name in names:
    for severity in severities:
      if stop():
        return None
      parts: list[list[_classification.Measured]] = [[] for _ in states]
      for batch in views(name, severity):
        for part, state in zip(parts, states, strict=True):
          part.append(measure(state, *batch))
      for part, before, cells in zip(parts, clean, out, strict=True):
        for predictor, tables in cells.items():
          values = _classification.merge([p[predictor] for p in part], test_set.count)
          # Fetched pair by pair: a tree map would sort the names of the tables.
          for field, pair in _cell(values, before[predictor]["correct"]).items():
            tables.setdefault(field, {})[name, severity] = jax.device_get(pair)
  return out


def _cell(values: Mapping[str, Any], clean_correct: Array) -> dict[str, tuple[Array, Array]]:
  plain, conditional = metrics.corruption_counts(values["correct"], clean_correct)
  count = plain[1]
  ece = metrics.expected_calibration_error(values["calibration"])
  return {
    "accuracy": plain,
    "conditional": conditional,
    "nll": values["nll"],
    "ece": (ece * count, jnp.asarray(count)),
  }


def table_rows(cells: Cells) -> dict[str, Any]:
  """Lays a predictor's tables out for JSON: one row per corruption, one column per severity.

  Returns:
    {"names", "severities", "n" (images in a cell), "accuracy", "conditional", "nll", "ece"}.
  """
  out: dict[str, Any] = {}
  for field, table in cells.items():
    in_order = list(dict.fromkeys(name for name, _ in table))
    names, severities, values = metrics.cell_accuracies(table, in_order)
    out.update(names=list(names), severities=list(severities))
    out[field] = np.asarray(values, float).tolist()
  out["n"] = int(next(iter(cells["accuracy"].values()))[1])
  return out

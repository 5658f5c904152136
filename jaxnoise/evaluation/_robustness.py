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

_IMAGENET_SIDE = 64

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


def corruption_variant(image_shape: Sequence[int]) -> str:
  """Whose parameters a benchmark would have for such images: "cifar" below 64 pixels a side.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.corruption_variant((32, 32, 3)), evaluation.corruption_variant((224, 224, 3))
    ('cifar', 'imagenet')
  """
  return "imagenet" if min(image_shape[:2]) >= _IMAGENET_SIDE else "cifar"


def generated_views(
  test_set: _classification.TestSet,
  rng: PRNGKey,
  variant: str | None = None,
  textures: Array | None = None,
) -> Views:
  """Corrupts the test set on the device, batch by batch.

  The draws depend on the key, the corruption, the severity and the example's position alone: every
  network is tested on the same corrupted images.

  Args:
    test_set: the clean images.
    rng: key of the corruptions.
    variant: "cifar" or "imagenet"; None is what `corruption_variant` says of the images.
    textures: of frost, from `data.frost_textures`; None for generated ice.
  """
  variant = variant or corruption_variant(test_set.image_shape)
  given = {"variant": variant, **({} if textures is None else {"textures": textures})}

  def views(name: str, severity: int) -> Iterator[tuple[Array, Array, Array]]:
    for image, label, mask, index in test_set:
      options = given if name == "frost" else {"variant": variant}
      yield corruptions.corrupt(rng, image, name, severity, index=index, **options), label, mask

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
      measured = corruption_cell(measure, states, clean, views(name, severity), test_set.count)
      for of_state, cells in zip(measured, out, strict=True):
        for predictor, pairs in of_state.items():
          for field, pair in pairs.items():
            cells[predictor].setdefault(field, {})[name, severity] = pair
  return out


def corruption_cell(
  measure: _classification.Measure,
  states: Sequence[TrainState],
  clean: Sequence[Mapping[str, Mapping[str, Any]]],
  views: Iterator[tuple[Array, Array, Array]],
  count: int,
) -> list[dict[str, dict[str, tuple[Any, Any]]]]:
  """Measures every predictor under one corruption at one severity.

  Args:
    measure: from `make_measure`.
    states: of the networks to test, one per seed.
    clean: what `measure_set` says of each on the clean images.
    views: the corrupted images in batches.
    count: images in the set.

  Returns:
    For each state: predictor -> field of `Cells` -> (sum, count), on the host.
  """
  parts: list[list[_classification.Measured]] = [[] for _ in states]
  for batch in views:
    for part, state in zip(parts, states, strict=True):
      part.append(measure(state, *batch))
  out = []
  for part, before in zip(parts, clean, strict=True):
    pairs = {}
    for predictor in before:
      values = _classification.merge([p[predictor] for p in part], count)
      cell = _cell(values, before[predictor]["correct"])
      # Fetched pair by pair: a tree map would sort the names of the tables.
      pairs[predictor] = {field: jax.device_get(pair) for field, pair in cell.items()}
    out.append(pairs)
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

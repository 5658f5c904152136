"""The (corruption, severity) table of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import corruptions, metrics
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.evaluation import _classification

Cells = dict[str, metrics.CorruptionTable]
""""accuracy", "conditional", "nll", "ece" -> {(corruption, severity): (sum, count)}."""


def corruption_table(
  measure: _classification.Measure,
  states: Sequence[TrainState],
  test_set: _classification.TestSet,
  *,
  names: Sequence[str],
  severities: Sequence[int],
  rng: PRNGKey,
  stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Cells]] | None:
  """Measures every predictor on every corruption and severity, made on the device.

  The draws depend on the key, the corruption, the severity and the example's position alone: every
  network is tested on the same corrupted images.

  Args:
    measure: from `make_measure`.
    states: of the networks to test, one per seed.
    test_set: the clean images.
    names: of corruptions.
    severities: out of 1..5.
    rng: key of the corruptions.
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
      for image, label, mask, index in test_set:
        corrupted = corruptions.corrupt(rng, image, name, severity, index=index)
        for part, state in zip(parts, states, strict=True):
          part.append(measure(state, corrupted, label, mask))
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

"""The (corruption, severity) table of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
  state: TrainState,
  test_set: _classification.TestSet,
  *,
  names: Sequence[str],
  severities: Sequence[int],
  rng: PRNGKey,
) -> dict[str, Cells]:
  """Measures every predictor on every corruption and severity, made on the device.

  The draws depend on the key, the corruption, the severity and the example's position alone: every
  method is tested on the same corrupted images.

  Args:
    measure: from `make_measure`.
    state: of one seed.
    test_set: the clean images.
    names: of corruptions.
    severities: out of 1..5.
    rng: key of the corruptions.

  Returns:
    predictor -> the tables of accuracy, of accuracy among the images that are classified correctly
    when clean ("conditional"), of NLL, and of ECE (its count is that of the cell).
  """
  clean = _classification.measure_set(measure, state, test_set)
  cells: dict[str, Cells] = {p: {} for p in clean}
  for name in names:
    for severity in severities:
      parts = []
      for image, label, mask, index in test_set:
        corrupted = corruptions.corrupt(rng, image, name, severity, index=index)
        parts.append(measure(state, corrupted, label, mask))
      for predictor, tables in cells.items():
        values = _classification.merge([part[predictor] for part in parts], test_set.count)
        for field, pair in _cell(values, clean[predictor]["correct"]).items():
          tables.setdefault(field, {})[name, severity] = pair
  # Cell by cell: a tree map would sort the names, and tables keep the benchmark's order.
  return {
    predictor: {
      field: {cell: jax.device_get(pair) for cell, pair in table.items()}
      for field, table in tables.items()
    }
    for predictor, tables in cells.items()
  }


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

"""What is measured while a run trains: the test set, the held-out examples, its noisy labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxnoise import evaluation, metrics
from jaxnoise.core import reduce
from jaxnoise.core.state import TrainState
from jaxnoise.training import sharding
from jaxnoise.training.build import Run

LABELS = "labels"
"""The split whose numbers are about the training labels: "labels/student/memorised"."""


class Splits:
  """The sets that a run is measured on, by split, with the labels of each of its seeds.

  Args:
    run: assembled. Its training set is one of the splits where its labels are noisy, the true ones
      are known and `config.evaluate.memorisation` is set.
    data: the training arrays on the devices, which the split of labels shares.
  """

  def __init__(self, run: Run, data: Mapping[str, Any]):
    size, mesh = run.config["evaluate"]["batch_size"], sharding.one_group(run.mesh)
    loaded = run.loaded
    self._sets = {"test": evaluation.TestSet(run.source.test, size, mesh)}
    self._labels = {"test": None}
    if run.holdout is not None:
      self._sets["holdout"] = evaluation.TestSet(run.holdout, size, mesh)
      self._labels["holdout"] = loaded.holdout_labels
    if run.source.clean_labels is not None and run.config["evaluate"]["memorisation"]:
      arrays = None
      if not run.source.streamed:
        arrays = {name: data[name] for name in ("images", "labels")}
      self._sets[LABELS] = evaluation.TestSet(run.source.train, size, mesh, arrays=arrays)
      self._labels[LABELS] = loaded.labels
    self._source = run.source

  def __iter__(self) -> Iterator[str]:
    """The names of the splits."""
    return iter(self._sets)

  def __contains__(self, split: str) -> bool:
    return split in self._sets

  def measure(self, measure: evaluation.Measure, state: TrainState, s: int) -> Mapping[str, float]:
    """Measures one seed's networks on every split.

    Args:
      measure: from `evaluation.make_measure`.
      state: of one seed.
      s: which of the run's seeds, from 0.

    Returns:
      "split/predictor/metric" -> number.
    """
    row: dict[str, float] = {}
    for split, shared in self._sets.items():
      own = self._labels[split]
      test_set = shared if own is None else shared.with_labels(own[s])
      measured = evaluation.measure_set(measure, state, test_set)
      if split != LABELS:
        row.update(evaluation.summarise(split, measured))
        continue
      given = self._source.labels if own is None else own[s]
      for predictor, values in measured.items():
        found = metrics.memorisation(values["prediction"], given, self._source.true_labels)
        for name, value in reduce.divide(jax.device_get(found)).items():
          # A share of nothing: no label is wrong, or none is predicted.
          if np.isfinite(value):
            row[f"{split}/{predictor}/{name}"] = value
    return row


"""Calibration of a finished network on clean images, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import metrics
from jaxnoise.evaluation import _predictions, _suite
from jaxnoise.evaluation._classification import NUM_BINS

PER_ADAPTIVE_BIN = 100
"""Images in an adaptive bin, the calibration tools' default."""


def calibration_part(subject: _suite.Subject) -> _suite.Part:
  """Measures accuracy, NLL, Brier score, ECE, RMS error, AURRA; and all of it at the best T.

  T minimises the NLL of softmax(z / T) on the examples held out of training, with their labels as
  training would have had them. Where none were held out there is no T, and the fields `temperature`
  and `scaled_*` are missing: fitting it on test images would measure something else.

  Args:
    subject: what is measured.
  """
  settings = {
    "bins": NUM_BINS,
    "per_adaptive_bin": PER_ADAPTIVE_BIN,
    "held_out": 0 if subject.holdout is None else subject.holdout.size,
  }
  wrong = _share_wrong(subject)
  if wrong:
    settings["held_out_wrong"] = wrong

  def measure(cell: str) -> dict[str, list[dict[str, Any]]]:
    del cell  # there is one
    out: dict[str, list[dict[str, Any]]] = {}
    for name in subject.predictors:
      predict = _predictions.make_predict(subject.method, subject.mesh, name)
      for s, state in enumerate(subject.states):
        test = _predictions.predict_pool(
          predict, state, subject.test, subject.batch_size, subject.mesh
        )
        row = calibration(test.logits, subject.test.labels)
        if subject.holdout is not None:
          held_out = _predictions.predict_pool(
            predict, state, subject.holdout, subject.batch_size, subject.mesh
          )
          own = subject.holdout_labels
          given = subject.holdout.labels if own is None else own[s]
          temperature = float(metrics.temperature_scale(jnp.asarray(held_out.logits), given))
          scaled_logits = metrics.apply_temperature(jnp.asarray(test.logits), temperature)
          scaled = calibration(scaled_logits, subject.test.labels)
          row["temperature"] = temperature
          row.update({f"scaled_{field}": value for field, value in scaled.items()})
        out.setdefault(name, []).append(row)
    return out

  def summarise(cells: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    return {name: _suite.by_seed(_suite.scalars(rows)) for name, rows in cells["test"].items()}

  return _suite.Part("calibration", settings, ("test",), measure, summarise, headline="ece")


def _share_wrong(subject: _suite.Subject) -> float:
  """The share of held-out labels that are known to be wrong, over all states."""
  holdout = subject.holdout
  if holdout is None or holdout.clean_labels is None:
    return 0.0
  given = holdout.labels if subject.holdout_labels is None else subject.holdout_labels
  return float(np.mean(given != holdout.clean_labels))


def calibration(logits: np.ndarray, label: np.ndarray) -> dict[str, Any]:
  """Everything that is asked of the probabilities of a set.

  Args:
    logits: [N, K].
    label: [N] integers.

  Returns:
    {"accuracy", "nll" (nats), "brier" (sum over classes, 0 to 2), "ece" (15 bins of equal width),
    "rms" (root mean square error over adaptive bins), "rms_drop_last" (the same without the most
    confident bin, as the authors' tools have it, where there are two bins), "max" (of the adaptive
    bins), "aurra" (area under the response rate accuracy curve), "bins": {"count", "confidence",
    "correct"} of the equal-width bins}.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> row = evaluation.calibration(np.log(np.array([[0.75, 0.25]] * 4)), np.array([0, 0, 0, 1]))
    >>> row["accuracy"], round(row["ece"], 6), round(row["brier"], 6)
    (0.75, 0.0, 0.375)
  """
  logits, label = jnp.asarray(logits), jnp.asarray(label)
  probability = jax.nn.softmax(logits)
  correct = np.asarray(metrics.correct(logits, label))
  confidence = np.asarray(jnp.max(probability, axis=-1))
  bins = metrics.calibration_bins(probability, label, num_bins=NUM_BINS)
  adaptive = metrics.adaptive_bins(confidence, correct, bin_size=PER_ADAPTIVE_BIN)
  row = {
    "accuracy": float(np.mean(correct)),
    "nll": float(jnp.mean(metrics.negative_log_likelihood(logits, label))),
    "brier": float(jnp.mean(metrics.brier_score(probability, label))),
    "ece": float(metrics.expected_calibration_error(bins)),
    "rms": float(metrics.rms_calibration_error(adaptive)),
    "max": float(metrics.maximum_calibration_error(adaptive)),
    "aurra": metrics.aurra(confidence, correct),
    "bins": {k: np.asarray(v, float).tolist() for k, v in bins._asdict().items()},
  }
  if len(adaptive.count) > 1:
    row["rms_drop_last"] = float(metrics.rms_calibration_error(adaptive, drop_last_bin=True))
  return row

"""Accuracy, negative log-likelihood and calibration of every predictor on a set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise import data as data_lib
from jaxnoise import metrics
from jaxnoise.core import reduce
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method

Measured = Mapping[str, Mapping[str, Any]]
"""predictor -> {"accuracy": (sum, count), "nll": (sum, count), "calibration": bins,
"correct": [B]}."""
Measure = Callable[[TrainState, Array, Array, Array], Measured]
NUM_BINS = 15


def make_measure(method: Method) -> Measure:
  """Returns the jitted (state, image [B, H, W, C] in [0, 1], label [B], mask [B]) -> Measured.

  One compilation serves every set of the same batch size, clean or corrupted.
  """

  @jax.jit
  def measure(state: TrainState, image: Array, label: Array, mask: Array) -> Measured:
    out = {}
    for name, predict in method.predictors(state).items():
      logits = reduce.promote(predict(image))
      correct = metrics.correct(logits, label)
      out[name] = {
        "accuracy": reduce.mean_count(correct, mask),
        "nll": reduce.mean_count(metrics.negative_log_likelihood(logits, label), mask),
        "calibration": metrics.calibration_bins(
          jax.nn.softmax(logits), label, mask, num_bins=NUM_BINS
        ),
        "correct": correct * mask,
      }
    return out

  return measure


def batches(
  pool: Mapping[str, Array], batch_size: int
) -> Iterator[tuple[Array, Array, Array, Array]]:
  """Yields (image, label, mask, index), all of one size, the last one padded and masked.

  Args:
    pool: a set on the device, from `data.pool_data`.
    batch_size: images at a time; at most the size of the set is used.
  """
  count = pool["images"].shape[0]
  for index, mask in zip(*data_lib.padded_batches(count, min(batch_size, count)), strict=True):
    batch = _gather(pool, jnp.asarray(index), jnp.asarray(mask))
    yield batch["image"], batch["label"], batch["mask"], batch["index"]


_gather = jax.jit(data_lib.gather)


def measure_set(
  measure: Measure, state: TrainState, pool: Mapping[str, Array], batch_size: int
) -> dict[str, dict[str, Any]]:
  """Measures every predictor on a whole set; sums stay on the device until they are read.

  Args:
    measure: from `make_measure`.
    state: of one seed.
    pool: a set on the device, from `data.pool_data`.
    batch_size: images at a time.

  Returns:
    predictor -> {"accuracy", "nll": (sum, count), "calibration": bins, "correct": [N]}.
  """
  parts = [measure(state, *batch[:3]) for batch in batches(pool, batch_size)]
  count = pool["images"].shape[0]
  return {name: merge([part[name] for part in parts], count) for name in parts[0]}


def merge(parts: list[Mapping[str, Any]], count: int) -> dict[str, Any]:
  """Adds the measurements of several batches and joins the per-example ones."""
  summed = [{k: v for k, v in part.items() if k != "correct"} for part in parts]
  total = jax.tree.map(lambda *xs: sum(xs[1:], xs[0]), *summed)
  return {**total, "correct": jnp.concatenate([part["correct"] for part in parts])[:count]}


def summarise(split: str, measured: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
  """Turns measurements into "split/predictor/metric" numbers: accuracy, nll, ece.

  Accuracy is a fraction in [0, 1]; ECE has 15 equal-width bins.
  """
  out = {}
  for name, values in measured.items():
    pairs = {k: values[k] for k in ("accuracy", "nll")}
    for metric, value in reduce.divide(jax.device_get(pairs)).items():
      out[f"{split}/{name}/{metric}"] = value
    ece = metrics.expected_calibration_error(values["calibration"])
    out[f"{split}/{name}/ece"] = float(ece)
  return out

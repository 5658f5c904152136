"""Accuracy, negative log-likelihood and calibration of every predictor on a set of images."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnoise import data as data_lib
from jaxnoise import metrics
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method
from jaxnoise.training import sharding

Measured = Mapping[str, Mapping[str, Any]]
"""predictor -> {"accuracy": (sum, count), "nll": (sum, count), "calibration": bins, and of each
example "correct" [B] float32 (0 on padding), "prediction" [B] int32 (-1 where a logit is not a
number), "confidence" [B] float32}."""
Measure = Callable[[TrainState, Array, Array, Array], Measured]
"""(state, image [B, H, W, C], label [B], mask [B]) -> Measured, compiled."""
NUM_BINS = 15
PER_EXAMPLE = ("correct", "prediction", "confidence")
"""The parts of a measurement that are joined, not added, over the batches of a set."""


def make_measure(method: Method, mesh: Mesh) -> Measure:
  """Returns the jitted (state, image [B, H, W, C] in [0, 1], label [B], mask [B]) -> Measured.

  One compilation serves every set of the same batch size, clean or corrupted. The batch stays split
  over the mesh; what is returned is on every device.
  """

  def measure(state: TrainState, image: Array, label: Array, mask: Array) -> Measured:
    out = {}
    for name, predict in method.predictors(state).items():
      logits = reduce.promote(predict(image))
      correct = metrics.correct(logits, label)
      probability = jax.nn.softmax(logits)
      known = ~jnp.any(jnp.isnan(logits), axis=-1)
      out[name] = {
        "accuracy": reduce.mean_count(correct, mask),
        "nll": reduce.mean_count(metrics.negative_log_likelihood(logits, label), mask),
        "calibration": metrics.calibration_bins(probability, label, mask, num_bins=NUM_BINS),
        "correct": correct * mask,
        "prediction": jnp.where(known, jnp.argmax(logits, axis=-1), -1).astype(jnp.int32),
        "confidence": jnp.max(probability, axis=-1).astype(jnp.float32),
      }
    return out

  compiled = jax.jit(measure, out_shardings=sharding.replicated(mesh))

  def in_order(state: TrainState, *batch: Array) -> Measured:
    # Dictionaries leave jit with sorted keys, but the first predictor is the headline.
    out = compiled(state, *batch)
    return {name: out[name] for name in method.predictors(state)}

  return in_order


class TestSet:
  """A set on the devices of a mesh, served in batches of one size, the last padded and masked.

  Images on disk stay there and are decoded batch by batch, ahead, each host its own rows.

  Args:
    pool: the host arrays.
    batch_size: images at a time; no more than the set has, rounded up to share evenly.
    mesh: the devices.
    arrays: the pool's arrays where they are on the devices already; None puts them there.
  """

  __test__ = False  # not a test, whatever its name tells pytest

  def __init__(
    self,
    pool: data_lib.Pool,
    batch_size: int,
    mesh: Mesh,
    arrays: Mapping[str, Any] | None = None,
  ):
    self._pool, self._everywhere = pool, sharding.replicated(mesh)
    self.arrays = data_lib.pool_data(pool, self._everywhere) if arrays is None else arrays
    self.count, self.image_shape = pool.size, tuple(pool.images.shape[1:])
    devices = mesh.shape["data"]
    size = -(-min(batch_size, self.count) // devices) * devices
    self._order = data_lib.padded_batches(self.count, size)
    self._lies = sharding.batch(mesh)
    self._gather = jax.jit(data_lib.gather, out_shardings=self._lies)
    self._labelled = jax.jit(data_lib.labelled, out_shardings=self._lies)

  def like(self, pool: data_lib.Pool, name: str) -> TestSet:
    """The same test set with other pixels: served in the same batches, by the same program.

    Args:
      pool: the images, with the labels of this set in its order.
      name: what the pool is called in an error.

    Raises:
      InputError: when it is not the same examples, told by shape and labels.
    """
    mine, its = self._pool, pool
    same_labels = its.labels is not None and np.array_equal(its.labels, mine.labels)
    if its.images.shape != mine.images.shape or not same_labels:
      raise InputError(
        f"{name} has images of shape {its.images.shape}, the test set {mine.images.shape}, and "
        f"{'the same' if same_labels else 'other'} labels; it must be the test set's examples in "
        "their order"
      )
    other = copy.copy(self)
    other._pool, other.arrays = pool, data_lib.pool_data(pool, self._everywhere)
    return other

  def with_labels(self, labels: np.ndarray) -> TestSet:
    """The same images with other labels [N], such as those of another seed of noise."""
    other = copy.copy(self)
    other._pool = dataclasses.replace(self._pool, labels=labels)
    put = jax.device_put(other._pool.labels, self._everywhere)
    other.arrays = {**self.arrays, "labels": put}
    return other

  def __iter__(self) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Yields (image, label, mask, index), split over the devices."""
    for images, *rows in zip(self._images(), *self._order, strict=True):
      index, mask = map(jnp.asarray, rows)
      if images is None:
        batch = self._gather(self.arrays, index, mask)
      else:
        batch = self._labelled(self.arrays, images, index, mask)
      yield batch["image"], batch["label"], batch["mask"], batch["index"]

  def _images(self) -> Iterator[Array | None]:
    """The images of each batch that are on disk; None for those on the devices."""
    images, (indices, _) = self._pool.images, self._order
    if "images" in self.arrays:
      yield from (None for _ in indices)
      return
    size = indices.shape[1]
    rows = data_lib.host_slice(size, jax.process_index(), jax.process_count())
    for local in data_lib.square_batches(images, indices[:, rows]):
      shape = (size, *local.shape[1:])
      yield jax.make_array_from_process_local_data(self._lies, local, shape)


def measure_set(
  measure: Measure, state: TrainState, test_set: TestSet
) -> dict[str, dict[str, Any]]:
  """Measures every predictor on a whole set; sums stay on the device until they are read.

  Args:
    measure: from `make_measure`.
    state: of one seed.
    test_set: the set.

  Returns:
    predictor -> {"accuracy", "nll": (sum, count), "calibration": bins, and "correct",
    "prediction", "confidence": [N]}.
  """
  parts = [measure(state, *batch[:3]) for batch in test_set]
  count = test_set.count
  return {name: merge([part[name] for part in parts], count) for name in parts[0]}


def merge(parts: list[Mapping[str, Any]], count: int) -> dict[str, Any]:
  """Adds the measurements of several batches and joins the per-example ones."""
  summed = [{k: v for k, v in part.items() if k not in PER_EXAMPLE} for part in parts]
  total = jax.tree.map(lambda *xs: sum(xs[1:], xs[0]), *summed)
  joined = {k: jnp.concatenate([part[k] for part in parts])[:count] for k in PER_EXAMPLE}
  return {**total, **joined}


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

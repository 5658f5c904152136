"""Multiplicative reweighting: every example is weighted by how small its losses have been."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses, stats
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Batch, BatchStats, Method, Network, PassFn, PRNGKey, Spec
from jaxnoise.methods import _base

_NAME = "multiplicative_reweighting"
_TABLE = f"{_NAME}/loss"
_MODES = ("eval", "train")
# No weight is 0: the sign of an image's gradient, which adversarial training follows, would be 0.
_LEAST = 1e-12


def multiplicative_reweighting(
  inner: Method,
  network: Network,
  *,
  spec: Spec,
  eta: float = 0.01,
  milestones: Sequence[int] = (),
  factor: float = 1.0,
  max_weight: float | None = None,
  updates_per_epoch: int = 1,
  skip_first_partial: bool = False,
  mode: str = "eval",
  augmented: bool = False,
  first: _base.Transform | None = None,
) -> Method:
  """Weighs the examples of each batch I by p_i / sum_(j in I) p_j, p_i ~ exp(-eta L_i).

  L [N], the summed losses, starts at 0. At the end of every epoch, or fraction of one, a pass over
  the training set adds l_i = CE(f(x_i), y_i) of the trained network to it, whatever the inner
  method minimises: x_i is not mixed with another, y_i the label that training sees, not smoothed.
  The weights are a constant of the loss. They are derived from L in every step, in log space, and
  are the softmax of -eta L over the batch, floored at 1e-12, times `batch["weight"]` where an outer
  wrapper wrote one.

  Adding a number to all of L changes nothing, equal sums are the inner method, and so is eta = 0.
  Gradient accumulation normalises the weights in each part of the batch.

  Args:
    inner: a method with one labelled term per example. With replays, all of them have the weights
      of their epoch, and the losses are those of clean images.
    network: the model of `inner`.
    spec: the run's static facts; `num_train`, `num_classes` and `steps_per_epoch` are used.
    eta: step size, >= 0. Paper: 0.01; 0.001 for adversarial training with Adam.
    milestones: after so many epochs eta is multiplied by `factor`, for the history too; see
      `stats.step_size_at`. Clothing1M has (2, 6) with 1.5.
    factor: > 0.
    max_weight: in (0, 1), caps the weights at 1 / (max_weight N); see `stats.cap_weights`. None,
      the paper's, for no cap.
    updates_per_epoch: how often the losses are added, evenly spread; 2 on Clothing1M.
    skip_first_partial: leave out those of the first epoch before its end, as the authors' code has
      it; the paper does not.
    mode: "eval" measures with the running statistics, "train" as the authors' code does: with those
      of the batch, in shuffled order, with dropout, and moving the running ones. A last batch that
      is not full counts some of its rows once more than others. Should the inner method have a pass
      of its own, it shares them.
    augmented: measure on images drawn by `first`, as in the authors' code; False for clean ones.
    first: (rng, image) -> image, one draw per example (flip and crop); read when `augmented`.

  Returns:
    The method, which keeps {"loss_sum"}, L [N] in nats, in
    `method_state["multiplicative_reweighting"]`.

  Raises:
    InputError: for a method without labelled terms, or already wrapped by this; for a number out of
      range, an unknown mode, no `first` to augment with, or an inner method whose own pass runs
      another number of times.

  Source: "Multiplicative Reweighting for Robust Neural Network Optimization", Algorithm 1, and the
    authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> inner = methods.mixup(network, spec=spec)
    >>> method = methods.multiplicative_reweighting(inner, network, spec=spec)
    >>> params, stats = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    >>> state = method.init_state(core.TrainState.create(jax.random.key(1), params, stats))
    >>> state.method_state["multiplicative_reweighting"]["loss_sum"].tolist()
    [0.0, 0.0]
  """
  _base.require_labelled(inner, _NAME)
  _check(eta, milestones, factor, max_weight, mode, augmented, first)
  _check_updates(inner, spec, updates_per_epoch)
  view = augment.batched(first) if augmented else None
  may_skip = skip_first_partial and updates_per_epoch > 1

  def init_state(state: TrainState) -> TrainState:
    state = inner.init_state(state)
    return state.with_method_state(_NAME, {"loss_sum": jnp.zeros(spec.num_train)})

  def change(state: TrainState, batch: Batch, rng: PRNGKey) -> Batch:
    del rng
    loss_sum, index = state.method_state[_NAME]["loss_sum"], batch["index"]
    size = stats.step_size_at(state.step // spec.steps_per_epoch, eta, milestones, factor)
    if max_weight is None:
      weight = stats.batch_weights(loss_sum[index], size)
    else:
      # The cap needs all weights; in the logarithm a batch of tiny ones can still be normalised.
      weight = jax.nn.softmax(stats.log_weights(loss_sum, size, max_weight=max_weight)[index])
    weight = jax.lax.stop_gradient(jnp.maximum(weight, _LEAST))
    return {**batch, "weight": weight * batch["weight"] if "weight" in batch else weight}

  def skipped(state: TrainState) -> Array:
    return state.step < spec.steps_per_epoch

  def example_pass(state: TrainState) -> PassFn:
    inner_collect = None if inner.example_pass is None else inner.example_pass(state)

    def measure(batch_stats: BatchStats, batch: Batch, rng: PRNGKey) -> tuple[Array, BatchStats]:
      streams = Streams(rng, f"{_NAME}/")
      image = batch["image"]
      if view is not None:
        image = view(streams("augment"), image)
      live = {}
      if mode == "train":
        # Padding repeats one row; statistics of the batch are to be those of all its real rows.
        image = image[_real_rows(batch["mask"])]
        live = {"train": True, "rng": streams("dropout")}
      out = network.apply(state.params, batch_stats, image, **live)
      values = losses.cross_entropy(out.logits, _base.one_hot(batch["label"], spec.num_classes))
      return values, out.batch_stats

    def collect(batch_stats: BatchStats, batch: Batch, rng: PRNGKey):
      tables = {}
      if inner_collect is not None:
        tables, batch_stats = inner_collect(batch_stats, batch, rng)
      if may_skip:
        shape, _ = jax.eval_shape(measure, batch_stats, batch, rng)
        values, batch_stats = jax.lax.cond(
          skipped(state),
          lambda s, *_: (jnp.zeros(shape.shape, shape.dtype), s),
          measure,
          *(batch_stats, batch, rng),
        )
      else:
        values, batch_stats = measure(batch_stats, batch, rng)
      return {**tables, _TABLE: values}, batch_stats

    return collect

  def after_pass(state: TrainState, tables: Mapping[str, Array], rng: PRNGKey) -> TrainState:
    before = state.method_state[_NAME]["loss_sum"]
    after = before + tables[_TABLE].astype(before.dtype)
    state = state.with_method_state(_NAME, {"loss_sum": after})
    if inner.after_pass is None:
      return state
    return inner.after_pass(state, {k: v for k, v in tables.items() if k != _TABLE}, rng)

  return dataclasses.replace(
    _base.with_batch(inner, _NAME, change),
    init_state=init_state,
    example_pass=example_pass,
    after_pass=after_pass,
    passes_per_epoch=updates_per_epoch,
    shuffled_pass=inner.shuffled_pass or mode == "train",
  )


def _real_rows(mask: Array) -> Array:
  """[B] positions: every row its own, and the padding the real ones again, in turn."""
  rows = jnp.arange(mask.shape[0])
  return rows % jnp.maximum(jnp.sum(mask > 0), 1)


def _check(eta, milestones, factor, max_weight, mode, augmented, first):
  if not 0 <= eta < math.inf:
    raise InputError(f"{_NAME}'s eta is {eta}; it must be a finite number, 0 or larger")
  if any(not 1 <= m < math.inf or m != int(m) for m in milestones):
    raise InputError(
      f"{_NAME}'s milestones are {tuple(milestones)}; they count finished epochs, each a whole "
      "number from 1 on"
    )
  if not 0 < factor < math.inf:
    raise InputError(f"{_NAME}'s factor is {factor}; it must be a finite number larger than 0")
  if max_weight is not None and not 0 < max_weight < 1:
    raise InputError(
      f"{_NAME}'s max_weight is {max_weight}; it must lie in (0, 1), or be None for no cap"
    )
  if mode not in _MODES:
    raise InputError(f"{_NAME}'s mode is {mode!r}, no such choice: {closest(str(mode), _MODES)}")
  if augmented and first is None:
    raise InputError(
      f"{_NAME} is told to measure augmented images, but has no `first` to draw them with; give "
      "one, or leave augmented False"
    )


def _check_updates(inner: Method, spec: Spec, updates: int) -> None:
  if not 1 <= updates <= spec.steps_per_epoch or updates != int(updates):
    raise InputError(
      f"{_NAME}'s updates_per_epoch is {updates}; it must be a whole number of 1 to "
      f"{spec.steps_per_epoch}, the steps of an epoch"
    )
  if inner.example_pass is not None and inner.passes_per_epoch != updates:
    raise InputError(
      f"{_NAME}'s updates_per_epoch is {updates}, but {inner.name} has a pass of its own, "
      f"{inner.passes_per_epoch} in an epoch, and they share it; set updates_per_epoch to "
      f"{inner.passes_per_epoch}"
    )

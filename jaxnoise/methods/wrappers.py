"""Wrappers: functions from a method to a method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, Method, PredictFn, PRNGKey
from jaxnoise.methods import _base


def random_weighting(inner: Method) -> Method:
  """Weighs the examples of each batch by w_i = max(z_i, 0) / sum_j max(z_j, 0), z ~ N(0, 1).

  Drawn afresh for every batch (its replays share them); if no z_i is positive, the weights are
  equal. They are written to `batch["weight"]`, times what an outer wrapper wrote there, and the
  inner method divides by their sum.

  Args:
    inner: a method with one labelled term per example.

  Raises:
    InputError: for a method without labelled terms, or already wrapped by this.

  Source: "Multiplicative Reweighting for Robust Neural Network Optimization", the random weighting
    baseline, after Ren et al. (2018), appendix.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.random_weighting(methods.erm(network, spec=spec)).wrappers
    ('random_weighting',)
  """
  name = "random_weighting"
  _base.require_labelled(inner, name)

  def change(state: TrainState, batch: Batch, rng: PRNGKey) -> Batch:
    del state
    z = jax.random.normal(Streams(rng, f"{name}/")("weight"), batch["label"].shape)
    weight = rectified_weights(z)
    return {**batch, "weight": weight * batch.get("weight", jnp.ones_like(weight))}

  return _base.with_batch(inner, name, change)


def rectified_weights(z: Array) -> Array:
  """Computes max(z, 0) / sum max(z, 0), and 1 / B where no entry is positive.

  Args:
    z: [B] standard normal draws.
  """
  positive = jnp.maximum(z, 0.0)
  total = jnp.sum(positive)
  uniform = jnp.full_like(z, 1.0 / z.shape[0])
  return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1.0), uniform)


def with_ema(inner: Method, *, decay: float = 0.999) -> Method:
  """Keeps theta_ema <- decay theta_ema + (1 - decay) theta after every update, and evaluates it.

  The average starts as a copy of the initial parameters; the running statistics of the
  normalisation layers are averaged alike. Training is unchanged.

  Args:
    inner: any method that keeps no average of its own.
    decay: in [0, 1).

  Returns:
    The method with one more predictor, "ema": its headline, of the averages.

  Raises:
    InputError: for a decay outside [0, 1), for a method already wrapped by this, and, at
      initialisation, when another part of the method owns `ema_params` already.

  Source: Polyak and Juditsky (1992); Tarvainen and Valpola (2017), eq. (1).

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.with_ema(methods.erm(network, spec=spec), decay=0.99).name
    'erm'
  """
  if not 0 <= decay < 1:
    raise InputError(f"with_ema's decay is {decay}; it must lie in [0, 1)")
  if "with_ema" in inner.wrappers:
    raise InputError(f"with_ema wraps {inner.name} twice; name it once in config.wrappers")

  def init_state(state: TrainState) -> TrainState:
    state = inner.init_state(state)
    if state.ema_params is not None:
      raise InputError(
        f"with_ema cannot wrap {inner.name}: ema_params has an owner already, "
        f"{inner.name} itself or a wrapper within; leave with_ema out of config.wrappers"
      )
    # Copies: the step donates its state, and one buffer cannot be donated twice.
    return state.replace(
      ema_params=jax.tree.map(jnp.copy, state.params),
      ema_batch_stats=jax.tree.map(jnp.copy, state.batch_stats),
    )

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    state = inner.post_step(state, batch, aux, rng)
    return state.replace(
      ema_params=ema_update(state.ema_params, state.params, decay),
      ema_batch_stats=ema_update(state.ema_batch_stats, state.batch_stats, decay),
    )

  def predictors(state: TrainState) -> Mapping[str, PredictFn]:
    averaged = state.replace(params=state.ema_params, batch_stats=state.ema_batch_stats)
    headline = next(iter(inner.predictors(averaged).values()))
    return {**inner.predictors(state), "ema": headline}

  return dataclasses.replace(
    inner,
    init_state=init_state,
    post_step=post_step,
    predictors=predictors,
    wrappers=(*inner.wrappers, "with_ema"),
  )


def ema_update(average, new, decay: float):
  """Computes decay * average + (1 - decay) * new, leaf by leaf."""
  return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, average, new)

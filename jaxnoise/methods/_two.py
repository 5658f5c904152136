"""Two networks under one optimizer: params = {"net0": ..., "net1": ...}, statistics alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from jaxnoise.core.rng import fold
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Network, PredictFn, Spec
from jaxnoise.methods import _base

NETS = ("net0", "net1")


def init_two(network: Network, spec: Spec) -> Callable[[TrainState], TrainState]:
  """Makes an `init_state` that adds a second network, drawn from the stream "net1" of the run.

  The network that the state holds becomes "net0", so a start from stored parameters is a start of
  that one; the second is always fresh.

  Args:
    network: the architecture of both.
    spec: for the image shape.
  """

  def init_state(state: TrainState) -> TrainState:
    image = jnp.zeros((1, *spec.image_shape))
    params, batch_stats = network.init(fold(state.rng, "net1"), image)
    return state.replace(
      params=dict(zip(NETS, (state.params, params), strict=True)),
      batch_stats=dict(zip(NETS, (state.batch_stats, batch_stats), strict=True)),
    )

  return init_state


def two_predictors(
  network: Network, combine: str = "mean"
) -> Callable[[TrainState], Mapping[str, PredictFn]]:
  """Makes the `predictors` of two networks: their combination as the headline, then each alone.

  Args:
    network: the architecture of both.
    combine: "mean" or "sum" of the logits; the name of the headline. Both give the same classes;
      the sum is as confident as twice the mean.
  """
  scale = {"mean": 0.5, "sum": 1.0}[combine]

  def predictors(state: TrainState) -> Mapping[str, PredictFn]:
    alone = {n: _base.predictor(network, state.params[n], state.batch_stats[n]) for n in NETS}

    def both(image: Array) -> Array:
      first, second = (predict(image) for predict in alone.values())
      return scale * (first + second)

    return {combine: both, **alone}

  return predictors

"""A wrapper that keeps what each example's loss was during training."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Aux, Batch, Method, PRNGKey, Spec

NAME = "track_losses"


def track_losses(inner: Method, *, spec: Spec) -> Method:
  """Keeps the sum of each example's losses over its visits, and how many there were.

  With l_i(t) the value that example i has in step t (`aux.per_example`, unweighted, before the
  update), and T_i the steps that visit it,

    loss_sum_i = sum_(t in T_i) l_i(t),   count_i = |T_i|,

  so that loss_sum / count is its mean over training. A wrong label is fitted late, so its mean is
  high even where the network has memorised it by the end; `jaxnoise.audit` reads the table. Where a
  method mixes examples, the value is that of the mixed row that the example leads. Training is
  unchanged.

  Args:
    inner: any method whose `per_example` has one value for each row of the batch.
    spec: `num_train` is used.

  Returns:
    The method, which keeps {"loss_sum", "count"}, [N] float32 each, in
    `method_state["track_losses"]`.

  Raises:
    InputError: when applied twice, or, when the step is traced, where `per_example` is not [B].

  Source: the area under the loss curve as a sign of a wrong label, after Arpit et al. 2017 (wrong
    labels are fitted late) and Pleiss et al. 2020 (statistics over the whole of training).

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.track_losses(methods.erm(network, spec=spec), spec=spec).wrappers
    ('track_losses',)
  """
  if NAME in inner.wrappers:
    raise InputError(f"{NAME} wraps {inner.name} twice; name it once in config.wrappers")

  def init_state(state: TrainState) -> TrainState:
    state = inner.init_state(state)
    # Two arrays: the step donates its state, and one buffer cannot be donated twice.
    table = {name: jnp.zeros(spec.num_train, jnp.float32) for name in ("loss_sum", "count")}
    return state.with_method_state(NAME, table)

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    state = inner.post_step(state, batch, aux, rng)
    index, values = batch["index"], aux.per_example
    if values.shape != index.shape:
      raise InputError(
        f"{NAME} cannot wrap {inner.name}: its per-example values have shape {values.shape} for a "
        f"batch of {index.shape[0]}; wrap a method with one value for each row"
      )
    table = state.method_state[NAME]
    return state.with_method_state(
      NAME,
      {
        "loss_sum": table["loss_sum"].at[index].add(values.astype(jnp.float32)),
        "count": table["count"].at[index].add(1.0),
      },
    )

  return dataclasses.replace(
    inner, init_state=init_state, post_step=post_step, wrappers=(*inner.wrappers, NAME)
  )

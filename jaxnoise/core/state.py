"""The state of a run: arrays only, one pytree, owned by the compiled step."""

from __future__ import annotations

from collections.abc import Mapping

import flax.struct
import jax.numpy as jnp

from jaxnoise.core.types import Array, BatchStats, Params, PRNGKey, PyTree


@flax.struct.dataclass
class TrainState:
  """Everything that changes during a run, and the frozen teacher.

  Attributes:
    step: int32 scalar, optimizer updates so far.
    rng: the run's root key; never advanced.
    params: trained parameters.
    batch_stats: running statistics of the normalisation layers.
    opt_state: the optimizer's state.
    ema_params: exponential moving average of `params`, or None; one owner at most.
    ema_batch_stats: the same for `batch_stats`.
    method_state: one entry per method or wrapper that keeps arrays, by its name.
    teacher: parameters and statistics of a frozen network: an input of the compiled step, not
      trained and not saved with the state.
  """

  step: Array
  rng: PRNGKey
  params: Params
  batch_stats: BatchStats
  opt_state: PyTree
  ema_params: Params | None = None
  ema_batch_stats: BatchStats | None = None
  method_state: Mapping[str, PyTree] = flax.struct.field(default_factory=dict)
  teacher: PyTree | None = None

  @classmethod
  def create(cls, rng: PRNGKey, params: Params, batch_stats: BatchStats, **rest) -> TrainState:
    """Makes a state at step 0; `opt_state` is empty unless given (a notebook needs none)."""
    rest.setdefault("opt_state", ())
    step = jnp.zeros((), jnp.int32)
    return cls(step=step, rng=rng, params=params, batch_stats=batch_stats, **rest)

  def with_method_state(self, name: str, value: PyTree) -> TrainState:
    """Returns the state with the piece `name` of `method_state` set to `value`."""
    return self.replace(method_state={**self.method_state, name: value})

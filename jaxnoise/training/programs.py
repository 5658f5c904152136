"""The compiled functions of a run: its first state, orders, steps, passes."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import reduce
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import PyTree
from jaxnoise.training import seeds, sharding
from jaxnoise.training import step as step_lib
from jaxnoise.training.build import Run


class Programs:
  """The compiled functions of a run, for any number of seeds."""

  def __init__(self, run: Run):
    self.run, self.seeds = run, run.config["seeds"]
    everywhere = sharding.replicated(run.mesh)
    spec, method = run.spec, run.method
    self.batches_per_epoch = spec.steps_per_epoch // method.replays
    self.last_rows = spec.num_train - (self.batches_per_epoch - 1) * spec.batch_size
    full = self.last_rows >= spec.batch_size

    def counted(step):
      def fn(state, data, orders, totals):
        state, metrics = step(state, data, orders)
        return state, reduce.merge(totals, metrics)

      return fn

    def compiled(rows):
      step = step_lib.make_step(
        method, run.optimizer, spec, run.mesh, rows=rows, accumulate=run.config["accumulate"]
      )
      fn = seeds.over_seeds(counted(step), self.seeds)
      return jax.jit(fn, donate_argnums=0, out_shardings=everywhere)

    self.step = compiled(None)
    self.last_step = self.step if full else compiled(self.last_rows)
    self._bare = step_lib.make_step(method, run.optimizer, spec, run.mesh)
    sampling = run.config["data"]["sampling"]
    orders = step_lib.make_orders(method, spec, self.batches_per_epoch, sampling)
    self.orders = jax.jit(
      seeds.over_seeds(
        lambda root, data, epoch: orders(root, data["labels"], epoch[0]), self.seeds
      ),
      out_shardings=everywhere,
    )
    self.example_pass = None
    if method.example_pass is not None:
      one = step_lib.make_pass(method, spec, run.mesh, spec.batch_size)
      self.example_pass = jax.jit(
        seeds.over_seeds(one, self.seeds), donate_argnums=0, out_shardings=everywhere
      )
    self.pass_steps = step_lib.pass_steps(method, spec)

    # Its shapes and its values are of one tracing.
    self._jit_init = jax.jit(self._init, out_shardings=sharding.replicated(run.mesh))
    self.all_finite = jax.jit(_all_finite)

  def init(self) -> TrainState:
    """The state at step 0, made under jit on every device of the mesh."""
    return self._jit_init(*self._init_arguments())

  def init_shapes(self) -> TrainState:
    """The shapes of that state; nothing is computed."""
    return self._jit_init.eval_shape(*self._init_arguments())

  def _init(self, root: PyTree, given: Mapping[str, PyTree]) -> TrainState:
    run = self.run

    def one(root, given):
      return step_lib.init_state(run.network, run.method, run.optimizer, run.spec, root, **given)

    return seeds.over_seeds(one, self.seeds)(root, given)

  def _init_arguments(self) -> tuple[PyTree, dict[str, PyTree]]:
    run = self.run
    root = seeds.root_keys(run.config["seed"], self.seeds)
    return root, {"teacher": run.teacher, "start_from": run.start_from}

  def epoch_orders(self, state: TrainState, data: PyTree, epoch: int) -> PyTree:
    """The orders in which the epoch's examples are visited."""
    epochs = jnp.full((self.seeds, 1) if self.seeds > 1 else (1,), epoch)
    return self.orders(state.rng, {"labels": data["labels"]}, epochs)

  def total_shapes(self, state: PyTree, data: PyTree, orders: PyTree) -> PyTree:
    """The shapes of (sum, count) for every metric that the step returns."""
    return jax.eval_shape(seeds.over_seeds(self._bare, self.seeds), state, data, orders)[1]

  def zero_totals(self, state: TrainState, data: PyTree, orders: PyTree) -> PyTree:
    """Zeros of those."""
    shapes = self.total_shapes(state, data, orders)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    return jax.device_put(zeros, sharding.replicated(self.run.mesh))

  def of_seed(self, state: TrainState, s: int) -> TrainState:
    """The state of one seed."""
    return state if self.seeds == 1 else seeds.take(state, s)


def _all_finite(state: TrainState) -> jax.Array:
  kept = (state.params, state.batch_stats, state.ema_params, state.ema_batch_stats)
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(kept)]))

"""The compiled functions of a run: its first state, orders, steps, passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import reduce
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import PyTree
from jaxnoise.training import feeds, seeds, sharding, sweep
from jaxnoise.training import step as step_lib
from jaxnoise.training.build import Run


class Programs:
  """The compiled functions of a run, for any number of seeds and of members of a sweep.

  Args:
    run: assembled.
    form: how several networks are run, a name in `seeds.FORMS`; None means the backend's fastest.

  Attributes:
    seeds: of the run, or of each member of its sweep.
    count: networks trained, the seeds of a member next to one another.
    together: how many steps `steps` takes in one call; `step` takes one.
    rounds: of a loop over networks, which the compiler's count of operations takes for one.
  """

  def __init__(self, run: Run, *, form: str | None = None):
    self.run, self.seeds, self._form = run, run.config["seeds"], form
    self._each = run.members or (run,)
    self.count = len(self._each) * self.seeds
    self.rounds = seeds.rounds(self.seeds, run.mesh, form)
    everywhere, own = sharding.replicated(run.mesh), sharding.of_seeds(run.mesh)
    spec, method = run.spec, run.method
    split = run.config["shard_parameters"]
    init = self._init  # one object: its shapes, its shardings and its values are of one tracing
    states = sharding.of_state(
      run.mesh,
      jax.eval_shape(init, *self._init_arguments()),
      networks=self.count,
      rows=(spec.num_train, spec.table_rows, spec.batch_size),
      parameters=split,
    )
    self.batches_per_epoch = spec.steps_per_epoch // method.replays
    self.last_rows = spec.num_train - (self.batches_per_epoch - 1) * spec.batch_size
    full = self.last_rows >= spec.batch_size

    def counted(step):
      def fn(state, data, orders, totals):
        state, metrics = step(state, data, orders)
        return state, reduce.merge(totals, metrics)

      return fn

    def compiled(rows, times=1):
      options = {"rows": rows, "accumulate": run.config["accumulate"], "gather": split}
      steps = [
        step_lib.make_step(m.method, m.optimizer, m.spec, run.mesh, **options) for m in self._each
      ]
      one = self._over([counted(step) for step in steps])

      def fn(state, data, orders, totals):
        body = lambda _, carry: one(carry[0], data, orders, carry[1])
        return jax.lax.fori_loop(0, times, body, (state, totals))

      return jax.jit(fn if times > 1 else one, donate_argnums=0, out_shardings=(states, everywhere))

    self.step = compiled(None)
    self.last_step = self.step if full else compiled(self.last_rows)
    self.together = run.config["steps_per_call"]
    self.steps = self.step if self.together == 1 else compiled(None, self.together)
    bare = [step_lib.make_step(m.method, m.optimizer, m.spec, run.mesh) for m in self._each]
    self._bare = self._over(bare)

    def ordered(member):
      sampling = run.config["data"]["sampling"]
      orders = step_lib.make_orders(member.method, spec, self.batches_per_epoch, sampling)
      return lambda root, data, epoch: orders(root, data["labels"], epoch[0])

    self.orders = jax.jit(self._over([ordered(m) for m in self._each]), out_shardings=own)
    self.example_pass = None
    if method.example_pass is not None:
      size = spec.batch_size
      passes = [step_lib.make_pass(m.method, m.spec, run.mesh, size) for m in self._each]
      self.example_pass = jax.jit(self._over(passes), donate_argnums=0, out_shardings=states)
      if run.source.streamed:
        self.example_pass = feeds.StreamedPass(run, size, states)
    self.pass_steps = step_lib.pass_steps(method, spec)

    self._jit_init = jax.jit(init, out_shardings=states)
    self.all_finite = jax.jit(_all_finite)

  def _over(self, fns: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    swept = sweep.names(self.run.config)
    return seeds.over_seeds(fns, self.seeds, self.run.mesh, form=self._form, swept=swept)

  def init(self) -> TrainState:
    """The state at step 0, made under jit on every device of the mesh."""
    return self._jit_init(*self._init_arguments())

  def init_shapes(self) -> TrainState:
    """The shapes of that state; nothing is computed."""
    return self._jit_init.eval_shape(*self._init_arguments())

  def _init(self, root: PyTree, given: Mapping[str, PyTree]) -> TrainState:
    def of(member):
      parts = (member.network, member.method, member.optimizer, member.spec)
      return lambda root, given: step_lib.init_state(*parts, root, **given)

    return self._over([of(m) for m in self._each])(root, given)

  def _init_arguments(self) -> tuple[PyTree, dict[str, PyTree]]:
    return self.root_keys(), {"teacher": self.run.teacher, "start_from": self.run.start_from}

  def root_keys(self) -> PyTree:
    """The root key of every network."""
    return seeds.root_keys(self.run.config["seed"], self.seeds, len(self._each))

  def epoch_orders(self, state: TrainState, data: PyTree, epoch: int) -> PyTree:
    """The orders in which the epoch's examples are visited."""
    epochs = jnp.full((self.count, 1) if self.count > 1 else (1,), epoch)
    return self.orders(state.rng, {"labels": data["labels"]}, epochs)

  def total_shapes(self, state: PyTree, data: PyTree, orders: PyTree) -> PyTree:
    """The shapes of (sum, count) for every metric that the step returns."""
    return jax.eval_shape(self._bare, state, data, orders)[1]

  def zero_totals(self, state: TrainState, data: PyTree, orders: PyTree) -> PyTree:
    """Zeros of those."""
    shapes = self.total_shapes(state, data, orders)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    return jax.device_put(zeros, sharding.replicated(self.run.mesh))

  def names(self, rows: Sequence[int]) -> str:
    """What to call some of several networks, by their rows; "" where there is one."""
    labels, count = sweep.labels(self.run.config), self.seeds
    first = self.run.config["seed"]
    texts = [
      ", ".join(filter(None, (labels[r // count], f"seed {first + r % count}" * (count > 1))))
      for r in rows
    ]
    return "; ".join(filter(None, texts))

  def of_row(self, state: TrainState, row: int) -> TrainState:
    """The state of one network."""
    return state if self.count == 1 else seeds.take(state, row)


def _all_finite(state: TrainState) -> jax.Array:
  kept = (state.params, state.batch_stats, state.ema_params, state.ema_batch_stats)
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(kept)]))

"""The compiled step and the compiled pass over the training set. Neither knows a method.

Data in memory is gathered inside the step. Of data that streams, `orders` carries the step's own
batch, {"batch": {"image": uint8, "index": int32}}, made by `training.feeds`; labels are gathered
from the device in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxnoise import data as data_lib
from jaxnoise.core import rng
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Batch, Method, Network, PRNGKey, PyTree, Spec
from jaxnoise.training import sharding
from jaxnoise.training.accumulate import accumulated

Totals = dict[str, tuple[Array, Array]]
StepFn = Callable[[TrainState, PyTree, Mapping[str, Array]], tuple[TrainState, Totals]]


def init_state(
  network: Network,
  method: Method,
  optimizer: optax.GradientTransformationExtraArgs,
  spec: Spec,
  root: PRNGKey,
  *,
  teacher: PyTree | None = None,
  start_from: Mapping[str, PyTree] | None = None,
) -> TrainState:
  """Makes the state at step 0; pure, to be run under jit with output shardings.

  Args:
    network: the model.
    method: asked to add what it keeps, a second network included.
    optimizer: its state is made for the parameters that the method then has.
    spec: for the image shape.
    root: the run's root key; parameters are drawn from its stream "init".
    teacher: the frozen teacher's parameters and statistics.
    start_from: {"params", "batch_stats"} to start from instead of fresh ones.
  """
  image = jnp.zeros((1, *spec.image_shape))
  params, batch_stats = network.init(rng.fold(root, "init"), image)
  if start_from is not None:
    fresh, (params, batch_stats) = params, (start_from["params"], start_from["batch_stats"])
    if isinstance(fresh, Mapping):
      # A layer that is missing there, the new head, stays as it was drawn.
      params = {**fresh, **params}
  state = method.init_state(TrainState.create(root, params, batch_stats, teacher=teacher))
  # A method may train more than the one network that it was given.
  return state.replace(opt_state=optimizer.init(state.params))


def make_orders(
  method: Method, spec: Spec, batches_per_epoch: int, sampling: str = "uniform"
) -> Callable[[PRNGKey, Array, Array], dict[str, Array]]:
  """Returns (root key, labels [N], epoch) -> orders: "train" [N], and one for each side batch.

  Everything is derived from the key, the epoch and the labels, so a resumed run meets the same
  batches.

  Args:
    method: its side batches are ordered too.
    spec: of the run.
    batches_per_epoch: of the training set.
    sampling: "uniform", every example once, or "balanced", every class equally often.
  """

  def orders(root: PRNGKey, labels: Array, epoch: Array) -> dict[str, Array]:
    if sampling == "balanced":
      train = data_lib.balanced_order(root, epoch, labels, spec.num_classes, spec.num_train)
    else:
      train = data_lib.epoch_order(root, epoch, spec.num_train)
    out = {"train": train}
    for side in method.side_batches:
      if side.weights is None:
        pool, count = spec.pools[side.pool], side.size * batches_per_epoch
        out[f"side/{side.name}"] = data_lib.side_order(root, epoch, pool, count, name=side.name)
    return out

  return orders


def make_step(
  method: Method,
  optimizer: optax.GradientTransformationExtraArgs,
  spec: Spec,
  mesh: Mesh,
  *,
  rows: int | None = None,
  accumulate: int = 1,
  gather: bool = False,
) -> StepFn:
  """Returns (state, data, orders) -> (state, metrics), one optimizer update; not yet jitted.

  Where `orders` has a "batch", that is the batch, whatever its rows; else it is gathered.

  Args:
    method: the method.
    optimizer: the optimizer.
    spec: `batch_size` and `steps_per_epoch` are used.
    mesh: the batch is split over its devices.
    rows: rows of this batch when it is the shorter last one of an epoch; None means a full one.
    accumulate: micro-batches that the gradient is the mean over; see `training.accumulate`.
    gather: parameters are split over the devices; the loss is given whole copies.
  """
  rows = rows or spec.batch_size
  batches_per_epoch = spec.steps_per_epoch // method.replays
  grad_fn = accumulated(method.grad_fn, accumulate)

  def side_batches(state, data, orders, position, streams) -> dict[str, Batch]:
    out = {}
    for side in method.side_batches:
      pool = data_lib.pool_of(data, side.pool)
      if side.weights is None:
        index = jax.lax.dynamic_slice(
          orders[f"side/{side.name}"], (position * side.size,), (side.size,)
        )
      else:
        key = streams(f"side/{side.name}")
        index = data_lib.weighted_draw(key, side.weights(state), side.size)
      index = sharding.constrain_batch(index, mesh)
      out[side.name] = _visible(data_lib.gather(pool, index))
    return out

  def step(state: TrainState, data: PyTree, orders: Mapping[str, Array]):
    draw = state.step // method.replays
    streams = rng.Streams(rng.step_key(state.rng, draw))
    position = draw % batches_per_epoch
    if "batch" in orders:
      batch = _visible(data_lib.labelled(data, orders["batch"]["image"], orders["batch"]["index"]))
    else:
      index = jax.lax.dynamic_slice(orders["train"], (position * spec.batch_size,), (rows,))
      batch = _visible(data_lib.gather(data, sharding.constrain_batch(index, mesh)))
    if method.side_batches:
      batch["side"] = side_batches(state, data, orders, position, streams)
    params = sharding.gathered(state.params, mesh) if gather else state.params
    (loss, aux), grads = grad_fn(state)(params, batch, streams("loss"))
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params, value=loss)
    new = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=aux.batch_stats,
      opt_state=opt_state,
    )
    new = method.post_step(new, batch, aux, streams("post_step"))
    norm = optax.tree_utils.tree_norm(grads)
    one = jnp.ones_like(norm)
    # A method need not name its loss; most do, as a mean over examples.
    return new, {"loss": (loss, one), **aux.metrics, "grad_norm": (norm, one)}

  return step


def make_pass(
  method: Method, spec: Spec, mesh: Mesh, batch_size: int
) -> Callable[[TrainState, PyTree], TrainState]:
  """Returns (state, data) -> state: the method's pass over the training set and what follows it.

  Examples are visited in index order, or a random one where the method says `shuffled_pass`; the
  last batch is padded and masked. The collected tables are [N, ...], row i belonging to example i.
  """
  parts = pass_parts(method, spec)
  count = -(-spec.num_train // batch_size)
  index = jnp.arange(count * batch_size, dtype=jnp.int32).reshape(count, batch_size)

  def run(state: TrainState, data: PyTree) -> TrainState:
    order = parts.order(state)

    def body(batch_stats, rows: Array):
      position = jnp.minimum(rows, spec.num_train - 1)
      position = sharding.constrain_batch(position if order is None else order[position], mesh)
      return parts.collect(state, batch_stats, data_lib.gather(data, position), rows)

    batch_stats, tables = jax.lax.scan(body, state.batch_stats, index)
    tables = {name: t.reshape((-1, *t.shape[2:])) for name, t in tables.items()}
    return parts.finish(state, batch_stats, tables)

  return run


class PassParts(NamedTuple):
  """The parts of a pass over the training set, for whoever brings the batches.

  Attributes:
    order: state -> [N] in which order examples are visited; None for that of their index.
    collect: (state, batch_stats, batch, rows [B]) -> (batch_stats, values), of one batch; `rows`
      counts the visits from 0, those from N on being padding.
    finish: (state, batch_stats, tables) -> state; row r of the tables is of visit r.
  """

  order: Callable[[TrainState], Array | None]
  collect: Callable[[TrainState, PyTree, Batch, Array], tuple[PyTree, dict[str, Array]]]
  finish: Callable[[TrainState, PyTree, Mapping[str, Array]], TrainState]


def pass_parts(method: Method, spec: Spec) -> PassParts:
  """Returns the parts of a method's pass; not jitted.

  Args:
    method: one with an `example_pass`.
    spec: `num_train` is used.
  """

  def key_of(state: TrainState) -> PRNGKey:
    return jax.random.fold_in(rng.fold(state.rng, "pass"), state.step)

  def order(state: TrainState) -> Array | None:
    if not method.shuffled_pass:
      return None
    return jax.random.permutation(rng.fold(key_of(state), "order"), spec.num_train)

  def collect(state: TrainState, batch_stats: PyTree, batch: Batch, rows: Array):
    batch = _visible(batch)
    batch["mask"] = (rows < spec.num_train).astype(jnp.float32)
    key = jax.random.fold_in(key_of(state), rows[0])
    values, batch_stats = method.example_pass(state)(batch_stats, batch, key)
    return batch_stats, values

  def finish(state: TrainState, batch_stats: PyTree, tables: Mapping[str, Array]) -> TrainState:
    tables = {name: t[: spec.num_train] for name, t in tables.items()}
    visits = order(state)
    if visits is not None:
      tables = {name: jnp.zeros_like(t).at[visits].set(t) for name, t in tables.items()}
    key = rng.fold(key_of(state), "after")
    return method.after_pass(state.replace(batch_stats=batch_stats), tables, key)

  return PassParts(order, collect, finish)


def pass_steps(method: Method, spec: Spec) -> set[int]:
  """The steps within an epoch (1-based) at whose end the pass over the training set runs."""
  if method.example_pass is None:
    return set()
  times = method.passes_per_epoch
  return {round(k * spec.steps_per_epoch / times) for k in range(1, times + 1)}


def _visible(batch: Batch) -> dict[str, Any]:
  """What a loss may see: true labels are for metrics only."""
  return {name: value for name, value in batch.items() if name != "clean_label"}

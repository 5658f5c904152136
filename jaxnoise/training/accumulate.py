"""Gradient accumulation: one optimizer update from several passes over parts of the batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, GradFn, Params, PRNGKey, PyTree


def accumulated(
  grad_fn: Callable[[TrainState], GradFn], parts: int
) -> Callable[[TrainState], GradFn]:
  """Turns a method's gradient into the mean of its gradients on `parts` micro-batches.

      g = (1 / k) sum_j g_j,   L = (1 / k) sum_j L_j,   k = parts,

  micro-batch j being rows j, j + k, j + 2k, ... of the batch (so that a batch split over devices
  needs no exchange to be split again). What that means:

  * It is the gradient of the whole batch for a loss that is a mean of per-example terms and a
    network without batch norm. Memory for activations is that of B / k rows.
  * Batch-norm statistics are those of a micro-batch, in the normalisation as in the running
    averages, which move k times in an update, one micro-batch after the other.
  * Mixing partners, whole-batch terms and the normalisation of example weights stay within a
    micro-batch; every micro-batch draws its own coefficients, levels and dropout masks.
  * A step, an epoch and a schedule count updates, as ever.

  Args:
    grad_fn: state -> GradFn, such as `method.grad_fn`.
    parts: k; 1 returns `grad_fn`.

  Raises:
    InputError: when traced, if k does not divide the batch, or if the method hands its own
      `post_step` something (`aux.extra`) that is not one value per example.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core
    >>> from jaxnoise.training.accumulate import accumulated
    >>> def loss_fn(params, batch, rng):
    ...   values = (params - batch["label"]) ** 2
    ...   return jnp.mean(values), core.Aux({}, values)
    >>> grad_fn = lambda state: jax.value_and_grad(loss_fn, has_aux=True)
    >>> state = core.TrainState.create(jax.random.key(0), 0.0, {})
    >>> batch = {"label": jnp.array([1.0, 2.0, 3.0, 6.0])}
    >>> (loss, aux), grad = accumulated(grad_fn, 2)(state)(0.0, batch, jax.random.key(1))
    >>> float(loss), float(grad), aux.per_example.tolist()
    (12.5, -6.0, [1.0, 4.0, 9.0, 36.0])
  """
  if parts == 1:
    return grad_fn

  def of_state(state: TrainState) -> GradFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey):
      micro = jax.tree.map(lambda x: _split(x, parts), batch)

      def one(batch_stats: PyTree, item: tuple[Batch, Array]):
        rows, j = item
        (loss, aux), grads = grad_fn(state.replace(batch_stats=batch_stats))(
          params, rows, jax.random.fold_in(rng, j)
        )
        return aux.batch_stats, (loss, aux._replace(batch_stats=None), grads)

      # The sums are carried, not stacked: a stack would be k copies of the parameters.
      def body(carry, item):
        batch_stats, summed = carry
        batch_stats, (loss, aux, grads) = one(batch_stats, item)
        summed = jax.tree.map(jnp.add, summed, (loss, grads, dict(aux.metrics)))
        return (batch_stats, summed), (aux.per_example, aux.extra)

      items = (micro, jnp.arange(parts))
      first = jax.tree.map(lambda x: x[0], items)
      _, (loss, aux, grads) = jax.eval_shape(one, state.batch_stats, first)
      if jax.tree.leaves(aux.extra):
        double = jax.tree.map(lambda x: jnp.concatenate([x, x]), first[0])
        _, (_, doubled, _) = jax.eval_shape(one, state.batch_stats, (double, first[1]))
        _require_rows(aux.extra, doubled.extra, first[0]["label"].shape[0])
      zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), (loss, grads, dict(aux.metrics))
      )
      (batch_stats, (loss, grads, metrics)), (per_example, extra) = jax.lax.scan(
        body, (state.batch_stats, zeros), items
      )
      joined = jax.tree.map(_join, (per_example, extra))
      out = Aux(batch_stats, joined[0], metrics, joined[1])
      mean = lambda x: x / parts
      return (mean(loss), out), jax.tree.map(mean, grads)

    return fn

  return of_state


def _split(x: Array, parts: int) -> Array:
  """[B, ...] -> [k, B / k, ...], row r going to part r mod k."""
  if x.shape[0] % parts:
    raise InputError(
      f"config.accumulate is {parts}, which does not divide a batch of {x.shape[0]} examples; "
      "choose a divisor"
    )
  return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)


def _join(x: Array) -> Array:
  """The inverse of `_split`."""
  return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])


def _require_rows(extra: PyTree, doubled: PyTree, rows: int) -> None:
  """Refuses values that are not one for each example: those of twice the examples are not twice."""
  for leaf, other in zip(jax.tree.leaves(extra), jax.tree.leaves(doubled), strict=True):
    if (*leaf.shape[:1], *other.shape[:1]) != (rows, 2 * rows):
      raise InputError(
        "config.accumulate is more than 1, but the method keeps whole-batch values between the "
        "gradient and its post_step; set it to 1"
      )

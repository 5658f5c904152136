"""Which examples are in a batch: with replacement, a new subset each step, or shuffled epochs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, PRNGKey

SAMPLINGS = ("with_replacement", "without_replacement", "epoch")


def draw_batches(
  rng: PRNGKey, shape: tuple[int, ...], batch_size: int, count: int, sampling: str
) -> Array:
  """Indices [*shape, B] of independent batches of `count` examples."""
  if sampling == "with_replacement":
    return jax.random.randint(rng, (*shape, batch_size), 0, count)
  # Floyd's algorithm: B draws and B^2 / 2 comparisons for a uniform subset, instead of N sorted.
  uniform = jax.random.uniform(rng, (batch_size, *shape))

  def choose(t: Array, chosen: Array) -> Array:
    last = count - batch_size + t
    candidate = jnp.minimum((uniform[t] * (last + 1)).astype(jnp.int32), last)
    taken = jnp.any(chosen == candidate[None], axis=0)
    return chosen.at[t].set(jnp.where(taken, last, candidate))

  chosen = jax.lax.fori_loop(0, batch_size, choose, jnp.full(uniform.shape, -1))
  return jnp.moveaxis(chosen, 0, -1)


def draw_epochs(
  rng: PRNGKey, start: Array, steps: int, chains: int, batch_size: int, count: int
) -> Array:
  """Indices [steps, chains, B] of the batches from step `start` on, each epoch in a new order.

  An epoch is N // B batches; what is left over of an order is not used.
  """
  length = count // batch_size
  first = start // length

  def order(epoch: Array) -> Array:
    bits = jax.random.bits(jax.random.fold_in(rng, epoch), (chains, count))
    used = jnp.argsort(bits, axis=1)[:, : length * batch_size]
    return jnp.swapaxes(used.reshape(chains, length, batch_size), 0, 1)

  epochs = jax.vmap(order)(first + jnp.arange(steps // length + 2))
  batches = epochs.reshape(-1, chains, batch_size)
  return jax.lax.dynamic_slice_in_dim(batches, start - first * length, steps)


def check_batch(batch_size: int, count: int, sampling: str) -> None:
  """Raises InputError for an unknown way of sampling, or a batch that it cannot fill."""
  if sampling not in SAMPLINGS:
    raise InputError(f"sampling is {sampling!r}; {closest(sampling, SAMPLINGS)}")
  whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
  if not whole or batch_size < 1:
    raise InputError(f"batch_size is {batch_size}; it must be a whole number of at least 1")
  if sampling != "with_replacement" and batch_size > count:
    raise InputError(
      f"batch_size is {batch_size} of {count} examples; without replacement it is at most {count}"
    )

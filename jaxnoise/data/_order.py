"""In which order examples are visited: pure functions of a key, an epoch and a size."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.reduce import promote
from jaxnoise.core.rng import fold
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.data._checks import check_count


def epoch_order(rng: PRNGKey, epoch: Array | int, num_train: int) -> Array:
  """The order of one epoch: a uniformly random permutation of the training set.

  It depends on the key and the epoch only, so a resumed run visits what the first one would have.

  Args:
    rng: the run's root key; the stream is "data/order".
    epoch: which epoch, from 0; may be traced.
    num_train: N.

  Returns:
    [N] int32.

  Example:
    >>> import jax
    >>> from jaxnoise import data
    >>> sorted(data.epoch_order(jax.random.key(0), 3, 5).tolist())
    [0, 1, 2, 3, 4]
  """
  key = jax.random.fold_in(fold(rng, "data/order"), epoch)
  return jax.random.permutation(key, jnp.arange(num_train, dtype=jnp.int32))


def side_order(
  rng: PRNGKey, epoch: Array | int, pool_size: int, per_epoch: int, *, name: str
) -> Array:
  """The draws of one side batch during one epoch: fresh permutations of its pool, end to end.

  Each run of `pool_size` draws, counted from the epoch's start, visits every example once.

  Args:
    rng: the run's root key; the stream is "data/side/" + name.
    epoch: which epoch, from 0; may be traced.
    pool_size: P, examples in the pool.
    per_epoch: how many draws the epoch makes, steps x size.
    name: the side batch's name; two side batches over one pool have orders of their own.

  Returns:
    [per_epoch] int32 positions in the pool.

  Example:
    >>> import jax
    >>> from jaxnoise import data
    >>> order = data.side_order(jax.random.key(0), 0, pool_size=3, per_epoch=7, name="trusted")
    >>> sorted(order[:3].tolist()), sorted(order[3:6].tolist()), order.shape
    ([0, 1, 2], [0, 1, 2], (7,))
  """
  key = jax.random.fold_in(fold(rng, f"data/side/{name}"), epoch)
  pool = jnp.arange(pool_size, dtype=jnp.int32)

  def one_round(number: Array) -> Array:
    return jax.random.permutation(jax.random.fold_in(key, number), pool)

  rounds = jax.vmap(one_round)(jnp.arange(-(-per_epoch // pool_size)))
  return rounds.reshape(-1)[:per_epoch]


def weighted_draw(rng: PRNGKey, weights: Array, size: int) -> Array:
  """Draws positions with replacement, P(i) = w_i / sum_j w_j, by the Gumbel-max rule on log w.

  The positions are laid out in about sqrt(N) rows: a row is drawn by its total weight, then a
  position within it, which has the same distribution and takes 2 sqrt(N) Gumbel variates for each
  draw instead of N.

  Args:
    rng: the key of this draw.
    weights: [N] non-negative with a positive finite sum, in any scale; an example of weight zero is
      never drawn. Weights below the smallest normal float32 may count as zero.
    size: how many to draw.

  Returns:
    [size] int32 in 0..N-1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import data
    >>> data.weighted_draw(jax.random.key(0), jnp.array([0.0, 2.0, 0.0]), 4).tolist()
    [1, 1, 1, 1]
  """
  (count,) = weights.shape
  width = math.isqrt(count - 1) + 1
  height = -(-count // width)
  weights = promote(jnp.pad(weights, (0, height * width - count)))
  positive = weights > 0
  logits = jnp.where(positive, jnp.log(jnp.where(positive, weights, 1.0)), -jnp.inf)
  table = logits.reshape(height, width)
  row_key, column_key = jax.random.split(rng)
  row = jax.random.categorical(row_key, jax.nn.logsumexp(table, axis=1), shape=(size,))
  column = jax.random.categorical(column_key, table[row], axis=-1)
  return (row * width + column).astype(jnp.int32)


def padded_batches(count: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
  """Indices of 0..count-1 in batches of one size, for evaluation and passes over a training set.

  Padding rows repeat the last example, under mask 0: flattened tables collected batch by batch are
  right after `[:count]`; a scatter by index must leave masked rows out.

  Args:
    count: how many examples, at least 1.
    batch_size: B.

  Returns:
    indices [ceil(count / B), B] int32 and mask of the same shape, float32; on the host.

  Raises:
    InputError: a count or a size below 1.

  Example:
    >>> from jaxnoise import data
    >>> indices, mask = data.padded_batches(5, 3)
    >>> indices.tolist(), mask.tolist()
    ([[0, 1, 2], [3, 4, 4]], [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
  """
  count = check_count("count", count, 1)
  batch_size = check_count("batch_size", batch_size, 1)
  rows = np.arange(-(-count // batch_size) * batch_size, dtype=np.int32)
  mask = (rows < count).astype(np.float32).reshape(-1, batch_size)
  return np.minimum(rows, np.int32(count - 1)).reshape(-1, batch_size), mask

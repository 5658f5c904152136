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


def balanced_order(
  rng: PRNGKey, epoch: Array | int, labels: Array, num_classes: int, count: int
) -> Array:
  """The order of one epoch in which every class is visited equally often.

  Each of the A classes that have examples gets floor(count / A) or ceil(count / A) visits, the
  larger number going to classes drawn afresh in each epoch. A class of n examples visits v of them
  by drawing without replacement, and where v > n repeats only after every one was visited: each is
  visited floor(v / n) or ceil(v / n) times. All visits are then shuffled together. With count = N
  and classes of one size this is an ordinary epoch.

  It depends on the key, the epoch and the labels only, so a resumed run visits what the first one
  would have. All of it runs on the device, and in `jit` and `vmap` (over keys and labels).

  Source: the class-balanced sampling of DivideMix's Clothing1M recipe (J. Li, R. Socher,
  S. C. H. Hoi, ICLR 2020), which balances the noisy labels.

  Args:
    rng: the run's root key; the stream is "data/balanced".
    epoch: which epoch, from 0; may be traced.
    labels: [N] integers in 0..K-1, those that training sees; one out of range is not detected.
    num_classes: K; classes without examples are left out.
    count: visits in the epoch.

  Returns:
    [count] int32 positions in 0..N-1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import data
    >>> labels = jnp.array([0, 0, 0, 0, 0, 2])
    >>> draw = jax.jit(data.balanced_order, static_argnames=("num_classes", "count"))
    >>> order = draw(jax.random.key(0), 3, labels, num_classes=3, count=8)
    >>> jnp.bincount(labels[order], length=3).tolist(), order.shape
    ([4, 0, 4], (8,))
  """
  key = jax.random.fold_in(fold(rng, "data/balanced"), epoch)
  member_key, class_key, visit_key = jax.random.split(key, 3)
  (size,) = labels.shape
  shuffled = jax.random.permutation(member_key, jnp.arange(size, dtype=jnp.int32))
  # Grouped by class, each group in random order.
  members = shuffled[jnp.argsort(labels[shuffled], stable=True)]
  sizes = jnp.zeros(num_classes, jnp.int32).at[labels].add(1)
  starts = jnp.cumsum(sizes, dtype=jnp.int32) - sizes
  present = sizes > 0
  active = jnp.sum(present, dtype=jnp.int32)
  # Random ranks 0..A-1 of the classes present, absent ones behind them.
  lot = jax.random.permutation(class_key, jnp.arange(num_classes, dtype=jnp.int32))
  behind = jnp.where(present, lot, lot + num_classes)
  rank = jnp.zeros(num_classes, jnp.int32).at[jnp.argsort(behind)].set(
    jnp.arange(num_classes, dtype=jnp.int32)
  )
  quota = jnp.where(present, count // active + (rank < count % active), 0)
  ends = jnp.cumsum(quota, dtype=jnp.int32)
  slot = jnp.arange(count, dtype=jnp.int32)
  label = jnp.searchsorted(ends, slot, side="right")
  within = slot - (ends - quota)[label]
  order = members[starts[label] + within % sizes[label]]
  return jax.random.permutation(visit_key, order)


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
    >>> draw = jax.jit(data.weighted_draw, static_argnums=2)
    >>> draw(jax.random.key(0), jnp.array([0.0, 2.0, 0.0]), 4).tolist()
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

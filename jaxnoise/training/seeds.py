"""Several seeds as one program: how a function of one seed becomes one of S seeds.

Every leaf of the state but `step` (and the teacher, unless its run had seeds) has a leading axis S;
one seed has no axis. The seeds are unrolled: on CPU this is as fast as runs in a row, while mapping
or batching them is slower, and each seed's numbers are those of its own single run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.core.state import TrainState
from jaxnoise.core.types import PRNGKey, PyTree


def root_keys(seed: int, seeds: int) -> PRNGKey:
  """The root key of `seed`, or a vector of those of seed, seed + 1, ..., seed + seeds - 1."""
  if seeds == 1:
    return jax.random.key(seed)
  return jnp.stack([jax.random.key(seed + s) for s in range(seeds)])


def take(tree: PyTree, s: int) -> PyTree:
  """Row s of every leaf; of a state, everything but the shared step and teacher."""
  if isinstance(tree, TrainState):
    rows = jax.tree.map(lambda x: x[s], tree.replace(step=None, teacher=None))
    return rows.replace(step=tree.step, teacher=tree.teacher)
  return jax.tree.map(lambda x: x[s], tree)


def stack(trees: list[PyTree]) -> PyTree:
  """The inverse of `take` over all s."""
  first = trees[0]
  if isinstance(first, TrainState):
    rows = [t.replace(step=None, teacher=None) for t in trees]
    rows = jax.tree.map(lambda *xs: jnp.stack(xs), *rows)
    return rows.replace(step=first.step, teacher=first.teacher)
  return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)


def data_of(data: Mapping[str, Any], s: int) -> Mapping[str, Any]:
  """What seed s sees of the data: all of it, and its own row of labels where each has its own."""
  labels = data.get("labels")
  return {**data, "labels": labels[s]} if labels is not None and labels.ndim == 2 else data


def over_seeds(fn: Callable[..., Any], seeds: int) -> Callable[..., Any]:
  """Turns fn(state or keys, data, *rest) of one seed into the same of S seeds.

  Args:
    fn: of one seed; `data` is shared but for labels [S, N], the rest is taken apart.
    seeds: S; for 1 the function is returned as it is.
  """
  if seeds == 1:
    return fn

  def unrolled(first, data, *rest):
    outs = [
      fn(take(first, s), data_of(data, s), *(take(r, s) for r in rest)) for s in range(seeds)
    ]
    if isinstance(outs[0], tuple) and not hasattr(outs[0], "_fields"):
      return tuple(stack(list(parts)) for parts in zip(*outs, strict=True))
    return stack(outs)

  return unrolled

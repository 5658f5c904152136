"""Several seeds as one program: how a function of one seed becomes one of S seeds.

Every leaf of the state but `step` and `teacher` has a leading axis S; one seed has no axis. The
seeds are mapped one after the other inside the program: with `models.conv`, whose gradients are as
fast inside a loop as outside, that costs what runs in a row cost, and the program is compiled once,
not S times.
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


def take(state: TrainState, s: int) -> TrainState:
  """The state of one seed out of several: row s of every leaf, the shared step and teacher."""
  rows = jax.tree.map(lambda x: x[s], state.replace(step=None, teacher=None))
  return rows.replace(step=state.step, teacher=state.teacher)


def over_seeds(fn: Callable[..., Any], seeds: int) -> Callable[..., Any]:
  """Turns fn(first, data, *rest) of one seed into the same of S seeds.

  Args:
    fn: of one seed; `first` is a TrainState or a root key; it returns a TrainState, a tuple that
      starts with one, or other arrays.
    seeds: S; for 1 the function is returned as it is.

  Returns:
    A function whose `first` and `rest` have a leading axis S (but the state's step and teacher),
    and whose `data` all seeds share, except that labels [S, N] are each seed's own row. What it
    returns has the axis too.
  """
  if seeds == 1:
    return fn

  def mapped(first: Any, data: Mapping[str, Any], *rest: Any):
    labels = data.get("labels")
    labels = labels if labels is not None and labels.ndim == 2 else None
    is_state = isinstance(first, TrainState)
    teacher = first.teacher if is_state else data.get("teacher")

    def one(row):
      mine, own_labels, others = row
      if is_state:
        mine = mine.replace(step=first.step, teacher=teacher)
      seen = data if own_labels is None else {**data, "labels": own_labels}
      return _on_state(lambda state: state.replace(teacher=None), fn(mine, seen, *others))

    rows = first.replace(step=None, teacher=None) if is_state else first
    out = jax.lax.map(one, (rows, labels, rest))
    return _on_state(lambda state: state.replace(step=state.step[0], teacher=teacher), out)

  return mapped


def _on_state(change: Callable[[TrainState], TrainState], out: PyTree) -> PyTree:
  """Applies `change` to the state that `out` is or starts with; other results pass."""
  if isinstance(out, TrainState):
    return change(out)
  if isinstance(out, tuple) and out and isinstance(out[0], TrainState):
    return (change(out[0]), *out[1:])
  return out

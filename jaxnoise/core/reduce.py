"""Reductions: how per-example values become one number, and how numbers merge."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnoise.core.types import Array

SumCount = tuple[Array, Array]


def promote(x: Array) -> Array:
  """Lifts half precision to float32 and leaves float32 and float64 as they are."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def weighted_mean(values: Array, weight: Array | None = None) -> Array:
  """Computes sum_i w_i v_i / sum_i w_i, the only way a loss becomes a scalar.

  Weights are constants: no gradient flows to them. Scaling all weights leaves the value as it is.

  Args:
    values: [B], one value per example.
    weight: [B] non-negative with a positive sum, or None for 1 everywhere (the plain mean).

  Returns:
    A scalar.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.core import reduce
    >>> float(reduce.weighted_mean(jnp.array([1.0, 3.0]), jnp.array([3.0, 1.0])))
    1.5
  """
  if weight is None:
    return jnp.mean(values)
  weight = jax.lax.stop_gradient(weight).astype(values.dtype)
  return jnp.sum(weight * values) / jnp.sum(weight)


def mean_count(values: Array, mask: Array | None = None) -> SumCount:
  """Returns the metric (sum, count) of per-example values, padding rows left out.

  Args:
    values: [B].
    mask: [B], 1 for real rows; None means all are.

  Returns:
    Two scalars, at least float32.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.core import reduce
    >>> [float(x) for x in reduce.mean_count(jnp.array([1.0, 5.0]), jnp.array([1.0, 0.0]))]
    [1.0, 1.0]
  """
  values = promote(jnp.asarray(values))
  mask = jnp.ones_like(values) if mask is None else mask.astype(values.dtype)
  return jnp.sum(jnp.where(mask > 0, values * mask, 0.0)), jnp.sum(mask)


def merge(a: Mapping[str, SumCount], b: Mapping[str, SumCount]) -> dict[str, SumCount]:
  """Adds two sets of (sum, count) metrics name by name; a name in one only is taken as it is.

  Example:
    >>> from jaxnoise.core import reduce
    >>> reduce.merge({"loss": (3.0, 2.0)}, {"loss": (1.0, 1.0), "jsd": (0.5, 1.0)})
    {'loss': (4.0, 3.0), 'jsd': (0.5, 1.0)}
  """
  out = dict(a)
  for name, pair in b.items():
    out[name] = (out[name][0] + pair[0], out[name][1] + pair[1]) if name in out else pair
  return out


def divide(metrics: Mapping[str, SumCount]) -> dict[str, float]:
  """Turns (sum, count) metrics into floats on the host; an empty count gives nan.

  Example:
    >>> from jaxnoise.core import reduce
    >>> reduce.divide({"loss": (3.0, 2.0)})
    {'loss': 1.5}
  """
  return {
    name: float(total) / float(count) if float(count) else float("nan")
    for name, (total, count) in metrics.items()
  }

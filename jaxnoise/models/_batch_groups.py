"""Batch statistics of parts of a batch: what devices that do not talk to each other compute."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def grouped_statistics(groups: int) -> contextlib.AbstractContextManager[None]:
  """Within it, `nn.BatchNorm` in training normalises each of `groups` parts of a batch by itself.

  With n = B / groups rows, part g being rows g n to (g + 1) n - 1,

    y = scale * (x - m_g) / sqrt(v_g + epsilon) + bias,

  m_g and v_g being the (biased) mean and variance of part g over all axes but the last. Running
  statistics move by the mean of m_g and the mean of v_g over the parts. Evaluation is as ever.

  Args:
    groups: how many; 1 changes nothing.

  Raises:
    InputError: when a layer is called, if `groups` does not divide the rows of its input.

  Example:
    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> layer = nn.BatchNorm(use_running_average=False)
    >>> x = jnp.array([[1.0], [3.0], [10.0], [12.0]])
    >>> variables = layer.init(jax.random.key(0), x)
    >>> with grouped_statistics(2):
    ...   y, _ = layer.apply(variables, x, mutable=["batch_stats"])
    >>> y.ravel().round(3).tolist()
    [-1.0, 1.0, -1.0, 1.0]
  """
  if groups == 1:
    return contextlib.nullcontext()

  def intercept(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    layer = context.module
    is_norm = isinstance(layer, nn.BatchNorm) and context.method_name == "__call__"
    if not is_norm or layer.is_initializing():
      return call(*args, **kwargs)
    running = kwargs.get("use_running_average", layer.use_running_average)
    if running or len(args) > 1 or kwargs.get("mask") is not None:
      return call(*args, **kwargs)
    return _normalised(layer, args[0], groups)

  return nn.intercept_methods(intercept)


def _normalised(layer: nn.BatchNorm, x: Array, groups: int) -> Array:
  rows = x.shape[0]
  if rows % groups:
    raise InputError(
      f"norm_groups is {groups}, which does not divide the {rows} images that the network is given "
      "in a step; choose a divisor"
    )
  parts = promote(x).reshape(groups, rows // groups, *x.shape[1:])
  axes = tuple(range(1, parts.ndim - 1))
  mean = jnp.mean(parts, axes, keepdims=True)
  # Of differences: the mean of squares loses digits where a channel is far from 0.
  variance = jnp.mean(jnp.square(parts - mean), axes, keepdims=True)
  for name, value in (("mean", mean), ("var", variance)):
    kept = layer.get_variable("batch_stats", name)
    moved = layer.momentum * kept + (1 - layer.momentum) * jnp.mean(value, axis=0).ravel()
    layer.put_variable("batch_stats", name, moved)
  scaled = (parts - mean) * jax.lax.rsqrt(variance + layer.epsilon)
  for used, name, combine in (
    (layer.use_scale, "scale", jnp.multiply), (layer.use_bias, "bias", jnp.add),
  ):  # fmt: skip
    if used:
      parameter = promote(layer.get_variable("params", name))
      scaled = combine(scaled, parameter.reshape((1,) * (parts.ndim - 1) + (-1,)))
  dtype = layer.dtype or jnp.result_type(x, layer.param_dtype)
  return scaled.reshape(x.shape).astype(dtype)

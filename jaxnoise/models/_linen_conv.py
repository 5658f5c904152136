"""The convolutions of a module written by somebody else, with the gradients of `models.conv`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax

from jaxnoise.core.types import Array
from jaxnoise.models._layers import conv


def library_convolutions() -> contextlib.AbstractContextManager:
  """While it is open, every `nn.Conv` that can be computed by `models.conv` is.

  Values are the same. On a CPU the gradient of XLA's own convolution is up to a hundred times
  slower inside a loop or a branch, which is where several seeds, micro-batches and some methods run
  (see `models.conv`). Grouped, dilated and other than two-dimensional convolutions, and those with
  a `conv_general_dilated` of their own, are left as they are.

  Example:
    >>> import flax.linen as nn
    >>> import jax, jax.numpy as jnp
    >>> layer = nn.Conv(2, (3, 3), strides=2, kernel_init=nn.initializers.ones)
    >>> with library_convolutions():
    ...   y, _ = layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 1)))
    >>> y[0, :, :, 0].tolist()
    [[9.0, 6.0], [6.0, 4.0]]
  """
  return nn.intercept_methods(_intercept)


def _intercept(
  next_fun: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
  module = context.module
  if (
    not isinstance(module, nn.Conv)
    or context.method_name != "__call__"
    or module.conv_general_dilated is not None
    or module.conv_general_dilated_cls is not None
  ):
    return next_fun(*args, **kwargs)
  # The instance is bound to this very call and frozen only by convention.
  object.__setattr__(module, "conv_general_dilated", _conv_general_dilated)
  try:
    return next_fun(*args, **kwargs)
  finally:
    object.__setattr__(module, "conv_general_dilated", None)


def _conv_general_dilated(
  lhs: Array,
  rhs: Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: Any = None,
  feature_group_count: int = 1,
  precision: Any = None,
  **options: Any,
) -> Array:
  """`jax.lax.conv_general_dilated` as `nn.Conv` calls it: channels last, kernels [..., I, O]."""
  dilations = (*(lhs_dilation or ()), *(rhs_dilation or ()))
  plain = (
    jax.default_backend() == "cpu"
    and lhs.ndim == 4
    and len(set(window_strides)) == 1
    and feature_group_count == 1
    and precision is None
    and all(d == 1 for d in dilations)
    and not any(value is not None for value in options.values())
  )
  if not plain:
    return jax.lax.conv_general_dilated(
      lhs, rhs, window_strides, padding, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
      dimension_numbers=dimension_numbers, feature_group_count=feature_group_count,
      precision=precision, **options,
    )  # fmt: skip
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
  if any(low != high or low < 0 for low, high in padding):
    edges = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
    lhs, padding = jax.lax.pad(lhs, lhs.dtype.type(0), edges), ((0, 0), (0, 0))
  sides = (padding[0][0], padding[1][0])
  return conv(lhs, rhs, stride=window_strides[0], padding=sides)

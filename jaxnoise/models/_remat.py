"""Less memory for more work: blocks whose activations are computed again in the backward pass."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxnoise.core.types import Params

_BLOCK = re.compile(r"stage\d+_block\d+")


def has_blocks(params: Params) -> bool:
  """Whether a network has blocks, modules called "stage<i>_block<j>", by its parameters.

  Args:
    params: arrays or their shapes, nested by module.

  Example:
    >>> from jaxnoise import models
    >>> models.has_blocks({"backbone": {"stage1_block1": {"kernel": 0.0}}})
    True
  """
  paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(params))
  return any(_BLOCK.fullmatch(str(getattr(key, "key", ""))) for path in paths for key in path)


def rematerialised_blocks(remat: bool = True) -> contextlib.AbstractContextManager[None]:
  """Within it, only what goes into a block is kept for the backward pass, not what is inside.

  A block is a module called "stage<i>_block<j>". Values, gradients, statistics and the masks of
  dropout are the same; a training step does up to a third more work.

  Args:
    remat: False changes nothing.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> module = models.wide_resnet(3, depth=10, widen_factor=1)
    >>> image = jnp.zeros((1, 8, 8, 3))
    >>> variables = jax.eval_shape(module.init, jax.random.key(0), image)
    >>> with rematerialised_blocks():
    ...   jaxpr = jax.make_jaxpr(module.apply)(jax.tree.map(jnp.zeros_like, variables), image)
    >>> sum(equation.primitive.name.startswith("remat") for equation in jaxpr.eqns)
    3
  """
  if not remat:
    return contextlib.nullcontext()
  inside: list[nn.Module] = []

  def intercept(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    module = context.module
    is_block = context.method_name == "__call__" and _BLOCK.fullmatch(module.name or "")
    if inside or not is_block or module.is_initializing():
      return call(*args, **kwargs)

    def block(module: nn.Module, *args: Any) -> Any:
      inside.append(module)
      try:
        return module(*args, **kwargs)
      finally:
        inside.pop()

    # Whether to train and the rate of dropout stay Python's; arrays alone are traced again.
    return nn.remat(block)(module, *args)

  return nn.intercept_methods(intercept)

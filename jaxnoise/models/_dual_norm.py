"""Normalisation for two kinds of images: dual batch norm, alone or beside instance norm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.types import Array
from jaxnoise.models._layers import batch_norm

BRANCHES = ("main", "aux")
NORMS = ("bn", "dubn", "dubin", "dubin_a")


class DualNorm(nn.Module):
  """One of two batch norms, "main" or "aux", of all channels or of the second half of them.

  Each has parameters and running statistics of its own, named by its branch, and only the one in
  use moves. In the other case the first half of the channels, rounded down, goes through an
  instance norm, y = scale (x - m) / sqrt(v + 1e-5) + bias with m and v the mean and biased
  variance of each image and channel over the pixels, in training and evaluation alike; it serves
  both branches. (Where an image is one pixel, an instance norm returns its bias.)

  Attributes:
    branch: which batch norm.
    train: which statistics it uses; see `batch_norm`.
    instance: whether half of the channels are normalised by instance.
    dtype: of the output; None means the common type of input and parameters.

  Source: Wang et al. (2021), AugMax, section 3.3 (DuBIN) and the authors' code; Pan et al. (2018),
  IBN-Net, for the halves; Xie et al. (2020) for dual batch norm.
  """

  branch: str
  train: bool
  instance: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    half = x.shape[-1] // 2 if self.instance else 0
    parts = []
    if half:
      # In two passes over the pixels: the faster form loses digits where the mean is large.
      norm = nn.InstanceNorm(
        epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="instance"
      )
      parts.append(norm(x[..., :half]))
    for name in BRANCHES:
      if name == self.branch or self.is_initializing():  # parameters of both are made at once
        out = batch_norm(train=self.train, dtype=self.dtype, name=name)(x[..., half:])
        parts += [out] if name == self.branch else []
    return jnp.concatenate(parts, axis=-1)


def norm_layers(kind: str, branch: str, stage: int) -> tuple[Callable[..., nn.Module], ...]:
  """Returns what makes the norms of a residual block: its first one, and the others.

  Args:
    kind: "bn", batch norm; "dubn", dual batch norm; "dubin", half instance and half dual batch
      norm, at every norm; "dubin_a", the same at the first norm of the blocks of stages 1 to 3 and
      dual batch norm elsewhere.
    branch: "main" or "aux".
    stage: of the block, 0 for the stem.

  Returns:
    Two functions (train=, dtype=, name=) -> module.

  Raises:
    InputError: for an unknown kind.

  Example:
    >>> norm_layers("dubin_a", "main", 3)[0](train=True, name="norm").instance
    True
  """
  if kind not in NORMS:
    raise InputError(f"norm: unknown kind {kind!r}; {closest(kind, NORMS)}")
  if kind == "bn":
    return batch_norm, batch_norm
  first = kind == "dubin" or (kind == "dubin_a" and 1 <= stage <= 3)
  return tuple(
    functools.partial(DualNorm, branch, instance=instance) for instance in (first, kind == "dubin")
  )

"""Wide residual networks (Zagoruyko and Komodakis 2016) in the two families that the papers use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.types import Array
from jaxnoise.models._layers import (
  Conv,
  batch_norm,
  checked,
  he_fan_out,
  torch_default,
)
from jaxnoise.models._layers import dropout as drop
from jaxnoise.models._preact_resnet import PreActResNet


class BiaslessBlock(nn.Module):
  """conv2(drop(ReLU(BN2(conv1(a))))) + shortcut, with a = ReLU(BN1(x)); no biases.

  conv1 has the stride. The shortcut is x where the channels stay, else a 1x1 convolution of a.

  Attributes:
    width: output channels.
    stride: of the first convolution and of the shortcut.
    dtype: what to compute in.
  """

  width: int
  stride: int = 1
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array, *, train: bool, dropout: float) -> Array:
    conv = functools.partial(Conv, kernel_init=he_fan_out, dtype=self.dtype)
    a = nn.relu(batch_norm(train=train, dtype=self.dtype, name="norm1")(x))
    h = conv(self.width, stride=self.stride, name="conv1")(a)
    h = nn.relu(batch_norm(train=train, dtype=self.dtype, name="norm2")(h))
    if dropout and self.has_rng("dropout"):
      h = drop(self.make_rng("dropout"), h, dropout)
    h = conv(self.width, name="conv2")(h)
    if x.shape[-1] != self.width:
      x = conv(self.width, 1, self.stride, name="shortcut")(a)
    return h + x


class ConvBiasBlock(nn.Module):
  """conv2(ReLU(BN2(drop(conv1(ReLU(BN1(x))))))) + shortcut; every convolution has a bias.

  conv2 has the stride. The shortcut is x where the shape stays, else a 1x1 convolution of x.

  Attributes:
    width: output channels.
    stride: of the second convolution and of the shortcut.
    dtype: what to compute in.
  """

  width: int
  stride: int = 1
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array, *, train: bool, dropout: float) -> Array:
    conv = functools.partial(Conv, use_bias=True, dtype=self.dtype)
    h = nn.relu(batch_norm(train=train, dtype=self.dtype, name="norm1")(x))
    h = conv(self.width, name="conv1")(h)
    if dropout and self.has_rng("dropout"):
      h = drop(self.make_rng("dropout"), h, dropout)
    h = nn.relu(batch_norm(train=train, dtype=self.dtype, name="norm2")(h))
    h = conv(self.width, stride=self.stride, name="conv2")(h)
    if self.stride != 1 or x.shape[-1] != self.width:
      x = conv(self.width, 1, self.stride, name="shortcut")(x)
    return h + x


# In PyTorch's convention the last BN of the second family has momentum 0.9: a slip that the
# published numbers contain.
VARIANTS = {
  "biasless": {
    "block": BiaslessBlock,
    "stem_bias": False,
    "kernel_init": he_fan_out,
    "zero_head_bias": True,
    "final_momentum": 0.9,
  },
  "conv_bias": {
    "block": ConvBiasBlock,
    "stem_bias": True,
    "kernel_init": torch_default,
    "zero_head_bias": False,
    "final_momentum": 0.1,
  },
}


def wide_resnet(
  num_classes: int,
  *,
  depth: int,
  widen_factor: int,
  variant: str = "biasless",
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> PreActResNet:
  """Makes a WRN-d-w: 3 stages of (d - 4) / 6 blocks, widths 16w, 32w, 64w, BN and ReLU at the end.

  Tap positions 0..3; height and width multiples of 4, so that 8x8 digits do as well as 32x32.

  Args:
    num_classes: K.
    depth: d = 6n + 4 with n >= 1: 10, 16, 22, 28, 34, 40.
    widen_factor: w.
    variant: "biasless" (the code of RepDistiller, AugMix and TRADES: stride on the first
      convolution, He initialisation, dropout after the second ReLU) or "conv_bias" (the code of
      NoisyMix, NFM and MR: biases, stride on the second convolution, shortcut convolution of the
      raw input, dropout after the first convolution, PyTorch's initialisation, last BN's running
      statistics almost those of the last batch).
    dropout: rate used where a call gives none; NoisyMix has 0.1.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for a depth that is not 6n + 4, a widen factor below 1, an unknown variant, a rate
      outside [0, 1) or a standard deviation that is not positive.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> net = models.network(models.wide_resnet(10, depth=16, widen_factor=2))
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> sum(p.size for p in jax.tree.leaves(params))
    691674
  """
  if depth < 10 or (depth - 4) % 6:
    raise InputError(f"depth: {depth}, expected 6n + 4 such as 10, 16, 28 or 40")
  if widen_factor < 1:
    raise InputError(f"widen_factor: {widen_factor}, expected a whole number of at least 1")
  if variant not in VARIANTS:
    raise InputError(
      f"variant: unknown name {variant!r} for wide_resnet; {closest(variant, VARIANTS)}"
    )
  options = dict(VARIANTS[variant])
  return PreActResNet(
    num_classes,
    stage_sizes=((depth - 4) // 6,) * 3,
    widths=(16 * widen_factor, 32 * widen_factor, 64 * widen_factor),
    stem_width=16,
    block=functools.partial(options.pop("block"), dtype=dtype),
    final_norm=True,
    dtype=dtype,
    **options,
    **checked(mean=mean, std=std, dropout=dropout, input_size=input_size),
  )

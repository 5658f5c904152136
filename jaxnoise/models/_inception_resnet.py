"""Inception-ResNet-v2 (Szegedy et al. 2016), the network of label-noise papers on WebVision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.models._layers import (
  Conv,
  Pair,
  batch_norm,
  checked,
  dropout_before_head,
  normalise,
  resized,
  torch_default,
  uniform_bias,
)
from jaxnoise.models._preact_resnet import Tap, keep

SMALLEST = 75  # pixels: what leaves one value for the third stage
VALID = 0  # no padding

# A branch is a chain of convolutions (output channels, kernel size).
Branch = tuple[tuple[int, Pair], ...]

BLOCKS: tuple[tuple[Branch, ...], ...] = (
  (
    ((32, 1),),
    ((32, 1), (32, 3)),
    ((32, 1), (48, 3), (64, 3)),
  ),
  (
    ((192, 1),),
    ((128, 1), (160, (1, 7)), (192, (7, 1))),
  ),
  (
    ((192, 1),),
    ((192, 1), (224, (1, 3)), (256, (3, 1))),
  ),
)
# The last convolution of each branch halves the image; a max pool is one branch more.
REDUCTIONS: tuple[tuple[Branch, ...], ...] = (
  (
    ((384, 3),),
    ((256, 1), (256, 3), (384, 3)),
  ),
  (
    ((256, 1), (384, 3)),
    ((256, 1), (288, 3)),
    ((256, 1), (288, 3), (320, 3)),
  ),
)
STEM_MIX: tuple[Branch, ...] = (
  ((96, 1),),
  ((48, 1), (64, 5)),
  ((64, 1), (96, 3), (96, 3)),
)


class Part(nn.Module):
  """What the parts of the network share: how wide they are and how they convolve.

  Attributes:
    divisor: all widths are divided by it and rounded up; 1 for the published network.
    dtype: what to compute in.
  """

  divisor: int = 1
  dtype: Any = None

  def scaled(self, width: int) -> int:
    """ceil(width / divisor)."""
    return -(-width // self.divisor)

  def unit(
    self,
    x: Array,
    width: int,
    kernel_size: Pair,
    *,
    train: bool,
    names: tuple[str, str],
    stride: int = 1,
    padding: Pair | None = None,
  ) -> Array:
    """ReLU(BN(conv(x))) with layers of the names given."""
    conv = Conv(
      self.scaled(width), kernel_size, stride, padding=padding, dtype=self.dtype, name=names[0]
    )
    norm = batch_norm(train=train, epsilon=1e-3, dtype=self.dtype, name=names[1])
    return nn.relu(norm(conv(x)))

  def branches(
    self, x: Array, chains: Sequence[Branch], *, train: bool, halve: bool = False
  ) -> list[Array]:
    """Sends x through each chain; `halve` gives the last convolutions stride 2 and no padding."""
    ends = []
    for b, chain in enumerate(chains, start=1):
      h = x
      for c, (width, kernel_size) in enumerate(chain, start=1):
        last = {"stride": 2, "padding": VALID} if halve and c == len(chain) else {}
        names = (f"branch{b}_conv{c}", f"branch{b}_norm{c}")
        h = self.unit(h, width, kernel_size, train=train, names=names, **last)
      ends.append(h)
    return ends


class Stem(Part):
  """Five convolutions and two max pools, to an eighth of the image, then four mixed branches.

  The stem of Inception-v3 with its first mixed block, as in the published weights (the paper draws
  Inception-v4's): 299x299x3 -> 149x149x32 -> 147x147x32 -> 147x147x64 -> 73x73x64 -> 73x73x80 ->
  71x71x192 -> 35x35x192 -> 35x35x320.
  """

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    layers = ((32, 3, 2, VALID), (32, 3, 1, VALID), (64, 3, 1, None), (80, 1, 1, None),
              (192, 3, 1, VALID))  # fmt: skip
    for i, (width, side, stride, padding) in enumerate(layers, start=1):
      names = (f"conv{i}", f"norm{i}")
      x = self.unit(x, width, side, train=train, names=names, stride=stride, padding=padding)
      if i in (3, 5):
        x = nn.max_pool(x, (3, 3), (2, 2))
    ends = self.branches(x, STEM_MIX, train=train)
    pooled = nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
    names = ("branch4_conv1", "branch4_norm1")
    ends.append(self.unit(pooled, 64, 1, train=train, names=names))
    return jnp.concatenate(ends, axis=-1)


class Block(Part):
  """ReLU(x + scale * expansion([branch1, branch2, ...](x))), the expansion 1x1 with a bias.

  Attributes:
    chains: what the branches are.
    scale: of the residual.
    relu: whether the ReLU follows.
  """

  chains: tuple[Branch, ...] = ()
  scale: float = 1.0
  relu: bool = True

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    h = jnp.concatenate(self.branches(x, self.chains, train=train), axis=-1)
    expansion = Conv(x.shape[-1], 1, use_bias=True, dtype=self.dtype, name="expansion")
    h = x + self.scale * expansion(h)
    return nn.relu(h) if self.relu else h


class Reduction(Part):
  """[branch1, branch2, ..., 3x3 max pool](x), each of stride 2 and without padding.

  Attributes:
    chains: what the branches are.
  """

  chains: tuple[Branch, ...] = ()

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    ends = self.branches(x, self.chains, train=train, halve=True)
    return jnp.concatenate([*ends, nn.max_pool(x, (3, 3), (2, 2))], axis=-1)


class InceptionResNet(nn.Module):
  """Normalisation, stem, three stages of blocks, 1x1 convolution, global mean pool, dense layer.

  Stages 2 and 3 begin with a reduction, which halves the image. The last block of stage 3 has no
  ReLU and scale 1. A tap sees the normalised image (stage 0) and the end of each stage (1, 2, 3);
  features are what flows on, after the tap. Dropout acts on the pooled features, before the dense
  layer; the feature "pooled" is what it is given.

  Attributes:
    num_classes: K.
    stage_sizes: number of blocks in each stage.
    scales: of the residuals in each stage.
    divisor: all widths are divided by it and rounded up; 1 for the published network.
    dropout: rate used where a call gives none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in; None means the common type of image and parameters. Parameters,
      statistics, pooled features and logits are at least float32.
  """

  num_classes: int
  stage_sizes: tuple[int, int, int] = (10, 20, 10)
  scales: tuple[float, float, float] = (0.17, 0.10, 0.20)
  divisor: int = 1
  dropout: float = 0.0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  input_size: tuple[int, int] | None = None
  dtype: Any = None

  @property
  def num_stages(self) -> int:
    """Tap positions are 0..num_stages."""
    return len(self.stage_sizes)

  @nn.compact
  def __call__(
    self,
    image: Array,
    *,
    train: bool = False,
    dropout: float | None = None,
    tap: Tap = keep,
    features: Sequence[str] = (),
  ) -> tuple[Array, dict[str, Array]]:
    """image [N, H, W, C] -> (logits [N, K], the features asked for)."""
    image = resized(image, self.input_size)
    height, width = image.shape[1:3]
    if min(height, width) < SMALLEST:
      raise InputError(
        f"image: {height}x{width} pixels, but Inception-ResNet-v2 needs at least {SMALLEST} on "
        "each side; enlarge the images, or take a network for small ones such as resnet18"
      )
    rate = self.dropout if dropout is None else dropout
    options = {"divisor": self.divisor, "dtype": self.dtype}
    h = tap(0, normalise(image, self.mean, self.std))
    h = Stem(name="stem", **options)(h, train=train)
    collected = {"stem": h}
    for stage, size in enumerate(self.stage_sizes, start=1):
      if stage > 1:
        reduction = Reduction(
          chains=REDUCTIONS[stage - 2], name=f"stage{stage}_reduction", **options
        )
        h = reduction(h, train=train)
      for i in range(1, size + 1):
        last = stage == self.num_stages and i == size
        block = Block(
          chains=BLOCKS[stage - 1],
          scale=1.0 if last else self.scales[stage - 1],
          relu=not last,
          name=f"stage{stage}_block{i}",
          **options,
        )
        h = block(h, train=train)
      h = collected[f"stage{stage}"] = tap(stage, h)
    final = -(-1536 // self.divisor)
    h = Conv(final, 1, dtype=self.dtype, name="final_conv")(h)
    h = batch_norm(train=train, epsilon=1e-3, dtype=self.dtype, name="final_norm")(h)
    h = collected["pooled"] = jnp.mean(promote(nn.relu(h)), axis=(1, 2))
    bias_init = uniform_bias(h.shape[-1])
    head = nn.Dense(self.num_classes, kernel_init=torch_default, bias_init=bias_init, name="head")
    return head(dropout_before_head(self, h, rate)), {name: collected[name] for name in features}


def inception_resnet_v2(
  num_classes: int,
  *,
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> InceptionResNet:
  """Makes an Inception-ResNet-v2, laid out as its published weights are.

  10, 20 and 10 blocks with residuals scaled by 0.17, 0.10 and 0.20 (the last block's by 1), BN
  with epsilon 1e-3, PyTorch's initialisation, as in the code of DivideMix and ELR. 55,843,464
  parameters for 1000 classes, 54,306,464 + 1537 K for K. Tap positions 0..3, at 35, 17 and 8
  pixels for images of 299 and at 25, 12 and 5 for 224 or 227; the smallest image has 75.

  Args:
    num_classes: K; 50 for the part of WebVision that the papers use.
    dropout: rate of the pooled features, used where a call gives none; Szegedy et al. have 0.2,
      the code of DivideMix and ELR none.
    mean: of the images' channels; () for 0. The published weights want 0.5.
    std: of the images' channels; () for 1. The published weights want 0.5.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for a rate outside [0, 1) or a standard deviation that is not positive; from the
      network for images of fewer than 75 pixels on a side.

  Source: Szegedy et al. (2016), 'Inception-v4, Inception-ResNet and the impact of residual
  connections on learning', with the stem of the released weights.

  Example:
    >>> from jaxnoise import models
    >>> models.inception_resnet_v2(50).num_stages
    3
  """
  options = checked(mean=mean, std=std, dropout=dropout, input_size=input_size)
  return InceptionResNet(num_classes, dtype=dtype, **options)

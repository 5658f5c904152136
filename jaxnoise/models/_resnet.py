"""Residual networks that normalise after each convolution: CIFAR's and ImageNet's (ResNet-50)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.models._dual_norm import BRANCHES, norm_layers
from jaxnoise.models._layers import (
  Conv,
  Initializer,
  batch_norm,
  checked,
  dropout_before_head,
  he_fan_out,
  normalise,
  resized,
  torch_default,
  uniform_bias,
)
from jaxnoise.models._preact_resnet import Tap, check_size, keep

EXPANSION = 4  # of a bottleneck's last convolution
FOUR_WIDTHS = (64, 128, 256, 512)


def subsampled(x: Array, width: int, stride: int) -> Array:
  """Takes every `stride`-th pixel and pads the channels with zeros: He et al.'s option A.

  Half of the zero channels, rounded down, come before the image's own and the rest after them.

  Args:
    x: [N, H, W, C].
    width: channels wanted, at least C.
    stride: of both axes.

  Returns:
    [N, ceil(H / stride), ceil(W / stride), width].

  Example:
    >>> import jax.numpy as jnp
    >>> subsampled(jnp.ones((1, 4, 4, 2)), 4, 2)[0, 0].tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
  """
  missing = width - x.shape[-1]
  x = x[:, ::stride, ::stride]
  return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class BasicBlock(nn.Module):
  """ReLU(BN2(conv2(ReLU(BN1(conv1(x))))) + shortcut), 3x3 convolutions; conv1 has the stride.

  Attributes:
    width: output channels.
    stride: of the first convolution and of the shortcut.
    shortcut: where the shape changes, "B" is a 1x1 convolution of x with BN and "A" is
      `subsampled` x; elsewhere the shortcut is x.
    kernel_init: initialiser of the kernels.
    norms: what makes the first norm, and the others.
    dtype: what to compute in.
  """

  width: int
  stride: int = 1
  shortcut: str = "B"
  kernel_init: Initializer = torch_default
  norms: tuple[Callable[..., nn.Module], ...] = (batch_norm, batch_norm)
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    conv = functools.partial(Conv, kernel_init=self.kernel_init, dtype=self.dtype)
    first, norm = (functools.partial(f, train=train, dtype=self.dtype) for f in self.norms)
    h = conv(self.width, stride=self.stride, name="conv1")(x)
    h = nn.relu(first(name="norm1")(h))
    h = norm(name="norm2")(conv(self.width, name="conv2")(h))
    if self.stride != 1 or x.shape[-1] != self.width:
      if self.shortcut == "A":
        x = subsampled(x, self.width, self.stride)
      else:
        x = conv(self.width, 1, self.stride, name="shortcut")(x)
        x = norm(name="shortcut_norm")(x)
    return nn.relu(h + x)


class Bottleneck(nn.Module):
  """ReLU(BN3(conv3(ReLU(BN2(conv2(ReLU(BN1(conv1(x)))))))) + shortcut).

  conv1 and conv3 are 1x1, conv2 is 3x3 and has the stride (torchvision's "v1.5"). Where the shape
  changes the shortcut is a 1x1 convolution of x with BN, elsewhere x.

  Attributes:
    width: channels of conv1 and conv2; the block's output has four times as many.
    stride: of the second convolution and of the shortcut.
    kernel_init: initialiser of the kernels.
    dtype: what to compute in.
  """

  width: int
  stride: int = 1
  kernel_init: Initializer = torch_default
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    conv = functools.partial(Conv, kernel_init=self.kernel_init, dtype=self.dtype)
    norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
    wide = EXPANSION * self.width
    h = nn.relu(norm(name="norm1")(conv(self.width, 1, name="conv1")(x)))
    h = nn.relu(norm(name="norm2")(conv(self.width, stride=self.stride, name="conv2")(h)))
    h = norm(name="norm3")(conv(wide, 1, name="conv3")(h))
    if self.stride != 1 or x.shape[-1] != wide:
      x = norm(name="shortcut_norm")(conv(wide, 1, self.stride, name="shortcut")(x))
    return nn.relu(h + x)


class ResNet(nn.Module):
  """Normalisation, stem with BN and ReLU, stages of blocks, global mean pool, dense layer.

  The first stage keeps the size that it is given; each further one halves it. A tap sees the
  normalised image (stage 0) and the last ReLU of each stage (stages 1, 2, ...); features are what
  flows on, after the tap; the stem's is what the first stage is given. Dropout acts on the pooled
  features, before the dense layer; the feature "pooled" is what it is given.

  Attributes:
    num_classes: K.
    stage_sizes: number of blocks in each stage.
    widths: given to the blocks of each stage.
    stem_width: channels of the stem.
    block: (width, stride, kernel_init=..., dtype=..., name=...) -> a module called with (x, *,
      train).
    downsampling_stem: whether the stem is a 7x7 convolution of stride 2 and a 3x3 max pool of
      stride 2, for images of ImageNet's size, or a 3x3 convolution, for CIFAR's.
    kernel_init: initialiser of all convolutions.
    norm: kind of the normalisation layers (`norm_layers`); others than "bn" need `BasicBlock`.
    dropout: rate used where a call gives none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in; None means the common type of image and parameters. Parameters,
      statistics, pooled features and logits are at least float32.
  """

  num_classes: int
  stage_sizes: tuple[int, ...]
  widths: tuple[int, ...]
  stem_width: int
  block: Callable[..., nn.Module] = BasicBlock
  downsampling_stem: bool = False
  kernel_init: Initializer = torch_default
  norm: str = "bn"
  dropout: float = 0.0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  input_size: tuple[int, int] | None = None
  dtype: Any = None

  @property
  def num_stages(self) -> int:
    """Tap positions are 0..num_stages."""
    return len(self.stage_sizes)

  @property
  def norm_branches(self) -> tuple[str, ...]:
    """The sets of normalisation layers that a call can choose from."""
    return BRANCHES[:1] if self.norm == "bn" else BRANCHES

  @nn.compact
  def __call__(
    self,
    image: Array,
    *,
    train: bool = False,
    dropout: float | None = None,
    norm_branch: str = "main",
    tap: Tap = keep,
    features: Sequence[str] = (),
  ) -> tuple[Array, dict[str, Array]]:
    """image [N, H, W, C] -> (logits [N, K], the features asked for)."""
    image = resized(image, self.input_size)
    if not self.downsampling_stem:
      check_size(image, 2 ** (self.num_stages - 1))
    rate = self.dropout if dropout is None else dropout
    options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
    side, stride = (7, 2) if self.downsampling_stem else (3, 1)
    collected = {}
    h = tap(0, normalise(image, self.mean, self.std))
    h = Conv(self.stem_width, side, stride, name="stem", **options)(h)
    stem_norm = norm_layers(self.norm, norm_branch, 0)[1]
    h = nn.relu(stem_norm(train=train, dtype=self.dtype, name="stem_norm")(h))
    if self.downsampling_stem:
      h = nn.max_pool(h, (3, 3), (2, 2), ((1, 1), (1, 1)))
    collected["stem"] = h
    for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths), start=1):
      if self.norm != "bn":
        options["norms"] = norm_layers(self.norm, norm_branch, stage)
      for i in range(size):
        stride = 2 if stage > 1 and i == 0 else 1
        h = self.block(width, stride, name=f"stage{stage}_block{i + 1}", **options)(h, train=train)
      h = collected[f"stage{stage}"] = tap(stage, h)
    h = collected["pooled"] = jnp.mean(promote(h), axis=(1, 2))
    bias_init = uniform_bias(h.shape[-1])
    head = nn.Dense(self.num_classes, kernel_init=torch_default, bias_init=bias_init, name="head")
    return head(dropout_before_head(self, h, rate)), {name: collected[name] for name in features}


def resnet18(
  num_classes: int,
  *,
  norm: str = "bn",
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> ResNet:
  """Makes a ResNet-18 for small images: 3x3 stem, 4 stages of 2 blocks, widths 64 to 512.

  The network of that name in the code of MR, ELR and TRADES, with PyTorch's initialisation.
  11,173,962 parameters for 10 classes. Tap positions 0..4; height and width multiples of 8.

  Args:
    num_classes: K.
    norm: "bn", or for `methods.augmax(dual_norm=True)` a kind with a second branch, "aux": "dubn",
      "dubin" or, AugMax' own layout, "dubin_a" (see `norm_layers`); images of 16 pixels or more.
    dropout: rate of the pooled features, used where a call gives none; the papers have none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for an unknown norm, a rate outside [0, 1) or a standard deviation that is not
      positive.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> net = models.network(models.resnet18(10))
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> sum(p.size for p in jax.tree.leaves(params))
    11173962
  """
  options = checked(mean=mean, std=std, dropout=dropout, input_size=input_size)
  norm_layers(norm, "main", 0)  # refuses an unknown kind
  options |= {"norm": norm, "stem_width": 64, "dtype": dtype}
  return ResNet(num_classes, (2, 2, 2, 2), FOUR_WIDTHS, **options)


def resnet34(
  num_classes: int,
  *,
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> ResNet:
  """Makes a ResNet-34 for small images: as `resnet18`, with 3, 4, 6 and 3 blocks in its stages.

  The network of MR's adversarial experiments and of ELR's CIFAR-10. 21,282,122 parameters for 10
  classes. Tap positions 0..4; height and width multiples of 8.

  Args:
    num_classes: K.
    dropout: rate of the pooled features, used where a call gives none; the papers have none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for a rate outside [0, 1) or a standard deviation that is not positive.

  Example:
    >>> from jaxnoise import models
    >>> models.resnet34(10).stage_sizes
    (3, 4, 6, 3)
  """
  options = checked(mean=mean, std=std, dropout=dropout, input_size=input_size)
  return ResNet(num_classes, (3, 4, 6, 3), FOUR_WIDTHS, stem_width=64, dtype=dtype, **options)


def cifar_resnet(
  num_classes: int,
  *,
  depth: int,
  width: int = 1,
  shortcut: str = "B",
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> ResNet:
  """Makes a three-stage ResNet of (d - 2) / 6 blocks each, widths 16, 32, 64 (He et al. 2015).

  ResNet-56 has 855,770 parameters for 10 classes with shortcut "B" and 853,018 with "A". He's
  fan-out initialisation. Tap positions 0..3; height and width multiples of 4.

  Args:
    num_classes: K.
    depth: d = 6n + 2 with n >= 1: 8, 20, 32, 44, 56, 110.
    width: multiplies the stages' widths; the stem has 16 channels, or 8 * width if that is more.
      RepDistiller's ResNet-8x4 and 32x4 have 4.
    shortcut: where the shape changes: "B" for a 1x1 convolution with BN (the code of RepDistiller)
      or "A" for every second pixel and channels of zeros, without parameters (He et al.'s own
      choice on CIFAR, taken for the ResNet-56 of the unbiased-label-noise paper, which names
      none).
    dropout: rate of the pooled features, used where a call gives none; the papers have none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for a depth that is not 6n + 2, a width below 1, an unknown shortcut, a rate outside
      [0, 1) or a standard deviation that is not positive.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> net = models.network(models.cifar_resnet(10, depth=20))
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> sum(p.size for p in jax.tree.leaves(params))
    272474
  """
  if depth < 8 or (depth - 2) % 6:
    raise InputError(f"depth: {depth}, expected 6n + 2 such as 8, 20, 32, 56 or 110")
  if width < 1:
    raise InputError(f"width: {width}, expected a whole number of at least 1")
  if shortcut not in ("A", "B"):
    raise InputError(
      f"shortcut: unknown kind {shortcut!r} for cifar_resnet; {closest(shortcut, ('A', 'B'))}"
    )
  return ResNet(
    num_classes,
    stage_sizes=((depth - 2) // 6,) * 3,
    widths=(16 * width, 32 * width, 64 * width),
    stem_width=max(16, 8 * width),
    block=functools.partial(BasicBlock, shortcut=shortcut),
    kernel_init=he_fan_out,
    dtype=dtype,
    **checked(mean=mean, std=std, dropout=dropout, input_size=input_size),
  )


def resnet50(
  num_classes: int,
  *,
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> ResNet:
  """Makes a ResNet-50 for images of ImageNet's size, laid out as torchvision's.

  A 7x7 convolution and a max pool, each of stride 2, then 3, 4, 6 and 3 bottlenecks with the
  stride on the 3x3 convolution (He et al. 2015, "v1.5"). He's fan-out initialisation; the last BN
  of a block starts at 1. 25,557,032 parameters for 1000 classes. Tap positions 0..4; images of
  any size, such as 224 or 227 pixels.

  Args:
    num_classes: K.
    dropout: rate of the pooled features, used where a call gives none; the papers have none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for a rate outside [0, 1) or a standard deviation that is not positive.

  Example:
    >>> from jaxnoise import models
    >>> models.resnet50(14, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).num_stages
    4
  """
  return ResNet(
    num_classes,
    stage_sizes=(3, 4, 6, 3),
    widths=FOUR_WIDTHS,
    stem_width=64,
    block=Bottleneck,
    downsampling_stem=True,
    kernel_init=he_fan_out,
    dtype=dtype,
    **checked(mean=mean, std=std, dropout=dropout, input_size=input_size),
  )

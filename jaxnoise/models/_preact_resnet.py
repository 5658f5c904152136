"""Pre-activation residual networks for small images: PreActResNet-18 and -34 in their variants."""

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
from jaxnoise.models._layers import (
  Conv,
  Initializer,
  batch_norm,
  checked,
  dropout_before_head,
  normalise,
  resized,
  torch_default,
  uniform_bias,
)

Tap = Callable[[int, Array], Array]


def keep(stage: int, h: Array) -> Array:
  """The tap that changes nothing."""
  del stage
  return h


class PreActBlock(nn.Module):
  """conv2(ReLU(BN2(conv1(a)))) + shortcut, with a = ReLU(BN1(x)).

  Where the shape changes the shortcut is a 1x1 convolution of a, elsewhere the identity.

  Attributes:
    width: output channels.
    stride: of the first convolution and of the shortcut.
    activated_identity: whether the identity carries a, as in the code of NoisyMix and DivideMix,
      or x, as in He et al. 2016 and the code of PuzzleMix and GJS.
    dtype: what to compute in.
  """

  width: int
  stride: int = 1
  activated_identity: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array, *, train: bool, dropout: float) -> Array:
    del dropout
    a = nn.relu(batch_norm(train=train, dtype=self.dtype, name="norm1")(x))
    if self.stride != 1 or x.shape[-1] != self.width:
      shortcut = Conv(self.width, 1, self.stride, dtype=self.dtype, name="shortcut")(a)
    else:
      shortcut = a if self.activated_identity else x
    h = Conv(self.width, 3, self.stride, dtype=self.dtype, name="conv1")(a)
    h = nn.relu(batch_norm(train=train, dtype=self.dtype, name="norm2")(h))
    return Conv(self.width, dtype=self.dtype, name="conv2")(h) + shortcut


class PreActResNet(nn.Module):
  """Normalisation, 3x3 stem, stages of pre-activation blocks, global mean pool, dense layer.

  The first stage keeps the image's size; each further one halves it. A tap sees the normalised
  image (stage 0) and each stage's sum, before the next BN and ReLU (stages 1, 2, ...); features
  are what flows on, after the tap.

  Attributes:
    num_classes: K.
    stage_sizes: number of blocks in each stage.
    widths: channels of each stage.
    stem_width: channels of the stem.
    block: (width, stride, name=...) -> a module called with (x, *, train, dropout).
    stem_norm: whether BN and ReLU follow the stem.
    final_norm: whether BN and ReLU come before the pool.
    final_momentum: momentum of that last BN.
    stem_bias: whether the stem's convolution has a bias.
    kernel_init: initialiser of the stem's kernel.
    zero_head_bias: whether the dense layer's bias starts at 0 (else as in PyTorch).
    head_dropout: whether dropout acts on the pooled features, before the dense layer, for blocks
      that have no place for it; the feature "pooled" is what it is given.
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
  block: Callable[..., nn.Module]
  stem_norm: bool = False
  final_norm: bool = False
  final_momentum: float = 0.9
  stem_bias: bool = False
  kernel_init: Initializer = torch_default
  zero_head_bias: bool = False
  head_dropout: bool = False
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
    check_size(image, 2 ** (self.num_stages - 1))
    rate = self.dropout if dropout is None else dropout
    collected = {}
    h = tap(0, normalise(image, self.mean, self.std))
    stem = Conv(
      self.stem_width,
      use_bias=self.stem_bias,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name="stem",
    )
    h = stem(h)
    if self.stem_norm:
      h = nn.relu(batch_norm(train=train, dtype=self.dtype, name="stem_norm")(h))
    collected["stem"] = h
    for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths), start=1):
      for i in range(size):
        stride = 2 if stage > 1 and i == 0 else 1
        block = self.block(width, stride, name=f"stage{stage}_block{i + 1}")
        h = block(h, train=train, dropout=rate)
      h = collected[f"stage{stage}"] = tap(stage, h)
    if self.final_norm:
      norm = batch_norm(
        train=train, momentum=self.final_momentum, dtype=self.dtype, name="final_norm"
      )
      h = nn.relu(norm(h))
    h = collected["pooled"] = jnp.mean(promote(h), axis=(1, 2))
    bias_init = nn.initializers.zeros if self.zero_head_bias else uniform_bias(h.shape[-1])
    head = nn.Dense(
      self.num_classes, kernel_init=torch_default, bias_init=bias_init, name="head"
    )
    if self.head_dropout:
      h = dropout_before_head(self, h, rate)
    return head(h), {name: collected[name] for name in features}


def check_size(image: Array, factor: int) -> None:
  """Raises InputError unless height and width of image [N, H, W, C] are multiples of `factor`."""
  height, width = image.shape[1:3]
  if height % factor or width % factor:
    raise InputError(
      f"image: {height}x{width} pixels, but this network halves the image until one value stands "
      f"for {factor}x{factor} pixels, so both must be multiples of {factor}; pad or crop the images"
    )


VARIANTS = {
  "noisymix": {"activated_identity": True, "stem_norm": False},
  "puzzlemix": {"activated_identity": False, "stem_norm": False},
  "dividemix": {"activated_identity": True, "stem_norm": True},
}


def preact_resnet18(
  num_classes: int,
  *,
  variant: str = "noisymix",
  widen_factor: int = 1,
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> PreActResNet:
  """Makes a PreActResNet-18: 4 stages of 2 blocks, widths 64, 128, 256, 512 (He et al. 2016).

  None of these variants has BN and ReLU before the pool. 11,171,146 parameters for 10 classes
  (variant "dividemix": 11,171,274). Tap positions 0..4; height and width multiples of 8.

  Args:
    num_classes: K.
    variant: whose code it follows: "noisymix" (also NFM: bare stem, the identity shortcut carries
      the activated tensor), "puzzlemix" (bare stem, raw identity), "dividemix" (also Arazo et al.:
      BN and ReLU after the stem, activated identity).
    widen_factor: multiplies all widths; NoisyMix's wide network has 2.
    dropout: rate of the pooled features, used where a call gives none; the papers have none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for an unknown variant, a rate outside [0, 1) or a standard deviation that is not
      positive.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> net = models.network(models.preact_resnet18(10))
    >>> image = jnp.zeros((1, 32, 32, 3))
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), image)
    >>> sum(p.size for p in jax.tree.leaves(params))
    11171146
  """
  if variant not in VARIANTS:
    raise InputError(f"variant: unknown name {variant!r} for preact_resnet18; "
                     f"{closest(variant, VARIANTS)}")
  options = VARIANTS[variant]
  widths = tuple(width * widen_factor for width in (64, 128, 256, 512))
  return PreActResNet(
    num_classes,
    stage_sizes=(2, 2, 2, 2),
    widths=widths,
    stem_width=widths[0],
    block=functools.partial(
      PreActBlock, activated_identity=options["activated_identity"], dtype=dtype
    ),
    stem_norm=options["stem_norm"],
    head_dropout=True,
    dtype=dtype,
    **checked(mean=mean, std=std, dropout=dropout, input_size=input_size),
  )


# Stage sizes and widths.
VARIANTS_34 = {
  "gjs": ((5, 5, 5), (32, 64, 128)),
  "four_stage": ((3, 4, 6, 3), (64, 128, 256, 512)),
}


def preact_resnet34(
  num_classes: int,
  *,
  variant: str = "gjs",
  dropout: float = 0.0,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  input_size: int | Sequence[int] | None = None,
  dtype: Any = None,
) -> PreActResNet:
  """Makes one of the two networks that papers call PreActResNet-34.

  Both have a bare 3x3 stem, raw identity shortcuts, BN and ReLU before the pool (He et al. 2016)
  and PyTorch's initialisation.

  Args:
    num_classes: K.
    variant: "gjs", the small network of the code of GJS and NRD: 3 stages of 5 blocks, widths 32,
      64, 128, 1,860,138 parameters for 10 classes, tap positions 0..3, height and width multiples
      of 4; or "four_stage", the depth-34 network of He et al.: 3, 4, 6 and 3 blocks, widths 64,
      128, 256, 512, 21,280,330 parameters, tap positions 0..4, multiples of 8.
    dropout: rate of the pooled features, used where a call gives none; the papers have none.
    mean: of the images' channels; () for 0.
    std: of the images' channels; () for 1.
    input_size: of the images that are normalised, see `models.resized`; None for their own.
    dtype: what to compute in, such as `jnp.bfloat16`; None means the type of image and parameters.

  Raises:
    InputError: for an unknown variant, a rate outside [0, 1) or a standard deviation that is not
      positive.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> net = models.network(models.preact_resnet34(10))
    >>> params, _ = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    >>> sum(p.size for p in jax.tree.leaves(params))
    1860138
  """
  if variant not in VARIANTS_34:
    raise InputError(
      f"variant: unknown name {variant!r} for preact_resnet34; {closest(variant, VARIANTS_34)}"
    )
  stage_sizes, widths = VARIANTS_34[variant]
  return PreActResNet(
    num_classes,
    stage_sizes=stage_sizes,
    widths=widths,
    stem_width=widths[0],
    block=functools.partial(PreActBlock, dtype=dtype),
    final_norm=True,
    head_dropout=True,
    dtype=dtype,
    **checked(mean=mean, std=std, dropout=dropout, input_size=input_size),
  )

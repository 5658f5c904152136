"""Layers that every network here is made of: convolution, normalisation, dropout, initialisers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.custom_derivatives import SymbolicZero

from jaxnoise.core import InputError
from jaxnoise.core.types import Array, PRNGKey

Initializer = Callable[..., Array]

_CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")

Pair = int | tuple[int, int]


def pair(value: Pair) -> tuple[int, int]:
  """Returns (height, width), both the number itself where one is given.

  Example:
    >>> pair(3), pair((1, 7))
    ((3, 3), (1, 7))
  """
  return (value, value) if isinstance(value, int) else tuple(value)


def torch_default(key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
  """Draws U(-b, b) with b = 1/sqrt(fan_in): PyTorch's default for kernels [..., in, out].

  Example:
    >>> import jax
    >>> bool(abs(torch_default(jax.random.key(0), (3, 3, 4, 8))).max() <= 1 / 6)
    True
  """
  return uniform_bias(math.prod(shape[:-1]))(key, shape, dtype)


def he_fan_out(key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
  """Draws N(0, 2 / (kh * kw * out)) for a kernel [kh, kw, in, out] (He et al. 2015).

  Example:
    >>> import jax
    >>> bool(abs(he_fan_out(jax.random.key(0), (3, 3, 64, 8)).std() - 1 / 6) < 0.01)
    True
  """
  std = math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1]))
  # Drawn flat: a draw of four axes takes XLA three times as long to compile.
  return std * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def uniform_bias(fan_in: int) -> Initializer:
  """Returns the initialiser U(-b, b), b = 1/sqrt(fan_in), PyTorch's for biases.

  Example:
    >>> import jax
    >>> bias = uniform_bias(4)(jax.random.key(0), (1000,))
    >>> bool(abs(bias).max() <= 0.5)
    True
  """
  bound = 1 / math.sqrt(fan_in)

  def init(key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    drawn = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)
    return drawn.reshape(shape)

  return init


def conv(
  x: Array,
  kernel: Array,
  bias: Array | None = None,
  *,
  stride: int = 1,
  padding: Pair | None = None,
) -> Array:
  """Computes a 2-D convolution (cross-correlation): y = x * kernel + bias.

  The only convolution of the library. Accelerators run XLA's own. On a CPU so does the forward
  pass, but the gradient is arranged so that it costs inside `scan`, `while` and `cond` what it
  costs outside, where XLA's is up to a hundred times slower (jax issue 12868); for 1x1 kernels and
  outputs of at most 2 pixels on a side one matrix product is faster and is taken instead.
  Under `vmap` over kernels XLA's grouped convolution runs, which is slow on a CPU: run networks
  with kernels of their own one after the other there (`jax.lax.map`).

  Args:
    x: [N, H, W, I].
    kernel: [k, k, I, O], or [kh, kw, I, O] with sides of their own.
    bias: [O] or None.
    stride: of both axes.
    padding: zeros added on all four sides, or (above and below, left and right); None means
      (k - 1) // 2 along each axis, PyTorch's "same"; 0 is "valid".

  Returns:
    [N, H', W', O] with H' = (H + 2 * padding - k) // stride + 1, W' likewise.

  Example:
    >>> import jax.numpy as jnp
    >>> y = conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), stride=2)
    >>> y[0, :, :, 0].tolist()
    [[4.0, 6.0], [6.0, 9.0]]
  """
  sides = kernel.shape[:2]
  padding = tuple((k - 1) // 2 for k in sides) if padding is None else pair(padding)
  if jax.default_backend() != "cpu":
    y = _native(x, kernel, stride, padding)
  elif sides == (1, 1) or min(_sizes(x, kernel, stride, padding)) <= 2:
    y = _matrix_product(x, kernel, stride, padding)
  else:
    y = _cpu_conv(x, kernel, stride, padding)
  return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def _native(
  x: Array,
  kernel: Array,
  stride: int,
  padding: tuple[int, int],
  layout: Sequence[str] = _CHANNELS_LAST,
) -> Array:
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), [(p, p) for p in padding], dimension_numbers=layout
  )


def _sizes(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> tuple[int, int]:
  axes = zip(x.shape[1:3], kernel.shape[:2], padding)
  return tuple((side + 2 * p - k) // stride + 1 for side, k, p in axes)


def _matrix_product(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
  """Puts the kh * kw shifted images side by side; faster than a convolution for few pixels."""
  height, width = _sizes(x, kernel, stride, padding)
  x = jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
  shifted = [
    x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
    for i in range(kernel.shape[0])
    for j in range(kernel.shape[1])
  ]
  patches = jnp.concatenate(shifted, axis=-1)
  columns = kernel.reshape(-1, kernel.shape[-1])
  return jax.lax.dot_general(patches, columns, (((3,), (0,)), ((), ())))


# XLA's CPU backend has a fast convolution for the layout NHWC, HWIO -> NHWC only. It rewrites
# other layouts to this one, but not inside called computations (loop bodies, branches), where a
# naive loop runs instead; and JAX's gradient of a convolution has other layouts. A gradient is the
# transpose of the tangent map, so the tangent map is written here in the one layout that JAX's
# transposition turns into the fast one. Reverse mode never evaluates the tangent map itself.
@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _cpu_conv(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
  return _native(x, kernel, stride, padding)


def _cpu_conv_jvp(
  stride: int, padding: tuple[int, int], primals: Any, tangents: Any
) -> tuple[Array, Array]:
  x, kernel = primals
  x_dot, kernel_dot = tangents
  y_dot = []
  # A zero tangent must stay unevaluated: as an array it would cost a convolution, a naive one.
  if not isinstance(x_dot, SymbolicZero):
    swapped = kernel.transpose(0, 1, 3, 2)
    y_dot.append(_native(x_dot, swapped, stride, padding, ("NHWC", "HWOI", "NHWC")))
  if not isinstance(kernel_dot, SymbolicZero):
    moved = _native(
      x.transpose(3, 1, 2, 0),
      kernel_dot.transpose(2, 0, 1, 3),
      stride,
      padding,
      ("CHWN", "IHWO", "HWNC"),
    )
    y_dot.append(moved.transpose(2, 0, 1, 3))
  return _cpu_conv(x, kernel, stride, padding), functools.reduce(jnp.add, y_dot)


_cpu_conv.defjvp(_cpu_conv_jvp, symbolic_zeros=True)


class Conv(nn.Module):
  """A convolution layer.

  Attributes:
    width: output channels.
    kernel_size: k, or (height, width); odd.
    stride: of both axes.
    padding: as in `conv`; None means (k - 1) // 2 along each axis.
    use_bias: whether a bias is added; it starts as U(-b, b), b = 1/sqrt(fan_in).
    kernel_init: initialiser of the kernel [kh, kw, in, width].
    dtype: what to compute in; None means the common type of input and parameters. Parameters are
      float32.
  """

  width: int
  kernel_size: Pair = 3
  stride: int = 1
  padding: Pair | None = None
  use_bias: bool = False
  kernel_init: Initializer = torch_default
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (*pair(self.kernel_size), x.shape[-1], self.width)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    bias = None
    if self.use_bias:
      bias = self.param("bias", uniform_bias(math.prod(shape[:3])), shape[3:], jnp.float32)
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
    return conv(x, kernel, bias, stride=self.stride, padding=self.padding)


def batch_norm(
  *,
  train: bool,
  momentum: float = 0.9,
  epsilon: float = 1e-5,
  dtype: Any = None,
  name: str,
) -> nn.BatchNorm:
  """Returns a batch-normalisation layer, y = scale * (x - m) / sqrt(v + epsilon) + bias.

  m and v are the batch's (biased) mean and variance in training, over all axes but the last, and
  the running ones in evaluation; both are computed and kept in at least float32. The running
  ones move as r <- momentum * r + (1 - momentum) * batch. PyTorch's `momentum` is 1 minus this
  one, and PyTorch's running variance is that of the unbiased estimate, n/(n-1) times the biased
  one, n being the number of values per channel.

  Args:
    train: which statistics to use.
    momentum: how much of the running statistics stays.
    epsilon: what keeps the root away from 0.
    dtype: of the output; None means the common type of input and parameters.
    name: of the layer in its parent.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> layer = batch_norm(train=True, name="norm")
    >>> x = jnp.array([[1.0], [3.0]])
    >>> layer.init_with_output(jax.random.key(0), x)[0].round(3).tolist()
    [[-1.0], [1.0]]
  """
  return nn.BatchNorm(
    use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name
  )


def dropout(key: PRNGKey, x: Array, rate: float) -> Array:
  """Sets each element to 0 with probability `rate` and divides the others by 1 - rate.

  Args:
    key: of the mask.
    x: [..., C].
    rate: in [0, 1).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> sorted(set(dropout(jax.random.key(0), jnp.ones(100), 0.5).tolist()))
    [0.0, 2.0]
  """
  # Drawn with two axes: a draw of four takes XLA five times as long to compile.
  kept = jax.random.bernoulli(key, 1 - rate, (math.prod(x.shape[:-1]), x.shape[-1]))
  return jnp.where(kept.reshape(x.shape), x / (1 - rate), jnp.zeros_like(x))


def dropout_before_head(module: nn.Module, x: Array, rate: float) -> Array:
  """Drops pooled features with the module's "dropout" stream, where one is given.

  The place for networks whose papers have none; the feature "pooled" is x itself.

  Args:
    module: whose stream is drawn from.
    x: [N, C].
    rate: in [0, 1).
  """
  if rate and module.has_rng("dropout"):
    return dropout(module.make_rng("dropout"), x, rate)
  return x


def normalise(image: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
  """Computes (image - mean) / std channel by channel, the first layer of every network here.

  Args:
    image: [..., H, W, C] in [0, 1].
    mean: C numbers on the image's scale, or none at all for 0.
    std: C positive numbers, or none at all for 1.

  Raises:
    InputError: if the number of values is not C.

  Example:
    >>> import jax.numpy as jnp
    >>> normalise(jnp.full((1, 1, 3), 0.75), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).tolist()
    [[[0.5, 0.5, 0.5]]]
  """
  channels = image.shape[-1]
  for name, values in (("mean", mean), ("std", std)):
    if values and len(values) != channels:
      raise InputError(
        f"{name}: {len(values)} values for images of {channels} channels (shape "
        f"{tuple(image.shape)}); give the model one value per channel"
      )
  shape = (1,) * (image.ndim - 1) + (channels,)
  if mean:
    image = image - jnp.asarray(mean, image.dtype).reshape(shape)
  if std:
    image = image / jnp.asarray(std, image.dtype).reshape(shape)
  return image


def resized(image: Array, size: Pair | None) -> Array:
  """Brings images to one size, what every network here does before it normalises.

  S makes them S x S pixels; (R, S) makes them R x R and takes the central S x S of that, the
  papers' "Resize, CenterCrop" of test images. Images of S x S, such as crops of that size, stay as
  they are. Bilinear with half-pixel centres; made smaller, the triangle widens with the factor, so
  that every pixel counts (anti-aliasing), as in Pillow and in torchvision's `antialias=True`.
  Corruptions, attacks and noise still act on the pixels of the image that is given, and the
  gradient reaches it.

  Args:
    image: [..., H, W, C], floats; one that is not square is stretched.
    size: S or (R, S) with S <= R; None returns the image.

  Returns:
    [..., S, S, C].

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.array([0.0, 1.0]).reshape(1, 2, 1) * jnp.ones((2, 1, 1))
    >>> resized(image, 4)[0, :, 0].tolist(), resized(image, (4, 3))[0, :, 0].tolist()
    ([0.0, 0.25, 0.75, 1.0], [0.0, 0.25, 0.75])
  """
  if size is None:
    return image
  first, side = pair(size)
  if image.shape[-3:-1] == (side, side):
    return image
  shape = (*image.shape[:-3], first, first, image.shape[-1])
  start = (first - side) // 2
  image = jax.image.resize(image, shape, "bilinear", antialias=True)
  return image[..., start : start + side, start : start + side, :]


def checked(
  *,
  mean: Sequence[float] = (),
  std: Sequence[float] = (),
  dropout: float = 0.0,
  input_size: int | Sequence[int] | None = None,
) -> dict[str, Any]:
  """Returns the options that all networks share, as numbers and tuples.

  Raises:
    InputError: if a standard deviation is not positive, the rate not in [0, 1), or the input's size
      no number of pixels, or pair of them.

  Example:
    >>> checked(mean=[0], std=[1])
    {'mean': (0.0,), 'std': (1.0,), 'dropout': 0.0, 'input_size': None}
  """
  if any(value <= 0 for value in std):
    raise InputError(f"std: {tuple(std)}, expected positive numbers, one per channel")
  if not 0 <= dropout < 1:
    raise InputError(f"dropout: {dropout}, expected a rate in [0, 1); 0 switches it off")
  return {
    "mean": tuple(float(value) for value in mean),
    "std": tuple(float(value) for value in std),
    "dropout": float(dropout),
    "input_size": None if input_size is None else _checked_size(input_size),
  }


def _checked_size(size: int | Sequence[int]) -> tuple[int, int]:
  sides = tuple(size) if isinstance(size, Sequence) else (size, size)
  whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
  if not whole or len(sides) != 2 or not 0 < sides[1] <= sides[0]:
    raise InputError(
      f"input_size: {size!r}, expected a side in pixels such as 224, or a pair such as (256, 224), "
      "to resize to and to crop to"
    )
  return sides

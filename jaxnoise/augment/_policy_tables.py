"""Policies that are tables: rows of operations with probabilities, and one sampler for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.augment._operations import POLICY_OPERATIONS, policy_chain
from jaxnoise.augment._policies import grey_levels
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey


class PolicyDraw(NamedTuple):
  """Everything that is random in one policy's view of one image.

  Attributes:
    op_index: [D] int32, positions in `POLICY_OPERATIONS`, -1 for what is not executed.
    op_param: [D, 3] float32: what the operation is given, sign included, and a place (x, y) in
      pixels, which cutout_abs alone looks at.
  """

  op_index: Array
  op_param: Array


class PolicyTable(NamedTuple):
  """P rows of D operations each; NumPy arrays, known at compile time.

  An operation is executed if u <= probability, with the parameter base + sign * signed.

  Attributes:
    index: [P, D] int, positions in `POLICY_OPERATIONS`, -1 for the identity.
    probability: [P, D].
    base: [P, D].
    signed: [P, D], 0 where the operation has no sign.
  """

  index: np.ndarray
  probability: np.ndarray
  base: np.ndarray
  signed: np.ndarray

  @property
  def names(self) -> tuple[str, ...]:
    """The operations that occur."""
    return tuple(POLICY_OPERATIONS[i] for i in np.unique(self.index) if i >= 0)


def make_table(
  rows: Sequence[Sequence[tuple[str, float, float]]],
  parameters: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> PolicyTable:
  """Makes a table of rows of (operation, probability, magnitude).

  Args:
    rows: P rows of D operations; the name "identity" is allowed.
    parameters: per operation the (base, signed) of each magnitude, a whole number; an operation
      that is missing there has none.

  Example:
    >>> make_table([[("rotate", 0.5, 1)]], {"rotate": [(0, 0), (0, 10)]}).signed.tolist()
    [[10.0]]
  """
  pairs = [
    [parameters[name][int(level)] if name in parameters else (0.0, 0.0) for name, _, level in row]
    for row in rows
  ]
  index = [
    [POLICY_OPERATIONS.index(name) if name != "identity" else -1 for name, _, _ in row]
    for row in rows
  ]
  probability = [[p for _, p, _ in row] for row in rows]
  values = np.asarray(pairs, np.float32)
  return PolicyTable(
    np.asarray(index, np.int32), np.asarray(probability, np.float32), values[..., 0], values[..., 1]
  )


def sample_policy(
  rng: PRNGKey, size: tuple[int, int], table: PolicyTable, *, rows: int = 1
) -> PolicyDraw:
  """Draws rows of a table, uniformly and with replacement, and what is random in them.

  All numbers come from one call of the generator: per row its number, and per operation whether it
  is executed, its sign and its place.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    table: [P, D].
    rows: how many to draw, one after the other.

  Returns:
    The draws of rows * D operations.
  """
  count, depth = table.index.shape
  numbers = jax.random.uniform(rng, (rows, 1 + 4 * depth))
  row = jnp.floor(numbers[:, 0] * count).astype(jnp.int32)
  chance, coin, x, y = jnp.moveaxis(numbers[:, 1:].reshape(rows, depth, 4), -1, 0)
  index, probability, base, signed = (jnp.asarray(column)[row] for column in table)
  sign = jnp.where(coin < 0.5, -1.0, 1.0)
  param = jnp.stack([base + sign * signed, x * size[1], y * size[0]], axis=-1)
  index = jnp.where(chance <= probability, index, -1)
  return PolicyDraw(index.ravel(), param.reshape(rows * depth, 3))


def apply_policy(
  image: Array,
  draw: PolicyDraw,
  *,
  names: tuple[str, ...] = POLICY_OPERATIONS,
  fill: float | Sequence[float] = 0.0,
) -> Array:
  """Applies drawn operations to one image: rounds it to grey levels, runs them, divides by 255.

  Args:
    image: [H, W, C] float in [0, 1].
    draw: of D operations.
    names: the operations to compile; another one in the draw does nothing.
    fill: what geometry puts outside the image, in [0, 1], one number or C.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255; no gradient reaches the image.

  Raises:
    InputError: if the fill is out of range or has another number of channels.

  Example:
    >>> import jax.numpy as jnp
    >>> index = jnp.array([POLICY_OPERATIONS.index("invert")])
    >>> draw = PolicyDraw(index, jnp.zeros((1, 3)))
    >>> apply_policy(jnp.ones((2, 2, 1)), draw, names=("invert",))[0, 0, 0].item()
    0.0
  """
  levels = np.asarray(fill, np.float64)
  if levels.shape not in ((), (1,), image.shape[-1:]):
    raise InputError(
      f"fill has shape {levels.shape} for an image of {image.shape[-1]} channels; give one number "
      "or one per channel"
    )
  if not np.all((levels >= 0) & (levels <= 1)):
    raise InputError(f"fill is {fill}; expected the colour outside the image on [0, 1]")
  levels = np.round(levels * 255).astype(int).tolist()
  levels = tuple(levels) if isinstance(levels, list) else levels
  out = policy_chain(grey_levels(image), *draw, names=names, fill=levels)
  return (out.astype(jnp.float32) / 255).astype(image.dtype)


SIGNED_FACTORS = ("brightness", "color", "contrast", "sharpness")


def torchvision_parameters(
  size: tuple[int, int], bins: int
) -> dict[str, list[tuple[float, float]]]:
  """What torchvision's AutoAugment and RandAugment give each operation, by magnitude.

  With m in {0, ..., bins - 1} and t = m / (bins - 1): shear 0.3 t, translate trunc(150/331 side t)
  pixels, rotate 30 t degrees, color, contrast, brightness, sharpness the factor 1 + s 0.9 t, all
  with a sign s; posterize 8 - round(4 t) bits and solarize threshold 255 (1 - t) without one.

  Args:
    size: (H, W) of the image, in pixels.
    bins: number of magnitudes.

  Returns:
    {operation: [(base, signed), ...]}; the parameter is base + s * signed. A positive translation
    of torchvision moves the image right or down, one of `translate_x` left: hence its minus.

  Source: torchvision's `transforms.autoaugment`.

  Example:
    >>> torchvision_parameters((32, 32), 31)["translate_x"][3]
    (0.0, -1.0)
  """
  height, width = size
  shear, rotate = _grid(0.0, 0.3, bins), _grid(0.0, 30.0, bins)
  enhance = [(1.0, v) for v in _grid(0.0, 0.9, bins)]
  move = {
    name: [(0.0, -float(int(v))) for v in _grid(0.0, 150 / 331 * side, bins)]
    for name, side in (("translate_x", width), ("translate_y", height))
  }
  bits = 8 - np.round(np.arange(bins, dtype=np.float32) / np.float32((bins - 1) / 4))
  return {
    "shear_x": [(0.0, v) for v in shear],
    "shear_y": [(0.0, v) for v in shear],
    "rotate": [(0.0, v) for v in rotate],
    "posterize": [(float(v), 0.0) for v in bits],
    "solarize": [(v, 0.0) for v in _grid(255.0, 0.0, bins)],
    **move,
    **dict.fromkeys(SIGNED_FACTORS, enhance),
  }


def _grid(start: float, end: float, count: int) -> list[float]:
  """`count` numbers from start to end in float32, counted from the nearer end, each rounded once.

  So does PyTorch, and which grey levels a threshold solarizes, or how many pixels a translation is
  cut to, hangs on the last bit.
  """
  start, end = np.float32(start), np.float32(end)
  step = np.float64((end - start) / np.float32(count - 1))
  i = np.arange(count)
  numbers = np.where(i < count // 2, start + step * i, end - step * (count - 1 - i))
  return [float(v) for v in numbers.astype(np.float32)]

"""The operations of the published policies by index, and chains of them.

How a batch of chains runs is decided here and nowhere else. A chain is a loop over `lax.switch`.
Batched, a switch computes every operation and selects one, which suits accelerators; one chain
after the other, it computes one operation only, which is eight times faster on a CPU (measured on
768 chains of 32x32 images).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.augment import _color, _erasing, _geometric
from jaxnoise.core.types import Array

BASE_OPERATIONS = (
  "autocontrast", "equalize", "posterize", "rotate", "solarize",
  "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
"""AugMix's operations, those that overlap with corruption benchmarks left out."""

ALL_OPERATIONS = (*BASE_OPERATIONS, "color", "contrast", "brightness", "sharpness")
"""All of AugMix's operations; an operation's index is its position here."""

POLICY_OPERATIONS = (*ALL_OPERATIONS, "invert", "solarize_add", "hue", "cutout_abs")
"""The operations of all policies; those of AugMix keep their index."""


def apply_operation(
  image: Array,
  index: Array | int,
  parameter: Array | float,
  *,
  all_ops: bool = True,
  names: tuple[str, ...] | None = None,
  nearest: bool = False,
  fill: int | tuple[int, ...] = 0,
) -> Array:
  """Applies one operation, chosen by its index at run time.

  Args:
    image: [H, W, C] uint8.
    index: scalar, position in `POLICY_OPERATIONS`; -1, or an operation that is not compiled,
      returns the image.
    parameter: scalar, what PIL would be given: bits kept, degrees counter-clockwise, threshold,
      shear, pixels, factor, turns or grey levels added; ignored by autocontrast, equalize and
      invert. Or [3], of which the last two are the place (x, y) that cutout_abs needs, in pixels.
    all_ops: False compiles the nine base operations only.
    names: the operations to compile; None leaves the choice to `all_ops`.
    nearest: geometry takes the nearest pixel (AutoAugment and its kin) instead of interpolating.
    fill: grey level that geometry puts outside the image, one or C; fixed at compile time.

  Returns:
    [H, W, C] uint8, PIL's result to within one grey level.

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 200, jnp.uint8)
    >>> apply_operation(image, ALL_OPERATIONS.index("solarize"), 128)[0, 0].tolist()
    [55, 55, 55]
  """
  if names is None:
    names = ALL_OPERATIONS if all_ops else BASE_OPERATIONS
  parameter = jnp.asarray(parameter, jnp.float32)
  value, place = (parameter, jnp.zeros(2)) if parameter.ndim == 0 else (parameter[0], parameter[1:])
  position = jnp.asarray(index, jnp.int32) + 1

  def geometric(image: Array, parameter: Array, _: Array) -> Array:
    matrix = [0] + [_position(_geometric.GEOMETRIC, name) for name in POLICY_OPERATIONS]
    matrices = _geometric.displacements(parameter, *image.shape[:2])
    resample = _geometric.affine_nearest if nearest else _geometric.affine
    return resample(image, matrices[jnp.asarray(matrix)[position]], fill=np.asarray(fill, np.uint8))

  table: dict[str, Callable[[Array, Array, Array], Array]] = {
    "none": lambda image, *_: image,
    "geometric": geometric,
    "cutout_abs": lambda image, size, place: _erasing.cutout_abs(image, size, place[0], place[1]),
  }
  for name in ("autocontrast", "equalize", "invert"):
    table[name] = lambda image, *_, name=name: getattr(_color, name)(image)
  for name in ("posterize", "solarize", "solarize_add", "color", "contrast", "brightness",
               "sharpness", "hue"):  # fmt: skip
    table[name] = lambda image, value, _, name=name: getattr(_color, name)(image, value)

  # One branch serves the five geometric operations: they differ in six numbers only.
  kinds = ["geometric" if name in _geometric.GEOMETRIC else name for name in POLICY_OPERATIONS]
  compiled = ["none", *(kind for name, kind in zip(POLICY_OPERATIONS, kinds) if name in names)]
  compiled = list(dict.fromkeys(compiled))
  branch = [0] + [
    compiled.index(kind) if name in names else 0 for name, kind in zip(POLICY_OPERATIONS, kinds)
  ]
  branches = [table[kind] for kind in compiled]
  return jax.lax.switch(jnp.asarray(branch)[position], branches, image, value, place)


def _position(names: tuple[str, ...], name: str) -> int:
  return names.index(name) if name in names else 0


def augmix_chain(image: Array, op_index: Array, op_param: Array, *, all_ops: bool = True) -> Array:
  """Applies operations one after the other; each rounds to grey levels, as PIL does.

  Under `jax.vmap`, to any depth, all chains become one batch.

  Args:
    image: [H, W, C] uint8.
    op_index: [D] int32, positions in `ALL_OPERATIONS`; -1 for an unused place.
    op_param: [D], see `apply_operation`.
    all_ops: as in `apply_operation`.

  Returns:
    [H, W, C] uint8.

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 200, jnp.uint8)
    >>> augmix_chain(image, jnp.array([4, 2, -1]), jnp.array([128.0, 3.0, 0.0]))[0, 0].tolist()
    [32, 32, 32]
  """
  return _run_chain(image, op_index, op_param, all_ops=all_ops)


def policy_chain(
  image: Array,
  op_index: Array,
  op_param: Array,
  *,
  names: tuple[str, ...] = POLICY_OPERATIONS,
  fill: int | tuple[int, ...] = 0,
) -> Array:
  """`augmix_chain` with the operations of all policies, and geometry by the nearest pixel.

  Args:
    image: [H, W, C] uint8.
    op_index: [D] int32, positions in `POLICY_OPERATIONS`; -1 for an unused place.
    op_param: [D] or [D, 3], see `apply_operation`.
    names: the operations to compile; another one in `op_index` does nothing.
    fill: grey level outside the image, one or C.

  Returns:
    [H, W, C] uint8.

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 200, jnp.uint8)
    >>> index = POLICY_OPERATIONS.index("invert")
    >>> policy_chain(image, jnp.array([index]), jnp.array([0.0]), names=("invert",))[0, 0].tolist()
    [55, 55, 55]
  """
  return _run_chain(image, op_index, op_param, names=names, nearest=True, fill=fill)


def _run_chain(image: Array, op_index: Array, op_param: Array, **kind) -> Array:
  run = _batch_of_chains(**kind)
  op_index, op_param = jnp.asarray(op_index, jnp.int32), jnp.asarray(op_param, jnp.float32)
  return run(image[None], op_index[None], op_param[None])[0]


def _chain(image: Array, op_index: Array, op_param: Array, **kind) -> Array:
  def body(place: int, image: Array) -> Array:
    return apply_operation(image, op_index[place], op_param[place], **kind)

  return jax.lax.fori_loop(0, op_index.shape[0], body, image)


def chains_batched(images: Array, op_index: Array, op_param: Array, **kind) -> Array:
  """Runs [N] chains side by side: every operation on every image, then a selection.

  `kind` are keywords of `apply_operation`.
  """
  return jax.vmap(functools.partial(_chain, **kind))(images, op_index, op_param)


def chains_sequential(images: Array, op_index: Array, op_param: Array, **kind) -> Array:
  """Runs [N] chains one by one: only the operations that were drawn. See `chains_batched`."""
  chain = functools.partial(_chain, **kind)
  return jax.lax.map(lambda work: chain(*work), (images, op_index, op_param))


def runs_sequentially() -> bool:
  """Whether chains run one by one: on a CPU that is the only device.

  Over a batch that lies on several devices, a loop would gather the whole of it on each.
  """
  return jax.default_backend() == "cpu" and jax.device_count() == 1


@functools.cache
def _batch_of_chains(**kind) -> Callable[[Array, Array, Array], Array]:
  """The function of [N] images and chains whose vmap is itself, on a longer batch."""

  @jax.custom_batching.custom_vmap
  def run(images: Array, op_index: Array, op_param: Array) -> Array:
    chains = chains_sequential if runs_sequentially() else chains_batched
    return chains(images, op_index, op_param, **kind)

  @run.def_vmap
  def _merge_axes(size: int, is_batched: list[bool], *arguments: Array) -> tuple[Array, bool]:
    merged = [
      (x if batched else jnp.broadcast_to(x[None], (size, *x.shape)))
      for x, batched in zip(arguments, is_batched)
    ]
    out = run(*[x.reshape(size * x.shape[1], *x.shape[2:]) for x in merged])
    return out.reshape(size, -1, *out.shape[1:]), True

  return run

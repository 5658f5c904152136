"""The 13 operations of AugMix by index, and chains of them.

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

from jaxnoise.augment import _color, _geometric
from jaxnoise.core.types import Array

BASE_OPERATIONS = (
  "autocontrast", "equalize", "posterize", "rotate", "solarize",
  "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
"""AugMix's operations, those that overlap with corruption benchmarks left out."""

ALL_OPERATIONS = (*BASE_OPERATIONS, "color", "contrast", "brightness", "sharpness")
"""All of AugMix's operations; an operation's index is its position here."""

# One branch serves the five geometric operations: they differ in six numbers only.
_BRANCHES = (
  "none", "autocontrast", "equalize", "posterize", "solarize", "geometric",
  "color", "contrast", "brightness", "sharpness",
)  # fmt: skip
_BRANCH_OF = np.array(
  [0]
  + [
    _BRANCHES.index("geometric" if name in _geometric.GEOMETRIC else name)
    for name in ALL_OPERATIONS
  ],
  np.int32,
)
_MATRIX_OF = np.array(
  [0]
  + [
    _geometric.GEOMETRIC.index(name) if name in _geometric.GEOMETRIC else 0
    for name in ALL_OPERATIONS
  ],
  np.int32,
)


def apply_operation(
  image: Array, index: Array | int, parameter: Array | float, *, all_ops: bool = True
) -> Array:
  """Applies one operation, chosen by its index at run time.

  Args:
    image: [H, W, C] uint8.
    index: scalar, position in `ALL_OPERATIONS`; -1 returns the image.
    parameter: scalar, what PIL would be given: bits kept, degrees counter-clockwise, threshold,
      shear, pixels or factor; ignored by autocontrast and equalize.
    all_ops: False compiles the nine base operations only; an index above 8 is then an error that
      nothing reports.

  Returns:
    [H, W, C] uint8, PIL's result to within one grey level.

  Example:
    >>> import jax.numpy as jnp
    >>> image = jnp.full((8, 8, 3), 200, jnp.uint8)
    >>> apply_operation(image, ALL_OPERATIONS.index("solarize"), 128)[0, 0].tolist()
    [55, 55, 55]
  """
  position = jnp.asarray(index, jnp.int32) + 1
  matrix = jnp.asarray(_MATRIX_OF)[position]

  def geometric(image: Array, parameter: Array) -> Array:
    matrices = _geometric.displacements(parameter, *image.shape[:2])
    return _geometric.affine(image, matrices[matrix])

  branches: tuple[Callable[[Array, Array], Array], ...] = (
    lambda image, _: image,
    lambda image, _: _color.autocontrast(image),
    lambda image, _: _color.equalize(image),
    _color.posterize,
    _color.solarize,
    geometric,
  )
  if all_ops:
    branches += (_color.color, _color.contrast, _color.brightness, _color.sharpness)
  parameter = jnp.asarray(parameter, jnp.float32)
  return jax.lax.switch(jnp.asarray(_BRANCH_OF)[position], branches, image, parameter)


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
  run = _batch_of_chains(all_ops)
  op_index, op_param = jnp.asarray(op_index, jnp.int32), jnp.asarray(op_param, jnp.float32)
  return run(image[None], op_index[None], op_param[None])[0]


def _chain(image: Array, op_index: Array, op_param: Array, *, all_ops: bool) -> Array:
  def body(place: int, image: Array) -> Array:
    return apply_operation(image, op_index[place], op_param[place], all_ops=all_ops)

  return jax.lax.fori_loop(0, op_index.shape[0], body, image)


def chains_batched(images: Array, op_index: Array, op_param: Array, *, all_ops: bool) -> Array:
  """Runs [N] chains side by side: every operation on every image, then a selection."""
  return jax.vmap(functools.partial(_chain, all_ops=all_ops))(images, op_index, op_param)


def chains_sequential(images: Array, op_index: Array, op_param: Array, *, all_ops: bool) -> Array:
  """Runs [N] chains one by one: only the operations that were drawn."""
  chain = functools.partial(_chain, all_ops=all_ops)
  return jax.lax.map(lambda work: chain(*work), (images, op_index, op_param))


def runs_sequentially() -> bool:
  """Whether chains run one by one: on a CPU that is the only device.

  Over a batch that lies on several devices, a loop would gather the whole of it on each.
  """
  return jax.default_backend() == "cpu" and jax.device_count() == 1


@functools.cache
def _batch_of_chains(all_ops: bool) -> Callable[[Array, Array, Array], Array]:
  """The function of [N] images and chains whose vmap is itself, on a longer batch."""

  @jax.custom_batching.custom_vmap
  def run(images: Array, op_index: Array, op_param: Array) -> Array:
    chains = chains_sequential if runs_sequentially() else chains_batched
    return chains(images, op_index, op_param, all_ops=all_ops)

  @run.def_vmap
  def _merge_axes(size: int, is_batched: list[bool], *arguments: Array) -> tuple[Array, bool]:
    merged = [
      (x if batched else jnp.broadcast_to(x[None], (size, *x.shape)))
      for x, batched in zip(arguments, is_batched)
    ]
    out = run(*[x.reshape(size * x.shape[1], *x.shape[2:]) for x in merged])
    return out.reshape(size, -1, *out.shape[1:]), True

  return run

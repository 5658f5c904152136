"""Where arrays live: one mesh, and the only file that names its axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, PyTree

LARGE = 2**14
"""Numbers in a parameter from which splitting it is worth the talk."""

_SPLIT = ("params", "opt_state", "ema_params")


def make_mesh(devices: Sequence[jax.Device] | None = None, *, seeds: int = 1) -> Mesh:
  """Makes the ("seed", "data") mesh: all devices along "data", or groups of them along "seed".

  Seeds exchange nothing, so as many groups of devices as possible, gcd(seeds, devices), have seeds
  of their own, and a batch is split over the devices of a group only.

  Axis types are spelled out: the default is Explicit, under which gathers by index fail.

  Args:
    devices: None means all of them, on every host.
    seeds: networks that one program trains and that may lie on different devices.

  Example:
    >>> import jax
    >>> from jaxnoise.training import sharding
    >>> dict(sharding.make_mesh(jax.devices()[:1], seeds=4).shape)
    {'seed': 1, 'data': 1}
  """
  devices = jax.devices() if devices is None else list(devices)
  grid = np.asarray(devices).reshape(math.gcd(seeds, len(devices)), -1)
  return Mesh(grid, ("seed", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def groups(mesh: Mesh) -> int:
  """How many groups of devices have seeds of their own."""
  return mesh.shape["seed"]


def one_group(mesh: Mesh) -> Mesh:
  """The same devices, all along "data": what one network alone is measured on."""
  return mesh if groups(mesh) == 1 else make_mesh(mesh.devices.flatten())


def of_seeds(mesh: Mesh) -> NamedSharding:
  """The sharding of arrays whose leading axis has a row for each seed."""
  return NamedSharding(mesh, PartitionSpec("seed")) if groups(mesh) > 1 else replicated(mesh)


def of_state(
  mesh: Mesh, shapes: TrainState, *, networks: int = 1, rows: Sequence[int] = (),
  parameters: bool = False,
) -> TrainState:  # fmt: skip
  """The shardings of a state, leaf by leaf.

  What each of several seeds has lies with its group of devices. Within a group, tables with a row
  for each example or row of a batch and further axes, [N, K] or [B, H, W, C], are split by rows;
  all else is copied, or with `parameters` split too.

  Args:
    mesh: the devices.
    shapes: of the state.
    networks: how many the state has; of several, leaves have a leading axis of them.
    rows: how many rows such tables have.
    parameters: split parameters, their averages and the optimizer's state of `LARGE` numbers and
      more along the longest axis that the devices divide.
  """
  first = ("seed",) if groups(mesh) > 1 else (None,) if networks > 1 else ()
  devices = mesh.shape["data"]

  def put(*axes: str | None) -> NamedSharding:
    named = (*first, *axes)
    # Without axes at the end that are not split: equal specs are then written alike.
    length = max((i + 1 for i, axis in enumerate(named) if axis), default=0)
    return NamedSharding(mesh, PartitionSpec(*named[:length]))

  def table(x: jax.ShapeDtypeStruct) -> NamedSharding:
    shape = x.shape[len(first) :]
    split = len(shape) > 1 and shape[0] in rows and shape[0] % devices == 0
    return put("data") if split else put()

  def parameter(x: jax.ShapeDtypeStruct) -> NamedSharding:
    shape = x.shape[len(first) :]
    fits = [size if size % devices == 0 else 0 for size in shape]
    if not parameters or math.prod(shape) < LARGE or not any(fits):
      return put()
    axis = fits.index(max(fits))
    return put(*(None,) * axis, "data")

  def of(field: str, x: jax.ShapeDtypeStruct) -> NamedSharding:
    if field in ("step", "teacher"):
      return replicated(mesh)
    if field == "method_state":
      return table(x)
    return parameter(x) if field in _SPLIT else put()

  return TrainState(**{
    field.name: jax.tree.map(lambda x, name=field.name: of(name, x), getattr(shapes, field.name))
    for field in dataclasses.fields(shapes)
  })


def gathered(tree: PyTree, mesh: Mesh) -> PyTree:
  """Asks the compiler for whole copies of split parameters, where they are used."""
  # Within `split_seeds` the mesh in force is another: its "seed" axis is not the compiler's.
  inside = not jax.sharding.get_abstract_mesh().empty
  return jax.lax.with_sharding_constraint(tree, PartitionSpec() if inside else replicated(mesh))


def split_seeds(
  fn: Callable[[PyTree, PyTree], PyTree], mesh: Mesh
) -> Callable[[PyTree, PyTree], PyTree]:
  """Turns fn(rows, shared) -> rows into one that each group of devices runs on its own rows.

  Args:
    fn: its first argument and its result have a leading axis that the groups divide.
    mesh: the batch stays split over "data" within a group, as the compiler sees fit.
  """
  own = PartitionSpec("seed")
  # What all rows share meets what they do not in loops of the method's own, which are not told.
  return jax.shard_map(
    fn, mesh=mesh, in_specs=(own, PartitionSpec()), out_specs=own, axis_names={"seed"},
    check_vma=False,
  )  # fmt: skip


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of parameters, small tables and resident data sets: a copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: the leading axis over "data"."""
  return NamedSharding(mesh, PartitionSpec("data"))


def constrain_batch(x: Array, mesh: Mesh) -> Array:
  """Asks the compiler to split the leading axis of x over the devices."""
  return jax.lax.with_sharding_constraint(x, batch(mesh))


def check_divides(mesh: Mesh, field: str, count: int, parts: int = 1) -> None:
  """Raises InputError unless `count` examples can be split evenly over the devices.

  Args:
    mesh: the devices.
    field: what the examples are, for the message.
    count: examples in a micro-batch.
    parts: micro-batches in a batch.
  """
  devices = mesh.shape["data"]
  if count % devices:
    micro = f" in micro-batches of {count} (config.accumulate is {parts})" if parts > 1 else ""
    raise InputError(
      f"{field} is {count * parts} examples{micro}, which {devices} devices cannot share evenly; "
      f"choose a multiple of {devices * parts}"
    )

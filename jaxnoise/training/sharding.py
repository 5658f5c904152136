"""Where arrays live: one mesh, and the only file that names its axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, PyTree


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


def of_state(mesh: Mesh) -> TrainState | NamedSharding:
  """The shardings of a state, as a prefix: of several seeds, what each has lies with its group."""
  own, shared = of_seeds(mesh), replicated(mesh)
  if groups(mesh) == 1:
    return shared
  return TrainState(
    step=shared, rng=own, params=own, batch_stats=own, opt_state=own, ema_params=own,
    ema_batch_stats=own, method_state=own, teacher=shared,
  )  # fmt: skip


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

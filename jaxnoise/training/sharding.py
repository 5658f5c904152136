"""Where arrays live: one mesh, and the only file that names its axes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Makes the ("seed", "data") mesh: all devices along "data".

  Axis types are spelled out: the default is Explicit, under which gathers by index fail.

  Args:
    devices: None means all of them, on every host.
  """
  devices = jax.devices() if devices is None else list(devices)
  grid = np.asarray(devices).reshape(1, len(devices))
  return Mesh(grid, ("seed", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


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

"""A resident data set on the device: uint8 arrays that are arguments of the compiled step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, Batch
from jaxnoise.data._resident import Pool, Source
from jaxnoise.data._stored import StoredImages

DeviceData: TypeAlias = Mapping[str, Any]
"""{"images": [N, H, W, C] uint8, "labels": [N] int32, "clean_labels": [N] int32, "pools": {...}};
"images" is there unless they are on disk. A pool of it is of the same form, without "pools"."""


def pool_data(pool: Pool, sharding: jax.sharding.Sharding | None = None) -> DeviceData:
  """Puts a pool on the device: a test set, a held-out part, one side pool.

  Args:
    pool: the host arrays.
    sharding: where they go; None means the default device.

  Returns:
    {"images", "labels", "clean_labels"}, each only where the pool has it in memory.

  Example:
    >>> from jaxnoise import data
    >>> held_out = data.pool_data(data.generated(num_test=8).test)
    >>> held_out["images"].shape, held_out["images"].dtype
    ((8, 8, 8, 3), dtype('uint8'))
  """
  return put(_arrays(pool), sharding)


def device_data(source: Source, sharding: jax.sharding.Sharding | None = None) -> DeviceData:
  """Puts the training set and its extra pools on the device, images as uint8.

  The result is an argument of the compiled step, never a constant in it. For a run of several seeds
  the images are shared and each seed replaces its labels: `{**data, "labels": labels[s]}`.

  Args:
    source: the host arrays.
    sharding: where they go; None means the default device.

  Returns:
    {"images" [N, H, W, C] uint8 unless they are on disk, "labels" [N] int32, "clean_labels" [N]
    int32 where the labels are noisy, "pools": {name: {"images", "labels", ...}}}.

  Example:
    >>> from jaxnoise import data
    >>> source = data.generated(num_train=40, num_classes=4).trusted(8, seed=0)
    >>> arrays = data.device_data(source)
    >>> arrays["images"].shape, arrays["pools"]["trusted"]["labels"].shape
    ((32, 8, 8, 3), (8,))
  """
  return put(host_data(source), sharding)


def put(arrays: Any, sharding: jax.sharding.Sharding | None = None) -> Any:
  """Puts a tree of host arrays on the device; over several processes, each puts what it has.

  There every process must have the same arrays, which is not checked: `jax.device_put` would send
  them all to one another for that.

  Args:
    arrays: numpy arrays.
    sharding: where they go; None means the default device.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data
    >>> data.put({"labels": np.arange(3)})["labels"].tolist()
    [0, 1, 2]
  """
  if sharding is None or sharding.is_fully_addressable:
    return jax.device_put(arrays, sharding)

  def one(array: Any) -> Array:
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

  return jax.tree.map(one, arrays)


def host_data(source: Source) -> dict[str, Any]:
  """The arrays that `device_data` puts on the device, as they are on the host; nothing is copied.

  Example:
    >>> from jaxnoise import data
    >>> sorted(data.host_data(data.generated()))
    ['images', 'labels', 'pools']
  """
  pools = {name: _arrays(pool) for name, pool in source.extra_pools.items()}
  return {**_arrays(source.train), "pools": pools}


def pool_of(data: DeviceData, name: str) -> DeviceData:
  """The arrays of the pool `name`; "train" is the training set itself and takes no memory twice.

  Raises:
    InputError: there is no such pool.
  """
  pools = data.get("pools", {})
  if name != "train" and name not in pools:
    raise InputError(
      f"pool {name!r}: a side batch draws from it, but the data set has {sorted(['train', *pools])}"
      "; add it to the data (a trusted pool by data.trusted = COUNT)"
    )
  return data if name == "train" else pools[name]


def gather(data: DeviceData, indices: Array, mask: Array | None = None) -> Batch:
  """Makes a batch of the examples at `indices`; call it inside the compiled step.

  image = images[indices] / 255, within one float32 rounding of the exact quotient, 0 and 1 exact.

  Args:
    data: a training set or a pool, from `device_data`, `pool_data` or `pool_of`.
    indices: [B] integers in 0..N-1; one out of range is not detected.
    mask: [B] float32, 0 for padding rows, or None.

  Returns:
    image [B, H, W, C] float32 in [0, 1]; index [B] int32, the positions in `data`; label [B] int32
    and clean_label [B] int32 where `data` has them; mask where it is given.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import data
    >>> arrays = data.device_data(data.generated())
    >>> batch = jax.jit(data.gather)(arrays, jnp.array([3, 1]))
    >>> batch["image"].shape, batch["image"].dtype, batch["index"].tolist()
    ((2, 8, 8, 3), dtype('float32'), [3, 1])
  """
  return labelled(data, data["images"][indices], indices, mask)


def labelled(
  data: DeviceData, images: Array, indices: Array, mask: Array | None = None
) -> Batch:
  """Makes a batch of given images, such as a stream's, and what `data` says of the examples.

  Args:
    data: as in `gather`; its "images" are not read.
    images: [B, H, W, C] uint8, or [B, V, H, W, C].
    indices: [B] integers in 0..N-1, the examples.
    mask: [B] float32, or None.

  Returns:
    As `gather`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import data
    >>> arrays = {"labels": jnp.array([4, 5, 6])}
    >>> batch = data.labelled(arrays, jnp.full((2, 8, 8, 3), 255, jnp.uint8), jnp.array([2, 0]))
    >>> batch["label"].tolist(), float(batch["image"].max())
    ([6, 4], 1.0)
  """
  batch: Batch = {
    "image": images.astype(jnp.float32) / 255.0,
    "index": indices.astype(jnp.int32),
  }
  if "labels" in data:
    batch["label"] = data["labels"][indices]
  if "clean_labels" in data:
    batch["clean_label"] = data["clean_labels"][indices]
  if mask is not None:
    batch["mask"] = mask.astype(jnp.float32)
  return batch


def _arrays(pool: Pool) -> dict[str, Any]:
  arrays = {"images": pool.images, "labels": pool.labels, "clean_labels": pool.clean_labels}
  kept = {name: array for name, array in arrays.items() if array is not None}
  return {name: a for name, a in kept.items() if not isinstance(a, StoredImages)}

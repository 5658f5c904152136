"""What a step is fed: the orders of an epoch, or the next batch of images that stream from disk.

A feed is asked with the state and its step, and keeps nothing that a resumed run would miss. The
feed of a stream decodes `data.AHEAD` batches ahead, by threads, and puts them on the devices as
they are ready, so that a step waits for none of it unless decoding is slower than training.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import data as data_lib
from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, PyTree
from jaxnoise.training import sharding
from jaxnoise.training import step as step_lib

if TYPE_CHECKING:
  from jaxnoise.training.build import Run


class Feed(Protocol):
  """(state, its step) -> the `orders` of that step.

  Attributes:
    waited: seconds that steps have waited for images.
  """

  waited: float

  def __call__(self, state: TrainState, step: int) -> PyTree:
    """What the compiled step is given."""

  def close(self) -> None:
    """Ends the threads, if there are any."""


def make_feed(run: Run, programs: Any, data: PyTree) -> Feed:
  """The feed of a run.

  Args:
    run: assembled.
    programs: `training.programs.Programs` of the run.
    data: the arrays on the devices.
  """
  return Streamed(run, programs, data) if run.source.streamed else Resident(run, programs, data)


class Resident:
  """The orders of an epoch, made once for all of its steps."""

  waited = 0.0

  def __init__(self, run: Run, programs: Any, data: PyTree):
    self._run, self._programs, self._data = run, programs, data
    self._epoch, self._orders = -1, None

  def __call__(self, state: TrainState, step: int) -> PyTree:
    epoch = step // self._run.spec.steps_per_epoch
    if epoch != self._epoch:
      self._orders = self._programs.epoch_orders(state, self._data, epoch)
      self._epoch = epoch
    return self._orders

  def close(self) -> None:
    """Nothing runs."""


class Streamed:
  """The batches of a stream: every step its own, in the order that data in memory is visited in.

  Each host decodes its rows of a batch. All that touches the devices happens in the calling thread,
  in the same order on every host; the threads decode and nothing else.
  """

  def __init__(self, run: Run, programs: Any, data: PyTree):
    self._run, self._programs, self._data = run, programs, data
    self._replays = run.method.replays
    self._draws = -(-run.spec.num_steps // self._replays)
    self._crop = data_lib.Crop(**run.config["first"])
    self._decoder = data_lib.Decoder(run.source.images.threads)
    self._orders: dict[int, tuple[np.ndarray, dict[str, Array]]] = {}
    self._begun: dict[int, _Begun] = {}
    self._passed: collections.deque[Array] = collections.deque()
    self._draw, self._current = -1, None
    self.waited = 0.0

  def __call__(self, state: TrainState, step: int) -> PyTree:
    draw = step // self._replays
    if draw != self._draw:
      self._keep_pace(state)
      for number in range(draw, min(draw + 1 + data_lib.AHEAD, self._draws)):
        if number not in self._begun:
          self._begun[number] = self._begin(state, number)
      began = time.perf_counter()
      batch = self._begun.pop(draw).placed()
      self.waited += time.perf_counter() - began
      for begun in self._begun.values():
        begun.place_if_done()
      _, sides = self._of_epoch(state, draw)
      self._draw, self._current = draw, {"batch": batch, **sides}
    return self._current

  def close(self) -> None:
    """Ends the threads; batches that were not begun are dropped."""
    self._decoder.close()

  def _of_epoch(self, state: TrainState, draw: int) -> tuple[np.ndarray, dict[str, Array]]:
    """The order of a batch's epoch, on the host, and those of its side batches."""
    epoch = draw // self._programs.batches_per_epoch
    if epoch not in self._orders:
      orders = dict(self._programs.epoch_orders(state, self._data, epoch))
      # Two epochs at most: batches are begun ahead.
      self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
      self._orders[epoch] = np.asarray(orders.pop("train")), orders
    return self._orders[epoch]

  def _begin(self, state: TrainState, draw: int) -> _Begun:
    run, size = self._run, self._run.spec.batch_size
    order, _ = self._of_epoch(state, draw)
    at = draw % self._programs.batches_per_epoch * size
    index = order[at : at + size].astype(np.int32)
    rows = data_lib.host_slice(len(index), jax.process_index(), jax.process_count())
    images, views = run.source.images, run.host_crops
    if views:
      numbers = data_lib.crop_numbers(run.config["seed"], draw, rows, views)
      filling = self._decoder.crops(images, index[rows], self._crop, numbers)
    else:
      filling = self._decoder.squares(images, index[rows])
    return _Begun(filling, index, index[rows], run.mesh)

  def _keep_pace(self, state: TrainState) -> None:
    """Waits until the step before the last is done: batches on the devices take memory."""
    # A copy, because the step that comes donates its state.
    self._passed.append(state.step + 0)
    if len(self._passed) > data_lib.AHEAD:
      self._passed.popleft().block_until_ready()


class _Begun:
  """A batch on its way: decoded by threads, then put on the devices."""

  def __init__(self, filling: data_lib.Filling, index: np.ndarray, own: np.ndarray, mesh: Any):
    self._filling, self._index, self._own = filling, index, own
    self._mesh, self._placed = mesh, None

  def place_if_done(self) -> None:
    """Puts it on the devices if that needs no waiting; a bad image is told when its step comes."""
    if self._filling.done():
      with contextlib.suppress(InputError):
        self.placed()

  def placed(self) -> dict[str, Array]:
    """The batch on the devices, split over them."""
    if self._placed is None:
      lies, count = sharding.batch(self._mesh), len(self._index)
      parts = {"image": self._filling.result(), "index": self._own}
      self._placed = {
        name: jax.make_array_from_process_local_data(lies, part, (count, *part.shape[1:]))
        for name, part in parts.items()
      }
    return self._placed


class StreamedPass:
  """The pass over a training set that streams: (state, data) -> state, batch by batch.

  Images are the central squares, as data in memory has them, and so are the tables.

  Args:
    run: of one network, its method with an `example_pass`.
    batch_size: images at a time.
    states: the shardings of the state.
  """

  def __init__(self, run: Run, batch_size: int, states: PyTree):
    self._run, self._size = run, batch_size
    parts, everywhere = step_lib.pass_parts(run.method, run.spec), sharding.replicated(run.mesh)
    self._shuffled = run.method.shuffled_pass
    self._order = jax.jit(parts.order, out_shardings=everywhere)

    def collect(state, carry, data, given, start):
      batch_stats, tables = carry
      rows = start + jnp.arange(batch_size, dtype=jnp.int32)
      batch = data_lib.labelled(data, given["image"], given["index"])
      batch_stats, values = parts.collect(state, batch_stats, batch, rows)
      if tables is None:
        return batch_stats, values
      put = jax.lax.dynamic_update_slice_in_dim
      return batch_stats, {name: put(tables[name], v, start, 0) for name, v in values.items()}

    self._shapes = collect
    self._collect = jax.jit(collect, donate_argnums=1, out_shardings=everywhere)
    self._finish = jax.jit(
      lambda state, carry: parts.finish(state, *carry), donate_argnums=0, out_shardings=states
    )

  def __call__(self, state: TrainState, data: PyTree) -> TrainState:
    images, count = self._run.source.images, self._run.spec.num_train
    order = np.asarray(self._order(state)) if self._shuffled else np.arange(count)
    indices, _ = data_lib.padded_batches(count, self._size)
    indices = order[indices].astype(np.int32)
    labels = {name: data[name] for name in ("labels", "clean_labels") if name in data}
    carry = None
    for number, given in enumerate(placed_squares(images, indices, self._run.mesh)):
      start = np.int32(number * self._size)
      if carry is None:
        # Copies: the carry is donated, the state is not.
        stats = jax.tree.map(jnp.copy, state.batch_stats)
        _, values = jax.eval_shape(self._shapes, state, (stats, None), labels, given, start)
        rows = len(indices) * self._size
        tables = {n: np.zeros((rows, *v.shape[1:]), v.dtype) for n, v in values.items()}
        carry = (stats, data_lib.put(tables, sharding.replicated(self._run.mesh)))
      carry = self._collect(state, carry, labels, given, start)
    return self._finish(state, carry)


def placed_squares(
  images: data_lib.StoredImages, indices: np.ndarray, mesh: Any
) -> Iterator[dict[str, Array]]:
  """Yields {"image", "index"} of each row of indices [M, B], split over the devices of a mesh."""
  lies, size = sharding.batch(mesh), indices.shape[1]
  rows = data_lib.host_slice(size, jax.process_index(), jax.process_count())
  for index, local in zip(indices, data_lib.square_batches(images, indices[:, rows]), strict=True):
    parts = {"image": local, "index": index[rows]}
    yield {
      name: jax.make_array_from_process_local_data(lies, part, (size, *part.shape[1:]))
      for name, part in parts.items()
    }


def batch_shapes(run: Run, orders: Mapping[str, Any]) -> dict[str, Any]:
  """The shapes of what a stream feeds a step, given those of an epoch's orders."""
  size, lies = run.spec.batch_size, sharding.batch(run.mesh)
  shape = run.spec.image_shape
  if run.host_crops:
    shape = (run.host_crops, *data_lib.Crop(**run.config["first"]).shape(shape))
  batch = {
    "image": jax.ShapeDtypeStruct((size, *shape), np.uint8, sharding=lies),
    "index": jax.ShapeDtypeStruct((size,), np.int32, sharding=lies),
  }
  return {"batch": batch, **{name: x for name, x in orders.items() if name != "train"}}


def check(run: Run) -> None:
  """Refuses what a stream cannot serve.

  Raises:
    InputError: several networks in one program, several steps in one call, devices whose hosts
      alternate, or side batches from the training set.
  """
  if not run.source.streamed:
    return
  if run.config["steps_per_call"] > 1:
    raise InputError(
      f"config.data.stream is True with config.steps_per_call {run.config['steps_per_call']}: a "
      "stream brings one batch at a time; set config.steps_per_call=1"
    )
  hosts = [device.process_index for device in run.mesh.devices.flatten()]
  if hosts != sorted(hosts):
    raise InputError(
      f"config.data.stream is True, but the mesh's devices lie on the hosts {hosts}; each host "
      "reads one run of a batch's rows, so give the devices in the order of their process_index"
    )
  several = run.config["seeds"] > 1 or bool(run.config["sweep"])
  if several:
    raise InputError(
      f"config.data.stream is True with config.seeds {run.config['seeds']} and config.sweep "
      f"{dict(run.config['sweep'])}: every network of one program would have images of its own to "
      "decode; run one seed at a time"
    )
  for side in run.method.side_batches:
    if side.pool == "train":
      raise InputError(
        f"config.data.stream is True, but {run.method.name} draws its batches {side.name!r} from "
        "the training set itself by what it has learnt, which a stream cannot foresee; set "
        "config.data.stream=False"
      )

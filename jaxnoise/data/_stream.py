"""Batches of images on disk, decoded by threads ahead of the step that wants them.

A batch is a function of its number and its indices: which threads decoded it, and on how many
hosts, changes nothing. There is no state to save.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._stored import StoredImages
from jaxnoise.data._stream_crops import Crop, first_crops

AHEAD = 2
"""Batches that are decoded, or being decoded, beyond the one in use."""

_CHUNK = 16


class Filling:
  """A batch being decoded. `result` waits for it."""

  def __init__(self, out: np.ndarray, jobs: list[concurrent.futures.Future[None]]):
    self._out, self._jobs = out, jobs

  def done(self) -> bool:
    """Whether `result` would not wait."""
    return all(job.done() for job in self._jobs)

  def result(self) -> np.ndarray:
    """The batch.

    Raises:
      InputError: an image that could not be read, by the name of its file.
    """
    for job in self._jobs:
      job.result()
    return self._out


class Decoder:
  """Threads that decode batches.

  Args:
    threads: how many; 0 for one per core.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.data import _stream
    >>> with _stream.Decoder(2) as decoder:
    ...   batch = decoder.fill(3, (2,), lambda row: np.full(2, row))
    ...   batch.result().tolist()
    [[0, 0], [1, 1], [2, 2]]
  """

  def __init__(self, threads: int = 0):
    self.threads = check_threads(threads) or os.cpu_count() or 1
    self._pool = concurrent.futures.ThreadPoolExecutor(self.threads, "decode")

  def __enter__(self) -> Decoder:
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def close(self) -> None:
    """Ends the threads; what is not begun is dropped."""
    self._pool.shutdown(cancel_futures=True)

  def fill(
    self, count: int, shape: tuple[int, ...], row: Callable[[int], np.ndarray]
  ) -> Filling:
    """Begins a uint8 batch [count, *shape] whose row r is `row(r)`."""
    out = np.empty((count, *shape), np.uint8)

    def part(start: int, stop: int) -> None:
      for r in range(start, stop):
        out[r] = row(r)

    size = max(1, min(_CHUNK, -(-count // self.threads)))
    jobs = [
      self._pool.submit(part, start, min(start + size, count)) for start in range(0, count, size)
    ]
    return Filling(out, jobs)

  def squares(self, images: StoredImages, index: np.ndarray) -> Filling:
    """Begins the batch of images as the stack has them, [b, H, W, 3]."""
    return self.fill(len(index), images.shape[1:], lambda r: images.square(int(index[r])))

  def crops(
    self, images: StoredImages, index: np.ndarray, crop: Crop, numbers: np.ndarray
  ) -> Filling:
    """Begins a batch of random first crops, [b, V, H', W', 3], every view of an image its own.

    Args:
      images: the stack.
      index: [b] which images.
      crop: what to do.
      numbers: [b, V, 23], from `crop_numbers`.
    """
    shape = (numbers.shape[1], *crop.shape(images.shape[1:]))
    return self.fill(
      len(index), shape, lambda r: first_crops(images, int(index[r]), crop, numbers[r])
    )


def square_batches(images: StoredImages, indices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """Yields the images of one list of indices after the other, [b, H, W, 3], decoded ahead.

  Args:
    images: the stack; its `threads` decode.
    indices: [b] each.
  """
  with Decoder(images.threads) as decoder:
    indices = iter(indices)
    begun = collections.deque(
      decoder.squares(images, index) for index in itertools.islice(indices, AHEAD + 1)
    )
    while begun:
      batch = begun.popleft().result()
      begun.extend(decoder.squares(images, index) for index in itertools.islice(indices, 1))
      yield batch


def host_slice(count: int, process: int, processes: int) -> slice:
  """The rows of a global batch that one of several hosts decodes: contiguous, in host order.

  Args:
    count: rows of the global batch.
    process: which host, from 0.
    processes: how many.

  Raises:
    InputError: the hosts cannot share the batch evenly.

  Example:
    >>> from jaxnoise.data import _stream
    >>> _stream.host_slice(6, 1, 2)
    slice(3, 6, None)
  """
  if count % processes:
    raise InputError(
      f"a batch has {count} examples, which {processes} hosts cannot share evenly; choose a "
      f"multiple of {processes}"
    )
  size = count // processes
  return slice(process * size, (process + 1) * size)


def check_threads(threads: Any) -> int:
  """Checks `config.data.threads`: a whole number, 0 for one per core."""
  if not isinstance(threads, int) or isinstance(threads, bool) or threads < 0:
    raise InputError(
      f"config.data.threads is {threads!r}; it must be a number of threads, or 0 for one per core"
    )
  return threads

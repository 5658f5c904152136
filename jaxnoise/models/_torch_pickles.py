"""Reads files of `torch.save` without PyTorch and without running anything that they name.

Such a file is a pickle, that is a small program that may call any importable function, beside the
raw bytes of its tensors. The reader here hands that program stand-ins for the few constructors that
weights need and refuses every other name; the stand-ins only take notes of where the bytes are.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from jaxnoise.core import InputError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001

# bfloat16 is the upper half of a float32: read as uint16 and widened.
BFLOAT16 = np.dtype("V2")
_STORAGES = {
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": BFLOAT16,
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}


def widen(array: np.ndarray) -> np.ndarray:
  """A copy in the machine's byte order; bfloat16 becomes float32."""
  if array.dtype != BFLOAT16:
    return array.astype(array.dtype.newbyteorder("="))
  halves = np.ascontiguousarray(array).view("<u2").reshape(array.shape)
  return (halves.astype(np.uint32) << 16).view(np.float32)


class _Fixed:
  """What a pickle can name or hold, and not change: without this it could set any attribute."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError(f"it sets the state of a {type(self).__name__.strip('_').lower()}")


class _Kind(_Fixed):
  """Stands in for a type of storage."""

  __slots__ = ("dtype",)

  def __init__(self, dtype: np.dtype):
    self.dtype = dtype


class _Function(_Fixed):
  """Stands in for a function: a pickle can call it and do nothing else with it."""

  __slots__ = ("_function",)

  def __init__(self, function: Callable[..., Any]):
    self._function = function

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)


class _Storage(_Fixed):
  """The bytes of one or several tensors, read when a tensor first asks for them."""

  __slots__ = ("_load", "dtype", "key", "length")

  def __init__(self, load: Callable[[str, int], bytes], dtype: np.dtype, key: str, length: int):
    self._load, self.dtype, self.key, self.length = load, dtype, key, length

  def array(self) -> np.ndarray:
    return np.frombuffer(self._load(self.key, self.length * self.dtype.itemsize), self.dtype)


class Tensor(_Fixed):
  """Where a tensor's values are in a storage."""

  __slots__ = ("offset", "shape", "storage", "strides")

  def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *ignored: Any):
    # Tuples of our own: the pickle could still change a list after it was checked.
    self.storage, self.offset = storage, offset
    self.shape, self.strides = tuple(shape), tuple(strides)
    if not isinstance(storage, _Storage) or len(self.shape) != len(self.strides):
      raise pickle.UnpicklingError("it holds a tensor that is not made of a storage")
    numbers = (offset, *self.shape, *self.strides)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
      raise pickle.UnpicklingError("it holds a tensor of a negative size or stride")

  def array(self) -> np.ndarray:
    if 0 in self.shape:
      return widen(np.zeros(self.shape, self.storage.dtype))
    values = self.storage.array()
    last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
    if last >= len(values):
      raise ValueError(
        f"it holds a tensor {list(self.shape)} that reaches past the end of its storage"
      )
    steps = tuple(step * values.itemsize for step in self.strides)
    return widen(np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps))


class _Dict(dict):
  """Stands in for OrderedDict; the attributes that a state_dict carries are left behind."""

  def __setstate__(self, state: Any) -> None:
    del state


def _rebuild_parameter(data: Any, *ignored: Any) -> Any:
  return data


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
  ("collections", "OrderedDict"): _Dict,
  ("torch._utils", "_rebuild_tensor_v2"): Tensor,
  ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Refused(pickle.UnpicklingError):
  pass


class _Reader(pickle.Unpickler):
  def __init__(self, file: BinaryIO, load: Callable[[str, int], bytes] | None = None):
    super().__init__(file, encoding="utf-8")
    self._load = load
    self.itemsizes: dict[str, int] = {}

  def find_class(self, module: str, name: str) -> Any:
    if module == "torch" and name in _STORAGES:
      return _Kind(_STORAGES[name])
    if (module, name) in _CONSTRUCTORS:
      return _Function(_CONSTRUCTORS[module, name])
    raise _Refused(f"{module}.{name}")

  def persistent_load(self, pid: Any) -> _Storage:
    what, kind, key, _, length, *view = pid
    if self._load is None or what != "storage" or not isinstance(kind, _Kind) or any(view):
      raise pickle.UnpicklingError("it holds something else than storages outside its pickle")
    if not isinstance(key, str) or not isinstance(length, int) or length < 0:
      raise pickle.UnpicklingError("it holds a storage without a name or length")
    self.itemsizes[key] = kind.dtype.itemsize
    return _Storage(self._load, kind.dtype, key, length)


def read_pickled(file: BinaryIO) -> Any:
  """Reads what `torch.save` wrote: dictionaries, lists, numbers, text and `Tensor`s, which are read
  while the file is open.

  Raises:
    InputError: if the pickle names anything but what weights need.
    Exception: anything else, for a damaged file.
  """
  start = file.read(4)
  file.seek(0)
  try:
    content = _read_zip(file) if start == b"PK\x03\x04" else _read_legacy(file)
  except _Refused as error:
    raise InputError(
      f"{file.name}: its pickle names {error}, which is not run here; where the file was made, "
      "load it and save the weights alone: torch.save(model.state_dict(), path)"
    ) from error
  return content


def _read_zip(file: BinaryIO) -> Any:
  archive = zipfile.ZipFile(file)
  sizes = {info.filename: info.file_size for info in archive.infolist()}
  pickles = [name for name in sizes if name.endswith("/data.pkl") and name.count("/") == 1]
  if len(pickles) != 1:
    raise ValueError("it is a zip archive without one data.pkl")
  folder = pickles[0].removesuffix("data.pkl")
  order = f"{folder}byteorder"
  if order in sizes and archive.read(order) != b"little":
    raise ValueError("it was written on a machine of the other byte order")

  @functools.lru_cache(maxsize=1)  # tensors that share a storage mostly follow one another
  def load(key: str, size: int) -> bytes:
    name = f"{folder}data/{key}"
    if sizes.get(name) != size:
      raise ValueError(f"storage {key!r} has {sizes.get(name, 0)} bytes, its tensors need {size}")
    return archive.read(name)

  return _Reader(io.BytesIO(archive.read(pickles[0])), load).load()


def _read_legacy(file: BinaryIO) -> Any:
  """Magic number, version, facts of the machine, the object, storage keys: five pickles; then for
  each storage its length as int64 and its values."""
  if _Reader(file).load() != _LEGACY_MAGIC or _Reader(file).load() != _LEGACY_VERSION:
    raise ValueError("it does not begin as torch.save begins a file")
  if not _Reader(file).load()["little_endian"]:
    raise ValueError("it was written on a machine of the other byte order")
  places: dict[str, tuple[int, int]] = {}

  @functools.lru_cache(maxsize=1)
  def load(key: str, size: int) -> bytes:
    start, length = places.get(key, (0, 0))
    if length != size:
      raise ValueError(f"storage {key!r} has {length} bytes, its tensors need {size}")
    file.seek(start)
    return file.read(size)

  reader = _Reader(file, load)
  content = reader.load()
  for key in _Reader(file).load():
    length = int.from_bytes(file.read(8), "little") * reader.itemsizes[key]
    places[key] = file.tell(), length
    if length > os.fstat(file.fileno()).st_size - file.tell():
      raise ValueError(f"storage {key!r} is cut")
    file.seek(length, os.SEEK_CUR)
  return content

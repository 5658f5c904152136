"""Reads files of PyTorch weights without PyTorch and without running anything that they name.

A `.pt` file is a pickle, that is a small program that may call any importable function, beside the
raw bytes of its tensors. The reader here hands that program stand-ins for the few constructors that
weights need and refuses every other name; the stand-ins only take notes of where the bytes are.
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from jaxnoise.core import InputError

_WRAPPERS = (
  "state_dict", "model", "net", "ema", "model_state_dict", "state_dict_ema", "model_ema",
)  # fmt: skip
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001

# bfloat16 is the upper half of a float32: read as uint16 and widened.
_BFLOAT16 = np.dtype("V2")
_STORAGES = {
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": _BFLOAT16,
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}
_SAFETENSORS = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": _BFLOAT16,
  "I64": np.dtype("<i8"),
  "I32": np.dtype("<i4"),
  "I16": np.dtype("<i2"),
  "I8": np.dtype("i1"),
  "U8": np.dtype("u1"),
  "BOOL": np.dtype("?"),
}


def read_torch(path: str | os.PathLike[str], key: str | None = None) -> dict[str, np.ndarray]:
  """Reads a file of PyTorch weights as arrays by name, in the file's order.

  The formats are those of `torch.save` (`.pt`, `.pth`, `.tar` or any other ending; the zip archives
  that PyTorch writes since 1.6, and the form before it), `.npz` and `.safetensors`. No code of the
  file runs: a pickle may name dictionaries, tensors, parameters and storages, and any other name
  is refused, so a file that holds a whole module or the options of a script has to be saved anew.

  What training scripts put around the weights is taken off: a dictionary that holds them under
  "state_dict", "model", "net" or "ema"; "module." and "_orig_mod." before names (from
  `DataParallel` and `torch.compile`); and counters (`num_batches_tracked`, `n_averaged`).

  Args:
    path: the file.
    key: which entry of a nested file holds the weights; needed where several may.

  Returns:
    Arrays of the file's shapes and types; bfloat16 becomes float32.

  Raises:
    InputError: no such file, a damaged one, one whose pickle names anything else, or one in which
      the weights cannot be told from other entries.

  Example:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from jaxnoise import models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
    >>> np.savez(path, **{"module.fc.weight": np.zeros((10, 64))})
    >>> {name: array.shape for name, array in models.read_torch(path).items()}
    {'fc.weight': (10, 64)}
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(
      f"{path}: there is no such file; expected weights written by torch.save, .npz or .safetensors"
    )
  readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
  read = readers.get(path.suffix.lower(), _read_pickled)
  try:
    with path.open("rb") as file:
      return flatten(read(file), str(path), key)
  except InputError:
    raise
  except Exception as error:  # a damaged file may raise anything
    reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(
      f"{path}: cannot be read as PyTorch weights ({reason}); get the file again, or save the "
      "network's state_dict() anew"
    ) from error


def flatten(content: Any, where: str, key: str | None = None) -> dict[str, np.ndarray]:
  """Finds the state dict in what a file or a caller holds, and cleans its names.

  Args:
    content: a mapping of arrays by name, or a nesting of mappings around one.
    where: what the messages call it.
    key: which entry holds the weights.

  Raises:
    InputError: if there are no arrays, or several entries that may be the weights.

  Example:
    >>> import numpy as np
    >>> flatten({"epoch": 3, "net": {"module.fc.bias": np.zeros(2)}}, "mine")
    {'fc.bias': array([0., 0.])}
  """
  if key is not None:
    if not isinstance(content, Mapping) or not isinstance(content.get(key), Mapping):
      raise InputError(f"{where}: has no nested entry {key!r}, only {_listed(content)}")
    content = content[key]
  if not isinstance(content, Mapping):
    raise InputError(
      f"{where}: holds a {type(content).__name__}, expected arrays by name (a state_dict)"
    )
  nested = [name for name, value in content.items() if _holds_arrays(value)]
  wrapped = [name for name in nested if name in _WRAPPERS]
  arrays = {str(name): value for name, value in content.items() if _is_array(value)}
  if len(wrapped) == 1 and not any("." in name for name in arrays):
    return flatten(content[wrapped[0]], where)
  if len(wrapped) > 1 or (nested and not any("." in name for name in arrays)):
    raise InputError(
      f"{where}: several entries may be the weights, or none is called state_dict, model, net or "
      f"ema; name the one to read, as in read_torch(path, key={str((wrapped or nested)[0])!r}); it "
      f"has {_listed(content)}"
    )
  if not arrays:
    raise InputError(f"{where}: holds no arrays, only {_listed(content)}; expected a state_dict")
  out: dict[str, np.ndarray] = {}
  for name, value in arrays.items():
    clean = re.sub(r"^((module|_orig_mod)\.)+", "", name)
    if clean.rpartition(".")[2] in ("num_batches_tracked", "n_averaged"):
      continue
    if clean in out:
      raise InputError(f"{where}: {clean} is there twice, once as {name}; keep one of the two")
    out[clean] = value.array() if isinstance(value, _Tensor) else np.asarray(value)
  return out


def _is_array(value: Any) -> bool:
  return isinstance(value, _Tensor) or hasattr(value, "__array__")


def _holds_arrays(value: Any, depth: int = 3) -> bool:
  return depth > 0 and isinstance(value, Mapping) and any(
    _is_array(entry) or _holds_arrays(entry, depth - 1) for entry in value.values()
  )


def _listed(content: Any) -> str:
  names = [repr(name) for name in content] if isinstance(content, Mapping) else []
  return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def _read_npz(file: BinaryIO) -> Any:
  with np.load(file, allow_pickle=False) as archive:
    arrays = {name: archive[name] for name in archive.files}
  for name, array in arrays.items():
    if array.dtype.kind not in "biuf":
      raise ValueError(f"{name} has the type {array.dtype}")
  return arrays


def _read_safetensors(file: BinaryIO) -> Any:
  content = memoryview(file.read())
  length = int.from_bytes(content[:8], "little")
  if len(content) < 8 or length > len(content) - 8:
    raise ValueError("its header is cut")
  header = json.loads(bytes(content[8 : 8 + length]))
  body = content[8 + length :]
  out = {}
  for name, entry in header.items():
    if name == "__metadata__":
      continue
    if entry["dtype"] not in _SAFETENSORS:
      raise ValueError(f"{name} has the type {entry['dtype']}")
    dtype, shape = _SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    size = math.prod(shape) * dtype.itemsize
    if min((0, *shape)) < 0 or not 0 <= begin <= end <= len(body) or end - begin != size:
      raise ValueError(f"{name} {list(shape)} does not fit the bytes {begin} to {end}")
    out[name] = _widen(np.frombuffer(body[begin:end], dtype).reshape(shape))
  return out


def _widen(array: np.ndarray) -> np.ndarray:
  """A copy in the machine's byte order; bfloat16 becomes float32."""
  if array.dtype != _BFLOAT16:
    return array.astype(array.dtype.newbyteorder("="))
  halves = np.ascontiguousarray(array).view("<u2").reshape(array.shape)
  return (halves.astype(np.uint32) << 16).view(np.float32)


class _Storage:
  """The bytes of one or several tensors, read when a tensor first asks for them."""

  __slots__ = ("_load", "dtype", "key", "length")

  def __init__(self, load: Callable[[str, int], bytes], dtype: np.dtype, key: str, length: int):
    self._load, self.dtype, self.key, self.length = load, dtype, key, length

  def array(self) -> np.ndarray:
    return np.frombuffer(self._load(self.key, self.length * self.dtype.itemsize), self.dtype)


class _Tensor:
  """Where a tensor's values are in a storage."""

  __slots__ = ("offset", "shape", "storage", "strides")

  def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *ignored: Any):
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
      raise pickle.UnpicklingError("it holds a tensor that is not made of a storage")
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
      raise pickle.UnpicklingError("it holds a tensor of a negative size or stride")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
    if 0 not in shape and last >= storage.length:
      raise pickle.UnpicklingError(
        f"it holds a tensor {list(shape)} that reaches past the end of its storage"
      )
    self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

  def array(self) -> np.ndarray:
    if 0 in self.shape:
      return _widen(np.zeros(self.shape, self.storage.dtype))
    values = self.storage.array()[self.offset :]
    steps = tuple(step * values.itemsize for step in self.strides)
    return _widen(np.lib.stride_tricks.as_strided(values, self.shape, steps))


class _Dict(dict):
  """Stands in for OrderedDict; the attributes that a state_dict carries are left behind."""

  def __setstate__(self, state: Any) -> None:
    del state


class _Constructor:
  """A function that a pickle can call and do nothing else with."""

  __slots__ = ("_function",)

  def __init__(self, function: Callable[..., Any]):
    self._function = function

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError("it sets the state of a function")


def _rebuild_parameter(data: Any, *ignored: Any) -> Any:
  return data


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
  ("collections", "OrderedDict"): _Dict,
  ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
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
      return _STORAGES[name]
    if (module, name) in _CONSTRUCTORS:
      return _Constructor(_CONSTRUCTORS[module, name])
    raise _Refused(f"{module}.{name}")

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, length, *view = pid
    if self._load is None or kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
      raise pickle.UnpicklingError("it holds something else than storages outside its pickle")
    if not isinstance(key, str) or not isinstance(length, int) or length < 0:
      raise pickle.UnpicklingError("it holds a storage without a name or length")
    self.itemsizes[key] = dtype.itemsize
    return _Storage(self._load, dtype, key, length)


def _read_pickled(file: BinaryIO) -> Any:
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

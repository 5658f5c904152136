"""Reads the pickles of the official CIFAR archives without running anything that they name.

A pickle is a small program that may call any importable function. This reader hands it stand-ins
for the few NumPy constructors that such files use and refuses every other name. The stand-ins build
arrays from raw bytes, so the reader does not depend on NumPy's private module names or on how the
installed NumPy takes descriptions written by versions of fifteen years ago.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from jaxnoise.core.errors import InputError

_KINDS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "b1")


def unpickle(content: bytes, where: str) -> dict[str, Any]:
  """Reads a pickled dictionary of NumPy arrays and builtin values.

  Args:
    content: the bytes of the file; written by Python 2 or 3, any protocol.
    where: what the messages call it.

  Returns:
    The dictionary, its keys as strings; strings inside values may be bytes.

  Raises:
    InputError: damaged content, anything but a dictionary, or a name other than the constructors of
      integer arrays.

  Example:
    >>> import pickle
    >>> from jaxnoise.data import _pickles
    >>> _pickles.unpickle(pickle.dumps({"labels": [3, 1]}), "test_batch")
    {'labels': [3, 1]}
  """
  try:
    loaded = read_pickle(io.BytesIO(content))
  except Exception as error:  # a damaged pickle may raise anything
    reason = " ".join(str(error).split())
    raise InputError(
      f"{where}: cannot be read as a pickled dictionary of integer arrays ({reason}); get the "
      "official archive again"
    ) from error
  if not isinstance(loaded, dict):
    raise InputError(
      f"{where}: holds a {type(loaded).__name__}, expected a dictionary; get the official archive"
    )
  return loaded


def read_pickle(file: BinaryIO, *, objects: bool = False) -> Any:
  """Reads the next pickle of a stream: integer arrays, builtin values and dictionaries of them.

  Args:
    file: read from where it stands to the pickle's end.
    objects: also read an array of objects, as the list of what it holds.

  Raises:
    Exception: any, for a damaged pickle or one that names something else.

  Example:
    >>> import io, pickle
    >>> import numpy as np
    >>> from jaxnoise.data import _pickles
    >>> stream = io.BytesIO(pickle.dumps(np.array({"a": 1}, object)))
    >>> _pickles.read_pickle(stream, objects=True)
    [{'a': 1}]
  """
  return _plain(_Reader(file, objects).load())


def _plain(value: Any) -> Any:
  """Without the stand-ins. Lists hold none: those of labels are long, and only looked through once
  where they are an array's."""
  if isinstance(value, _Array):
    return [_plain(v) for v in value.value] if isinstance(value.value, list) else value.value
  if isinstance(value, dict):
    return {
      k.decode("latin1") if isinstance(k, bytes) else str(k): _plain(v) for k, v in value.items()
    }
  return value


class _Reader(pickle.Unpickler):
  def __init__(self, file: BinaryIO, objects: bool):
    super().__init__(file, encoding="bytes")
    self._objects = objects

  def find_class(self, module: str, name: str) -> Any:
    if self._objects and (module, name) == ("numpy", "dtype"):
      return _Constructor(_any_dtype)
    if (module, name) == ("numpy", "ndarray"):
      return "numpy.ndarray"  # only ever passed back to _reconstruct, which ignores it
    # `numpy.core` became `numpy._core` in NumPy 2.
    function = _CONSTRUCTORS.get((module.replace("numpy._core", "numpy.core", 1), name))
    if function is None:
      raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
    return _Constructor(function)


class _Constructor:
  """A function that a pickle can call and do nothing else with."""

  __slots__ = ("_function",)

  def __init__(self, function: Callable[..., Any]):
    self._function = function

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError("it sets the state of a function")


class _Dtype:
  """Stands in for an integer `numpy.dtype`; its state carries the byte order."""

  __slots__ = ("dtype",)

  def __init__(self, code: str | bytes, *ignored: Any):
    code = code.decode("latin1") if isinstance(code, bytes) else code
    if code.lstrip("|<>=") not in _KINDS:
      raise pickle.UnpicklingError(f"it holds an array of dtype {code!r}")
    self.dtype = np.dtype(code)

  def __setstate__(self, state: tuple[Any, ...]) -> None:
    order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
    self.dtype = self.dtype.newbyteorder(order)


class _ObjectDtype:
  """Stands in for the dtype of objects, which are in the pickle itself."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    del state


def _any_dtype(code: str | bytes, *ignored: Any) -> _Dtype | _ObjectDtype:
  return _ObjectDtype() if code in ("O", "O4", "O8", b"O", b"O4", b"O8") else _Dtype(code)


class _Array:
  """Stands in for `numpy.ndarray`: empty until its state arrives."""

  __slots__ = ("value",)

  def __init__(self) -> None:
    self.value: np.ndarray | list[Any] = np.zeros(0, np.uint8)

  def __setstate__(self, state: tuple[Any, ...]) -> None:
    _, shape, dtype, fortran, raw = state
    if isinstance(dtype, _ObjectDtype) and isinstance(raw, list):
      self.value = raw
      return
    self.value = _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
  if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype):
    raise pickle.UnpicklingError("it holds an array that is not made of bytes")
  return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*ignored: Any) -> _Array:
  return _Array()


def _frombuffer(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: str, *_: Any) -> _Array:
  array = _Array()
  array.value = _from_bytes(raw, dtype, shape, order)
  return array


def _scalar(dtype: _Dtype, raw: bytes) -> int:
  return int(_from_bytes(raw, dtype, (1,), "C")[0])


def _encode(text: str, encoding: str) -> bytes:
  # How Python 3 writes bytes for protocols that have none.
  if not isinstance(text, str) or encoding != "latin1":
    raise pickle.UnpicklingError("it encodes text other than as latin1")
  return text.encode("latin1")


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
  ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
  ("numpy.core.multiarray", "scalar"): _scalar,
  ("numpy.core.numeric", "_frombuffer"): _frombuffer,
  ("numpy", "dtype"): _Dtype,
  ("_codecs", "encode"): _encode,
}

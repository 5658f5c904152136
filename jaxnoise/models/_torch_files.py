"""Reads files of PyTorch weights without PyTorch: arrays by name, without what scripts add."""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from jaxnoise.core import InputError
from jaxnoise.models._torch_pickles import BFLOAT16, Tensor, read_pickled, widen

_WRAPPERS = (
  "state_dict", "model", "net", "ema", "model_state_dict", "state_dict_ema", "model_ema",
)  # fmt: skip
_SAFETENSORS = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": BFLOAT16,
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
  read = readers.get(path.suffix.lower(), read_pickled)
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
  if len(wrapped) > 1:
    raise InputError(
      f"{where}: {' and '.join(map(repr, wrapped))} may each be the weights; name the one to read, "
      f"as in read_torch(path, key={wrapped[0]!r})"
    )
  if nested and not any("." in name for name in arrays):
    raise InputError(
      f"{where}: has {_listed(content)}, none of them called state_dict, model, net or ema; name "
      f"the one to read, as in read_torch(path, key={nested[0]!r})"
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
    out[clean] = value.array() if isinstance(value, Tensor) else np.asarray(value)
  return out


def _is_array(value: Any) -> bool:
  return isinstance(value, Tensor) or hasattr(value, "__array__")


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
    out[name] = widen(np.frombuffer(body[begin:end], dtype).reshape(shape))
  return out

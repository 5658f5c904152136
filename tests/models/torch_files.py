"""State dicts to import, and files of them in the forms of torch.save and safetensors."""

from __future__ import annotations

import functools
import io
import json
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import models

SAFETENSORS = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}
STORAGES = {"float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long"}


def safetensors(arrays: dict[str, np.ndarray], **changed) -> bytes:
  """The file's bytes; `changed` replaces fields of the last entry of the header."""
  header, body = {}, b""
  for name, array in arrays.items():
    end = len(body) + array.nbytes
    header[name] = {
      "dtype": SAFETENSORS[array.dtype.name],
      "shape": array.shape,
      "data_offsets": [len(body), end],
    }
    body += array.tobytes()
  header[name].update(changed)
  text = json.dumps(header).encode()
  return struct.pack("<Q", len(text)) + text + body


def torch_zip(arrays: dict[str, np.ndarray]) -> bytes:
  """What torch.save writes for an OrderedDict of contiguous tensors since PyTorch 1.6."""
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w") as archive:
    items = b"".join(_text(name) + _tensor(i, a) for i, (name, a) in enumerate(arrays.items()))
    content = b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."
    archive.writestr("archive/data.pkl", content)
    archive.writestr("archive/byteorder", "little")
    for i, array in enumerate(arrays.values()):
      archive.writestr(f"archive/data/{i}", array.tobytes())
    archive.writestr("archive/version", "3\n")
  return out.getvalue()


def _text(value: str) -> bytes:
  return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _integers(*values: int) -> bytes:
  return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def _tensor(key: int, array: np.ndarray) -> bytes:
  """_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)."""
  kind = f"ctorch\n{STORAGES[array.dtype.name]}Storage\n".encode()
  size = b"J" + struct.pack("<i", array.size)
  storage = b"(" + _text("storage") + kind + _text(str(key)) + _text("cpu") + size + b"tQ"
  strides = np.array(array.strides, int) // array.itemsize
  place = b"K\x00" + _integers(*array.shape) + _integers(*strides.tolist())
  hooks = b"\x89ccollections\nOrderedDict\n)R"
  return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + hooks + b"tR"


@functools.cache
def shapes(factory, num_classes=10, side=32):
  net = models.network(factory(num_classes))
  return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))


def numbered(shape_of: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Arrays of the shapes, each filled with a number of its own."""
  return {
    name: np.broadcast_to(np.float32(i), shape) for i, (name, shape) in enumerate(shape_of.items())
  }


def with_statistics(shape_of: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
  """Adds what a state dict has beside parameters: a norm is what has a weight of one axis."""
  out = dict(shape_of)
  for name, shape in shape_of.items():
    if name.endswith(".weight") and len(shape) == 1:
      layer = name.removesuffix("weight")
      out |= {f"{layer}running_mean": shape, f"{layer}running_var": shape}
      out[f"{layer}num_batches_tracked"] = ()
  return out

"""Writes small archives in the official layouts of CIFAR-10 and CIFAR-100.

The pickles are written opcode by opcode as Python 2 wrote them: byte strings, NumPy's module names
of that time, dtype descriptions with integers for flags.
"""

import io
import struct
import tarfile

import numpy as np

CIFAR10_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def _string(value: bytes) -> bytes:
  if len(value) < 256:
    return b"U" + bytes([len(value)]) + value
  return b"T" + struct.pack("<i", len(value)) + value


def _integer(value: int) -> bytes:
  return b"J" + struct.pack("<i", value)


def _array(array: np.ndarray) -> bytes:
  dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R"
  dtype += b"(K\x03" + _string(b"|") + b"NNN" + _integer(-1) * 2 + b"K\x00tb"
  shape = b"".join(_integer(n) for n in array.shape) + b"\x86"
  empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _string(b"b")
  state = b"(K\x01" + shape + dtype + b"\x89" + _string(array.tobytes()) + b"tb"
  return empty + b"\x87R" + state


def python2_pickle(values: dict) -> bytes:
  """{str: uint8 [n, 3072] | list of int | bytes} as Python 2's cPickle wrote it, protocol 2."""
  body = b""
  for key, value in values.items():
    body += _string(key.encode())
    if isinstance(value, np.ndarray):
      body += _array(value)
    elif isinstance(value, list):
      body += b"](" + b"".join(_integer(v) for v in value) + b"e"
    else:
      body += _string(value)
  return b"\x80\x02}(" + body + b"u."


def draw(count: int, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Images [count, 32, 32, 3] and labels of an invented set; every class occurs if count allows."""
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
  return images, rng.permutation(np.arange(count) % num_classes).astype(np.int32)


def planes(images: np.ndarray) -> np.ndarray:
  """[n, 32, 32, 3] -> [n, 3072], the three colour planes one after the other."""
  return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def cifar10_files(version: str, train, test) -> dict[str, bytes]:
  """{path in the archive: content}; `train` is split over the five batches."""
  files = {}
  parts = [*zip(np.array_split(train[0], 5), np.array_split(train[1], 5)), test]
  for name, (images, labels) in zip([*CIFAR10_BATCHES, "test_batch"], parts):
    if version == "python":
      files[f"cifar-10-batches-py/{name}"] = python2_pickle({
        "batch_label": f"{name} of 5".encode(), "labels": labels.tolist(),
        "data": planes(images),
      })
    else:
      rows = np.concatenate([labels[:, None].astype(np.uint8), planes(images)], axis=1)
      files[f"cifar-10-batches-bin/{name}.bin"] = rows.tobytes()
  return files


def cifar100_files(version: str, train, test) -> dict[str, bytes]:
  """The same for CIFAR-100; the coarse label here is the fine one // 5."""
  files = {}
  for name, (images, labels) in {"train": train, "test": test}.items():
    if version == "python":
      files[f"cifar-100-python/{name}"] = python2_pickle({
        "coarse_labels": (labels // 5).tolist(), "fine_labels": labels.tolist(),
        "data": planes(images),
      })
    else:
      both = np.stack([labels // 5, labels], axis=1).astype(np.uint8)
      rows = np.concatenate([both, planes(images)], axis=1)
      files[f"cifar-100-binary/{name}.bin"] = rows.tobytes()
  return files


def write(files: dict[str, bytes], directory) -> None:
  """Writes the files under `directory`, as unpacking the archive does."""
  for name, content in files.items():
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_tar(files: dict[str, bytes], path) -> None:
  """Writes the files as a .tar.gz archive."""
  with tarfile.open(path, "w:gz") as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))

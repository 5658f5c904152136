"""The official archives of CIFAR-10 and CIFAR-100: python and binary version, folder or .tar.gz.

Files are read where they lie. Nothing is downloaded, unpacked to disk or executed.
"""

from __future__ import annotations

import os
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_labels
from jaxnoise.data._known import CIFAR10, CIFAR100, Known, Layout
from jaxnoise.data._pickles import unpickle
from jaxnoise.data._resident import Source

SIDE = 32
PIXELS = 3 * SIDE * SIDE


def find_archive(cifar: Known, path: pathlib.Path) -> Source | None:
  """Looks for an official archive at `path` and reads it.

  Args:
    cifar: which set.
    path: a .tar.gz file; or a directory that is the unpacked folder, or holds it or the .tar.gz.

  Returns:
    The data set, or None if there is nothing of it at `path`.

  Raises:
    InputError: an archive that is damaged or incomplete.
  """
  if path.is_file():
    return _from_tar(cifar, path)
  for layout in cifar.layouts:
    for folder in (path / layout.folder, path):
      named = folder.name == layout.folder and folder.is_dir()
      if named or (folder / layout.train[0]).is_file():
        return _from_folder(cifar, layout, folder)
  for layout in cifar.layouts:
    if (path / layout.archive).is_file():
      return _from_tar(cifar, path / layout.archive)
  return None


def cifar10(path: str | os.PathLike[str]) -> Source:
  """Reads CIFAR-10 from its official archive, python or binary version.

  50,000 training images in the order of `data_batch_1` to `data_batch_5`, which is the order that
  human labels and noise files refer to, and 10,000 test images; 10 classes, 32x32 RGB.

  Args:
    path: `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`, an unpacked folder
      (`cifar-10-batches-py`, `cifar-10-batches-bin`), or a directory that holds one of these.

  Raises:
    InputError: none of these at `path`, or a damaged or incomplete one.
  """
  return _required(CIFAR10, pathlib.Path(path))


def cifar100(path: str | os.PathLike[str]) -> Source:
  """Reads CIFAR-100 with its 100 fine labels from the official archive, python or binary version.

  50,000 training and 10,000 test images in the archive's order; the coarse labels are not kept.

  Args:
    path: `cifar-100-python.tar.gz`, `cifar-100-binary.tar.gz`, an unpacked folder
      (`cifar-100-python`, `cifar-100-binary`), or a directory that holds one of these.

  Raises:
    InputError: none of these at `path`, or a damaged or incomplete one.
  """
  return _required(CIFAR100, pathlib.Path(path))


def archive_names(cifar: Known) -> str:
  """What can be looked for, for messages: "a.tar.gz or its folder a, ..."."""
  return ", ".join(f"{each.archive} or its folder {each.folder}" for each in cifar.layouts)


def _required(cifar: Known, path: pathlib.Path) -> Source:
  source = find_archive(cifar, path)
  if source is None:
    raise InputError(
      f"{cifar.name}: no official archive at {str(path)!r}; expected {archive_names(cifar)} there"
    )
  return source


def _from_folder(cifar: Known, layout: Layout, folder: pathlib.Path) -> Source:
  def read(name: str) -> bytes | None:
    return (folder / name).read_bytes() if (folder / name).is_file() else None

  return _from_files(cifar, layout, read, str(folder))


def _from_tar(cifar: Known, path: pathlib.Path) -> Source | None:
  wanted = {
    f"{layout.folder}/{name}" for layout in cifar.layouts for name in (*layout.train, layout.test)
  }
  files: dict[str, bytes] = {}
  try:
    with tarfile.open(path, "r|*") as archive:
      for member in archive:
        inside = "/".join(pathlib.PurePosixPath(member.name).parts[-2:])
        if inside in wanted and member.isfile() and (content := archive.extractfile(member)):
          files[inside] = content.read()
  except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
    raise InputError(
      f"{path}: cannot be read as a tar archive ({error}); get the official archive again"
    ) from error
  for layout in cifar.layouts:
    if any(name.startswith(layout.folder + "/") for name in files):
      return _from_files(cifar, layout, _member(files, layout.folder), f"{path}: {layout.folder}")
  return None


def _member(files: Mapping[str, bytes], folder: str) -> Callable[[str], bytes | None]:
  return lambda name: files.get(f"{folder}/{name}")


def _from_files(
  cifar: Known, layout: Layout, read: Callable[[str], bytes | None], where: str
) -> Source:
  def split(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for name in names:
      content = read(name)
      if content is None:
        raise InputError(f"{where}: has no {name}; get the official {layout.archive} again")
      parse = _parse_binary if layout.label_bytes else _parse_python
      parts.append(parse(cifar, layout, content, f"{where}/{name}"))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    # The archives keep an image as three planes.
    return images.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels

  images, labels = split(layout.train)
  test_images, test_labels = split((layout.test,))
  return Source(
    cifar.name, images, labels, test_images, test_labels, cifar.num_classes,
    image_mean=cifar.image_mean, image_std=cifar.image_std, class_names=cifar.class_names,
  )


def _parse_python(
  cifar: Known, layout: Layout, content: bytes, where: str
) -> tuple[np.ndarray, np.ndarray]:
  batch = unpickle(content, where)
  for key in ("data", layout.label_key):
    if key not in batch:
      raise InputError(f"{where}: has no {key!r}, only {sorted(batch)}; get {layout.archive} again")
  images = batch["data"]
  if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or (
    images.shape[1] != PIXELS
  ):
    found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images)
    raise InputError(f"{where}: data is {found}, expected uint8 [N, {PIXELS}]; get it again")
  try:
    labels = np.asarray(batch[layout.label_key])
  except ValueError as error:
    raise InputError(f"{where}: {layout.label_key} is no list of integers; get it again") from error
  field = f"{where}: {layout.label_key}"
  return images, check_labels(field, labels, len(images), cifar.num_classes)


def _parse_binary(
  cifar: Known, layout: Layout, content: bytes, where: str
) -> tuple[np.ndarray, np.ndarray]:
  record = layout.label_bytes + PIXELS
  if not content or len(content) % record:
    raise InputError(
      f"{where}: has {len(content)} bytes, expected a multiple of {record}; get "
      f"{layout.archive} again"
    )
  rows = np.frombuffer(content, np.uint8).reshape(-1, record)
  labels = check_labels(
    f"{where}: labels", rows[:, layout.label_bytes - 1], len(rows), cifar.num_classes
  )
  return rows[:, layout.label_bytes :], labels

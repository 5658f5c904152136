"""Data sets prepared by TensorFlow Datasets, in array_record or tfrecord, read without TensorFlow.

Neither TensorFlow nor tensorflow_datasets is needed. array_record files take the small package
`array_record`; tfrecord files take nothing.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data._checks import check_labels
from jaxnoise.data._images import check_image_size, check_memory, decode_all
from jaxnoise.data._known import Known
from jaxnoise.data._resident import Pool, Source
from jaxnoise.data._stored import StoredImages
from jaxnoise.data._stream_records import array_record_module
from jaxnoise.data._stream_tfds import one, parsed, stored_split
from jaxnoise.data._tfds_layout import Prepared, find_version, read_prepared
from jaxnoise.data._wire import tfrecords

_NUMBERED = re.compile(r"(?:.*\D)?(\d+)")


class Split(NamedTuple):
  """One split: images [N, H, W, 3] uint8, labels [N] int32, and ids [N] or None."""

  images: np.ndarray | StoredImages
  labels: np.ndarray
  ids: np.ndarray | None


def tfds(
  name: str, path: str | os.PathLike[str], image_size: int = 0, test_split: str = "",
  stream: bool = False,
) -> Source:
  """Reads an image-classification set that TFDS has prepared, also `load("tfds:NAME", path)`.

  Any builder whose examples have an encoded image and a class label. TFDS stores examples in the
  order of a hash; where they have an `id` they are sorted by it (by the number at its end, which
  becomes the example's id here: "train_00039" is example 39), so label noise, weights and human
  labels that refer to positions fit. A set without ids keeps the stored order.

  Args:
    name: BUILDER or BUILDER/CONFIG, e.g. "food101", "imagenet_resized/64x64".
    path: the TFDS data_dir, or a builder's or a version's directory in it; the newest version is
      taken.
    image_size: S > 0 resizes the shorter side to S and crops S x S at the centre (bilinear, by
      Pillow); images of unequal size need it. 0 keeps the size.
    test_split: the split to test on; "" for "test", or "validation" where there is no "test".
    stream: leave the images on disk, see `StoredImages`; for sets in array_record. The first time
      their labels are gathered from the files, and kept beside them if the directory may be
      written to.

  Returns:
    The split "train" and the test split; images are RGB, grey ones repeated to three channels.

  Raises:
    InputError: nothing prepared there, a split that is missing, damaged files, labels out of range
      (a test set whose labels are withheld), images of unequal size without `image_size`, or more
      than 16 GiB of images.
  """
  prepared = _required(name, path)
  if "train" not in prepared.splits:
    raise InputError(
      f"{name}: has the splits {', '.join(prepared.splits)} and no 'train'; read one as a pool by "
      "data.tfds_pool"
    )
  if not test_split:
    test_split = next((s for s in ("test", "validation") if s in prepared.splits), "test")
  return _source(prepared, prepared.name, check_image_size(image_size), test_split, stream)


def tfds_pool(
  name: str, path: str | os.PathLike[str], split: str = "test", image_size: int = 0
) -> Pool:
  """Reads one split of a TFDS set as a pool: a further test set such as "cifar10_1/v6".

  Args:
    name, path, image_size: as in `tfds`.
    split: its name.

  Raises:
    InputError: as in `tfds`.
  """
  prepared = _required(name, path)
  images, labels, ids = read_split(prepared, split, check_image_size(image_size))
  return Pool(images, labels, ids=ids)


def find_tfds(known: Known, path: pathlib.Path) -> Source | None:
  """Looks for a named set in TFDS' form at `path` and reads it; None if there is none."""
  directory = find_version(path, known.builder)
  if directory is None:
    return None
  prepared = read_prepared(directory)
  if prepared.num_classes != known.num_classes:
    raise InputError(
      f"{directory}: has {prepared.num_classes} classes, expected {known.num_classes} as in "
      f"{known.name}; prepare the set again"
    )
  return _source(
    prepared, known.name, 0, "test", False,
    image_mean=known.image_mean, image_std=known.image_std, class_names=known.class_names,
  )


def read_split(
  prepared: Prepared, split: str, image_size: int = 0, shape: Sequence[int] = ()
) -> Split:
  """Reads one split, sorted by id where its examples have one.

  Args:
    prepared: from `read_prepared`.
    split: its name.
    image_size: as in `tfds`.
    shape: (H, W, 3) that the images must have, or () for any.
  """
  if split not in prepared.splits:
    raise InputError(
      f"{prepared.directory}: has no split {split!r}; {closest(split, prepared.splits)}"
    )
  count = sum(prepared.splits[split][1])
  known_shape = (image_size, image_size) if image_size else prepared.image_shape[:2]
  check_memory(f"{prepared.name} {split}", count, (*known_shape, 3))
  labels: list[int] = []
  ids: list[Any] = []

  def images() -> Iterator[tuple[str, bytes]]:
    for where, record in _records(prepared, split):
      example = parsed(record, where)
      labels.append(one(example, prepared.label_key, int, where))
      if prepared.id_key:
        ids.append(one(example, prepared.id_key, (bytes, int), where))
      yield where, one(example, prepared.image_key, bytes, where)

  stack = decode_all(f"{prepared.name} {split}", count, images(), image_size, shape)
  names = None
  numbers = np.array(labels, np.int64)
  if ids:
    names, order = _by_id(ids)
    numbers = numbers[order]
    _permute(stack, order)
  field = f"{prepared.directory}: {split} labels"
  return Split(stack, check_labels(field, numbers, count, prepared.num_classes), names)


def _streamed_split(
  prepared: Prepared, split: str, image_size: int, shape: Sequence[int] = ()
) -> Split:
  """The same of a split that stays on disk."""
  images, index = stored_split(prepared, split, image_size, tuple(shape))
  names, labels = None, index.labels
  if len(index.ids):
    names, order = _by_id(index.ids.tolist())
    images, labels = images.take(order), labels[order]
  field = f"{prepared.directory}: {split} labels"
  return Split(images, check_labels(field, labels, len(labels), prepared.num_classes), names)


def stored_order(count: int, split: str) -> np.ndarray:
  """The order in which TFDS stores examples whose keys are 0..count-1: by md5(split + key).

  Args:
    count: N.
    split: the split's name, which salts the hash.

  Returns:
    [N] int64: the example at stored position j is number order[j].

  Example:
    >>> from jaxnoise.data import _tfds
    >>> _tfds.stored_order(40, "train")[:3].tolist()
    [39, 28, 6]
  """
  salt = split.encode()
  keys = [hashlib.md5(salt + str(i).encode(), usedforsecurity=False).digest() for i in range(count)]
  return np.array(sorted(range(count), key=keys.__getitem__), np.int64)


def _required(name: str, path: str | os.PathLike[str]) -> Prepared:
  if not name or not os.fspath(path):
    raise InputError(
      "tfds: needs a name and data.path, a TFDS data_dir or a directory in it; give "
      "data.name=tfds:NAME and data.path"
    )
  directory = find_version(pathlib.Path(path), name)
  if directory is None:
    raise InputError(
      f"tfds:{name}: was not found at {os.fspath(path)!r}; set data.path to a TFDS data_dir with "
      f"{name}/VERSION in it, made where TensorFlow is installed by {command(name)}"
    )
  return read_prepared(directory)


def command(name: str, array_record: bool = True) -> str:
  """The command that prepares a set with TFDS; it takes TensorFlow, and downloads."""
  form = ", file_format='array_record'" if array_record else ""
  return (
    'python -c "import tensorflow_datasets as t; '
    f"t.builder('{name}', data_dir='DIR'{form}).download_and_prepare()\""
  )


def _source(
  prepared: Prepared, name: str, image_size: int, test_split: str, stream: bool, **facts: Any
) -> Source:
  if not stream:
    count = sum(sum(prepared.splits[s][1]) for s in ("train", test_split) if s in prepared.splits)
    known_shape = (image_size, image_size) if image_size else prepared.image_shape[:2]
    check_memory(name, count, (*known_shape, 3))
  read = _streamed_split if stream else read_split
  train = read(prepared, "train", image_size)
  test = read(prepared, test_split, image_size, train.images.shape[1:])
  facts.setdefault("class_names", prepared.class_names)
  return Source(
    name, train.images, train.labels, test.images, test.labels, prepared.num_classes,
    ids=train.ids, **facts,
  )


def _records(prepared: Prepared, split: str) -> Iterator[tuple[str, bytes]]:
  form, paths = prepared.shards(split)
  for path, expected in zip(paths, prepared.splits[split][1]):
    count = -1
    read = _array_records if form == "array_record" else tfrecords
    try:
      for count, record in enumerate(read(path)):
        if count >= expected:
          raise InputError(f"{path}: has more than {expected} records; copy the set again")
        yield f"{path}: record {count}", record
    except (ValueError, OSError, RuntimeError) as error:
      if isinstance(error, InputError):
        raise
      reason = " ".join(str(error).split())
      raise InputError(f"{path}: cannot be read ({reason}); copy the set again") from error
    if count + 1 != expected:
      raise InputError(f"{path}: has {count + 1} records, expected {expected}; copy the set again")


def _array_records(path: pathlib.Path) -> Iterator[bytes]:
  reader = array_record_module(path).ArrayRecordReader(str(path))
  try:
    for start in range(0, reader.num_records(), 1024):
      yield from reader.read(start, min(start + 1024, reader.num_records()))
  finally:
    reader.close()


def _by_id(ids: list[Any]) -> tuple[np.ndarray, np.ndarray]:
  """Sorted ids, numbers where they end in distinct ones, and the positions they were stored at."""
  texts = [i.decode("utf-8", "replace") if isinstance(i, bytes) else str(i) for i in ids]
  matches = [_NUMBERED.fullmatch(text) for text in texts]
  numbers = [int(match[1]) for match in matches if match]
  distinct = len(set(numbers)) == len(ids) and max(numbers) < 2**63
  keys = np.array(numbers if distinct else texts)
  order = np.argsort(keys, kind="stable")
  return keys[order], order


def _permute(rows: np.ndarray, order: np.ndarray) -> None:
  """rows[:] = rows[order] in place, cycle by cycle: a copy would double the memory at its peak."""
  done = np.zeros(len(rows), bool)
  for first in range(len(rows)):
    if done[first]:
      continue
    kept, to = rows[first].copy(), first
    while (come := int(order[to])) != first:
      rows[to] = rows[come]
      done[to] = True
      to = come
    rows[to] = kept
    done[to] = True

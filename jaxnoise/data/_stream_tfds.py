"""TFDS sets in array_record, left on disk: where every image lies, its label and its id."""

from __future__ import annotations

import contextlib
import os
import pathlib
import struct
import tempfile
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data._stored import StoredImages
from jaxnoise.data._stream_records import Records
from jaxnoise.data._tfds_layout import Prepared
from jaxnoise.data._wire import parse_example


class Index(NamedTuple):
  """What a split's records say beside their images, in the order in which they are stored.

  Attributes:
    labels: [N] int64.
    ids: [N] texts, or of length 0 where examples have none.
  """

  labels: np.ndarray
  ids: np.ndarray


def one(example: dict[str, Any], key: str, kind: Any, where: str) -> Any:
  """The one value of a feature."""
  values = example.get(key, [])
  if len(values) != 1 or not isinstance(values[0], kind):
    raise InputError(
      f"{where}: the feature {key!r} has {len(values)} values, expected one of the kind that "
      "features.json declares; prepare the set again"
    )
  return values[0]


def parsed(record: bytes, where: str) -> dict[str, Any]:
  """A record as a tf.train.Example."""
  try:
    return parse_example(record)
  except (ValueError, struct.error) as error:
    raise InputError(f"{where}: is no tf.train.Example ({error}); copy the set again") from error


def stored_split(
  prepared: Prepared, split: str, image_size: int, shape: tuple[int, ...] = ()
) -> tuple[StoredImages, Index]:
  """A split on disk, in its stored order.

  Labels and ids stand beside the images in the records, so the first time all of them are read.
  What they say is then kept in the set's directory, as `jaxnoise-SPLIT.npz`, if it may be written
  to, and read from there as long as the split's files keep their sizes and times.

  Raises:
    InputError: no such split, files in tfrecord, which cannot be read at any position, or a damaged
      one.
  """
  if split not in prepared.splits:
    raise InputError(
      f"{prepared.directory}: has no split {split!r}; {closest(split, prepared.splits)}"
    )
  form, paths = prepared.shards(split)
  if form != "array_record":
    raise InputError(
      f"{prepared.directory}: is in {form}, which config.data.stream cannot read at any position; "
      "install array_record and prepare the set with file_format='array_record'"
    )

  def image(record: bytes, where: str) -> bytes:
    return one(parsed(record, where), prepared.image_key, bytes, where)

  files = Records(paths, prepared.splits[split][1], image)
  images = StoredImages(files, image_size, shape)
  # Not the sizes alone: a corrected label has the length of the wrong one.
  sizes = np.array([(s.st_size, s.st_mtime_ns) for s in (path.stat() for path in paths)])
  cache = prepared.directory / f"jaxnoise-{split}.npz"
  index = _read(cache, sizes, len(files))
  if index is None:
    index = _scan(prepared, Records(paths, prepared.splits[split][1]))
    _write(cache, index, sizes)
  return images, index


def _scan(prepared: Prepared, records: Records) -> Index:
  labels, ids = [], []
  for i in range(len(records)):
    where = records.where(i)
    example = parsed(records.content(i), where)
    labels.append(one(example, prepared.label_key, int, where))
    if prepared.id_key:
      name = one(example, prepared.id_key, (bytes, int), where)
      ids.append(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name))
  return Index(np.array(labels, np.int64), np.array(ids, np.str_))


def _read(cache: pathlib.Path, sizes: np.ndarray, count: int) -> Index | None:
  """The index as it was kept, or None if there is none of these very files."""
  try:
    with np.load(cache, allow_pickle=False) as kept:
      index = Index(kept["labels"], kept["ids"])
      same = np.array_equal(kept["sizes"], sizes)
  except Exception:  # not there, or damaged: it is made again
    return None
  fits = len(index.labels) == count and len(index.ids) in (0, count)
  return index if same and fits else None


def _write(cache: pathlib.Path, index: Index, sizes: np.ndarray) -> None:
  # Whole or not at all; several hosts may write the same one.
  with contextlib.suppress(OSError):
    handle, name = tempfile.mkstemp(dir=cache.parent, suffix=".tmp")
    try:
      with os.fdopen(handle, "wb") as file:
        np.savez(file, **index._asdict(), sizes=sizes)
      os.chmod(name, 0o644)  # for all who share the set
      os.replace(name, cache)
    except OSError:
      os.unlink(name)
      raise

"""Images in array_record files: the records of many files by position, and a layout of our own.

array_record files are read at any position, as fast in one order as in another, which is what a
shuffled stream of many small images asks of a file system. The package `array_record` reads them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_count, check_ids, check_labels
from jaxnoise.data._images import Encoded, check_image_size, check_memory, decode_all
from jaxnoise.data._resident import Source
from jaxnoise.data._stored import StoredImages
from jaxnoise.data._tfds_layout import read_json

INFO = "dataset.json"
VERSION = 1
LAYOUT = f"{INFO}, train.npz, test.npz and *.array_record, as data.write_array_record makes them"
_OPTIONS = {"options": "readahead_buffer_size:0", "file_reader_buffer_size": 32768}
"""Of readers of single records: nothing is read ahead."""
_OTHER_FILES, _FEW_OTHERS = 512, 64
"""Files that a process may hold open beside those of a set: what is asked for, and the least."""
_HUMAN = "human_labels."


def array_record_module(where: object) -> Any:
  """The package's module, or an InputError that says how to get it."""
  try:
    import array_record.python.array_record_module as module  # type: ignore[import-untyped]
  except ImportError as error:
    raise InputError(
      f"{where}: takes the package array_record, which is not installed; run "
      "`pip install array_record`, or prepare a set of TFDS as tfrecord, which takes nothing"
    ) from error
  return module


class Records:
  """The records of several array_record files as `Files`: record r of file k by one number.

  Args:
    paths: the files.
    counts: how many records each has.
    image: (record, what messages call it) -> the encoded image; None where a record is one.

  Raises:
    InputError: `array_record` is not installed, or the files are more than may be open at once.
  """

  def __init__(
    self,
    paths: Sequence[pathlib.Path],
    counts: Sequence[int],
    image: Callable[[bytes, str], bytes] | None = None,
  ):
    self._module = array_record_module(paths[0] if paths else "array_record")
    _allow_open(len(paths), paths[0].parent if paths else "array_record")
    self._paths, self._image = tuple(paths), image
    self._starts = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])
    self._readers: dict[int, Any] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return int(self._starts[-1])

  def where(self, i: int) -> str:
    """FILE: record R."""
    shard, record = self._place(i)
    return f"{self._paths[shard]}: record {record}"

  def content(self, i: int) -> Encoded:
    """The encoded image of one record."""
    shard, record = self._place(i)
    try:
      content = self._reader(shard).read([record])[0]
    except InputError:
      raise
    except (RuntimeError, ValueError, OSError, IndexError) as error:
      reason = " ".join(str(error).split())
      raise InputError(
        f"{self.where(i)}: cannot be read ({reason}); copy the file again"
      ) from error
    return content if self._image is None else self._image(content, self.where(i))

  def _place(self, i: int) -> tuple[int, int]:
    shard = int(np.searchsorted(self._starts, i, side="right")) - 1
    return shard, i - int(self._starts[shard])

  def _reader(self, shard: int) -> Any:
    # A reader serves several threads at once; it is opened once.
    reader = self._readers.get(shard)
    if reader is None:
      with self._lock:
        reader = self._readers.get(shard)
        if reader is None:
          reader = self._module.ArrayRecordReader(str(self._paths[shard]), **_OPTIONS)
          found = reader.num_records()
          expected = int(self._starts[shard + 1] - self._starts[shard])
          if found != expected:
            raise InputError(
              f"{self._paths[shard]}: has {found} records, expected {expected}; copy the file again"
            )
          self._readers[shard] = reader
    return reader


def _allow_open(count: int, where: object) -> None:
  """Raises how many files this process may hold open, where readers of a set need more."""
  try:
    import resource
  except ImportError:  # no such limit on this system
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  # Those of another split or of a first scan too, and all else that a process holds.
  need = 2 * count + _OTHER_FILES
  if soft == resource.RLIM_INFINITY or soft >= need:
    return
  if hard != resource.RLIM_INFINITY and hard < 2 * count + _FEW_OTHERS:
    raise InputError(
      f"{where}: has {count} files, which are all held open, but this process may open {hard}; "
      f"allow it {need} (`ulimit -n`), or write the set in fewer files"
    )
  allowed = need if hard == resource.RLIM_INFINITY else min(need, hard)
  # A system may have a limit of its own below that; then it is met when a file is opened.
  with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, soft), hard))


def array_record(
  path: str | os.PathLike[str], image_size: int = 0, stream: bool = False
) -> Source:
  """Reads a data set in array_record files, of a layout of this library's own.

    dataset.json            {"version": 1, "name", "num_classes", "class_names", "image_mean",
                            "image_std", "splits": {"train": {"files": [NAME, ...],
                            "counts": [n, ...]}, "test": {...}}}; optionally "squeeze": whether
                            images are resized whole, not their central squares
    train.npz, test.npz     labels [N] integers; optionally ids [N], clean_labels [N] and, in
                            train.npz, human_labels.NAME [N]
    NAME                    array_record files; a record is the content of an image file, such as a
                            JPEG, and example i is record i of a split's files end to end

  `write_array_record` makes it of any data set. Labels are apart from the images, so that a set of
  a million images is opened in a moment.

  Args:
    path: the folder of these files.
    image_size: as in `folder`.
    stream: as in `folder`.

  Raises:
    InputError: a file that is missing or damaged, the package array_record not installed, and as in
      `folder`.
  """
  root, image_size = pathlib.Path(path), check_image_size(image_size)
  if not (root / INFO).is_file():
    raise InputError(f"array_record: {os.fspath(path)!r} has no {INFO}; set data.path to {LAYOUT}")
  info = read_json(root / INFO)
  try:
    if info["version"] != VERSION:
      raise InputError(
        f"{root / INFO}: is of version {info['version']}, expected {VERSION}; write the set again"
      )
    num_classes = int(info["num_classes"])
    facts = {field: tuple(info[field]) for field in ("class_names", "image_mean", "image_std")}
    stacks = {split: _records(root, info["splits"][split]) for split in ("train", "test")}
    name, squeeze = str(info["name"]), bool(info.get("squeeze", False))
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
      f"{root / INFO}: lacks what write_array_record writes ({error!r}); write the set again"
    ) from error
  told = {split: _told(root, split, len(stacks[split]), num_classes) for split in stacks}
  train = StoredImages(stacks["train"], image_size, squeeze=squeeze)
  test = StoredImages(stacks["test"], image_size, train.shape[1:], squeeze=squeeze)
  if not stream:
    check_memory(name, len(train) + len(test), train.shape[1:])
  images, test_images = (x if stream else _decoded(f"{name} {s}", x)
                         for s, x in (("train", train), ("test", test)))
  return Source(
    name, images, told["train"]["labels"], test_images, told["test"]["labels"], num_classes,
    clean_labels=told["train"].get("clean_labels"), ids=told["train"].get("ids"), **facts,
    human_labels={
      k.removeprefix(_HUMAN): v for k, v in told["train"].items() if k.startswith(_HUMAN)
    },
  )


def write_array_record(
  source: Source, path: str | os.PathLike[str], *, files: int = 1
) -> pathlib.Path:
  """Writes a data set in the layout that `array_record` reads.

  Images on disk are copied as they are, whatever their size; those of a set in memory become PNG.

  Args:
    source: the set, such as `load("folder", path, stream=True, image_size=256)`; of pools, only the
      test set is written.
    path: a folder, made if it is missing.
    files: how many array_record files the training set is spread over.

  Returns:
    The folder.

  Raises:
    InputError: the folder holds a set already, or the package array_record is not installed.
  """
  root, files = pathlib.Path(path), check_count("files", files, 1, source.num_train)
  if (root / INFO).exists():
    raise InputError(f"{root}: holds a data set already; choose another folder")
  module = array_record_module(root)
  root.mkdir(parents=True, exist_ok=True)
  splits = {}
  for split, pool, parts in (("train", source.train, files), ("test", source.test, 1)):
    names, counts = [], []
    for part, rows in enumerate(np.array_split(np.arange(pool.size), parts)):
      names.append(f"{split}-{part:05d}-of-{parts:05d}.array_record")
      counts.append(len(rows))
      # Groups of one record: any of them is read by itself.
      writer = module.ArrayRecordWriter(str(root / names[-1]), "group_size:1")
      for content in _encoded(pool.images, rows):
        writer.write(content)
      writer.close()
    told = {"labels": pool.labels, "clean_labels": pool.clean_labels, "ids": pool.ids}
    if split == "train":
      told |= {f"{_HUMAN}{k}": labels for k, labels in source.human_labels.items()}
    np.savez(root / f"{split}.npz", **{k: v for k, v in told.items() if v is not None})
    splits[split] = {"files": names, "counts": counts}
  info = {"version": VERSION, "name": source.name, "num_classes": source.num_classes}
  info["squeeze"] = bool(getattr(source.images, "squeeze", False))
  for field in ("class_names", "image_mean", "image_std"):
    info[field] = list(getattr(source, field))
  # Last: what has this file is whole.
  (root / INFO).write_text(json.dumps({**info, "splits": splits}, indent=1), encoding="utf-8")
  return root


def _records(root: pathlib.Path, split: dict[str, Any]) -> Records:
  paths = [root / file for file in split["files"]]
  missing = [path for path in paths if not path.is_file()]
  if missing:
    raise InputError(f"{missing[0]}: there is no such file, but {INFO} names it; copy it there")
  return Records(paths, split["counts"])


def _told(root: pathlib.Path, split: str, count: int, num_classes: int) -> dict[str, np.ndarray]:
  """What `<split>.npz` tells of the examples."""
  file = root / f"{split}.npz"
  try:
    with np.load(file, allow_pickle=False) as opened:
      known = ("labels", "clean_labels", "ids")
      told = {key: opened[key] for key in opened if key in known or key.startswith(_HUMAN)}
  except Exception as error:  # a damaged file may raise anything
    reason = " ".join(str(error).split())
    raise InputError(f"{file}: cannot be read ({reason}); write the set again") from error
  if "labels" not in told:
    raise InputError(f"{file}: has no array 'labels'; write the set again")
  for key, values in told.items():
    field = f"{file}: {key}"
    checked = check_ids(field, values, count) if key == "ids" else (
      check_labels(field, values, count, num_classes)
    )
    told[key] = checked
  return told


def _decoded(field: str, images: StoredImages) -> np.ndarray:
  items = ((images.where(i), images.content(i)) for i in range(len(images)))
  size, shape = images.image_size, images.shape[1:]
  return decode_all(field, len(images), items, size, shape, images.squeeze)


def _encoded(images: np.ndarray | StoredImages, rows: np.ndarray) -> Iterator[bytes]:
  for i in rows.tolist():
    if isinstance(images, StoredImages):
      content = images.content(i)
      yield content if isinstance(content, bytes) else content.read_bytes()
    else:
      file = io.BytesIO()
      pixels = images[i]
      Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
      yield file.getvalue()

"""Sets whose splits are lists in text files: reading the lists, then the images that they name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_count
from jaxnoise.data._images import check_image_size, check_memory, decode, decode_all
from jaxnoise.data._resident import Pool, Source
from jaxnoise.data._splits import choose
from jaxnoise.data._stored import Paths, StoredImages


class Listed(NamedTuple):
  """The images of one split, not read yet.

  Attributes:
    paths: where they lie.
    names: what the list calls them; ids of the examples.
    labels: their classes, 0..K-1.
  """

  paths: list[pathlib.Path]
  names: list[str]
  labels: list[int]


def root_of(name: str, path: str | os.PathLike[str], expected: str) -> pathlib.Path:
  """The folder of a set; InputError, saying what it should hold, if there is none."""
  root = pathlib.Path(path)
  if not os.fspath(path) or not root.is_dir():
    raise InputError(
      f"{name}: {os.fspath(path)!r} is no folder; set data.path to the one that holds {expected}"
    )
  return root


def read_lines(file: pathlib.Path, header: str = "") -> list[str]:
  """The lines of a list that are not blank, without a first line that starts with `header`.

  Raises:
    InputError: there is no such file, it is empty, or it is no text.
  """
  if not file.is_file():
    raise InputError(
      f"{file}: there is no such file, expected the official list of that name; unpack it there"
    )
  try:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
  except UnicodeDecodeError as error:
    raise InputError(f"{file}: is no text; get the official list again") from error
  if header and lines and lines[0].strip().startswith(header):
    lines = lines[1:]
  if not lines:
    raise InputError(f"{file}: lists nothing, expected one entry in each line; get it again")
  return lines


def read_pairs(
  file: pathlib.Path, num_classes: int, header: str = "", what: str = "label"
) -> list[tuple[str, int]]:
  """Reads lines of a name and a number in 0..num_classes - 1, separated by white space.

  Raises:
    InputError: as `read_lines`, and for a line of another form, naming it.
  """
  pairs = []
  for line in read_lines(file, header):
    name, _, number = line.strip().replace("\t", " ").rpartition(" ")
    if not name or not number.isdecimal() or int(number) >= num_classes:
      raise InputError(
        f"{file}: found the line {line.strip()!r}, expected a file name and a {what} in "
        f"0..{num_classes - 1}; get the official list again"
      )
    pairs.append((name.strip(), int(number)))
  return pairs


def per_class_of(listed: Listed, num_classes: int, per_class: int, seed: int, name: str) -> Listed:
  """Keeps `per_class` images of each class, drawn by the seed, in their old order; 0 keeps all."""
  check_count("per_class", per_class, 0)
  if not per_class:
    return listed
  quota = np.full(num_classes, per_class)
  kept = choose(np.array(listed.labels), quota, seed, f"{name} per_class").tolist()
  return Listed(*([column[i] for i in kept] for column in listed))


def check_every_class(where: pathlib.Path, listed: Listed, num_classes: int) -> None:
  """Raises InputError unless there is an image of every class."""
  missing = sorted(set(range(num_classes)) - set(listed.labels))
  if missing:
    raise InputError(
      f"{where}: has no images of class {missing[0]}, expected some of each of {num_classes} "
      "classes; get the official list again, or set num_classes"
    )


def read_source(
  name: str,
  train: Listed,
  test: Listed,
  num_classes: int,
  image_size: int,
  pools: Mapping[str, Listed] | None = None,
  *,
  class_names: Sequence[str] = (),
  image_mean: tuple[float, ...] = (),
  image_std: tuple[float, ...] = (),
  squeeze: bool = False,
  stream: bool = False,
) -> Source:
  """Decodes what is listed. That it fits in memory and that every file is there comes first.

  With `stream`, training and test images stay on disk and only the pools are decoded.

  Raises:
    InputError: more than 16 GiB, a listed image that does not exist, and as in `folder`.
  """
  image_size, pools = check_image_size(image_size), dict(pools or {})
  every = [train, test, *pools.values()]
  resident = [*pools.values()] if stream else every
  shape = (image_size, image_size, 3)
  if not image_size:
    _check_exist(name, Listed(train.paths[:1], train.names[:1], []))
    shape = decode(train.paths[0], str(train.paths[0])).shape
  check_memory(name, sum(len(listed.paths) for listed in resident), shape)
  for listed in every:
    _check_exist(name, listed)

  def stack(listed: Listed) -> np.ndarray | StoredImages:
    if stream and any(listed is split for split in (train, test)):
      return StoredImages(Paths(listed.paths), image_size, shape, squeeze=squeeze)
    return decode_all(name, len(listed.paths), _named(listed), image_size, shape, squeeze)

  images, test_images = stack(train), stack(test)
  extra = {
    pool: Pool(stack(listed), np.array(listed.labels, np.int32), ids=np.array(listed.names))
    for pool, listed in pools.items()
  }
  return Source(
    name, images, np.array(train.labels, np.int32), test_images, np.array(test.labels, np.int32),
    num_classes, ids=np.array(train.names), class_names=tuple(class_names), extra_pools=extra,
    image_mean=image_mean, image_std=image_std,
  )


def read_pool(name: str, listed: Listed, image_size: int) -> Pool:
  """Decodes one split; what is checked is as in `read_source`."""
  image_size = check_image_size(image_size)
  if image_size:
    check_memory(name, len(listed.paths), (image_size, image_size, 3))
  _check_exist(name, listed)
  images = decode_all(name, len(listed.paths), _named(listed), image_size)
  return Pool(images, np.array(listed.labels, np.int32), ids=np.array(listed.names))


def _named(listed: Listed) -> list[tuple[str, pathlib.Path]]:
  return [(str(path), path) for path in listed.paths]


def _check_exist(name: str, listed: Listed) -> None:
  missing = [path for path in listed.paths if not path.is_file()]
  if missing:
    raise InputError(
      f"{name}: {missing[0]} is listed but does not exist ({len(missing)} of {len(listed.paths)} "
      "are missing); unpack the official images there"
    )

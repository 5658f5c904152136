"""Images in folders: one folder for each class, or one folder without labels."""

from __future__ import annotations

import fnmatch
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_class_names
from jaxnoise.data._images import check_image_size, check_memory, decode, decode_all
from jaxnoise.data._known import CINIC10, Known
from jaxnoise.data._resident import Pool, Source
from jaxnoise.data._stored import Paths, StoredImages

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
TESTS = ("test", "val", "valid")
ORIGINS = {"all": "*", "imagenet": "n[0-9]*", "cifar10": "cifar*"}


class Listing(NamedTuple):
  """Image files of one split: paths, their names relative to the split, and class numbers."""

  paths: list[pathlib.Path]
  names: list[str]
  labels: list[int]


def folder(path: str | os.PathLike[str], image_size: int = 0, stream: bool = False) -> Source:
  """Reads images sorted into folders: `train/<class>/*` and `test/<class>/*`.

  The test set's folder may also be called `val` or `valid`; the first of the three that is there is
  taken. Classes are the folders of `train`, sorted by name; files are sorted by name within their
  class, and an example's id is its name relative to `train`. Read are .png, .jpg, .jpeg, .bmp,
  .webp and .ppm, in any case; what starts with a dot is left out. Images become RGB of 8 bits, grey
  ones repeated to three channels. A class may be missing in the test set, but not in `train`.

  Args:
    path: the folder that holds `train`.
    image_size: S > 0 resizes the shorter side to S and crops S x S at the centre (bilinear, by
      Pillow); images of unequal size need it. 0 keeps the size.
    stream: leave the images on disk, see `StoredImages`; `config.data.stream`.

  Raises:
    InputError: a folder that is missing or empty, a class of the test set that `train` does not
      have, images of unequal size without `image_size`, a damaged image, or more than 16 GiB. Of
      images that stay on disk, when they are decoded.

  Example:
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from jaxnoise import data
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for split in ("train", "test"):
    ...   for label in ("cat", "dog"):
    ...     (root / split / label).mkdir(parents=True)
    ...     Image.new("RGB", (12, 9)).save(root / split / label / "0.png")
    >>> source = data.folder(root, image_size=8)
    >>> source.images.shape, source.class_names, source.ids.tolist()
    ((2, 8, 8, 3), ('cat', 'dog'), ['cat/0.png', 'dog/0.png'])
  """
  root, image_size = _root("folder", path), check_image_size(image_size)
  class_names = tuple(_folders(root / "train"))
  if len(class_names) < 2:
    raise InputError(
      f"{root / 'train'}: has {len(class_names)} folders, expected one for each of at least two "
      "classes; sort the images into train/<class>/"
    )
  test = next((name for name in TESTS if (root / name).is_dir()), None)
  if test is None:
    raise InputError(
      f"{root}: has no folder test, val or valid, expected one beside train; put test images there"
    )
  train = _list(root / "train", class_names, every_class=True)
  test_list = _list(root / test, class_names)
  return _source("folder", class_names, train, test_list, image_size, stream)


def cinic10(
  path: str | os.PathLike[str], origin: str = "all", join_valid: bool = False
) -> Source:
  """Reads CINIC-10: `train`, `valid` and `test`, 90,000 images each, CIFAR-10's classes, 32x32.

  `train` is the training set and `test` the test set; `valid` is left out unless it is joined to
  the training set, the two ways in which its authors report results. For a test of a CIFAR-10
  network outside its distribution, which is what the noise-in-distillation paper uses CINIC-10 for,
  take the images from ImageNet; without the training set, that is
  `image_pool(path + "/test", class_names=..., pattern="n[0-9]*")`. Images are normalised by the
  authors' statistics.

  Source: L. N. Darlow et al., CINIC-10 is not ImageNet or CIFAR-10, arXiv:1810.03505, 2018.

  Args:
    path: the unpacked archive.
    origin: which images to keep: "all", "imagenet" (70,000 of each 90,000) or "cifar10".
    join_valid: train on `train` and `valid`, 180,000 images; ids then start with the split.

  Raises:
    InputError: a folder that is missing or has other classes, or a damaged image.
  """
  if origin not in ORIGINS:
    raise InputError(f"origin: found {origin!r}, expected one of {', '.join(ORIGINS)}; change it")
  root, pattern = _root("cinic10", path), ORIGINS[origin]
  train, test = (_list(root / s, CINIC10.class_names, pattern, True) for s in ("train", "test"))
  if join_valid:
    valid = _list(root / "valid", CINIC10.class_names, pattern, True)
    names = [f"train/{n}" for n in train.names] + [f"valid/{n}" for n in valid.names]
    train = Listing(train.paths + valid.paths, names, train.labels + valid.labels)
  return _source(
    "cinic10", CINIC10.class_names, train, test, 0, False,
    image_mean=CINIC10.image_mean, image_std=CINIC10.image_std,
  )


def find_cinic10(known: Known, path: pathlib.Path, **options: Any) -> Source | None:
  """Looks for the unpacked CINIC-10 at `path` or in a folder CINIC-10 there; None if absent."""
  for root in (path, path / "CINIC-10"):
    if all((root / "train" / name).is_dir() for name in known.class_names):
      return cinic10(root, **options)
  return None


def image_pool(
  path: str | os.PathLike[str],
  image_size: int = 0,
  *,
  class_names: Sequence[str] = (),
  pattern: str = "*",
) -> Pool:
  """Reads a folder of images: without labels, for prediction, or by class, as a further test set.

  Args:
    path: the folder; without class names only the images directly in it are read.
    image_size: as in `folder`.
    class_names: folders in `path` to read, in the order of the class numbers; a class without a
      folder has no images.
    pattern: which files to read, by name: "n[0-9]*" are the images of CINIC-10 from ImageNet.

  Returns:
    A pool whose ids are the file names relative to `path`, sorted within each class; labels [P]
    where class names are given.

  Raises:
    InputError: no images, a folder that is no class, and as in `folder`.

  Example:
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from jaxnoise import data
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> Image.new("L", (8, 8), 9).save(folder / "a.png")
    >>> pool = data.image_pool(folder)
    >>> pool.images.shape, pool.ids.tolist(), pool.labels
    ((1, 8, 8, 3), ['a.png'], None)
  """
  root, image_size = _root("image_pool", path), check_image_size(image_size)
  names = check_class_names("class_names", class_names, len(class_names))
  if names:
    found = _list(root, names, pattern)
  else:
    files = _files(root, pattern)
    found = Listing(files, [file.name for file in files], [])
  if not found.paths:
    folders = [] if names else _folders(root)
    fix = f"give class_names to read its folders {', '.join(folders[:5])}" if folders else (
      f"put {', '.join(SUFFIXES)} files there"
    )
    raise InputError(f"{root}: has no images of the pattern {pattern!r}, expected some; {fix}")
  images = decode_all(str(root), len(found.paths), _named(found), image_size)
  labels = np.array(found.labels, np.int32) if names else None
  return Pool(images, labels, ids=np.array(found.names))


def _source(
  name: str, class_names: tuple[str, ...], train: Listing, test: Listing, image_size: int,
  stream: bool, **facts: Any,
) -> Source:
  shape = decode(train.paths[0], str(train.paths[0]), image_size).shape
  if not stream:
    check_memory(name, len(train.paths) + len(test.paths), shape)

  def stack(split: str, listing: Listing) -> np.ndarray | StoredImages:
    if stream:
      return StoredImages(Paths(listing.paths), image_size, shape)
    return decode_all(f"{name} {split}", len(listing.paths), _named(listing), image_size, shape)

  images, test_images = stack("train", train), stack("test", test)
  return Source(
    name, images, np.array(train.labels, np.int32), test_images, np.array(test.labels, np.int32),
    len(class_names), ids=np.array(train.names), class_names=class_names, **facts,
  )


def _list(
  root: pathlib.Path, class_names: Sequence[str], pattern: str = "*", every_class: bool = False
) -> Listing:
  if not root.is_dir():
    raise InputError(f"{root}: there is no such folder, expected one with a folder for each class")
  if other := sorted(set(_folders(root)) - set(class_names)):
    raise InputError(
      f"{root}: has the folder {other[0]!r}, which is no class ({', '.join(class_names[:10])}"
      f"{', ...' if len(class_names) > 10 else ''}); rename or remove it"
    )
  listing = Listing([], [], [])
  for label, name in enumerate(class_names):
    files = _files(root / name, pattern) if (root / name).is_dir() else []
    if every_class and not files:
      raise InputError(
        f"{root / name}: has no images, expected some of every class; add them or remove the class"
      )
    listing.paths.extend(files)
    listing.names.extend(f"{name}/{file.name}" for file in files)
    listing.labels.extend([label] * len(files))
  if not listing.paths:
    raise InputError(f"{root}: has no images in folders of classes; put some there")
  return listing


def _named(listing: Listing) -> list[tuple[str, pathlib.Path]]:
  return [(str(path), path) for path in listing.paths]


def _root(name: str, path: str | os.PathLike[str]) -> pathlib.Path:
  root = pathlib.Path(path)
  if not os.fspath(path) or not root.is_dir():
    raise InputError(
      f"{name}: {os.fspath(path)!r} is no folder; set data.path to one that holds train/<class>/ "
      "and test/<class>/ (or, for image_pool, images)"
    )
  return root


def _folders(root: pathlib.Path) -> list[str]:
  if not root.is_dir():
    raise InputError(f"{root}: there is no such folder, expected one with a folder for each class")
  return sorted(c.name for c in root.iterdir() if c.is_dir() and not c.name.startswith("."))


def _files(root: pathlib.Path, pattern: str) -> list[pathlib.Path]:
  return sorted(
    child for child in root.iterdir()
    if child.suffix.lower() in SUFFIXES and not child.name.startswith(".") and child.is_file()
    and fnmatch.fnmatchcase(child.name, pattern)
  )

"""ImageNet (ILSVRC 2012) in its official folders, or a part of its classes."""

from __future__ import annotations

import csv
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data import _listed
from jaxnoise.data._checks import check_count
from jaxnoise.data._folders import SUFFIXES
from jaxnoise.data._resident import Pool, Source
from jaxnoise.data._webvision import IMAGENET_MEAN, IMAGENET_STD

LAYOUT = "train/ and val/ (after registration, https://image-net.org)"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SOLUTION = "LOC_val_solution.csv"
WNID = re.compile(r"n\d{8}")


def imagenet(
  path: str | os.PathLike[str],
  num_classes: int = 0,
  image_size: int = 256,
  per_class: int = 0,
  seed: int = 0,
  stream: bool = False,
) -> Source:
  """Reads ImageNet: `train/<wnid>/*.JPEG`, and `val` in one of the forms of `imagenet_validation`.

  1,281,167 training and 50,000 validation images, the test set here; classes are WordNet ids in
  sorted order. Ids are names relative to `train`. Images are normalised by the usual statistics.

  Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.

  Args:
    path: the folder of `train` and `val`.
    num_classes: the first so many classes; 0 for all.
    image_size: as in `folder`.
    per_class: keep so many training images of each class, drawn by `seed`; 0 keeps all, which for
      1000 classes is more than 16 GiB from 66 pixels on.
    seed: of that choice.
    stream: as in `folder`.

  Raises:
    InputError: a folder that is missing or empty, validation images whose classes are not known, or
      more than 16 GiB.
  """
  root = _listed.root_of("imagenet", path, LAYOUT)
  train = root / "train"
  classes = _classes(_wnids(train), num_classes, train)
  listed = _in_folders(train, classes)
  _listed.check_every_class(train, listed, len(classes))
  listed = _listed.per_class_of(listed, len(classes), per_class, seed, "imagenet")
  return _listed.read_source(
    "imagenet", listed, _validation(root, classes), len(classes), image_size, class_names=classes,
    image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD, stream=stream,
  )


def imagenet_validation(
  path: str | os.PathLike[str], num_classes: int = 0, image_size: int = 256
) -> Pool:
  """Reads ImageNet's validation images, or those of the first classes; `train` is not needed.

  With 50 classes these are the 2,500 images on which networks trained on mini-WebVision, whose
  class k is ImageNet's, are tested too. In `path` there is one of

    val/<wnid>/*.JPEG
    val/ILSVRC2012_val_*.JPEG with ILSVRC2012_validation_ground_truth.txt and meta.mat, in `path`
                              or as the development kit unpacks, ILSVRC2012_devkit_t12/data/
    val/ILSVRC2012_val_*.JPEG with LOC_val_solution.csv

  The ground truth's numbers are not classes in sorted order, which is why `meta.mat` is read too.

  Args:
    path: the folder of `val`.
    num_classes: the first so many classes in the order of their WordNet ids; 0 for all.
    image_size: as in `folder`.

  Returns:
    A pool with labels; ids are names relative to `val`.

  Raises:
    InputError: as `imagenet`.
  """
  root = _listed.root_of("imagenet_validation", path, "val/")
  listed = _validation(root, (), num_classes)
  return _listed.read_pool("imagenet_validation", listed, image_size)


def _validation(
  root: pathlib.Path, classes: Sequence[str], num_classes: int = 0
) -> _listed.Listed:
  """The validation images of some classes; without classes, of the first of those found."""
  folder = root / "val"
  if not folder.is_dir():
    raise InputError(f"{folder}: there is no such folder, expected ImageNet's validation images")
  if found := _wnids(folder):
    classes = classes or _classes(found, num_classes, folder)
    listed = _in_folders(folder, classes)
  else:
    wnid_of = _flat_truth(root)
    files = _images(folder)
    unknown = [file.name for file in files if file.stem not in wnid_of]
    if unknown:
      raise InputError(
        f"{folder}: the class of {unknown[0]} is not known, expected names such as "
        "ILSVRC2012_val_00000001.JPEG; remove other files"
      )
    classes = classes or _classes(sorted(set(wnid_of.values())), num_classes, folder)
    number = {wnid: k for k, wnid in enumerate(classes)}
    kept = [file for file in files if wnid_of[file.stem] in number]
    names = [file.name for file in kept]
    listed = _listed.Listed(kept, names, [number[wnid_of[file.stem]] for file in kept])
  _listed.check_every_class(folder, listed, len(classes))
  return listed


def _flat_truth(root: pathlib.Path) -> dict[str, str]:
  """{name of a validation image without its ending: wnid}."""
  if (root / SOLUTION).is_file():
    with (root / SOLUTION).open(newline="", encoding="utf-8") as file:
      rows = [row for row in csv.reader(file) if row]
    pairs = {row[0]: row[1].split()[0] for row in rows[1:] if len(row) > 1 and row[1].strip()}
    wrong = next((wnid for wnid in pairs.values() if not WNID.fullmatch(wnid)), None)
    if wrong is not None or not pairs:
      raise InputError(
        f"{root / SOLUTION}: found {wrong or 'no rows'}, expected an image and WordNet ids in each "
        "row; get it again"
      )
    return pairs
  for folder in (root, root / "ILSVRC2012_devkit_t12" / "data"):
    if (folder / TRUTH).is_file():
      return _devkit_truth(folder)
  raise InputError(
    f"{root / 'val'}: has no folders of classes, so that {TRUTH} with meta.mat, or {SOLUTION}, is "
    f"expected in {root}; unpack the development kit there, or sort the images into val/<wnid>/"
  )


def _devkit_truth(folder: pathlib.Path) -> dict[str, str]:
  wnids = _devkit_wnids(folder / "meta.mat")
  truth = {}
  for i, line in enumerate(_listed.read_lines(folder / TRUTH), 1):
    number = int(line) if line.strip().isdecimal() else 0
    if number not in wnids:
      raise InputError(
        f"{folder / TRUTH}: found {line.strip()!r} in line {i}, expected a number of meta.mat; get "
        "it again"
      )
    truth[f"ILSVRC2012_val_{i:08d}"] = wnids[number]
  return truth


def _devkit_wnids(file: pathlib.Path) -> dict[int, str]:
  """The development kit's numbers of the classes, 1..1000 of its synsets."""
  import scipy.io  # comes with jax; slow to import

  if not file.is_file():
    raise InputError(
      f"{file}: there is no such file, but {TRUTH} has the numbers that it explains; put it there"
    )
  try:
    synsets = scipy.io.loadmat(file, variable_names=("synsets",), squeeze_me=True)["synsets"]
    wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(synsets)}
  except Exception as error:  # a damaged file may raise anything
    reason = " ".join(str(error).split())
    raise InputError(
      f"{file}: cannot be read as the development kit's meta.mat ({reason}); get it again"
    ) from error
  return wnids


def _classes(wnids: Sequence[str], num_classes: int, folder: pathlib.Path) -> list[str]:
  """The first `num_classes` of them; at least two."""
  if len(wnids) < 2:
    raise InputError(
      f"{folder}: has {len(wnids)} folders of classes (n and eight digits), expected at least two; "
      "unpack the official archives there"
    )
  count = check_count("num_classes", num_classes, 0, len(wnids)) or len(wnids)
  check_count("num_classes", count, 2)
  return list(wnids[:count])


def _wnids(folder: pathlib.Path) -> list[str]:
  if not folder.is_dir():
    raise InputError(f"{folder}: there is no such folder, expected a folder for each class in it")
  return sorted(c.name for c in folder.iterdir() if WNID.fullmatch(c.name) and c.is_dir())


def _in_folders(folder: pathlib.Path, classes: Sequence[str]) -> _listed.Listed:
  listed = _listed.Listed([], [], [])
  for label, wnid in enumerate(classes):
    files = _images(folder / wnid) if (folder / wnid).is_dir() else []
    listed.paths.extend(files)
    listed.names.extend(f"{wnid}/{file.name}" for file in files)
    listed.labels.extend([label] * len(files))
  return listed


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    child for child in folder.iterdir()
    if child.suffix.lower() in SUFFIXES and not child.name.startswith(".")
  )

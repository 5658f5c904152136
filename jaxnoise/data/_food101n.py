"""Food-101N: images of 101 dishes from the web, tested on those of Food-101."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data import _listed
from jaxnoise.data._resident import Source
from jaxnoise.data._webvision import IMAGENET_MEAN, IMAGENET_STD

LAYOUT = "Food-101N_release/ and food-101/ (https://kuanghuei.github.io/Food-101N/)"
IMAGES = ("images", "train")
TRUSTED = ("", "train", "val")


def food101n(
  path: str | os.PathLike[str],
  test_path: str | os.PathLike[str] = "",
  image_size: int = 256,
  per_class: int = 0,
  seed: int = 0,
  trusted: str = "",
  stream: bool = False,
) -> Source:
  """Reads Food-101N, 310,009 training images of 101 classes, and the 25,250 of Food-101's test set.

  About one label in five is wrong. For some images people said whether the label is right; those
  for which it is can be the pool "trusted" (they stay in the training set as well). Read are, as
  the official archives unpack,

    Food-101N_release/meta/imagelist.tsv           a header, then lines of CLASS/NAME.jpg
    Food-101N_release/meta/verified_{train,val}.tsv    a header, then a line of the list, a tab and
                                                       1 where the label is right, else 0
    Food-101N_release/images/CLASS/NAME.jpg        (or train/CLASS/NAME.jpg)
    food-101/meta/classes.txt, food-101/meta/test.txt    lines of CLASS, and of CLASS/NAME
    food-101/images/CLASS/NAME.jpg

  Classes are numbered by their names in sorted order, and ids are lines of the image list. A
  verified line that the image list does not have, of which the release has one, is left out. Images
  are normalised by ImageNet's statistics.

  Source: K.-H. Lee et al., CleanNet, CVPR 2018; L. Bossard et al., Food-101, ECCV 2014.

  Args:
    path: Food-101N_release, or the folder that holds it.
    test_path: food-101; "" looks for it in `path` and beside it.
    image_size: as in `folder`.
    per_class: keep so many training images of each class, drawn by `seed`; 0 keeps all, which is
      more than 16 GiB from 131 pixels on.
    seed: of that choice.
    trusted: "train" or "val", the verified list whose right labels become the pool "trusted"; ""
      for none.
    stream: as in `folder`.

  Raises:
    InputError: a list that is missing or of another form, a class that Food-101 does not have, a
      listed image that does not exist, or more than 16 GiB.
  """
  root = _listed.root_of("food101n", path, LAYOUT)
  if trusted not in TRUSTED:
    raise InputError(f"trusted is {trusted!r}: {closest(str(trusted), TRUSTED[1:])}")
  around = (root, root.parent)
  root = root / "Food-101N_release" if (root / "Food-101N_release").is_dir() else root
  test_root = _test_root(test_path, around)
  classes = sorted(line.strip() for line in _listed.read_lines(test_root / "meta" / "classes.txt"))
  images = next((root / name for name in IMAGES if (root / name).is_dir()), root / IMAGES[0])
  file = root / "meta" / "imagelist.tsv"
  entries = [line.strip() for line in _listed.read_lines(file, "class_name")]
  train = _split(file, entries, images, classes)
  _listed.check_every_class(file, train, len(classes))
  train = _listed.per_class_of(train, len(classes), per_class, seed, "food101n")
  file = test_root / "meta" / "test.txt"
  named = [f"{line.strip()}.jpg" for line in _listed.read_lines(file)]
  test = _split(file, named, test_root / "images", classes)
  pools = {}
  if trusted:
    file, known = root / "meta" / f"verified_{trusted}.tsv", set(entries)
    pairs = _listed.read_pairs(file, 2, "class_name", "verification")
    right = [name for name, verdict in pairs if verdict and name in known]
    pools["trusted"] = _split(file, right, images, classes)
  return _listed.read_source(
    "food101n", train, test, len(classes), image_size, pools, class_names=classes,
    image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD, stream=stream,
  )


def _test_root(path: str | os.PathLike[str], around: Sequence[pathlib.Path]) -> pathlib.Path:
  if os.fspath(path):
    return pathlib.Path(path)
  for folder in around:
    if (folder / "food-101").is_dir():
      return folder / "food-101"
  raise InputError(
    f"food101n: there is no folder food-101 in or beside {around[0]}, expected Food-101, on whose "
    "test set Food-101N is tested; unpack it there, or set test_path"
  )


def _split(
  file: pathlib.Path, entries: Sequence[str], images: pathlib.Path, classes: Sequence[str]
) -> _listed.Listed:
  """Images that a list calls CLASS/NAME."""
  number = {name: k for k, name in enumerate(classes)}
  labels = []
  for entry in entries:
    name = entry.partition("/")[0]
    if "/" not in entry or name not in number:
      raise InputError(
        f"{file}: found the line {entry!r}, expected CLASS/NAME with a class of Food-101's "
        f"classes.txt ({', '.join(classes[:3])}, ...); get the official list again"
      )
    labels.append(number[name])
  return _listed.Listed([images / entry for entry in entries], list(entries), labels)

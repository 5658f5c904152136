"""Clothing1M: a million images with the labels that shops' texts suggest."""

from __future__ import annotations

import os
import pathlib

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data import _listed
from jaxnoise.data._checks import check_class_names
from jaxnoise.data._resident import Source

LAYOUT = "noisy_train_key_list.txt and images/ (on request, https://github.com/Cysu/noisy_label)"
CLASSES = 14
MEAN, STD = (0.6959, 0.6537, 0.6371), (0.3113, 0.3192, 0.3214)
TRUSTED = {"": "", "val": "clean_val_key_list.txt", "train": "clean_train_key_list.txt"}


def clothing1m(
  path: str | os.PathLike[str],
  image_size: int = 256,
  per_class: int = 0,
  seed: int = 0,
  trusted: str = "",
  squeeze: bool = False,
  stream: bool = False,
) -> Source:
  """Reads Clothing1M: 1,000,000 noisily labelled training images, 10,526 clean test images.

  Training images have their noisy labels, test images their clean ones, as the papers use them.
  Images with both kinds of label (37,497) are in the clean lists only. The clean validation
  (14,313) or clean training images (47,570) can be the pool "trusted", which methods with trusted
  examples draw from; no clean label is ever seen in training otherwise. Read are, as the official
  files unpack, or with the lists in `annotations/`,

    noisy_train_key_list.txt, clean_{train,val,test}_key_list.txt    lines of a key
    noisy_label_kv.txt, clean_label_kv.txt                           lines of a key and a class
    category_names_eng.txt                                           14 names, where it is there
    images/...                                                       a key is images/0/00/NAME.jpg

  Ids are keys. Images are normalised by the statistics that DivideMix' code has.

  Source: T. Xiao et al., Learning from Massive Noisy Labeled Data for Image Classification, CVPR
  2015, and the README of the data set.

  Args:
    path: the folder of the above.
    image_size: as in `folder`.
    per_class: keep so many training images of each class, drawn by `seed`; 0 keeps all, which is
      more than 16 GiB from 76 pixels on.
    seed: of that choice.
    trusted: "val" or "train", the clean list that becomes the pool "trusted"; "" for none.
    squeeze: resize the whole image to a square, as multiplicative reweighting's authors do, in
      place of its central square.
    stream: as in `folder`.

  Raises:
    InputError: a list that is missing or of another form, a key without a label, a listed image
      that does not exist, or more than 16 GiB.
  """
  root = _listed.root_of("clothing1m", path, LAYOUT)
  if trusted not in TRUSTED:
    raise InputError(f"trusted is {trusted!r}: {closest(str(trusted), [t for t in TRUSTED if t])}")
  lists = root
  if not (root / "noisy_train_key_list.txt").is_file() and (root / "annotations").is_dir():
    lists = root / "annotations"
  noisy, clean = lists / "noisy_label_kv.txt", lists / "clean_label_kv.txt"
  train = _split(root, lists / "noisy_train_key_list.txt", noisy)
  train = _listed.per_class_of(train, CLASSES, per_class, seed, "clothing1m")
  test = _split(root, lists / "clean_test_key_list.txt", clean)
  pools = {"trusted": _split(root, lists / TRUSTED[trusted], clean)} if trusted else {}
  names = lists / "category_names_eng.txt"
  found = [line.strip() for line in _listed.read_lines(names)] if names.is_file() else []
  return _listed.read_source(
    "clothing1m", train, test, CLASSES, image_size, pools,
    class_names=check_class_names(str(names), found, CLASSES), image_mean=MEAN, image_std=STD,
    squeeze=squeeze, stream=stream,
  )


def _split(root: pathlib.Path, keys: pathlib.Path, labels: pathlib.Path) -> _listed.Listed:
  """The images of one key list, with their labels from one label file."""
  names = [line.strip() for line in _listed.read_lines(keys)]
  label_of = dict(_listed.read_pairs(labels, CLASSES))
  without = [name for name in names if name not in label_of]
  if without:
    raise InputError(
      f"{labels}: has no label for {without[0]!r} of {keys.name} ({len(without)} are missing), "
      "expected one for each; get both official lists again"
    )
  return _listed.Listed([root / name for name in names], names, [label_of[n] for n in names])

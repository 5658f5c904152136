"""WebVision 1.0, and the part of it that papers on label noise use, mini-WebVision."""

from __future__ import annotations

import os

from jaxnoise.core.errors import InputError
from jaxnoise.data import _listed
from jaxnoise.data._checks import check_count
from jaxnoise.data._resident import Source

LAYOUT = (
  "info/, google/ and val_images_256/ "
  "(https://data.vision.ee.ethz.ch/cvl/webvision/download.html)"
)
CLASSES = 1000
VALIDATION = ("val_images_256", "val_images")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def webvision(
  path: str | os.PathLike[str],
  num_classes: int = 50,
  image_size: int = 256,
  per_class: int = 0,
  seed: int = 0,
  stream: bool = False,
) -> Source:
  """Reads WebVision 1.0: images that Google found for a class's name, and the validation set.

  With 50 classes it is mini-WebVision: 65,944 training images, of which about one in five is
  believed to show something else, and 2,500 validation images, the test set here. Class k is
  ImageNet's, in ImageNet's order; classes are named by their WordNet ids where `info/synsets.txt`
  is there, so that `imagenet_validation(path, num_classes=50)` has the second test set that papers
  report. Read are, as the official archives unpack,

    info/train_filelist_google.txt    lines of a path, such as google/q0001/NAME.jpg, and a class
    info/val_filelist.txt             lines of a name and a class
    google/...                        the training images
    val_images_256/NAME               the validation images (or val_images/NAME)

  Ids are the training list's paths. Images are normalised by ImageNet's statistics.

  Source: W. Li et al., WebVision Database: Visual Learning and Understanding from Web Data, 2017;
  50 classes of the Google part: L. Jiang et al., MentorNet, 2018, as DivideMix' code reads them.

  Args:
    path: the folder of the above.
    num_classes: the first so many of the 1000.
    image_size: as in `folder`; mini-WebVision of 256 pixels takes 13 GiB.
    per_class: keep so many training images of each class, drawn by `seed`; 0 keeps all.
    seed: of that choice.
    stream: as in `folder`.

  Raises:
    InputError: a list that is missing or of another form, a listed image that does not exist, a
      class without images, or more than 16 GiB.
  """
  root = _listed.root_of("webvision", path, LAYOUT)
  count = check_count("num_classes", num_classes, 2, CLASSES)
  lists = (root / "info" / "train_filelist_google.txt", root / "info" / "val_filelist.txt")
  train, test = (
    [pair for pair in _listed.read_pairs(file, CLASSES) if pair[1] < count] for file in lists
  )
  images = next((name for name in VALIDATION if (root / name).is_dir()), None)
  if images is None:
    raise InputError(
      f"{root}: has no folder val_images_256 or val_images, expected the validation images; unpack "
      "them there"
    )
  splits = []
  for file, pairs, folder in zip(lists, (train, test), (root, root / images)):
    split = _listed.Listed(
      [folder / name for name, _ in pairs], [name for name, _ in pairs], [k for _, k in pairs]
    )
    _listed.check_every_class(file, split, count)
    splits.append(split)
  train, test = splits
  train = _listed.per_class_of(train, count, per_class, seed, "webvision")
  return _listed.read_source(
    "webvision", train, test, count, image_size, class_names=_names(root, count),
    image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD, stream=stream,
  )


def _names(root, count: int) -> list[str]:
  """The WordNet ids of the first classes: the first word of each line of `info/synsets.txt`."""
  file = root / "info" / "synsets.txt"
  if not file.is_file():
    return []
  names = [line.split()[0] for line in _listed.read_lines(file)]
  if len(names) < count:
    raise InputError(
      f"{file}: lists {len(names)} classes, expected {count} or more; get the official list again"
    )
  return names[:count]

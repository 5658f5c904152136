"""The project's own form: one `.npz` file of uint8 images and integer labels."""

from __future__ import annotations

import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_images, check_labels
from jaxnoise.data._resident import Source

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
HUMAN = "human_labels/"
FORM = (
  "uint8 arrays train_images and test_images [N, H, W, C], integer arrays train_labels and "
  f"test_labels [N], and optionally {HUMAN}<name> [N]"
)


def npz(path: str | os.PathLike[str], num_classes: int | None = None) -> Source:
  """Reads a data set from a `.npz` file.

  Keys: `train_images` [N, H, W, C] uint8, `train_labels` [N], `test_images`, `test_labels`, and
  optionally `human_labels/<name>` [N] for further annotations of the training set. Other keys are
  ignored. Nothing in the file is unpickled.

  Args:
    path: the file.
    num_classes: K; None means one more than the largest label.

  Raises:
    InputError: no such file, no `.npz` file, a missing key, or an array of another dtype, shape,
      length or range.

  Example:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from jaxnoise import data
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "mine.npz"
    >>> images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 2, 1])
    >>> np.savez(path, train_images=images, train_labels=labels, test_images=images[:2],
    ...   test_labels=labels[:2])
    >>> source = data.npz(path)
    >>> source.name, source.num_train, source.num_classes
    ('mine', 4, 3)
  """
  path = pathlib.Path(path)
  return read_npz(path, path.stem, num_classes)


def read_npz(path: pathlib.Path, name: str, num_classes: int | None, **facts: Any) -> Source:
  """Reads a `.npz` file as the data set `name`; `facts` are further fields of the `Source`."""
  if not path.is_file():
    raise InputError(f"{path}: there is no such file; expected a .npz file with {FORM}")
  try:
    opened = np.load(path, allow_pickle=False)
    if isinstance(opened, np.ndarray):
      raise ValueError("it holds one array without a name")
    with opened as archive:
      known = [k for k in archive.files if k in KEYS or k.startswith(HUMAN)]
      arrays = {key: archive[key] for key in known}
      found = archive.files
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(
      f"{path}: cannot be read ({error}); expected a .npz file with {FORM}"
    ) from error
  if missing := [key for key in KEYS if key not in arrays]:
    raise InputError(
      f"{path}: has no {', '.join(missing)}, only {', '.join(found) or 'nothing'}; expected {FORM}"
    )

  def field(key: str) -> str:
    return f"{path}: {key}"

  images = {split: check_images(field(f"{split}_images"), arrays[f"{split}_images"])
            for split in ("train", "test")}
  labels = {split: check_labels(
    field(f"{split}_labels"), arrays[f"{split}_labels"], len(images[split]), num_classes
  ) for split in ("train", "test")}
  if not len(images["train"]):
    raise InputError(f"{field('train_images')}: there are no images, expected at least one")
  if num_classes is None:
    num_classes = 1 + max(int(v.max()) for v in labels.values() if len(v))
    if num_classes < 2:
      raise InputError(
        f"{field('train_labels')}: all labels are 0, expected at least two classes; give "
        "num_classes if the others do not occur"
      )
  human = {
    key.removeprefix(HUMAN): check_labels(
      field(key), value, len(images["train"]), num_classes
    )
    for key, value in arrays.items() if key.startswith(HUMAN)
  }
  return Source(
    name, images["train"], labels["train"], images["test"], labels["test"], num_classes,
    human_labels=human, **facts,
  )

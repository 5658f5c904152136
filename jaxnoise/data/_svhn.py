"""SVHN from its official MATLAB files."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_labels
from jaxnoise.data._known import SVHN, Known
from jaxnoise.data._resident import Source

FILES = ("train_32x32.mat", "test_32x32.mat")


def svhn(path: str | os.PathLike[str]) -> Source:
  """Reads SVHN's cropped digits from `train_32x32.mat` and `test_32x32.mat`.

  73,257 training and 26,032 test images, 32x32 RGB, 10 classes; label 10 of the files is the digit
  0. The 531,131 images of `extra_32x32.mat` are not used, as in the noise-in-distillation paper.
  Images are normalised by the statistics of the training set.

  Source: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning,
  NIPS workshop, 2011.

  Args:
    path: the directory of the two files.

  Raises:
    InputError: a file that is missing or damaged.
  """
  source = find_svhn(SVHN, pathlib.Path(path))
  if source is None:
    raise InputError(
      f"svhn: no official files at {os.fspath(path)!r}; expected {' and '.join(FILES)} there"
    )
  return source


def find_svhn(known: Known, path: pathlib.Path) -> Source | None:
  """Looks for the official files in the directory `path`; None if there are none."""
  folder = path.parent if path.name in FILES else path
  if not any((folder / name).is_file() for name in FILES):
    return None
  (images, labels), (test_images, test_labels) = (_read(folder / name) for name in FILES)
  return Source(
    known.name, images, labels, test_images, test_labels, known.num_classes,
    class_names=known.class_names,
  )


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  import scipy.io  # comes with jax; slow to import

  if not path.is_file():
    raise InputError(f"{path}: there is no such file; get both official files of SVHN")
  try:
    content = scipy.io.loadmat(path, variable_names=("X", "y"))
    images, labels = np.asarray(content["X"]), np.asarray(content["y"])
  except Exception as error:  # a damaged file may raise anything
    reason = " ".join(str(error).split())
    raise InputError(
      f"{path}: cannot be read as SVHN's MATLAB file with X and y ({reason}); get it again"
    ) from error
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
    raise InputError(
      f"{path}: X is {images.dtype} {images.shape}, expected uint8 [32, 32, 3, N]; get it again"
    )
  if labels.shape not in ((images.shape[3], 1), (images.shape[3],)):
    raise InputError(
      f"{path}: y has shape {labels.shape} for {images.shape[3]} images, expected one label for "
      "each; get it again"
    )
  labels = labels.reshape(-1).astype(np.int64)
  labels = np.where(labels == 10, 0, np.where(labels == 0, -1, labels))
  return images.transpose(3, 0, 1, 2), check_labels(f"{path}: y", labels, len(labels), 10)

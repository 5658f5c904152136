"""Your own arrays as a data set, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_images, check_labels
from jaxnoise.data._resident import Source


def arrays(
  train_images: Any,
  train_labels: Any,
  test_images: Any,
  test_labels: Any,
  *,
  num_classes: int | None = None,
  name: str = "arrays",
  class_names: Sequence[str] = (),
) -> Source:
  """Makes a data set of NumPy arrays, or of anything that NumPy takes for one.

  Images are uint8 in 0..255, or floats in [0, 1], which become round(255 x). Nothing else is
  guessed: floats beyond [0, 1], channels first and a missing channel axis are errors that name the
  fix.

  Args:
    train_images: [N, H, W, C].
    train_labels: [N] integers in 0..K-1.
    test_images: [M, H, W, C].
    test_labels: [M].
    num_classes: K; None means the number of class names, or one more than the largest label.
    name: what tables and messages call the set.
    class_names: K names, or none.

  Raises:
    InputError: an array of another dtype, shape, length or range.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data
    >>> images = np.linspace(0, 1, 4 * 8 * 8 * 3).reshape(4, 8, 8, 3)
    >>> source = data.arrays(images, [0, 1, 2, 1], images[:2], [2, 0])
    >>> source.num_classes, source.images.dtype, int(source.images.max())
    (3, dtype('uint8'), 255)
  """
  if num_classes is None and class_names:
    num_classes = len(class_names)
  images = {
    "train_images": _to_uint8("train_images", train_images),
    "test_images": _to_uint8("test_images", test_images),
  }
  labels = {
    "train_labels": check_labels(
      "train_labels", train_labels, len(images["train_images"]), num_classes
    ),
    "test_labels": check_labels(
      "test_labels", test_labels, len(images["test_images"]), num_classes
    ),
  }
  if num_classes is None:
    num_classes = 1 + max((int(each.max()) for each in labels.values() if len(each)), default=0)
    if num_classes < 2:
      raise InputError(
        "train_labels: all labels are 0, expected at least two classes; give num_classes if the "
        "others do not occur"
      )
  return Source(
    name, images["train_images"], labels["train_labels"], images["test_images"],
    labels["test_labels"], num_classes, class_names=tuple(class_names),
  )


def _to_uint8(field: str, images: Any) -> np.ndarray:
  images = np.asarray(images)
  if np.issubdtype(images.dtype, np.floating) and images.size:
    low, high = float(images.min()), float(images.max())
    if not (low >= 0.0 and high <= 1.0):  # so written, nan is refused
      raise InputError(
        f"{field}: found floats in {low:g}..{high:g}, expected 0..1, or uint8 in 0..255; scale "
        "them without any normalisation, which is the model's first layer"
      )
    # Part by part: the whole set as float64 would be eight times its size.
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1000):
      part = images[start : start + 1000].astype(np.float64)
      out[start : start + 1000] = np.rint(255.0 * part)
    images = out
  return check_images(field, images)

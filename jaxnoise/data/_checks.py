"""The border of the data layer: arrays are checked once, where they come in."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._stored import StoredImages


def check_images(field: str, images: Any) -> Any:
  """Checks a stack of images and returns it read-only.

  Args:
    field: what the message calls the array.
    images: [N, H, W, C] uint8, 0..255; or `StoredImages`, which pass as they are.

  Raises:
    InputError: another dtype, rank or axis order, or an empty axis other than N.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.data import _checks
    >>> _checks.check_images("train_images", np.zeros((2, 8, 8, 3), np.uint8)).shape
    (2, 8, 8, 3)
  """
  if isinstance(images, StoredImages):
    return images
  images = np.asarray(images)
  if images.dtype != np.uint8:
    fix = "convert with numpy.round(255 * x).astype('uint8') if it is in [0, 1]"
    raise InputError(f"{field}: dtype is {images.dtype}, expected uint8 in 0..255; {fix}")
  if images.ndim != 4:
    fix = "add a channel axis at the end" if images.ndim == 3 else "reshape it"
    raise InputError(f"{field}: shape is {images.shape}, expected [N, H, W, C]; {fix}")
  if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3, 4):
    fix = "use numpy.transpose(x, (0, 2, 3, 1))"
    raise InputError(
      f"{field}: shape {images.shape} looks like [N, C, H, W], expected [N, H, W, C]; {fix}"
    )
  if 0 in images.shape[1:]:
    raise InputError(f"{field}: shape {images.shape} has an empty axis, expected [N, H, W, C]")
  return frozen(images)


def check_labels(field: str, labels: Any, count: int, num_classes: int | None) -> np.ndarray:
  """Checks one label per example and returns them as read-only int32.

  Args:
    field: what the message calls the array.
    labels: [count] integers in 0..num_classes - 1.
    count: how many examples there are.
    num_classes: K, or None to ask only that labels are not negative.

  Raises:
    InputError: another dtype, rank or length, or a label out of range.

  Example:
    >>> from jaxnoise.data import _checks
    >>> _checks.check_labels("labels", [0, 2], 2, 3).dtype
    dtype('int32')
  """
  labels = np.asarray(labels)
  if labels.ndim != 1:
    fix = "use labels.ravel()" if labels.shape == (count, 1) else "give one integer per image"
    raise InputError(f"{field}: shape is {labels.shape}, expected [{count}]; {fix}")
  if len(labels) != count:
    raise InputError(
      f"{field}: found {len(labels)} labels for {count} images; give one label for each image"
    )
  if count and not np.issubdtype(labels.dtype, np.integer):
    raise InputError(
      f"{field}: dtype is {labels.dtype}, expected integers; give class numbers that start at 0"
    )
  top = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
  wrong = np.flatnonzero((labels < 0) | (labels > top))
  if len(wrong):
    fix = "classes are numbered from 0; correct the labels or num_classes"
    raise InputError(
      f"{field}: found {labels[wrong[0]]} at position {wrong[0]}, expected 0..{top}; {fix}"
    )
  return frozen(labels.astype(np.int32))


def check_ids(field: str, ids: Any, count: int) -> np.ndarray:
  """Checks that examples have distinct names: [count] integers or strings."""
  ids = np.asarray(ids)
  if ids.shape != (count,) or ids.dtype.kind not in "iuU":
    raise InputError(
      f"{field}: found {ids.dtype} of shape {ids.shape}, expected [{count}] integers or strings; "
      "give each example its position in the original training set, or a name"
    )
  if len(np.unique(ids)) != count:
    raise InputError(f"{field}: some occur twice, expected distinct ones; name every example once")
  return frozen(ids)


def check_class_names(field: str, names: Any, num_classes: int) -> tuple[str, ...]:
  """Checks that there are no class names, or one for each class, all different.

  Example:
    >>> from jaxnoise.data import _checks
    >>> _checks.check_class_names("class_names", ["cat", "dog"], 2)
    ('cat', 'dog')
  """
  if isinstance(names, str) or not all(isinstance(name, str) for name in names):
    raise InputError(f"{field}: found {names!r}, expected a sequence of texts; name every class")
  names = tuple(str(name) for name in names)
  if names and len(names) != num_classes:
    raise InputError(
      f"{field}: found {len(names)} names, expected one for each of the {num_classes} classes or "
      "none; add the missing ones"
    )
  if len(set(names)) != len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise InputError(f"{field}: {twice!r} occurs twice, expected distinct names; rename one class")
  return names


def check_count(field: str, value: Any, low: int, high: int | None = None) -> int:
  """Checks a whole number in low..high and returns it as an int.

  Example:
    >>> from jaxnoise.data import _checks
    >>> _checks.check_count("count", 3, low=1)
    3
  """
  expected = f"a whole number of at least {low}" if high is None else f"one in {low}..{high}"
  try:
    number = operator.index(value)
  except TypeError:
    number = None
  if isinstance(value, bool) or number is None or number < low or (
    high is not None and number > high
  ):
    raise InputError(f"{field}: found {value!r}, expected {expected}; change it")
  return number


def frozen(array: np.ndarray) -> np.ndarray:
  """Returns a contiguous, read-only view; the bytes are shared where they can be."""
  view = np.ascontiguousarray(array).view()
  view.flags.writeable = False
  return view

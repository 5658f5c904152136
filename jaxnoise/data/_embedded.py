"""Data that is always there: scikit-learn's digits, and images made from a formula."""

from __future__ import annotations

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import check_count
from jaxnoise.data._known import DIGIT_NAMES
from jaxnoise.data._resident import Source
from jaxnoise.data._splits import choose, host_rng, proportional_quota

DIGITS_TEST = 360


def digits() -> Source:
  """Scikit-learn's handwritten digits: 1,437 training and 360 test images, 8x8, 10 classes.

  Grey values 0..16 become round(255 x / 16), repeated to three channels. The split is stratified
  and fixed: each class gives its share of the test set by the largest-remainder rule, chosen by
  NumPy's frozen generator, so it does not depend on the version of scikit-learn. Both parts keep
  the order of the full set of 1,797; an id is the position in it.

  Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test
  part, as packaged by scikit-learn).

  Raises:
    InputError: scikit-learn is not installed.

  Example:
    >>> from jaxnoise import data
    >>> source = data.digits()
    >>> source.num_train, len(source.test_labels), source.image_shape
    (1437, 360, (8, 8, 3))
  """
  try:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]
  except ImportError as error:
    raise InputError(
      "digits: scikit-learn is not installed; run `pip install scikit-learn`"
    ) from error
  grey, labels = load_digits(return_X_y=True)
  grey = np.rint(np.asarray(grey, np.float64) * 255.0 / 16.0).astype(np.uint8)
  images = np.repeat(grey.reshape(-1, 8, 8, 1), 3, axis=3)
  labels = np.asarray(labels, np.int32)
  quota = proportional_quota(np.bincount(labels, minlength=10), DIGITS_TEST)
  test = choose(labels, quota, 0, "digits test split")
  train = np.setdiff1d(np.arange(len(labels)), test)
  return Source(
    "digits", images[train], labels[train], images[test], labels[test], 10, ids=train,
    class_names=DIGIT_NAMES,
  )


def generated(
  *,
  num_train: int = 256,
  num_test: int = 64,
  num_classes: int = 4,
  size: int = 8,
  noise: float = 0.1,
  seed: int = 0,
) -> Source:
  """Makes images of coloured stripes for smoke tests: no file, any size, easy to learn.

  Class k has its own hue and its own stripe direction pi k / K; every image has a phase and a
  contrast of its own and Gaussian pixel noise, so the mean colour alone nearly gives the class.
  Classes are of equal size within one, shuffled.

  Args:
    num_train: N.
    num_test: M.
    num_classes: K, at least 2.
    size: height and width in pixels.
    noise: standard deviation of the pixel noise on the [0, 1] scale.
    seed: the seed of everything.

  Raises:
    InputError: a count below 1, fewer than 2 classes, or a noise level outside 0..1.

  Example:
    >>> from jaxnoise import data
    >>> source = data.generated(num_train=10, num_classes=3, size=6)
    >>> source.images.shape, source.labels.max()
    ((10, 6, 6, 3), np.int32(2))
  """
  num_train = check_count("num_train", num_train, 1)
  num_test = check_count("num_test", num_test, 1)
  num_classes = check_count("num_classes", num_classes, 2)
  size = check_count("size", size, 2)
  if not isinstance(noise, int | float) or not 0.0 <= noise <= 1.0:
    raise InputError(f"noise: found {noise!r}, expected a number in 0..1; change it")

  def split(count: int, stream: str) -> tuple[np.ndarray, np.ndarray]:
    rng = host_rng(seed, stream)
    labels = rng.permutation(np.arange(count) % num_classes)
    share = labels[:, None] / num_classes
    thirds = np.arange(3)[None, :] / 3.0
    colour = 0.5 + 0.25 * np.cos(2 * np.pi * (share - thirds))
    x, y = np.meshgrid(np.arange(size) / size, np.arange(size) / size)
    angle = np.pi * share[:, :, None]
    wave = np.cos(angle) * x[None] + np.sin(angle) * y[None]
    phase, contrast = rng.uniform(size=(2, count, 1, 1))
    stripes = (0.1 + 0.15 * contrast) * np.cos(2 * np.pi * (2 * wave + phase))
    images = colour[:, None, None, :] + stripes[:, :, :, None]
    images = images + noise * rng.normal(size=images.shape)
    return np.rint(255 * np.clip(images, 0.0, 1.0)).astype(np.uint8), labels

  return Source(
    "generated", *split(num_train, "generated/train"), *split(num_test, "generated/test"),
    num_classes,
  )

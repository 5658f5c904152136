"""Digits and generated images."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxnoise import data
from jaxnoise.core import InputError


def test_digits_split():
  source = data.digits()
  _, labels = load_digits(return_X_y=True)
  assert (source.num_train, source.test.size, source.num_classes) == (1437, 360, 10)
  assert source.image_shape == (8, 8, 3)
  full = np.bincount(labels)
  np.testing.assert_array_equal(np.bincount(source.labels) + np.bincount(source.test_labels), full)
  assert abs(np.bincount(source.test_labels) - full * 360 / 1797).max() < 1, "stratified"
  np.testing.assert_array_equal(source.labels, labels[source.ids])


def test_digits_pixels():
  source = data.digits()
  grey, _ = load_digits(return_X_y=True)
  expected = np.rint(grey.reshape(-1, 8, 8) * 255 / 16)
  for channel in range(3):
    np.testing.assert_array_equal(source.images[..., channel], expected[source.ids])
  assert (source.images.min(), source.images.max()) == (0, 255)
  test = np.setdiff1d(np.arange(1797), source.ids)
  np.testing.assert_array_equal(source.test_images[..., 0], expected[test])


def test_digits_split_is_fixed():
  """Results of different versions are comparable only while this holds."""
  ids = data.digits().ids.astype("<i8")
  assert hashlib.sha256(ids.tobytes()).hexdigest()[:16] == DIGITS_IDS


DIGITS_IDS = "f6993e60368dd16d"


def test_generated_shapes_and_balance():
  source = data.generated(num_train=50, num_test=9, num_classes=7, size=12, seed=3)
  assert source.images.shape == (50, 12, 12, 3) and source.test_images.shape == (9, 12, 12, 3)
  sizes = np.bincount(source.labels, minlength=7)
  assert sizes.max() - sizes.min() <= 1
  assert len(np.unique(source.labels[:7])) > 1, "shuffled"


def test_generated_is_a_function_of_its_seed():
  first, second, other = (data.generated(seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(first.images, second.images)
  np.testing.assert_array_equal(first.labels, second.labels)
  assert not np.array_equal(first.images, other.images)
  train = {image.tobytes() for image in first.images}
  assert not any(image.tobytes() in train for image in first.test_images)


@pytest.mark.parametrize("num_classes", [2, 4, 10])
def test_generated_is_learnable(num_classes):
  """The nearest class mean of an image's mean colour, grey taken out, finds unseen images."""
  source = data.generated(num_train=600, num_test=200, num_classes=num_classes)

  def hue(images):
    colour = images.mean(axis=(1, 2)) / 255.0
    return colour - colour.mean(axis=1, keepdims=True)

  train = hue(source.images)
  means = np.stack([train[source.labels == k].mean(axis=0) for k in range(num_classes)])
  distance = ((hue(source.test_images)[:, None] - means[None]) ** 2).sum(axis=-1)
  assert np.mean(distance.argmin(axis=1) == source.test_labels) > 0.95


@pytest.mark.parametrize(("options", "message"), [
  (dict(num_train=0), "num_train: found 0"),
  (dict(num_test=2.5), "num_test: found 2.5"),
  (dict(num_classes=1), "num_classes: found 1"),
  (dict(size=1), "size: found 1"),
  (dict(noise=2.0), "noise: found 2.0"),
  (dict(noise=float("nan")), "noise: found nan"),
  (dict(seed=-1), "seed: found -1"),
])
def test_generated_bad_options(options, message):
  with pytest.raises(InputError, match=message):
    data.generated(**options)

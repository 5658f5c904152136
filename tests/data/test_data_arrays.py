"""Your own arrays, and the names of classes."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(9) % 3


def make(images=IMAGES, labels=LABELS, test_images=IMAGES[:4], test_labels=LABELS[:4], **options):
  return data.arrays(images, labels, test_images, test_labels, **options)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "jax", "jax uint8"])
def test_kinds(kind):
  images = {
    "uint8": IMAGES, "float32": np.float32(IMAGES / 255), "float64": IMAGES / 255,
    "jax": jnp.asarray(IMAGES, jnp.float32) / 255, "jax uint8": jnp.asarray(IMAGES),
  }[kind]
  source = make(images, list(LABELS), images[:4], jnp.asarray(LABELS[:4]))
  np.testing.assert_array_equal(source.images, IMAGES)
  np.testing.assert_array_equal(source.test_images, IMAGES[:4])
  np.testing.assert_array_equal(source.labels, LABELS)
  assert (source.name, source.num_classes, source.class_names) == ("arrays", 3, ())


def test_floats_are_rounded_and_not_cut():
  values = np.array([0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0]).reshape(5, 1, 1, 1)
  source = make(values, [0, 1, 0, 1, 0], values[:2], [0, 1])
  assert source.images.ravel().tolist() == [0, 0, 1, 255, 255]


def test_half_precision():
  source = make(np.float16(IMAGES / 255), LABELS)
  assert abs(source.images.astype(int) - IMAGES).max() <= 1


def test_names_and_classes():
  source = make(name="mine", class_names=["a", "b", "c", "d"])
  assert (source.name, source.num_classes) == ("mine", 4)
  assert source.class_names == ("a", "b", "c", "d")
  assert make(num_classes=7).num_classes == 7


BAD = {
  "grey levels as floats": (dict(images=IMAGES * 1.0), r"images: found floats in 0\.\.255, ex"),
  "normalised": (dict(test_images=IMAGES[:4] / 255 - 0.5), r"test_images: found floats in -0\.5"),
  "nan": (dict(images=np.full(IMAGES.shape, np.nan)), r"train_images: found floats in nan\.\.nan"),
  "integers": (dict(images=IMAGES.astype(int)), "train_images: dtype is int64, expected uint8"),
  "channels first": (dict(images=IMAGES.transpose(0, 3, 1, 2) / 255.0), r"looks like \[N, C, H, W"),
  "no channels": (dict(images=IMAGES[..., 0]), "add a channel axis at the end"),
  "labels": (dict(labels=LABELS[:5]), "train_labels: found 5 labels for 9 images"),
  "float labels": (dict(test_labels=[0.0] * 4), "test_labels: dtype is float64"),
  "beyond classes": (dict(num_classes=2), r"train_labels: found 2 at position 2, expected 0\.\.1"),
  "beyond names": (dict(class_names=("a", "b")), r"found 2 at position 2, expected 0\.\.1"),
  "one class": (dict(labels=[0] * 9, test_labels=[0] * 4), "at least two classes"),
  "nothing": (dict(images=IMAGES[:0], labels=[]), "no training images"),
  "names": (dict(class_names=("a", "b", "c"), num_classes=4), "found 3 names, expected one for"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
  changes, message = BAD[case]
  with pytest.raises(InputError, match=message):
    make(**changes)


@pytest.mark.parametrize("split", [
  lambda s: s.with_labels(s.labels), lambda s: s.take([0, 1]), lambda s: s.subset(3, 0),
  lambda s: s.holdout(3, 0)[0], lambda s: s.trusted(3, 0),
  lambda s: s.with_pool("unlabelled", IMAGES),
])
def test_class_names_survive(split):
  assert split(make(class_names=("a", "b", "c"))).class_names == ("a", "b", "c")


@pytest.mark.parametrize(("names", "message"), [
  (("a", "b"), "class_names: found 2 names, expected one for each of the 3 classes"),
  (("a", "b", "a"), "class_names: 'a' occurs twice"),
  (("a", "b", 3), "class_names: found .*, expected a sequence of texts"),
  ("abc", "class_names: found 'abc', expected a sequence of texts"),
])
def test_bad_class_names(names, message):
  with pytest.raises(InputError, match=message):
    data.Source("x", IMAGES, LABELS, IMAGES, LABELS, 3, class_names=names)


def test_known_names(tmp_path):
  """CIFAR-100's hundred are in alphabetical order; a .npz of a named set has its names."""
  for name, count in (("cifar10", 10), ("cifar100", 100)):
    np.savez(tmp_path / f"{name}.npz", train_images=IMAGES, train_labels=LABELS,
             test_images=IMAGES, test_labels=LABELS)
    names = data.load(name, tmp_path).class_names
    assert len(set(names)) == count and list(names) == sorted(names)
  assert names[:2] == ("apple", "aquarium_fish") and (names[51], names[99]) == ("mushroom", "worm")
  assert data.digits().class_names == tuple("0123456789")
  assert data.generated().class_names == ()

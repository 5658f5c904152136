"""The .npz form: a round trip, and one clear error for everything that can be wrong with it."""

import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core import InputError


def arrays(**changes):
  rng = np.random.default_rng(0)
  values = {
    "train_images": rng.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8),
    "train_labels": np.arange(9) % 3,
    "test_images": rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8),
    "test_labels": np.arange(4) % 3,
    "human_labels/worst_label": (np.arange(9) + 1) % 3,
  }
  values.update(changes)
  return {key: value for key, value in values.items() if value is not None}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_round_trip(tmp_path, save, dtype):
  values = arrays(unrelated=np.ones(3))
  for key in values:
    if "labels" in key:
      values[key] = values[key].astype(dtype)
  save(tmp_path / "mine.npz", **values)
  source = data.load("npz", str(tmp_path / "mine.npz"))
  assert (source.name, source.num_train, source.num_classes) == ("mine", 9, 3)
  assert source.image_shape == (6, 5, 3)
  for field, key in {"images": "train_images", "labels": "train_labels",
                     "test_images": "test_images", "test_labels": "test_labels"}.items():
    np.testing.assert_array_equal(getattr(source, field), values[key])
  assert list(source.human_labels) == ["worst_label"]
  np.testing.assert_array_equal(
    source.human_labels["worst_label"], values["human_labels/worst_label"])
  assert source.labels.dtype == source.human_labels["worst_label"].dtype == np.int32
  scaled = values["train_images"] / 255.0
  np.testing.assert_allclose(source.image_mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(source.image_std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)


def test_num_classes_option(tmp_path):
  np.savez(tmp_path / "mine.npz", **arrays())
  assert data.load("npz", tmp_path / "mine.npz", num_classes=7).num_classes == 7


U8 = np.zeros((9, 6, 5, 3), np.uint8)
BAD = {
  "float images": (dict(train_images=U8 / 255.0), "train_images: dtype is float64, expected"),
  "int64 images": (dict(test_images=U8[:4].astype(int)), "test_images: dtype is int64"),
  "rank 3": (dict(train_images=U8[..., 0]), r"shape is \(9, 6, 5\).*add a channel axis"),
  "rank 2": (dict(train_images=U8.reshape(9, -1)), r"shape is \(9, 90\), expected \[N, H, W, C\]"),
  "channels first": (dict(train_images=np.zeros((9, 3, 6, 5), np.uint8)), r"looks like \[N, C, H"),
  "other test shape": (dict(test_images=np.zeros((4, 5, 5, 3), np.uint8)),
                       r"test_images: one image has shape \(5, 5, 3\), expected \(6, 5, 3\)"),
  "no images": (dict(train_images=U8[:0], train_labels=np.zeros(0, int),
                     **{"human_labels/worst_label": None}), "there are no images"),
  "missing key": (dict(test_labels=None), "has no test_labels, only train_images"),
  "missing keys": (dict(train_images=None, train_labels=None), "has no train_images, train_labels"),
  "short labels": (dict(train_labels=np.zeros(8, int)), "train_labels: found 8 labels for 9"),
  "long test labels": (dict(test_labels=np.zeros(5, int)), "test_labels: found 5 labels for 4"),
  "column labels": (dict(train_labels=np.zeros((9, 1), int)), r"use labels\.ravel"),
  "one-hot labels": (dict(train_labels=np.eye(9, dtype=int)), r"shape is \(9, 9\)"),
  "float labels": (dict(train_labels=np.zeros(9)), "train_labels: dtype is float64"),
  "negative label": (dict(train_labels=np.arange(9) - 1), "found -1 at position 0"),
  "one class": (dict(train_labels=np.zeros(9, int), test_labels=np.zeros(4, int),
                     **{"human_labels/worst_label": None}), "at least two classes"),
  "short human labels": ({"human_labels/worst_label": np.zeros(8, int)},
                         "human_labels/worst_label: found 8 labels for 9 images"),
  "human label out of range": ({"human_labels/worst_label": np.full(9, 3)},
                               r"human_labels/worst_label: found 3 at position 0, expected 0\.\.2"),
  "pickled array": (dict(train_labels=np.array([None] * 9, object)), "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content(tmp_path, case):
  changes, message = BAD[case]
  np.savez(tmp_path / "mine.npz", **arrays(**changes))
  with pytest.raises(InputError, match=message):
    data.npz(tmp_path / "mine.npz")


def test_label_above_num_classes(tmp_path):
  np.savez(tmp_path / "mine.npz", **arrays())
  with pytest.raises(InputError, match=r"train_labels: found 2 at position 2, expected 0\.\.1"):
    data.npz(tmp_path / "mine.npz", num_classes=2)


@pytest.mark.parametrize("content", [b"", b"no archive", "npy", "cut"])
def test_not_an_npz(tmp_path, content):
  path = tmp_path / "mine.npz"
  if content == "npy":
    with path.open("wb") as file:
      np.save(file, np.zeros(3))
  elif content == "cut":
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:900])
  else:
    path.write_bytes(content)
  with pytest.raises(InputError, match=r"mine\.npz: cannot be read"):
    data.npz(path)


def test_missing_file(tmp_path):
  with pytest.raises(InputError, match=r"there is no such file.*train_images"):
    data.npz(tmp_path / "mine.npz")

"""SVHN's MATLAB files, written here by SciPy."""

import numpy as np
import pytest
import scipy.io

from jaxnoise import data
from jaxnoise.core import InputError

FILES = ("train_32x32.mat", "test_32x32.mat")


def draw(count, seed):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
  return images, rng.permutation(np.arange(count) % 10)


def write(folder, **changes):
  """Both files as they are published: X [32, 32, 3, N], y [N, 1] with 10 for the digit 0."""
  for file, count, seed in (*zip(FILES, (24, 12), (0, 1)),):
    images, labels = draw(count, seed)
    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    content = {"X": images.transpose(1, 2, 3, 0), "y": y, **changes}
    content = {key: value for key, value in content.items() if value is not None}
    scipy.io.savemat(folder / file, content, do_compression=True)


@pytest.mark.parametrize("place", ["", "train_32x32.mat"])
def test_official_files(tmp_path, place):
  write(tmp_path)
  source = data.load("svhn", tmp_path / place)
  for images, labels, seed in (
    (source.images, source.labels, 0), (source.test_images, source.test_labels, 1)
  ):
    expected = draw(len(images), seed)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(labels, expected[1])
  assert (source.name, source.num_classes, source.num_train) == ("svhn", 10, 24)
  assert source.class_names == tuple("0123456789")
  scaled = draw(24, 0)[0] / 255.0
  np.testing.assert_allclose(source.image_mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
  np.testing.assert_array_equal(data.svhn(tmp_path).labels, source.labels)


X = np.zeros((32, 32, 3, 4), np.uint8)
BAD = {
  "no X": (dict(X=None), "cannot be read as SVHN's MATLAB file with X and y .'X'"),
  "no y": (dict(y=None), "cannot be read as SVHN's MATLAB file with X and y .'y'"),
  "float": (dict(X=X / 2), r"X is float64 \(32, 32, 3, 4\), expected uint8"),
  "batch first": (dict(X=X.transpose(3, 0, 1, 2)), r"X is uint8 \(4, 32, 32, 3\)"),
  "short y": (dict(X=X, y=np.ones((3, 1))), r"y has shape \(3, 1\) for 4 images"),
  "label 0": (dict(X=X, y=np.array([[1], [0], [2], [3]])), "y: found -1 at position 1"),
  "label 11": (dict(X=X, y=np.array([[1], [11], [2], [3]])), "y: found 11 at position 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content(tmp_path, case):
  changes, message = BAD[case]
  write(tmp_path, **changes)
  with pytest.raises(InputError, match=message):
    data.svhn(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no file", "cut"])
def test_damaged(tmp_path, content):
  write(tmp_path)
  path = tmp_path / FILES[1]
  path.write_bytes(path.read_bytes()[:3000] if content == "cut" else content)
  with pytest.raises(InputError, match=r"test_32x32\.mat: cannot be read as SVHN's") as error:
    data.svhn(tmp_path)
  assert "\n" not in str(error.value)


def test_missing(tmp_path):
  with pytest.raises(InputError, match=r"no official files.*train_32x32\.mat and test_32x32\.mat"):
    data.svhn(tmp_path)
  write(tmp_path)
  (tmp_path / FILES[0]).unlink()
  with pytest.raises(InputError, match=r"train_32x32\.mat: there is no such file"):
    data.svhn(tmp_path)

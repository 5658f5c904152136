"""Archives generated here in the official layouts: python and binary, folder and .tar.gz."""

import pickle
import struct
import warnings

import numpy as np
import official_layouts as official
import pytest

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.data._pickles import unpickle

SETS = {
  "cifar10": (10, official.cifar10_files, {
    "python": ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "binary": ("cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
  }),
  "cifar100": (100, official.cifar100_files, {
    "python": ("cifar-100-python.tar.gz", "cifar-100-python"),
    "binary": ("cifar-100-binary.tar.gz", "cifar-100-binary"),
  }),
}


def check(source, train, test, num_classes):
  np.testing.assert_array_equal(source.images, train[0])
  np.testing.assert_array_equal(source.labels, train[1])
  np.testing.assert_array_equal(source.test_images, test[0])
  np.testing.assert_array_equal(source.test_labels, test[1])
  np.testing.assert_array_equal(source.ids, np.arange(len(train[0])))
  assert source.num_classes == num_classes
  assert source.clean_labels is None


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("place", ["parent", "folder", "tar", "directory with tar"])
def test_reads_official_layout(tmp_path, name, version, place):
  num_classes, make, places = SETS[name]
  train, test = official.draw(12, num_classes, 0), official.draw(5, num_classes, 1)
  files = make(version, train, test)
  archive, folder = places[version]
  if "tar" in place:
    official.write_tar(files, tmp_path / archive)
    path = tmp_path / archive if place == "tar" else tmp_path
  else:
    official.write(files, tmp_path)
    path = tmp_path if place == "parent" else tmp_path / folder
  before = sorted(tmp_path.rglob("*"))
  check(data.load(name, path), train, test, num_classes)
  check(getattr(data, name)(path), train, test, num_classes)
  assert sorted(tmp_path.rglob("*")) == before, "reading must not unpack anything to disk"


def test_published_statistics(tmp_path):
  train, test = official.draw(10, 10, 0), official.draw(2, 10, 1)
  official.write(official.cifar10_files("binary", train, test), tmp_path)
  source = data.cifar10(tmp_path)
  assert source.image_mean == (0.4914, 0.4822, 0.4465)
  assert source.image_std == (0.2023, 0.1994, 0.2010)


def test_the_test_pickle_is_one_that_numpy_reads():
  """The layouts above are only worth something if NumPy itself takes them for arrays."""
  images, labels = official.draw(4, 10, 0)
  content = official.python2_pickle({"data": official.planes(images), "labels": labels.tolist()})
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # NumPy 2.4 warns of flags written as integers
    loaded = pickle.loads(content, encoding="bytes")
  np.testing.assert_array_equal(loaded[b"data"], official.planes(images))


def test_old_pickle_reads_without_warning():
  images, labels = official.draw(4, 10, 0)
  content = official.python2_pickle({"data": official.planes(images), "labels": labels.tolist()})
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    loaded = unpickle(content, "data_batch_1")
  np.testing.assert_array_equal(loaded["data"], official.planes(images))
  assert loaded["labels"] == labels.tolist()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_python3_pickles(protocol, dtype, order):
  """Archives repacked with today's Python and NumPy."""
  array = np.asarray(np.arange(12).reshape(3, 4), dtype, order=order)
  content = pickle.dumps({b"data": array, "labels": list(np.arange(3))}, protocol=protocol)
  loaded = unpickle(content, "data_batch_1")
  np.testing.assert_array_equal(loaded["data"], array)
  assert loaded["labels"] == [0, 1, 2]


class Run:
  """Pickles as a call of any function."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


def attacks(marker):
  """Pickles that would create the file `marker`, or reach for more than arrays; and the reason."""
  text = str(marker)
  save = b"\x80\x02cnumpy\nsave\n(X" + struct.pack("<i", len(text)) + text.encode() + b"K\x01tR."
  reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n"
  return {
    "os.system": pickle.dumps({"data": Run(__import__("os").system, f"touch {text}")}),
    "eval": pickle.dumps({"data": Run(eval, f"open({text!r}, 'w')")}),
    "open": pickle.dumps({"data": Run(open, text, "w")}),
    "numpy function": save,
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
    "state of a constructor": b"\x80\x02" + reconstruct + b"}U\x01aK\x01sb.",
    "slots of a constructor": b"\x80\x02" + reconstruct + b"N}U\x01aK\x01s\x86b.",
    "object array": pickle.dumps({"data": np.array([None, 1], object)}),
    "persistent id": b"\x80\x02U\x01aQ.",
    "extension": b"\x80\x02\x82\x01.",
    "own class": pickle.dumps({"data": InputError("x")}),
  }


REASONS = {
  "os.system": r"it names (posix|nt)\.system, which is not allowed",
  "eval": r"it names (__builtin__|builtins)\.eval, which is not allowed",
  "open": r"it names (_?io|builtins)\.open, which is not allowed",
  "numpy function": r"it names numpy\.save, which is not allowed",
  "dotted name": r"it names numpy\.ndarray\.__class__, which is not allowed",
  "getattr": r"it names builtins\.getattr, which is not allowed",
  "state of a constructor": "it sets the state of a function",
  "slots of a constructor": "it sets the state of a function",
  "object array": "it holds an array of dtype 'O8'",
  "persistent id": "persistent id",
  "extension": "unregistered extension",
  "own class": "it names jaxnoise.*InputError, which is not allowed",
}


@pytest.mark.parametrize("attack", REASONS)
def test_refuses_pickle_that_runs_code(tmp_path, attack):
  marker = tmp_path / "marker"
  files = official.cifar10_files("python", official.draw(5, 10, 0), official.draw(2, 10, 1))
  files["cifar-10-batches-py/data_batch_3"] = attacks(marker)[attack]
  official.write(files, tmp_path)
  with pytest.raises(InputError, match=r"data_batch_3: cannot be read.*" + REASONS[attack]):
    data.cifar10(tmp_path)
  assert not marker.exists()


@pytest.mark.parametrize("attack", ["os.system", "eval", "open", "numpy function"])
def test_attacks_are_real(tmp_path, attack):
  """With the plain unpickler each of them does its work, so refusing them means something."""
  marker = tmp_path / "marker.npy"
  content = attacks(marker)[attack]
  pickle.loads(content, encoding="latin1")
  assert marker.exists()


def _cut(files, name, size):
  files[name] = files[name][:size]


PYTHON, BINARY = "cifar-10-batches-py/", "cifar-10-batches-bin/"
IMAGES = np.zeros((2, 3072), np.uint8)
DAMAGE = {
  "missing batch": ("python", lambda f: f.pop(PYTHON + "data_batch_4"), "has no data_batch_4"),
  "missing test": ("python", lambda f: f.pop(PYTHON + "test_batch"), "has no test_batch"),
  "missing binary": ("binary", lambda f: f.pop(BINARY + "test_batch.bin"), "has no test_batch.bin"),
  "truncated": ("python", lambda f: _cut(f, PYTHON + "data_batch_2", 500), "cannot be read"),
  "truncated binary": ("binary", lambda f: _cut(f, BINARY + "data_batch_2.bin", 3000),
                       "3000 bytes, expected a multiple of 3073"),
  "empty": ("binary", lambda f: _cut(f, BINARY + "data_batch_2.bin", 0), "has 0 bytes"),
  "not a pickle": ("python", lambda f: f.update({PYTHON + "data_batch_1": b"<html>"}),
                   "cannot be read"),
  "list": ("python", lambda f: f.update({PYTHON + "data_batch_1": pickle.dumps([1])}),
           "holds a list"),
  "no labels": ("python", lambda f: f.update({
    PYTHON + "data_batch_1": official.python2_pickle({"data": IMAGES})}), "has no 'labels'"),
  "wrong width": ("python", lambda f: f.update({
    PYTHON + "data_batch_1": official.python2_pickle({"data": IMAGES[:, :9], "labels": [0, 1]})}),
    r"\(2, 9\), expected uint8 \[N, 3072\]"),
  "too few labels": ("python", lambda f: f.update({
    PYTHON + "data_batch_1": official.python2_pickle({"data": IMAGES, "labels": [0]})}),
    "1 labels for 2 images"),
  "label out of range": ("python", lambda f: f.update({
    PYTHON + "data_batch_1": official.python2_pickle({"data": IMAGES, "labels": [0, 10]})}),
    r"found 10 at position 1, expected 0\.\.9"),
  "binary label": ("binary", lambda f: f.update({
    BINARY + "data_batch_1.bin": b"\x0a" + bytes(3072)}), "found 10 at position 0"),
  "ragged labels": ("python", lambda f: f.update({
    PYTHON + "data_batch_1": pickle.dumps({"data": IMAGES, "labels": [[0], [1, 2]]})}),
    "no list of integers"),
}


@pytest.mark.parametrize("tar", [False, True], ids=["folder", "tar"])
@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_archives(tmp_path, case, tar):
  version, damage, message = DAMAGE[case]
  files = official.cifar10_files(version, official.draw(10, 10, 0), official.draw(2, 10, 1))
  damage(files)
  if tar:
    official.write_tar(files, tmp_path / f"cifar-10-{version}.tar.gz")
  else:
    official.write(files, tmp_path)
  with pytest.raises(InputError, match=message):
    data.cifar10(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", "cut"], ids=["empty", "text", "cut"])
def test_damaged_tar(tmp_path, content):
  path = tmp_path / "cifar-10-python.tar.gz"
  if content == "cut":
    official.write_tar(official.cifar10_files(
      "python", official.draw(5, 10, 0), official.draw(2, 10, 1)), path)
    content = path.read_bytes()[:5000]
  path.write_bytes(content)
  with pytest.raises(InputError, match="cannot be read as a tar archive"):
    data.cifar10(path)


def test_cifar100_archive_is_no_cifar10(tmp_path):
  files = official.cifar100_files("python", official.draw(5, 100, 0), official.draw(2, 100, 1))
  official.write_tar(files, tmp_path / "any.tar.gz")
  with pytest.raises(InputError, match="cifar10: no official archive"):
    data.cifar10(tmp_path / "any.tar.gz")

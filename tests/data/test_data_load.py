"""From a name to a data set: the order of resolution, and the advice when there is nothing."""

import re

import numpy as np
import official_layouts as official
import pytest

from jaxnoise import data
from jaxnoise.core import InputError


def write_npz(path, mark):
  images = np.full((20, 8, 8, 3), mark, np.uint8)
  labels = np.arange(20) % 10
  np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def test_embedded_sets_need_no_path():
  assert data.load("digits").num_train == 1437
  assert data.load("generated", num_train=30, size=6).images.shape == (30, 6, 6, 3)


def test_named_npz_takes_the_set_s_own_facts(tmp_path):
  write_npz(tmp_path / "cifar100.npz", 7)
  for path in (tmp_path, str(tmp_path / "cifar100.npz")):
    source = data.load("cifar100", path)
    assert (source.name, source.num_classes, source.num_train) == ("cifar100", 100, 20)
    assert source.image_mean == (0.5071, 0.4867, 0.4408)
    assert source.image_std == (0.2675, 0.2565, 0.2761)


def test_order_of_resolution(tmp_path):
  """The .npz before the archives, a folder before the same thing packed, python before binary."""
  def place(mark):
    images = np.full((5, 32, 32, 3), mark, np.uint8)
    return (images, np.arange(5)), (images, np.arange(5))

  binary, python = (tmp_path / f"cifar-10-{version}.tar.gz" for version in ("binary", "python"))
  official.write_tar(official.cifar10_files("binary", *place(1)), binary)
  assert data.load("cifar10", tmp_path).images.max() == 1
  official.write_tar(official.cifar10_files("python", *place(2)), python)
  assert data.load("cifar10", tmp_path).images.max() == 2
  official.write(official.cifar10_files("binary", *place(3)), tmp_path)
  assert data.load("cifar10", tmp_path).images.max() == 3
  official.write(official.cifar10_files("python", *place(4)), tmp_path)
  assert data.load("cifar10", tmp_path).images.max() == 4
  write_npz(tmp_path / "cifar10.npz", 5)
  assert data.load("cifar10", tmp_path).images.max() == 5


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("place", ["", "empty", "missing", "missing.npz"])
def test_nothing_found_names_every_way(tmp_path, name, place):
  (tmp_path / "empty").mkdir()
  path = tmp_path / place if place else ""
  with pytest.raises(InputError) as error:
    data.load(name, path)
  message = str(error.value)
  digits = name.removeprefix("cifar")
  folders = {"10": "cifar-10-batches-{}", "100": "cifar-100-{}"}[digits]
  python, binary = {"10": ("py", "bin"), "100": ("python", "binary")}[digits]
  for expected in (
    f"{name}.npz", "train_images", "train_labels", "test_images", "test_labels", "human_labels/",
    f"cifar-{digits}-python.tar.gz", f"cifar-{digits}-binary.tar.gz", "data.path",
    folders.format(python), folders.format(binary), str(path),
  ):
    assert expected in message
  assert "\n" not in message


@pytest.mark.parametrize(("name", "expected"), [
  ("cifar10", ("curl -O https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar10/VERSION",
               "pip install array_record", "tfrecord", "t.builder('cifar10', data_dir='DIR'")),
  ("cifar100", ("curl -O https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "pip install array_record", "tfrecord", "t.builder('cifar100'")),
  ("svhn", ("svhn.npz", "curl -O", "{train_32x32.mat,test_32x32.mat}", "svhn_cropped/VERSION",
            "pip install array_record", "tfrecord", "t.builder('svhn_cropped'")),
  ("cinic10", ("cinic10.npz", "CINIC-10.tar.gz && tar xzf CINIC-10.tar.gz", "valid/")),
])
def test_every_way_has_its_command(tmp_path, name, expected):
  for path in ("", "nowhere", tmp_path):
    with pytest.raises(InputError) as error:
      data.load(name, path)
    message = str(error.value)
    for text in (*expected, "numpy.savez('" + name):
      assert text in message
    assert "\n" not in message and len(message) < 830 + len(str(path))


def test_the_printed_commands_are_python():
  with pytest.raises(InputError) as error:
    data.load("cifar10", "nowhere")
  (code,) = re.findall(r'python -c "(.*?)"', str(error.value))
  compile(code, "printed", "exec")


BAD = {
  "unknown": (lambda: data.load("cifar"), "'cifar' is not known; did you mean 'cifar10'"),
  "far off": (lambda: data.load("mnist"), "known names: array_record, cifar10, cifar100, "),
  "option": (lambda: data.load("generated", num_clases=3), "'num_clases'; did you mean 'num_cl"),
  "no options": (lambda: data.load("digits", size=3), "has no option 'size'; it takes no options"),
  "archive option": (lambda: data.load("cifar10", num_classes=9), "takes no options, found num_cl"),
  "npz option": (lambda: data.load("npz", "x.npz", classes=9), "'classes'; did you mean 'num_cl"),
  "folder no path": (lambda: data.load("folder"), "data.path: is empty.*train/CLASS"),
  "svhn option": (lambda: data.load("svhn", image_size=8), "takes no options, found image_size"),
  "npz no path": (lambda: data.load("npz"), "data.path: is empty.*train_images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_names_and_options(case):
  call, message = BAD[case]
  with pytest.raises(InputError, match=message):
    call()

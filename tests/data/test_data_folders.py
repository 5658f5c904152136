"""Images in folders: splits, classes, CINIC-10, single folders, sizes and what is refused."""

import numpy as np
import pytest
from PIL import Image

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.data import _images

CIFAR10 = (
  "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)


def save(path, grey, size=(6, 6), mode="RGB", **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.new("L", size[::-1], grey).convert(mode)
  image.save(path, **options)


def animals(root, test="test"):
  for i, name in enumerate(("cat/10.png", "cat/2.png", "dog/b.png", "ant/x.png")):
    save(root / "train" / name, 10 * (i + 1))
  for i, name in enumerate(("dog/1.png", "cat/0.png")):
    save(root / test / name, 100 + i)


@pytest.mark.parametrize("test", ["test", "val", "valid"])
def test_folder(tmp_path, test):
  animals(tmp_path, test)
  (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
  save(tmp_path / "train" / "cat" / ".hidden.png", 0)
  (tmp_path / "train" / ".cache").mkdir()
  source = data.load("folder", tmp_path)
  assert source.class_names == ("ant", "cat", "dog") and source.name == "folder"
  assert source.ids.tolist() == ["ant/x.png", "cat/10.png", "cat/2.png", "dog/b.png"]
  assert source.images[:, 0, 0, 0].tolist() == [40, 10, 20, 30]
  assert source.labels.tolist() == [0, 1, 1, 2]
  assert source.test_images[:, 0, 0, 0].tolist() == [101, 100], "ant has no test image"
  assert source.test_labels.tolist() == [1, 2]
  assert source.take([3, 1]).ids.tolist() == ["dog/b.png", "cat/10.png"]


def test_the_test_folder_comes_before_val(tmp_path):
  animals(tmp_path, "val")
  animals(tmp_path, "test")
  save(tmp_path / "test" / "cat" / "one_more.png", 1)
  assert len(data.folder(tmp_path).test_labels) == 3


@pytest.mark.parametrize(("name", "mode"), [
  ("a.png", "RGB"), ("a.png", "L"), ("a.png", "LA"), ("a.png", "RGBA"), ("a.png", "P"),
  ("a.PNG", "RGB"), ("a.bmp", "RGB"), ("a.ppm", "RGB"), ("a.jpg", "L"), ("a.JPEG", "RGB"),
  ("a.webp", "RGB"), ("a.jpg", "CMYK"),
])
def test_formats_and_modes(tmp_path, name, mode):
  save(tmp_path / name, 120, mode=mode, **({"lossless": True} if "webp" in name else {}))
  pool = data.image_pool(tmp_path)
  assert pool.images.shape == (1, 6, 6, 3) and pool.ids.tolist() == [name]
  assert abs(pool.images.astype(int) - 120).max() <= 1


def test_transparent_palette_without_a_warning(tmp_path):
  image = Image.new("P", (6, 6), 1)
  image.putpalette([0, 0, 0, 10, 20, 30])
  image.save(tmp_path / "a.png", transparency=b"\x00\x80")
  assert data.image_pool(tmp_path).images[0, 0, 0].tolist() == [10, 20, 30]


def test_image_size(tmp_path):
  animals(tmp_path)
  save(tmp_path / "train" / "dog" / "wide.jpg", 77, size=(9, 20))
  source = data.load("folder", tmp_path, image_size=4)
  assert source.images.shape == (5, 4, 4, 3) and source.test_images.shape == (2, 4, 4, 3)
  assert abs(source.images[4].astype(int) - 77).max() <= 1


def test_many_images_keep_their_order(tmp_path):
  """More than the threads hold at a time."""
  count = 3 * _images.CHUNK + 5
  for i in range(count):
    save(tmp_path / f"{i:04d}.ppm", i, size=(2, 2))
  pool = data.image_pool(tmp_path)
  assert pool.images[:, 1, 1, 2].tolist() == list(range(count))
  save(tmp_path / "0190.ppm", 1, size=(3, 2))
  with pytest.raises(InputError, match=r"0190\.ppm is 3x2 pixels, others are 2x2; set image_size"):
    data.image_pool(tmp_path)


def remove(folder):
  for file in folder.iterdir():
    file.unlink()


BAD = {
  "no folder": (lambda d: d.rename(d.parent / "moved"), "is no folder; set data.path to one that"),
  "no train": (lambda d: (d / "train").rename(d / "trian"), "train: there is no such folder"),
  "no test": (lambda d: (d / "test").rename(d / "tests"), "has no folder test, val or valid"),
  "unknown class": (lambda d: save(d / "test" / "dogs" / "a.png", 0),
                    r"test: has the folder 'dogs', which is no class \(ant, cat, dog\)"),
  "empty class": (lambda d: remove(d / "train" / "ant"), "ant: has no images, expected some of ev"),
  "empty test": (lambda d: [remove(d / "test" / c) for c in ("cat", "dog")], "has no images in fo"),
  "size": (lambda d: save(d / "train" / "dog" / "c.png", 0, size=(5, 6)),
           r"c\.png is 5x6 pixels, others are 6x6; set image_size \(config\.data\.options\.im"),
  "test size": (lambda d: save(d / "test" / "dog" / "c.png", 0, size=(5, 6)), r"c\.png is 5x6"),
  "16 bits": (lambda d: Image.fromarray(np.zeros((6, 6), np.uint16)).save(d / "train/dog/c.png"),
              r"c\.png: is of mode I;16, expected 8 bits per channel"),
  "text": (lambda d: (d / "train/dog/c.png").write_text("no"),
           r"c\.png: cannot be read as an image \(no image format that Pillow knows\); replace"),
  "cut": (lambda d: (d / "train/dog/b.png").write_bytes((d / "train/dog/b.png").read_bytes()[:50]),
          r"b\.png: cannot be read as an image"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders(tmp_path, case):
  root = tmp_path / "set"
  animals(root)
  change, message = BAD[case]
  change(root)
  with pytest.raises(InputError, match=message) as error:
    data.load("folder", root)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(("options", "message"), [
  ({"image_size": -1}, "image_size: found -1"),
  ({"image_size": 2.5}, "image_size: found 2.5"),
  ({"image_siz": 8}, "folder: has no option 'image_siz'; did you mean 'image_size'"),
])
def test_bad_options(tmp_path, options, message):
  animals(tmp_path)
  with pytest.raises(InputError, match=message):
    data.load("folder", tmp_path, **options)


def test_memory_bound_counts_both_splits(tmp_path, monkeypatch):
  animals(tmp_path)  # 4 and 2 images of 6x6x3
  monkeypatch.setattr(_images, "MEMORY_LIMIT", 6 * 6 * 6 * 3)
  data.folder(tmp_path)
  monkeypatch.setattr(_images, "MEMORY_LIMIT", 6 * 6 * 6 * 3 - 1)
  with pytest.raises(InputError, match=r"folder: 6 images of 6x6 take.*data.stream.*image_size"):
    data.folder(tmp_path)


def test_the_stated_bound():
  _images.check_memory("set", 2**30 // 64, (32, 32, 1))
  with pytest.raises(InputError, match="more than the 16 GiB"):
    _images.check_memory("set", 2**30 // 64 + 1, (32, 32, 1))


def cinic10(root):
  """Two images from ImageNet and one from CIFAR-10 in every class of every split."""
  for s, split in enumerate(("train", "valid", "test")):
    for c, name in enumerate(CIFAR10):
      for i, file in enumerate(("n01_7.png", "n02_1.png", f"cifar10-train-{c}.png")):
        save(root / split / name / file, 80 * s + 4 * c + i, size=(32, 32))


def test_cinic10(tmp_path):
  cinic10(tmp_path / "CINIC-10")
  source = data.load("cinic10", tmp_path)
  assert source.class_names == CIFAR10 and source.image_shape == (32, 32, 3)
  assert source.image_mean == (0.47889522, 0.47227842, 0.43047404)
  assert source.image_std == (0.24205776, 0.23828046, 0.25874835)
  np.testing.assert_array_equal(source.labels, np.repeat(np.arange(10), 3))
  assert source.images[:3, 0, 0, 0].tolist() == [2, 0, 1], "sorted by file name"
  assert source.test_images[:, 0, 0, 0].min() == 160

  imagenet = data.load("cinic10", tmp_path, origin="imagenet")
  assert (imagenet.num_train, len(imagenet.test_labels)) == (20, 20)
  assert imagenet.ids[:2].tolist() == ["airplane/n01_7.png", "airplane/n02_1.png"]
  assert data.load("cinic10", tmp_path, origin="cifar10").num_train == 10

  joined = data.load("cinic10", tmp_path / "CINIC-10", join_valid=True)
  assert (joined.num_train, len(joined.test_labels)) == (60, 30)
  np.testing.assert_array_equal(np.bincount(joined.labels), 6)
  assert {i.split("/")[0] for i in joined.ids} == {"train", "valid"}

  pool = data.image_pool(
    tmp_path / "CINIC-10" / "test", class_names=source.class_names, pattern="n[0-9]*"
  )
  np.testing.assert_array_equal(pool.images, imagenet.test_images)
  np.testing.assert_array_equal(pool.labels, imagenet.test_labels)


def test_cinic10_with_another_class(tmp_path):
  cinic10(tmp_path)
  save(tmp_path / "test" / "zebra" / "n.png", 0, size=(32, 32))
  with pytest.raises(InputError, match=r"has the folder 'zebra', which is no class \(airplane"):
    data.load("cinic10", tmp_path)
  with pytest.raises(InputError, match="origin: found 'image', expected one of all, imagenet, cif"):
    data.load("cinic10", tmp_path, origin="image")
  with pytest.raises(InputError, match="cinic10: has no option 'orign'; did you mean 'origin'"):
    data.load("cinic10", tmp_path, orign="all")


def test_image_pool_with_classes(tmp_path):
  save(tmp_path / "dog" / "b.png", 1)
  save(tmp_path / "cat" / "a.png", 2)
  pool = data.image_pool(tmp_path, class_names=("dog", "emu", "cat"))
  assert pool.ids.tolist() == ["dog/b.png", "cat/a.png"] and pool.labels.tolist() == [0, 2]
  with pytest.raises(InputError, match=r"has the folder 'cat', which is no class \(dog"):
    data.image_pool(tmp_path, class_names=("dog",))
  with pytest.raises(InputError, match="give class_names to read its folders cat, dog"):
    data.image_pool(tmp_path)
  with pytest.raises(InputError, match=r"class_names: 'dog' occurs twice"):
    data.image_pool(tmp_path, class_names=("dog", "dog"))
  with pytest.raises(InputError, match="has no images in folders of classes"):
    data.image_pool(tmp_path, class_names=("dog", "cat"), pattern="n*")

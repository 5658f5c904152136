"""TFDS sets in both file formats: the original order, every path to them, and what is refused."""

import importlib.util
import json
import os
import shutil
import sys

import numpy as np
import pytest
import tfds_writer as writer
from PIL import Image

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.data import _images

needs_array_record = pytest.mark.skipif(
  importlib.util.find_spec("array_record") is None, reason="array_record is not installed"
)
FORMATS = [pytest.param("array_record", marks=needs_array_record), "tfrecord"]


def uninstall(monkeypatch):
  """Makes array_record look as if it were not installed."""
  for name in ("array_record", "array_record.python.array_record_module"):
    monkeypatch.setitem(sys.modules, name, None)


def digits(train=40, test=15):
  """The first of scikit-learn's digits: real images that are always there."""
  source = data.digits()
  return {
    "train": (source.images[:train], source.labels[:train]),
    "test": (source.test_images[:test], source.test_labels[:test]),
  }


def check(source, splits):
  for split, images, labels in (
    ("train", source.images, source.labels), ("test", source.test_images, source.test_labels)
  ):
    np.testing.assert_array_equal(images, splits[split][0])
    np.testing.assert_array_equal(labels, splits[split][1])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("place", ["", "cifar10", "cifar10/3.0.2"])
@pytest.mark.parametrize("name", ["cifar10", "tfds:cifar10"])
def test_original_order_is_restored(tmp_path, form, place, name):
  splits = digits()
  folder = writer.write_set(tmp_path, "cifar10", splits, form)
  source = data.load(name, tmp_path / place)
  check(source, splits)
  assert source.ids.tolist() == list(range(40))
  assert source.name == "cifar10" and folder.is_dir()


@pytest.mark.parametrize("form", FORMATS)
def test_a_set_without_ids_keeps_the_stored_order(tmp_path, form):
  splits = digits()
  writer.write_set(tmp_path, "svhn_cropped", splits, form, ids=False, seed=1)
  source = data.load("svhn", tmp_path)
  stored = np.random.default_rng(1).permutation(40)
  assert not np.array_equal(stored, np.arange(40)), "or the tests of the order show nothing"
  np.testing.assert_array_equal(source.images, splits["train"][0][stored])
  np.testing.assert_array_equal(source.labels, splits["train"][1][stored])
  assert source.ids.tolist() == list(range(40))
  assert source.class_names == tuple("0123456789")


@pytest.mark.skipif(
  "JAXNOISE_CIFAR10" not in os.environ,
  reason="JAXNOISE_CIFAR10 names no .npz with CIFAR-10 in the project's form",
)
@pytest.mark.parametrize("form", FORMATS)
def test_real_cifar10_images(tmp_path, form):
  original = data.npz(os.environ["JAXNOISE_CIFAR10"], num_classes=10)
  splits = {
    "train": (original.images[:200], original.labels[:200]),
    "test": (original.test_images[:200], original.test_labels[:200]),
  }
  writer.write_set(tmp_path, "cifar10", splits, form, shards=3)
  source = data.load("cifar10", tmp_path)
  check(source, splits)
  assert source.image_mean == (0.4914, 0.4822, 0.4465) and source.class_names[3] == "cat"


def test_newest_version_and_order_of_resolution(tmp_path):
  for version, count in (("3.0.2", 11), ("3.0.10", 12), ("2.9.9", 13)):
    writer.write_set(tmp_path, "cifar10", digits(count), "tfrecord", version=version)
  assert data.load("cifar10", tmp_path).num_train == 12
  assert data.load("cifar10", tmp_path / "cifar10" / "2.9.9").num_train == 13
  splits = digits(14)
  np.savez(tmp_path / "cifar10.npz", train_images=splits["train"][0],
           train_labels=splits["train"][1], test_images=splits["test"][0],
           test_labels=splits["test"][1])
  assert data.load("cifar10", tmp_path).num_train == 14, "the .npz comes first"


@needs_array_record
def test_array_record_comes_before_tfrecord(tmp_path, monkeypatch):
  folder = writer.write_set(tmp_path, "cifar10", digits(10), "array_record", seed=0)
  other = writer.write_set(tmp_path / "other", "cifar10", digits(10), "tfrecord", seed=0)
  for file in other.glob("*.tfrecord-*"):
    shutil.copy(file, folder)
  (folder / "cifar10-train.tfrecord-00000-of-00002").write_bytes(b"damaged")
  assert data.load("cifar10", tmp_path).num_train == 10
  uninstall(monkeypatch)
  with pytest.raises(InputError, match="tfrecord-00000-of-00002: cannot be read"):
    data.load("cifar10", tmp_path)


@needs_array_record
def test_array_record_that_is_not_installed(tmp_path, monkeypatch):
  writer.write_set(tmp_path, "cifar10", digits(10), "array_record")
  uninstall(monkeypatch)
  with pytest.raises(InputError, match="run `pip install array_record`"):
    data.load("cifar10", tmp_path)


def uneven(count, seed):
  """Pictures of different sizes, one colour each."""
  rng = np.random.default_rng(seed)
  sizes = rng.integers(9, 30, (count, 2))
  return [np.full((*size, 3), 10 + i, np.uint8) for i, size in enumerate(sizes)]


def test_any_image_classification_set(tmp_path):
  """Unequal sizes, JPEG, a config, a validation split, class names, text ids."""
  train, valid = uneven(7, 0), uneven(5, 1)
  splits = {"train": (train, np.arange(7) % 2), "validation": (valid, np.arange(5) % 2)}
  writer.write_set(
    tmp_path, "flowers/small", splits, "tfrecord", num_classes=2, class_names=("rose", "tulip"),
    shape=(-1, -1, 3), encoding="JPEG",
  )
  source = data.load("tfds:flowers/small", tmp_path, image_size=8)
  assert source.class_names == ("rose", "tulip") and source.name == "flowers"
  assert source.images.shape == (7, 8, 8, 3) and source.test_images.shape == (5, 8, 8, 3)
  np.testing.assert_array_equal(source.images[:, 4, 4, 0], 10 + np.arange(7))
  np.testing.assert_array_equal(source.labels, np.arange(7) % 2)
  with pytest.raises(InputError, match=r"record \d is .* set image_size \(config.data.options.im"):
    data.load("tfds:flowers/small", tmp_path)
  with pytest.raises(InputError, match="has a directory for each config, small; name one as flow"):
    data.load("tfds:flowers", tmp_path, image_size=8)
  pool = data.tfds_pool("flowers/small", tmp_path / "flowers", "validation", image_size=8)
  np.testing.assert_array_equal(pool.images, source.test_images)
  assert pool.ids.tolist() == list(range(5))
  with pytest.raises(InputError, match="has no split 'tset'; known names: train, validation"):
    data.load("tfds:flowers/small", tmp_path, image_size=8, test_split="tset")


def test_grey_images_get_three_channels(tmp_path):
  splits = {name: (images[..., :1], labels) for name, (images, labels) in digits().items()}
  writer.write_set(tmp_path, "mnist", splits, "tfrecord")
  check(data.load("tfds:mnist", tmp_path), digits())


def test_ids_that_are_no_numbers_sort_as_text(tmp_path):
  folder = writer.write_set(tmp_path, "mine", digits(4, 2), "tfrecord", shards=1)
  images, labels = digits(4)["train"]
  records = [
    writer.example({"id": name, "image": writer.encode(images[i]), "label": int(labels[i])})
    for i, name in ((2, "c.png"), (0, "a.png"), (3, "d.png"), (1, "b.png"))
  ]
  writer.write_shard(folder / "mine-train.tfrecord-00000-of-00001", records, "tfrecord")
  source = data.load("tfds:mine", tmp_path)
  np.testing.assert_array_equal(source.images, images)
  assert source.ids.tolist() == ["a.png", "b.png", "c.png", "d.png"]


SHARD = "cifar10-train.tfrecord-00001-of-00002"


def edit(folder, name, change):
  path = folder / name
  value = json.loads(path.read_text())
  change(value)
  path.write_text(json.dumps(value))


def cut(folder, size):
  path = folder / SHARD
  path.write_bytes(path.read_bytes()[:size])


def flip(folder, position):
  content = bytearray((folder / SHARD).read_bytes())
  content[position] ^= 1
  (folder / SHARD).write_bytes(content)


def rewrite(folder, **features):
  features = {"id": "train_00001", "image": b"no image", "label": 1, **features}
  record = writer.example({k: v for k, v in features.items() if v is not None})
  writer.write_shard(folder / SHARD, [record] * 10, "tfrecord")


PNG = writer.encode(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
SMALL = writer.encode(np.zeros((6, 8, 3), np.uint8))
DAMAGE = {
  "cut record": (lambda f: cut(f, 700), "00001-of-00002: cannot be read .the file ends within"),
  "cut head": (lambda f: cut(f, 5), "cannot be read .the file ends within a record"),
  "flipped length": (lambda f: flip(f, 0), "cannot be read .the checksum of a record's length"),
  "huge length": (lambda f: flip(f, 7), "cannot be read .the checksum of a record's length"),
  "empty shard": (lambda f: cut(f, 0), "has 0 records, expected 10"),
  "missing shard": (lambda f: (f / SHARD).unlink(), f"has no {SHARD} .a file of the split 'train'"),
  "fewer": (lambda f: edit(f, "dataset_info.json", lambda v: v["splits"][0].update(
    shardLengths=["10", "11"])), "has 10 records, expected 11"),
  "more": (lambda f: edit(f, "dataset_info.json", lambda v: v["splits"][0].update(
    shardLengths=["9", "10"])), "has more than 9 records"),
  "no example": (lambda f: writer.write_shard(f / SHARD, [b"\x0a\xff"] * 10, "tfrecord"),
                 "record 0: is no tf.train.Example"),
  "no image": (rewrite, "record 0: cannot be read as an image .no image format"),
  "cut image": (lambda f: rewrite(f, image=PNG[:150]), "record 0: cannot be read as an image"),
  "other size": (lambda f: rewrite(f, image=SMALL), "record 0 is 6x8 pixels, others are 8x8"),
  "no label": (lambda f: rewrite(f, image=PNG, label=None), "the feature 'label' has 0 values"),
  "two labels": (lambda f: rewrite(f, image=PNG, label=[1, 2]), "'label' has 2 values"),
  "text label": (lambda f: rewrite(f, image=PNG, label="cat"), "the feature 'label' has 1 values"),
  "no id": (lambda f: rewrite(f, image=PNG, id=None), "the feature 'id' has 0 values"),
  "same id": (lambda f: rewrite(f, image=PNG), "ids: some occur twice"),
  "label -1": (lambda f: rewrite(f, image=PNG, label=-1), r"train labels: found -1 at position"),
  "info": (lambda f: (f / "dataset_info.json").write_text("{"),
           "info.json: cannot be read as JSON"),
  "info list": (lambda f: (f / "dataset_info.json").write_text("[]"), "holds no JSON object"),
  "no splits": (lambda f: edit(f, "dataset_info.json", lambda v: v.pop("splits")),
                "lacks what TFDS writes .KeyError.'splits'"),
  "no features": (lambda f: (f / "features.json").unlink(), "has no features.json; prepare"),
  "no image feature": (lambda f: edit(f, "features.json", lambda v: v["featuresDict"][
    "features"].pop("image")), "has the features label, id, of which 0 fit; expected one image"),
  "classes": (lambda f: edit(f, "features.json", lambda v: v["featuresDict"]["features"]["label"][
    "classLabel"].update(numClasses="11")), "has 11 classes, expected 10 as in cifar10"),
  "other set": (lambda f: edit(f, "dataset_info.json", lambda v: v.update(name="mnist")),
                "is the TFDS data set 'mnist', expected 'cifar10'"),
  "no test": (lambda f: edit(f, "dataset_info.json", lambda v: v["splits"].pop()),
              "has no split 'test'"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(tmp_path, case):
  damage, message = DAMAGE[case]
  folder = writer.write_set(tmp_path, "cifar10", digits(20, 4), "tfrecord")
  damage(folder)
  with pytest.raises(InputError, match=message) as error:
    data.load("cifar10", folder)
  assert "\n" not in str(error.value)


@needs_array_record
@pytest.mark.parametrize(("damage", "message"), [
  (lambda path: path.write_bytes(path.read_bytes()[:40000]), "cannot be read|has 0 records"),
  (lambda path: path.write_bytes(b""), "cannot be read|has 0 records"),
  (lambda path: path.write_bytes(
    path.read_bytes()[:200] + b"\x55\xaa" + path.read_bytes()[202:]), "cannot be read"),
], ids=["cut", "empty", "flipped"])
def test_damaged_array_record(tmp_path, damage, message):
  folder = writer.write_set(tmp_path, "cifar10", digits(20, 4), "array_record")
  damage(folder / SHARD.replace("tfrecord", "array_record"))
  with pytest.raises(InputError, match=message) as error:
    data.load("cifar10", folder)
  assert "\n" not in str(error.value)


def test_too_large_a_set_is_refused_before_it_is_read(tmp_path):
  folder = writer.write_set(tmp_path, "cifar10", digits(20, 4), "tfrecord")
  edit(folder, "dataset_info.json", lambda v: v["splits"][0].update(shardLengths=["10", "1000000"]))
  (folder / SHARD).write_bytes(b"never read")
  with pytest.raises(InputError, match=r"1,000,014 images of 224x224 take 140 GiB.*data.stream"):
    data.load("tfds:cifar10", tmp_path, image_size=224)


def test_only_a_test_split(tmp_path):
  splits = {"test": digits()["test"]}
  writer.write_set(tmp_path, "cifar10_1/v6", splits, "tfrecord")
  with pytest.raises(InputError, match=r"has the splits test and no 'train'.*data\.tfds_pool"):
    data.load("tfds:cifar10_1/v6", tmp_path)
  pool = data.tfds_pool("cifar10_1/v6", tmp_path)
  np.testing.assert_array_equal(pool.images, splits["test"][0])


@pytest.mark.parametrize(("call", "message"), [
  (lambda d: data.load("tfds:food101", d), "tfds:food101: was not found.*t.builder.'food101'"),
  (lambda d: data.load("tfds:food101"), "needs a name and data.path"),
  (lambda d: data.load("tfds:", d), "needs a name and data.path"),
  (lambda d: data.load("tfds:food101", d, size=3), "tfds:food101: has no option 'size'"),
])
def test_nothing_there(tmp_path, call, message):
  with pytest.raises(InputError, match=message):
    call(tmp_path)


def test_resize_and_crop():
  """The centre is kept: a picture whose middle square is white becomes white."""
  for height, width in ((10, 30), (30, 10), (16, 16), (11, 12)):
    image = np.zeros((height, width, 3), np.uint8)
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    image[top : top + short, left : left + short] = 255
    pixels = _images.decode(writer.encode(image), "x", image_size=5)
    assert pixels.shape == (5, 5, 3)
    assert pixels[:, 1:-1].min() == 255 if height <= width else pixels[1:-1].min() == 255
  exact = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
  np.testing.assert_array_equal(_images.decode(writer.encode(exact), "x", image_size=8), exact)
  smaller = _images.decode(writer.encode(exact), "x", image_size=4)
  expected = Image.fromarray(exact).resize((4, 4), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(smaller, np.asarray(expected))

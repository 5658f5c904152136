"""Published corrupted test sets: the official arrays and TFDS' copies of them."""

import dataclasses

import numpy as np
import pytest
import tfds_writer as writer

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.data import _tfds

COUNT = 12


def clean(name="cifar10"):
  return dataclasses.replace(data.generated(num_test=COUNT, num_classes=4, size=4), name=name)


def cell(source, name, severity):
  """What the fixture files hold for one cell."""
  return ((source.test_images.astype(int) * (len(name) + 10 * severity)) % 256).astype(np.uint8)


def write(folder, source, names=("fog", "shot_noise")):
  folder.mkdir(parents=True, exist_ok=True)
  np.save(folder / "labels.npy", np.tile(source.test_labels, 5).astype(np.uint8))
  for name in names:
    np.save(folder / f"{name}.npy", np.concatenate([cell(source, name, s) for s in range(1, 6)]))


@pytest.mark.parametrize(("name", "place"), [
  ("cifar10", ""), ("cifar10", "CIFAR-10-C"), ("cifar100", "CIFAR-100-C"), ("mine", ""),
])
def test_official_arrays(tmp_path, name, place):
  source = clean(name)
  write(tmp_path / place, source, ("saturate", "own", "fog", "shot_noise"))
  found = data.corrupted(tmp_path, source)
  assert found.names == ("shot_noise", "fog", "saturate", "own"), "the benchmark's order"
  assert found.severities == (1, 2, 3, 4, 5)
  for corruption in found.names:
    for severity in found.severities:
      pool = found.pool(corruption, severity)
      np.testing.assert_array_equal(pool.images, cell(source, corruption, severity))
      np.testing.assert_array_equal(pool.labels, source.test_labels)


def test_folders_as_imagenet_c_has_them(tmp_path):
  """<group>/<corruption>/<severity>/<class>/, in the order of the test set, cell by cell."""
  from PIL import Image

  def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), (value, 0, 0)).save(path)

  files = {"train": ("a/1.png", "b/1.png"), "val": ("a/9.png", "b/2.png", "b/10.png")}
  for split, names in files.items():
    for k, name in enumerate(names):
      save(tmp_path / "clean" / split / name, 10 * k)
  source = data.folder(tmp_path / "clean")
  for place, corruption in (("noise", "shot_noise"), ("", "fog")):
    for severity in range(1, 6):
      for k, name in enumerate(files["val"]):
        save(tmp_path / "c" / place / corruption / str(severity) / name, 100 + 10 * k + severity)
  found = data.corrupted(tmp_path / "c", source)
  assert found.names == ("shot_noise", "fog")
  clean_red = source.test_images[:, 0, 0, 0].astype(int)
  pool = found.pool("shot_noise", 4)
  np.testing.assert_array_equal(pool.images[:, 0, 0, 0], clean_red + 104)
  np.testing.assert_array_equal(pool.labels, source.test_labels)
  (tmp_path / "c" / "fog" / "2" / "a" / "9.png").unlink()
  with pytest.raises(InputError, match="has 2 images, the test set of folder 3, and they are not"):
    found.pool("fog", 2)


def test_a_pool_does_not_hold_the_whole_file(tmp_path):
  source = clean()
  write(tmp_path, source)
  pool = data.corrupted(tmp_path, source).pool("fog", 2)
  base = pool.images
  while isinstance(base.base, np.ndarray):
    base = base.base
  assert base.nbytes == source.test_images.nbytes and not isinstance(base, np.memmap)


def damage(source):
  """name -> (what is done to the folder, what the message says)."""
  full = np.concatenate([cell(source, "fog", s) for s in range(1, 6)])
  labels = np.tile(source.test_labels, 5)
  moved = np.roll(labels, 1)

  def save(name, array, **options):
    return lambda folder: np.save(folder / f"{name}.npy", array, **options)

  return {
    "labels of another set": (save("labels", moved), "expected the 12 test labels of cifar10 five"),
    "labels once": (save("labels", labels[:12]), r"five times over, found int32 \(12,\)"),
    "labels of a larger set": (save("labels", np.tile(labels, 2)), r"found int32 \(120,\)"),
    "one severity": (save("fog", full[:12]), r"fog\.npy: is uint8 \(12, 4, 4, 3\), expected"),
    "float": (save("fog", full / 255.0), r"fog\.npy: is float64"),
    "other size": (save("fog", full[:, :3]), r"fog\.npy: is uint8 \(60, 3, 4, 3\)"),
    "objects": (save("fog", np.array([None]), allow_pickle=True), r"fog\.npy: cannot be read"),
    "cut": (lambda f: (f / "fog.npy").write_bytes((f / "fog.npy").read_bytes()[:500]),
            r"fog\.npy: cannot be read"),
    "text": (lambda f: (f / "labels.npy").write_bytes(b"no"), r"labels\.npy: cannot be read"),
    "no arrays": (lambda f: [p.unlink() for p in f.glob("[fs]*.npy")], "no <corruption>.npy"),
  }


@pytest.mark.parametrize("case", damage(clean()))
def test_damage(tmp_path, case):
  source = clean()
  write(tmp_path, source)
  harm, message = damage(source)[case]
  harm(tmp_path)
  with pytest.raises(InputError, match=message):
    data.corrupted(tmp_path, source)


def test_unknown_cells(tmp_path):
  write(tmp_path, clean())
  found = data.corrupted(tmp_path, clean())
  with pytest.raises(InputError, match="corruption 'fogg': is not there; did you mean 'fog'"):
    found.pool("fogg", 1)
  for severity in (0, 6, "1"):
    with pytest.raises(InputError, match="severity: found"):
      found.pool("fog", severity)


@pytest.mark.parametrize(("name", "message"), [
  ("cifar10", r"CIFAR-10-C: was not found at .*labels\.npy.*TFDS data_dir with cifar10_corrupted"),
  ("cifar100", r"CIFAR-100-C: was not found at .*labels\.npy"),
  ("mine", r"corrupted mine: was not found at .*labels\.npy"),
])
def test_nothing_there(tmp_path, name, message):
  with pytest.raises(InputError, match=message):
    data.corrupted(tmp_path, clean(name))


def write_tfds(data_dir, source, names, order):
  for name in names:
    for severity in range(1, 6):
      ours = {"elastic": "elastic_transform"}.get(name, name)
      images = cell(source, ours, severity)[order]
      folder = writer.write_set(
        data_dir, f"cifar10_corrupted/{name}_{severity}", {"test": (images, source.test_labels)},
        "tfrecord", version="1.0.0", ids=False,
      )
      # Without ids and in the order given, not in the writer's.
      records = [
        writer.example({"image": writer.encode(image), "label": int(label)})
        for image, label in zip(images, source.test_labels[order])
      ]
      for shard, part in enumerate(np.array_split(np.array(records, object), 2)):
        file = f"cifar10_corrupted-test.tfrecord-0000{shard}-of-00002"
        writer.write_shard(folder / file, list(part), "tfrecord")


@pytest.mark.parametrize("place", ["", "cifar10_corrupted"])
def test_sets_of_tfds_are_put_in_order(tmp_path, place):
  source = clean()
  order = _tfds.stored_order(COUNT, "test")
  assert not np.array_equal(order, np.arange(COUNT))
  write_tfds(tmp_path, source, ("elastic", "fog"), order)
  found = data.corrupted(tmp_path / place, source)
  assert found.names == ("fog", "elastic_transform")
  for name in found.names:
    for severity in (1, 5):
      pool = found.pool(name, severity)
      np.testing.assert_array_equal(pool.images, cell(source, name, severity))
      np.testing.assert_array_equal(pool.labels, source.test_labels)


def test_a_set_of_tfds_in_another_order_is_refused(tmp_path):
  source = clean()
  write_tfds(tmp_path, source, ("fog",), np.arange(COUNT)[::-1])
  with pytest.raises(InputError, match="its labels are not the test labels of cifar10 in TFDS' or"):
    data.corrupted(tmp_path, source).pool("fog", 1)

"""Images on disk: the same data set as in memory, whatever the threads, hosts and files."""

import dataclasses
import importlib.util
import json
import resource

import numpy as np
import pytest
import test_web_sources as web
import tfds_writer as writer
from PIL import Image

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.data import _stream_crops

needs_array_record = pytest.mark.skipif(
  importlib.util.find_spec("array_record") is None, reason="array_record is not installed"
)
NAMES = tuple("abcdefghij")


def write_folder(root, train=60, test=30, sides=(8, 8)):
  """scikit-learn's digits as PNG files in folders of classes; `sides` are stretched to."""
  source = data.digits()
  for split, images, labels in (
    ("train", source.images[:train], source.labels),
    ("test", source.test_images[:test], source.test_labels),
  ):
    for i, image in enumerate(images):
      folder = root / split / NAMES[labels[i]]
      folder.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image[..., 0]).resize(sides).save(folder / f"{i:03d}.png")
  return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return write_folder(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def both(folder):
  """(streamed, in memory), of one folder."""
  return data.load("folder", folder, stream=True), data.load("folder", folder)


def same(streamed, resident):
  assert streamed.streamed and not resident.streamed
  for field in ("labels", "test_labels", "ids", "true_labels", "images", "test_images"):
    np.testing.assert_array_equal(getattr(streamed, field), getattr(resident, field), field)
  for field in ("image_mean", "image_std", "class_names", "image_shape", "num_train"):
    assert getattr(streamed, field) == getattr(resident, field), field


def test_a_streamed_source_is_the_resident_one(both):
  same(*both)


def test_label_noise_splits_and_limits_act_on_what_is_on_disk(both):
  def changed(source):
    source = source.with_labels(np.roll(source.labels, 7))
    source = source.take(np.flatnonzero(np.arange(60) % 12)[::-1])
    rest, held = source.trusted(10, seed=3).holdout(10, seed=1)
    return rest, held

  (streamed, held), (resident, kept) = (changed(source) for source in both)
  same(streamed, resident)
  np.testing.assert_array_equal(held.images, kept.images)
  assert isinstance(held.images, data.StoredImages)
  # Side pools are small, and held in memory.
  trusted = streamed.extra_pools["trusted"]
  assert isinstance(trusted.images, np.ndarray)
  np.testing.assert_array_equal(trusted.images, resident.extra_pools["trusted"].images)


def test_indexing_decodes_what_is_asked_for(both):
  streamed, resident = (source.images for source in both)
  np.testing.assert_array_equal(streamed[-1], resident[-1])
  np.testing.assert_array_equal(streamed[np.array([5, 0, 5])], resident[[5, 0, 5]])
  np.testing.assert_array_equal(streamed[resident[:, 0, 0, 0] >= 0], resident)
  part = streamed[10:20]
  assert isinstance(part, data.StoredImages) and part.shape == (10, 8, 8, 3)
  np.testing.assert_array_equal(part, resident[10:20])
  assert streamed.decoder.startswith("Pillow ")
  assert streamed.tobytes() == streamed.take(np.arange(60)).tobytes() != part.tobytes()


def crops(images, threads, rows, views=2, draw=5):
  crop = data.Crop(resized_crop=6, flip=True)
  index = np.arange(40)[::-1].astype(np.int32)
  numbers = data.crop_numbers(3, draw, rows, views)
  with data.Decoder(threads) as decoder:
    return decoder.crops(images, index[rows], crop, numbers).result()


def test_crops_do_not_depend_on_threads_or_hosts(both):
  images = both[0].images
  whole = crops(images, 1, slice(0, 40))
  assert whole.shape == (40, 2, 6, 6, 3) and whole.dtype == np.uint8
  np.testing.assert_array_equal(whole, crops(images, 4, slice(0, 40)))
  halves = [crops(images, 2, data.host_slice(40, host, 2)) for host in range(2)]
  np.testing.assert_array_equal(whole, np.concatenate(halves))
  # Views, batches and rows have crops of their own.
  assert (whole[:, 0] != whole[:, 1]).any(axis=(1, 2, 3)).mean() > 0.9
  assert (whole != crops(images, 1, slice(0, 40), draw=6)).any()


def test_a_resized_crop_is_cut_from_the_whole_image(tmp_path):
  wide = data.load("folder", write_folder(tmp_path, 20, 10, (40, 16)), stream=True, image_size=8)
  crop = data.Crop(resized_crop=8, scale=(1.0, 1.0), ratio=(2.5, 2.5))
  numbers = np.full((1, 23), 0.5)
  (made,) = _stream_crops.first_crops(wide.images, 4, crop, numbers)
  with Image.open(wide.images.where(4)) as image:
    expected = image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(made, np.asarray(expected))
  numbers[0, 2] = 0.2
  (mirrored,) = _stream_crops.first_crops(wide.images, 4, crop._replace(flip=True), numbers)
  np.testing.assert_array_equal(mirrored, made[:, ::-1])
  # Squeezed, the stack has the whole image too.
  squeezed = data.StoredImages(wide.images._files, 8, squeeze=True)
  np.testing.assert_array_equal(squeezed[[4, 4]][1], np.asarray(expected))
  np.testing.assert_array_equal(squeezed.take([4]).with_threads(1)[0], np.asarray(expected))
  # Without one the central square is what is padded and mirrored.
  crop = data.Crop(padding=1, flip=True)
  (moved,) = _stream_crops.first_crops(wide.images, 4, crop, np.zeros((1, 23)))
  square = wide.images[4][:, ::-1]
  padded = np.pad(square, ((1, 1), (1, 1), (0, 0)))
  np.testing.assert_array_equal(moved, padded[:8, :8])
  numbers = np.zeros((1, 23))
  numbers[0, 1] = 0.9  # of the three places from left to right the last
  (moved,) = _stream_crops.first_crops(wide.images, 4, crop, numbers)
  np.testing.assert_array_equal(moved, padded[:8, 2:])


def test_boxes_are_those_of_the_device():
  import jax

  from jaxnoise import augment

  draw = jax.jit(augment.sample_resized_crop, static_argnums=1)
  for seed in range(12):
    key = jax.random.key(seed)
    u = np.asarray(jax.random.uniform(key, (23,)), np.float64)
    top, left, rows, columns, _ = map(float, draw(key, (21, 37)))
    crop = data.Crop(resized_crop=8)
    assert _stream_crops.box((37, 21), crop, u) == (left, top, columns, rows)


def test_squares_arrive_in_order(both):
  streamed, resident = both
  indices = np.arange(60).reshape(6, 10)[::-1]
  for index, batch in zip(indices, data.square_batches(streamed.images, indices), strict=True):
    np.testing.assert_array_equal(batch, resident.images[index])


@pytest.mark.parametrize(
  "damage, message",
  [
    (lambda file: file.write_bytes(b"\x89PNG none"), "no image format that Pillow knows"),
    (lambda file: file.write_bytes(file.read_bytes()[:-40]), "cannot be read as an image"),
    (lambda file: file.unlink(), "No such file"),
    (lambda file: Image.new("L", (9, 9)).save(file), "9x9 pixels, others are 8x8; set image_size"),
  ],
)
def test_a_bad_image_is_named_when_its_batch_is_wanted(tmp_path, damage, message):
  source = data.load("folder", write_folder(tmp_path, 20, 10), stream=True, threads=2)
  damage(tmp_path / "train" / source.ids[7])
  batches = data.square_batches(source.images, [np.arange(7), np.arange(20)])
  assert len(next(batches)) == 7
  with pytest.raises(InputError, match=message) as error:
    next(batches)
  assert source.ids[7] in str(error.value) and "\n" not in str(error.value)


# --- array_record --------------------------------------------------------------------------------


@needs_array_record
def test_our_own_layout_holds_any_data_set(both, tmp_path):
  streamed, resident = both
  noisy = streamed.with_labels(np.roll(streamed.labels, 1))
  data.write_array_record(noisy, tmp_path / "set", files=3)
  expected = resident.with_labels(np.roll(resident.labels, 1))
  same(data.load("array_record", tmp_path / "set", stream=True), expected)
  again = data.load("array_record", tmp_path / "set")
  np.testing.assert_array_equal(again.images, expected.images)
  assert len(list((tmp_path / "set").glob("train-*-of-00003.array_record"))) == 3
  # What else a set has, and how its images are made square.
  human = {"worst": np.roll(resident.labels, 2)}
  squeezed = dataclasses.replace(
    streamed, human_labels=human,
    images=data.StoredImages(streamed.images._files, 6, squeeze=True),
    test_images=data.StoredImages(streamed.test_images._files, 6, squeeze=True),
  )  # fmt: skip
  data.write_array_record(squeezed, tmp_path / "squeezed")
  read = data.load("array_record", tmp_path / "squeezed", stream=True, image_size=6)
  assert read.images.squeeze and read.test_images.squeeze
  np.testing.assert_array_equal(read.human_labels["worst"], human["worst"])
  # A set in memory becomes PNG.
  data.write_array_record(data.generated(num_train=12, num_test=4, size=8), tmp_path / "made")
  made = data.load("array_record", tmp_path / "made", stream=True)
  source = data.generated(num_train=12, num_test=4, size=8)
  np.testing.assert_array_equal(made.images, source.images)
  with pytest.raises(InputError, match="holds a data set already"):
    data.write_array_record(resident, tmp_path / "made")


@needs_array_record
def test_a_damaged_record_is_named(tmp_path):
  source = data.generated(num_train=30, num_test=4, size=32)
  data.write_array_record(source, tmp_path)
  file = tmp_path / "train-00000-of-00001.array_record"
  content = bytearray(file.read_bytes())
  middle = content.rindex(b"IHDR", 0, len(content) // 2)
  content[middle - 60 : middle + 60] = bytes(120)
  file.write_bytes(bytes(content))
  images = data.load("array_record", tmp_path, stream=True).images
  with pytest.raises(InputError, match=r"array_record: record \d+: cannot be read"):
    np.asarray(images)
  file.write_bytes((tmp_path / "test-00000-of-00001.array_record").read_bytes())
  with pytest.raises(InputError, match="has 4 records, expected 30; copy the file again"):
    data.load("array_record", tmp_path)
  file.unlink()
  with pytest.raises(InputError, match=r"train-00000-of-00001.array_record: there is no such file"):
    data.load("array_record", tmp_path, stream=True)


@needs_array_record
def test_as_many_files_may_be_open_as_a_set_has(tmp_path, monkeypatch):
  data.write_array_record(data.generated(num_train=12, num_test=4, size=8), tmp_path, files=12)
  limits, asked = [(256, 4096)], []
  monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
  monkeypatch.setattr(resource, "setrlimit", lambda _, limit: asked.append(limit))
  load = lambda: data.load("array_record", tmp_path, stream=True)
  load()
  assert (24 + 512, 4096) in asked
  limits.append((64, 300))  # enough for twelve files, and as many as may be asked for
  load()
  assert asked[-1] == (300, 300)
  limits.append((64, 80))
  with pytest.raises(InputError, match=r"has 12 files, .* may open 80; allow it 536"):
    load()


@needs_array_record
def test_tfds_sets_stream_in_their_original_order(tmp_path):
  source = data.digits()
  splits = {
    "train": (source.images[:40], source.labels[:40]),
    "test": (source.test_images[:15], source.test_labels[:15]),
  }
  place = writer.write_set(tmp_path, "mnist", splits, "array_record", shape=(8, 8, 1))
  resident = data.load("tfds:mnist", tmp_path)
  same(data.load("tfds:mnist", tmp_path, stream=True), resident)
  kept = place / "jaxnoise-train.npz"
  assert kept.is_file()
  # What was gathered is read again, until the files are others.
  with np.load(kept) as opened:
    index = dict(opened)
  np.savez(kept, **{**index, "labels": (index["labels"] + 1) % 10})
  moved = data.load("tfds:mnist", tmp_path, stream=True)
  np.testing.assert_array_equal(moved.labels, (resident.labels + 1) % 10)
  np.savez(kept, **{**index, "labels": index["labels"] * 0, "sizes": index["sizes"] + 1})
  same(data.load("tfds:mnist", tmp_path, stream=True), resident)
  assert kept.stat().st_mode & 0o444 == 0o444, "all who share the set may read it"
  # Files of the same sizes with other labels are other files.
  splits["train"] = (source.images[:40], (source.labels[:40] + 1) % 10)
  sizes = [path.stat().st_size for path in sorted(place.glob("*.array_record*"))]
  other = writer.write_set(tmp_path / "o", "mnist", splits, "array_record", shape=(8, 8, 1))
  for file in other.glob("*.array_record*"):
    file.replace(place / file.name)
  assert sizes == [path.stat().st_size for path in sorted(place.glob("*.array_record*"))]
  relabelled = data.load("tfds:mnist", tmp_path, stream=True)
  np.testing.assert_array_equal(relabelled.labels, (resident.labels + 1) % 10)


def test_tfrecord_does_not_stream(tmp_path):
  source = data.digits()
  splits = {s: (source.images[:6], source.labels[:6]) for s in ("train", "test")}
  writer.write_set(tmp_path, "mnist", splits, "tfrecord", shape=(8, 8, 1))
  with pytest.raises(InputError, match=r"is in tfrecord, which config\.data\.stream cannot"):
    data.load("tfds:mnist", tmp_path, stream=True)


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"name": "digits", "stream": True}, "digits is held in memory; .* folder, .*tfds:NAME"),
    ({"name": "cifar10", "path": "x", "stream": True}, "cifar10 is held in memory"),
    ({"name": "folder", "stream": True}, "data.path: is empty"),
    ({"name": "array_record", "path": "nowhere"}, "has no dataset.json; set data.path to"),
    ({"name": "folder", "path": "x", "stream": True, "imagesize": 3}, "has no option 'imagesize'"),
  ],
)
def test_what_cannot_stream_is_refused(arguments, message):
  with pytest.raises(InputError, match=message):
    data.load(**arguments)


@pytest.mark.parametrize("threads", [-1, True, 2.0])
def test_threads_are_a_number(both, threads):
  with pytest.raises(InputError, match=r"config\.data\.threads"):
    data.Decoder(threads)


def test_hosts_share_a_batch_evenly():
  with pytest.raises(InputError, match="10 examples, which 4 hosts cannot share"):
    data.host_slice(10, 0, 4)


def test_a_layout_of_another_version_is_refused(tmp_path):
  (tmp_path / "dataset.json").write_text(json.dumps({"version": 2}))
  with pytest.raises(InputError, match="is of version 2, expected 1"):
    data.load("array_record", tmp_path)


@pytest.mark.parametrize("name", ["webvision", "clothing1m", "food101n", "imagenet"])
def test_listed_sets_stream(tmp_path, name):
  if name == "imagenet":
    web.imagenet_train(tmp_path)
    web.validation(tmp_path, "folders")
  else:
    getattr(web, name)(tmp_path)
  few = {"webvision": {"num_classes": 4, "per_class": 1}, "imagenet": {"per_class": 1}}
  options = few.get(name, {"trusted": "val"})
  load = lambda **how: data.load(name, tmp_path, image_size=4, **options, **how)
  streamed, resident = load(stream=True, threads=2), load()
  same(streamed, resident)
  assert streamed.images.threads == streamed.test_images.threads == 2
  for pool, of in resident.extra_pools.items():
    np.testing.assert_array_equal(streamed.extra_pools[pool].images, of.images)
    assert isinstance(streamed.extra_pools[pool].images, np.ndarray)

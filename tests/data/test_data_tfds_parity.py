"""The readers against the real libraries: what TFDS writes is read here as TFDS reads it."""

import io
import logging

import numpy as np
import pytest
import tfds_writer as writer

from jaxnoise import data
from jaxnoise.data import _tfds, _wire

pytest.importorskip("array_record", reason="array_record is not installed")
pytest.importorskip("importlib_resources", reason="tensorflow_datasets does not name it as needed")
tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
logging.getLogger("absl").setLevel(logging.ERROR)

TRAIN, TEST = 23, 9
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """A TFDS data_dir with a set of digits that TFDS itself has written as array_record."""
  source = data.digits()

  class Cifar10(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("3.0.2")

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=NAMES),
      }))

    def _split_generators(self, dl_manager):
      return {
        "train": self._generate_examples("train", source.images[:TRAIN], source.labels),
        "test": self._generate_examples("test", source.test_images[:TEST], source.test_labels),
      }

    def _generate_examples(self, split, images, labels):
      for i, image in enumerate(images):
        content = io.BytesIO(writer.encode(image))
        yield i, {"id": f"{split}_{i:05d}", "image": content, "label": int(labels[i])}

  data_dir = tmp_path_factory.mktemp("tfds")
  builder = Cifar10(data_dir=str(data_dir), file_format="array_record")
  builder.download_and_prepare()
  return data_dir, builder


def stored(examples):
  """Images, labels and ids in the order that TFDS gives them."""
  rows = [(e["image"], int(e["label"]), e["id"].decode()) for e in examples]
  return [np.array(column) for column in zip(*rows)]


def test_what_tfds_writes(prepared):
  data_dir, builder = prepared
  ours = data.load("tfds:cifar10", data_dir)
  for split, images, labels in (
    ("train", ours.images, ours.labels), ("test", ours.test_images, ours.test_labels)
  ):
    theirs, numbers, ids = stored(builder.as_data_source(split))
    order = np.argsort(ids)
    assert not np.array_equal(order, np.arange(len(order))), "stored in the order of a hash"
    np.testing.assert_array_equal(images, theirs[order])
    np.testing.assert_array_equal(labels, numbers[order])
  digits = data.digits()
  np.testing.assert_array_equal(ours.images, digits.images[:TRAIN])
  np.testing.assert_array_equal(ours.test_labels, digits.test_labels[:TEST])
  assert ours.class_names == NAMES and ours.ids.tolist() == list(range(TRAIN))


def test_stored_order_is_the_hash_of_tfds(prepared):
  _, builder = prepared
  for split, count in (("train", TRAIN), ("test", TEST)):
    _, _, ids = stored(builder.as_data_source(split))
    numbers = [int(i.rpartition("_")[2]) for i in ids]
    assert _tfds.stored_order(count, split).tolist() == numbers


def test_what_the_tests_write_is_what_tfds_reads(tmp_path):
  """So the sets of the other tests are in TFDS' own form."""
  digits = data.digits()
  splits = {"train": (digits.images[:20], digits.labels[:20])}
  folder = writer.write_set(tmp_path, "cifar10", splits, "array_record", class_names=NAMES)
  builder = tfds.builder_from_directory(str(folder))
  images, labels, ids = stored(builder.as_data_source("train"))
  order = np.random.default_rng(0).permutation(20)
  assert ids.tolist() == [f"train_{i:05d}" for i in order]
  np.testing.assert_array_equal(images, digits.images[order])
  np.testing.assert_array_equal(labels, digits.labels[order])
  assert tuple(builder.info.features["label"].names) == NAMES


def test_examples_against_the_parser_of_tfds(prepared):
  """Serialized by TFDS; parsed here, by TFDS, and by protobuf."""
  from array_record.python.array_record_module import ArrayRecordReader
  from tensorflow_datasets.core import example_parser
  from tensorflow_datasets.proto import tf_example_pb2

  _, builder = prepared
  features = builder.info.features
  parser = example_parser.ExampleParserNp(features.get_serialized_info())
  (path,) = builder.info.splits["train"].filepaths
  reader = ArrayRecordReader(str(path))
  records = reader.read_all()
  assert len(records) == TRAIN
  for record in records:
    ours, theirs = _wire.parse_example(record), parser.parse_example(record)
    assert sorted(ours) == sorted(theirs)
    assert {k: v[0] for k, v in ours.items()} == theirs
    message = tf_example_pb2.Example.FromString(record)
    assert ours["image"] == list(message.features.feature["image"].bytes_list.value)


VALUES = {
  "bytes": [b"", b"a", bytes(300)],
  "int": [0, 1, 127, 128, 2**31, 2**63 - 1, -1, -(2**63)],
  "float": [0.0, -1.5, 3.25e20],
  "none": [],
}


@pytest.mark.parametrize("packed", [True, False])
def test_every_kind_of_value(packed):
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example()
  feature = example.features.feature
  feature["bytes"].bytes_list.value.extend(VALUES["bytes"])
  feature["int"].int64_list.value.extend(VALUES["int"])
  feature["float"].float_list.value.extend(VALUES["float"])
  feature["none"].SetInParent()
  by_hand = writer.example(VALUES, packed)
  for record in (example.SerializeToString(), by_hand):
    parsed = _wire.parse_example(record)
    assert parsed["bytes"] == VALUES["bytes"] and parsed["int"] == VALUES["int"]
    np.testing.assert_array_equal(np.float32(parsed["float"]), np.float32(VALUES["float"]))
    assert parsed["none"] == []
  assert tf_example_pb2.Example.FromString(by_hand).features.feature["int"] == feature["int"]

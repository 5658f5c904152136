"""Writes small data sets as TFDS leaves them on disk, without TensorFlow.

The records are made by hand from the format descriptions: protocol buffers, and TFRecord framing
with the CRC32C of RFC 3720 computed bit by bit.
"""

import io
import json
import struct

import numpy as np
from PIL import Image

CLASSES = "tensorflow_datasets.core.features."


def _varint(value: int) -> bytes:
  value &= 2**64 - 1
  out = bytearray()
  while value > 127:
    out.append(value & 127 | 128)
    value >>= 7
  out.append(value)
  return bytes(out)


def field(number: int, content: bytes) -> bytes:
  """A length-delimited protobuf field."""
  return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(features: dict, packed: bool = True) -> bytes:
  """A tf.train.Example of {name: bytes | str | int | float | list of one kind}."""
  entries = b""
  for name, value in features.items():
    values = value if isinstance(value, list) else [value]
    values = [v.encode() if isinstance(v, str) else v for v in values]
    if values and isinstance(values[0], bytes):
      feature = field(1, b"".join(field(1, v) for v in values))
    elif values and isinstance(values[0], float):
      floats = [struct.pack("<f", v) for v in values]
      single = b"".join(_varint(1 << 3 | 5) + v for v in floats)
      feature = field(2, field(1, b"".join(floats)) if packed else single)
    else:
      numbers = [_varint(int(v)) for v in values]
      single = b"".join(_varint(1 << 3) + v for v in numbers)
      feature = field(3, field(1, b"".join(numbers)) if packed else single)
    entries += field(1, field(1, name.encode()) + field(2, feature))
  return field(1, entries)


def _masked_crc(data: bytes) -> int:
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = crc >> 1 ^ (0x82F63B78 * (crc & 1))
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def frame(record: bytes) -> bytes:
  """One record of a TFRecord file; the content's checksum, which nobody reads here, is left 0."""
  length = struct.pack("<Q", len(record))
  return length + struct.pack("<I", _masked_crc(length)) + record + bytes(4)


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
  """An image file of [H, W, 3] or [H, W, 1] uint8."""
  out = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, form)
  return out.getvalue()


def write_shard(path, records: list[bytes], form: str) -> None:
  """One file of records; array_record takes the package of that name."""
  if form == "tfrecord":
    path.write_bytes(b"".join(map(frame, records)))
    return
  from array_record.python.array_record_module import ArrayRecordWriter

  writer = ArrayRecordWriter(str(path), "group_size:1")
  for record in records:
    writer.write(record)
  writer.close()


def write_set(
  data_dir, name: str, splits: dict, form: str, *, version="3.0.2", num_classes=10, class_names=(),
  shards=2, ids=True, seed=0, shape=None, encoding="PNG",
):
  """Writes `<data_dir>/<name>/<version>/` and returns that directory.

  `splits` is {split: (images, labels)}; the stored order is shuffled by `seed`, and with `ids` the
  example at position i is called "<split>_0000i", as TFDS does.
  """
  builder, _, config = name.partition("/")
  folder = data_dir / name / version
  folder.mkdir(parents=True)
  described = []
  for split, (images, labels) in splits.items():
    order = np.random.default_rng(seed).permutation(len(images))
    records = []
    for i in order.tolist():
      features = {"image": encode(images[i], encoding), "label": int(labels[i])}
      records.append(example({**({"id": f"{split}_{i:05d}"} if ids else {}), **features}))
    parts = [list(part) for part in np.array_split(np.array(records, object), shards)]
    for number, part in enumerate(parts):
      file = f"{builder}-{split}.{form}-{number:05d}-of-{shards:05d}"
      write_shard(folder / file, part, form)
    described.append({
      "name": split, "shardLengths": [str(len(part)) for part in parts],
      "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    })
  shape = np.shape(images[0]) if shape is None else shape
  image = {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": "uint8"}
  features = {
    "image": {"image": image, "pythonClassName": CLASSES + "image_feature.Image"},
    "label": {
      "classLabel": {"numClasses": str(num_classes)},
      "pythonClassName": CLASSES + "class_label_feature.ClassLabel",
    },
    **({"id": {"text": {}, "pythonClassName": CLASSES + "text_feature.Text"}} if ids else {}),
  }
  info = {"name": builder, "version": version, "fileFormat": form, "splits": described}
  if config:
    info["configName"] = config
  (folder / "dataset_info.json").write_text(json.dumps(info))
  (folder / "features.json").write_text(json.dumps({
    "featuresDict": {"features": features},
    "pythonClassName": CLASSES + "features_dict.FeaturesDict",
  }))
  if class_names:
    (folder / "label.labels.txt").write_text("\n".join(class_names) + "\n")
  return folder

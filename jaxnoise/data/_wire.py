"""TFRecord files and serialized tf.train.Example messages, read without TensorFlow or protobuf.

A TFRecord file is a sequence of: length (8 bytes, little endian), its masked CRC32C (4 bytes), the
record, its masked CRC32C (4 bytes). An Example is a protocol buffer: a map from feature names to
lists of bytes, floats or integers.
"""

from __future__ import annotations

import os
import pathlib
import struct
from collections.abc import Iterator

Feature = list[bytes] | list[float] | list[int]


def masked_crc32c(data: bytes) -> int:
  """The checksum of a TFRecord file: CRC32C, rotated right by 15 bits, plus a constant.

  Example:
    >>> from jaxnoise.data import _wire
    >>> hex(_wire.masked_crc32c(b"123456789"))  # CRC32C of these is 0xe3069283
    '0xc78ab0e5'
  """
  crc = 0xFFFFFFFF
  for byte in data:
    crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> tuple[int, ...]:
  table = []
  for byte in range(256):
    value = byte
    for _ in range(8):
      value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    table.append(value)
  return tuple(table)


_TABLE = _table()


def tfrecords(path: str | os.PathLike[str]) -> Iterator[bytes]:
  """Yields the records of a TFRecord file.

  The checksum of every length is checked, so a damaged or cut file is noticed where it goes wrong;
  that of the content is not (images carry checksums of their own, and Python takes long over it).

  Raises:
    ValueError: a length with another checksum, or a file that ends within a record.
  """
  path = pathlib.Path(path)
  left = path.stat().st_size
  with path.open("rb") as file:
    while left:
      head = file.read(12)
      if len(head) < 12:
        raise ValueError("the file ends within a record")
      length, check = struct.unpack("<QI", head)
      if masked_crc32c(head[:8]) != check:
        raise ValueError("the checksum of a record's length is wrong")
      left -= 12 + length + 4
      if left < 0:
        raise ValueError("the file ends within a record")
      yield file.read(length)
      file.read(4)


def parse_example(record: bytes) -> dict[str, Feature]:
  """Parses a serialized tf.train.Example.

  Returns:
    Feature name -> its values: bytes, floats or (signed) integers; an empty list where it has none.

  Raises:
    ValueError or struct.error: no such message.

  Example:
    >>> from jaxnoise.data import _wire
    >>> _wire.parse_example(bytes([10, 12, 10, 10, 10, 1, 97, 18, 5, 26, 3, 10, 1, 7]))
    {'a': [7]}
  """
  features: dict[str, Feature] = {}
  for number, start, stop in _messages(record, 0, len(record)):
    if number != 1:
      continue
    for entry, entry_start, entry_stop in _messages(record, start, stop):
      if entry != 1:
        continue
      name, feature = b"", (0, 0)
      for part, part_start, part_stop in _messages(record, entry_start, entry_stop):
        if part == 1:
          name = record[part_start:part_stop]
        elif part == 2:
          feature = (part_start, part_stop)
      features[name.decode("utf-8")] = _feature(record, *feature)
  return features


def _feature(data: bytes, start: int, stop: int) -> Feature:
  for kind, list_start, list_stop in _messages(data, start, stop):
    fields = [f for f in _fields(data, list_start, list_stop) if f[0] == 1]
    if kind == 1:
      return [data[a:b] for _, wire, a, b in fields if wire == 2]
    if kind == 2:  # packed or one by one
      raw = b"".join(data[a:b] for _, _, a, b in fields)
      return [value for (value,) in struct.iter_unpack("<f", raw)]
    if kind == 3:
      values: list[int] = []
      for _, _, first, end in fields:
        at = first
        while at < end:
          value, at = _varint(data, at, end)
          values.append(value - (1 << 64) if value >> 63 else value)
      return values
  return []


def _messages(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
  return ((number, a, b) for number, wire, a, b in _fields(data, start, stop) if wire == 2)


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
  """Yields (field number, wire type, start, stop) of every field; the value lies between."""
  while at < stop:
    tag, at = _varint(data, at, stop)
    number, wire = tag >> 3, tag & 7
    start = at
    if wire == 0:
      _, at = _varint(data, at, stop)
    elif wire == 2:
      length, start = _varint(data, at, stop)
      at = start + length
    elif wire in (1, 5):
      at += 8 if wire == 1 else 4
    else:
      raise ValueError(f"a field has the unknown wire type {wire}")
    if at > stop:
      raise ValueError("a field is longer than the message that holds it")
    yield number, wire, start, at


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
  value = 0
  for shift in range(0, 70, 7):
    if at >= stop:
      raise ValueError("the message ends within a number")
    byte = data[at]
    at += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value & 0xFFFFFFFFFFFFFFFF, at
  raise ValueError("a number is longer than 64 bits")

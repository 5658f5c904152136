"""The wire format alone: framing, unknown fields, and bytes that are no message."""

import numpy as np
import pytest
import tfds_writer as writer

from jaxnoise.data import _wire


def test_checksum():
  """The check value of CRC32C, masked as TFRecord files do it, and the writer's slow one."""
  crc = 0xE3069283
  masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
  assert _wire.masked_crc32c(b"123456789") == masked
  for length in (0, 1, 8, 100):
    text = bytes(range(length))
    assert _wire.masked_crc32c(text) == writer._masked_crc(text)


def test_frames(tmp_path):
  records = [b"", b"a", bytes(1000), b"end"]
  path = tmp_path / "records"
  path.write_bytes(b"".join(map(writer.frame, records)))
  assert list(_wire.tfrecords(path)) == records
  path.write_bytes(b"")
  assert not list(_wire.tfrecords(path))


def test_every_cut_of_a_file_is_noticed(tmp_path):
  content = writer.frame(b"abc") + writer.frame(b"defgh")
  whole = {0, len(writer.frame(b"abc")), len(content)}
  for size in range(len(content) + 1):
    path = tmp_path / "records"
    path.write_bytes(content[:size])
    if size in whole:
      list(_wire.tfrecords(path))
    else:
      with pytest.raises(ValueError, match="the file ends within a record"):
        list(_wire.tfrecords(path))


@pytest.mark.parametrize("position", range(12))
def test_every_flipped_byte_of_a_head_is_noticed(tmp_path, position):
  content = bytearray(writer.frame(b"abc"))
  content[position] ^= 0x10
  path = tmp_path / "records"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="checksum"):
    list(_wire.tfrecords(path))


def test_unknown_fields_are_skipped():
  known = writer.example({"label": 7, "image": b"xyz"})
  extra = writer.field(9, b"more") + b"\x50\x05" + b"\x59" + bytes(8) + b"\x5d" + bytes(4)
  parsed = _wire.parse_example(extra + known + extra)
  assert parsed == {"label": [7], "image": [b"xyz"]}
  assert _wire.parse_example(b"") == {}


def test_bytes_that_are_no_message_raise_or_parse_but_never_hang():
  record = writer.example({"label": [1, -1], "image": b"x" * 40, "f": [1.0]})
  rng = np.random.default_rng(0)
  for _ in range(2000):
    damaged = bytearray(record)
    for position in rng.integers(0, len(record), rng.integers(1, 4)):
      damaged[position] = rng.integers(256)
    try:
      parsed = _wire.parse_example(bytes(damaged[: rng.integers(1, len(record) + 1)]))
    except (ValueError, _wire.struct.error):
      continue
    assert isinstance(parsed, dict)


@pytest.mark.parametrize(("content", "message"), [
  (b"\x0a\x7f", "longer than the message"),
  (b"\x0a", "ends within a number"),
  (b"\xff" * 11, "longer than 64 bits"),
  (b"\x0b", "unknown wire type 3"),
])
def test_what_is_wrong(content, message):
  with pytest.raises(ValueError, match=message):
    _wire.parse_example(content)

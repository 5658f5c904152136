"""Files that PyTorch and safetensors wrote, files that run code, and damaged ones.

tests/golden/torch_*.pt and .safetensors were written by torch 2.13 and safetensors 0.8.
"""

from __future__ import annotations

import pathlib
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from jaxnoise import models
from jaxnoise.core import InputError
from tests.conftest import GOLDEN
from tests.models.torch_files import safetensors, torch_zip

GRID = np.array([[0.0, 1.0, 2.0], [3.0, -4.0, 100.0]])
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
TENSORS = {
  **{f"float{bits}": (GRID / 8).astype(f"float{bits}") for bits in (64, 32, 16)},
  "bfloat16": (GRID / 8).astype(np.float32),
  **{f"int{bits}": GRID.astype(f"int{bits}") for bits in (64, 32, 16, 8)},
  "uint8": np.abs(GRID).astype(np.uint8),
  "bool": GRID.astype(bool),
  "transposed": BASE.T,
  "column": BASE[1:, 2],
  "shared_whole": BASE,
  "every_other": BASE[:, ::2],
  "expanded": np.array([[5, 6]] * 3, np.float32),
  "scalar": np.float32(2.5),
  "empty": np.zeros((0, 3), np.float32),
  "parameter": np.array([1.5, -2.5], np.float32),
}


@pytest.mark.parametrize("name", ["torch_zip.pt", "torch_legacy.pt", "torch_plain.safetensors"])
def test_types_strides_and_shared_storages(name):
  found = models.read_torch(GOLDEN / name)
  assert found.keys() == TENSORS.keys()
  for key, value in TENSORS.items():
    np.testing.assert_array_equal(found[key], value, err_msg=key)
    assert found[key].dtype == value.dtype, key
    assert found[key].flags.owndata or found[key].base.flags.owndata


@pytest.mark.parametrize("name", ["torch_checkpoint.pt", "torch_checkpoint_legacy.pt"])
@pytest.mark.parametrize("ending", ["", ".pth.tar"])
def test_what_a_training_script_saves(tmp_path, name, ending):
  """{"epoch", "arch", "best_acc1", "state_dict", "optimizer"} of a DataParallel network."""
  path = tmp_path / f"best{ending}"
  path.write_bytes((GOLDEN / name).read_bytes())
  found = models.read_torch(path)
  shapes = {"conv1.weight": (2, 3, 3, 3), "fc.weight": (3, 2), "fc.bias": (3,)}
  norm = {f"bn1.{leaf}": (2,) for leaf in ("weight", "bias", "running_mean", "running_var")}
  assert {key: value.shape for key, value in found.items()} == shapes | norm
  np.testing.assert_array_equal(found["fc.weight"], np.arange(300, 306).reshape(3, 2))
  np.testing.assert_array_equal(found["bn1.bias"], [200, 201])


class Opaque:
  """An entry that is no array."""


def nested(**content):
  return models._torch_files.flatten(content, "file")


WEIGHTS = {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)}
OTHER = {"fc.weight": np.zeros((2, 3)), "fc.bias": np.ones(2)}


@pytest.mark.parametrize(
  "content",
  [
    WEIGHTS,
    {"state_dict": WEIGHTS, "epoch": 3},
    {"net": WEIGHTS, "optimizer": {"state": {0: {"momentum_buffer": np.ones(2)}}}},
    {"model": WEIGHTS, "best_acc": np.float64(93.0), "opt": Opaque()},
    {"model": {"state_dict": WEIGHTS}},
    {"ema": WEIGHTS},
    {f"module.{name}": value for name, value in WEIGHTS.items()},
    {f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()},
    {**WEIGHTS, "bn.num_batches_tracked": np.array(3), "n_averaged": np.array(1), "epoch": 3},
    {**WEIGHTS, "model": OTHER},  # names of layers beside it: the outer one is the state dict
  ],
)
def test_wrappings_are_taken_off(content):
  found = nested(**content)
  assert list(found) == list(WEIGHTS)
  np.testing.assert_array_equal(found["fc.weight"], 1)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"model": WEIGHTS, "ema": OTHER}, r"^file: 'model' and 'ema' may each be .*key='model'\)$"),
    ({"net1": WEIGHTS, "net2": OTHER}, r"^file: has 'net1', 'net2', none of .*key='net1'\)$"),
    ({"teacher": WEIGHTS, "epoch": 1}, r"has 'teacher', 'epoch', none of them.*key='teacher'"),
    ({"epoch": 3, "options": {"lr": 1.0}}, r"holds no arrays, only 'epoch', 'options'"),
    ({"fc.bias": np.ones(2), "module.fc.bias": np.ones(2)}, r"fc\.bias is there twice"),
  ],
)
def test_weights_that_cannot_be_told_from_others(content, message):
  with pytest.raises(InputError, match=message):
    nested(**content)


def test_key_names_the_entry(tmp_path):
  path = tmp_path / "both.npz"
  np.savez(path, **WEIGHTS)
  with pytest.raises(InputError, match=r"no nested entry 'ema', only 'fc\.weight', 'fc\.bias'"):
    models.read_torch(path, key="ema")
  content = {"model": WEIGHTS, "ema": OTHER}
  found = models._torch_files.flatten(content, "file", key="ema")
  np.testing.assert_array_equal(found["fc.bias"], 1)


def test_files_of_ones_own(tmp_path):
  (tmp_path / "a.safetensors").write_bytes(safetensors(WEIGHTS))
  (tmp_path / "a.pth").write_bytes(torch_zip(WEIGHTS))
  np.savez(tmp_path / "a.npz", **{f"module.{name}": value for name, value in WEIGHTS.items()})
  for ending in ("safetensors", "npz", "pth"):
    found = models.read_torch(tmp_path / f"a.{ending}")
    assert list(found) == list(WEIGHTS)
    np.testing.assert_array_equal(found["fc.weight"], WEIGHTS["fc.weight"])


class Run:
  """Pickles as a call of any function."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


def attacks(marker: pathlib.Path) -> dict[str, bytes]:
  """Pickles that would create the file `marker`, or reach for more than tensors."""
  text = str(marker)
  rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
  storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06tQ"
  set_strides = b"N}U\x07stridesK\x7f\x85s\x86b."
  return {
    "os.system": pickle.dumps({"w": Run(__import__("os").system, f"touch {text}")}, protocol=2),
    "eval": pickle.dumps({"w": Run(eval, f"open({text!r}, 'w')")}, protocol=2),
    "open": pickle.dumps({"w": Run(open, text, "w")}, protocol=4),
    "torch.load": b"\x80\x02ctorch\nload\n.",
    "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
    "NumPy scalar": pickle.dumps({"best": np.float64(1.0)}, protocol=2),
    "state of a function": b"\x80\x02" + rebuild + b"}U\x01aK\x01sb.",
    "state of a type": b"\x80\x02ctorch\nFloatStorage\n(K\x03U\x01>NNNJ\xff\xff\xff\xffK\x00tb.",
    "state of a storage": b"\x80\x02" + storage + b"N}U\x06lengthK\x7fs\x86b.",
    "state of a tensor": b"\x80\x02" + rebuild + b"(" + storage + b"K\x00K\x06\x85K\x01\x85tR"
    + set_strides,
    "tensor of a number": b"\x80\x02" + rebuild + b"(K\x07K\x00))tR.",
    "extension": b"\x80\x02\x82\x01.",
    "foreign object outside": b"\x80\x02(U\x06modulecos\nsystem\nNNNtQ.",
    "text outside": b"\x80\x02U\x01aQ.",
    "own class": pickle.dumps({"w": InputError("x")}, protocol=2),
  }


REASONS = {
  "os.system": r"its pickle names (posix|nt)\.system, which is not run here",
  "eval": r"its pickle names (__builtin__|builtins)\.eval, which",
  "open": r"its pickle names (_?io|builtins)\.open, which",
  "torch.load": r"its pickle names torch\.load, which",
  "dotted name": r"its pickle names collections\.OrderedDict\.__class__, which",
  "getattr": r"its pickle names builtins\.getattr, which",
  "NumPy scalar": r"its pickle names numpy\.\S+\.scalar, which",
  "state of a function": r"cannot be read.*it sets the state of a function",
  "state of a type": r"cannot be read.*it sets the state of a kind",
  "state of a storage": r"cannot be read.*it sets the state of a storage",
  "state of a tensor": r"cannot be read.*it sets the state of a tensor",
  "tensor of a number": r"cannot be read.*a tensor that is not made of a storage",
  "extension": r"cannot be read.*unregistered extension",
  "foreign object outside": r"its pickle names os\.system, which",
  "text outside": r"cannot be read",
  "own class": r"its pickle names jaxnoise.*InputError, which",
}


def as_file(content: bytes, form: str) -> bytes:
  """The pickle in a file of either form of `torch.save`."""
  if form == "legacy":
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)
    return magic + pickle.dumps({"little_endian": True}) + content + pickle.dumps([])
  path = zipfile.io.BytesIO()
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", content)
  return path.getvalue()


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
@pytest.mark.parametrize("attack", REASONS)
def test_a_pickle_runs_nothing(tmp_path, attack, form):
  marker, path = tmp_path / "marker", tmp_path / "weights.pt"
  content = attacks(marker)[attack]
  path.write_bytes(content if form == "bare pickle" else as_file(content, form))
  with pytest.raises(InputError, match=r"weights\.pt: ") as raised:
    models.read_torch(path)
  assert not marker.exists()
  if form != "bare pickle":
    assert re.search(REASONS[attack], str(raised.value))


@pytest.mark.parametrize("attack", ["os.system", "eval", "open"])
def test_the_attacks_are_real(tmp_path, attack):
  """With the plain unpickler each of them does its work, so refusing them means something."""
  marker = tmp_path / "marker"
  pickle.loads(attacks(marker)[attack])
  assert marker.exists()


@pytest.mark.parametrize("name", ["torch_zip.pt", "torch_legacy.pt", "torch_plain.safetensors"])
def test_a_file_cut_anywhere(tmp_path, name):
  content = (GOLDEN / name).read_bytes()
  path = tmp_path / name
  for size in {*range(0, len(content), 97), *range(len(content) - 8, len(content))}:
    path.write_bytes(content[:size])
    with pytest.raises(InputError, match=r"cannot be read as PyTorch weights .*; get the file"):
      models.read_torch(path)


def test_a_file_from_before_the_byte_order_was_written(tmp_path):
  path = tmp_path / "weights.pt"
  path.write_bytes(repacked(byteorder=None)((GOLDEN / "torch_zip.pt").read_bytes()))
  np.testing.assert_array_equal(models.read_torch(path)["transposed"], BASE.T)


def swapped(old: bytes, new: bytes):
  def change(content: bytes) -> bytes:
    assert content.count(old) == 1
    return content.replace(old, new)

  return change


def repacked(**changed):
  """The zip archive with some of its files replaced, or left out for None."""

  def change(content: bytes) -> bytes:
    out = zipfile.io.BytesIO()
    with zipfile.ZipFile(zipfile.io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
      for entry in old.namelist():
        data = changed.get(entry.partition("/")[2], old.read(entry))
        if data is not None:
          new.writestr(entry, data)
    return out.getvalue()

  return change


BASE_BYTES = BASE.tobytes()
LARGE = safetensors(WEIGHTS, data_offsets=[48, 10**15])
DAMAGE = {
  "changed values": ("torch_zip.pt", swapped(BASE_BYTES, BASE_BYTES[::-1]), "Bad CRC-32"),
  "other machine": ("torch_zip.pt", repacked(byteorder=b"big"), "the other byte order"),
  "other machine, legacy": ("torch_legacy.pt", swapped(b"endianq\x02\x88", b"endianq\x02\x89"),
                            "the other byte order"),
  "storage left out": ("torch_zip.pt", repacked(**{"data/0": None}), "storage '0' has 0 bytes"),
  "short storage": ("torch_zip.pt", repacked(**{"data/0": b"abcd"}), "storage '0' has 4 bytes"),
  "no pickle": ("torch_zip.pt", repacked(**{"data.pkl": None}), "without one data.pkl"),
  "no folder": ("torch_zip.pt", lambda _: as_file(b"N.", "zip").replace(b"archive/", b"archive_"),
                "without one data.pkl"),
  "pickle of None": ("torch_zip.pt", lambda _: as_file(b"N.", "zip"), "holds a NoneType"),
  "web page": ("torch_zip.pt", lambda _: b"<!doctype html><html>", "cannot be read"),
  "empty": ("torch_zip.pt", lambda _: b"", "cannot be read"),
  "older magic": ("torch_legacy.pt", lambda c: c[:4] + b"\x00" + c[5:], "does not begin as"),
  "wrong shape": ("a.safetensors", lambda _: safetensors(WEIGHTS, shape=[3]), "does not fit"),
  "far offset": ("a.safetensors", lambda _: LARGE, "does not fit the bytes 48"),
  "negative offset": ("a.safetensors", lambda _: safetensors(WEIGHTS, data_offsets=[-16, 0]),
                      "does not fit"),
  "strange type": ("a.safetensors", lambda _: safetensors(WEIGHTS, dtype="F8_E4M3"),
                   "fc.bias has the type F8_E4M3"),
  "huge header": ("a.safetensors", lambda _: struct.pack("<Q", 2**63), "its header is cut"),
  "no JSON": ("a.safetensors", lambda _: struct.pack("<Q", 2) + b"[]", "cannot be read"),
  "npz of text": ("a.npz", lambda _: b"weights", "cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files(tmp_path, case):
  name, change, message = DAMAGE[case]
  path = tmp_path / name
  start = GOLDEN / name
  path.write_bytes(change(start.read_bytes() if start.exists() else b""))
  with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + message) as raised:
    models.read_torch(path)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("columns", [4, 9])
def test_a_tensor_that_reaches_past_its_storage(tmp_path, columns):
  """The first tensor, [2, 3] of 6 values, gets more columns; with 4 it reaches one too far."""
  content = (GOLDEN / "torch_legacy.pt").read_bytes()
  old, new = b"K\x02K\x03\x86", b"K\x02K" + bytes([columns]) + b"\x86"
  path = tmp_path / "weights.pt"
  path.write_bytes(content.replace(old, new, 1))
  with pytest.raises(InputError, match=rf"a tensor \[2, {columns}\] that reaches past the end"):
    models.read_torch(path)


def test_a_shape_that_changes_after_the_check(tmp_path):
  """The shape and strides as lists, which the pickle lengthens once the tensor is made."""
  path = tmp_path / "weights.pt"
  out = zipfile.io.BytesIO()
  storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06tQ"
  tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00]q\x00K\x06a]q\x01K\x01atR"
  longer = b"h\x00K\x7fa0h\x01K\x7fa0"
  with zipfile.ZipFile(out, "w") as archive:
    archive.writestr("a/data.pkl", b"\x80\x02}U\x01w" + tensor + longer + b"s.")
    archive.writestr("a/data/0", np.arange(6, dtype=np.float32).tobytes())
  path.write_bytes(out.getvalue())
  np.testing.assert_array_equal(models.read_torch(path)["w"], np.arange(6))


def test_npz_of_objects_and_a_missing_file(tmp_path):
  np.savez(tmp_path / "a.npz", w=np.array([None, 1], object))
  with pytest.raises(InputError, match=r"a\.npz: cannot be read.*allow_pickle=False"):
    models.read_torch(tmp_path / "a.npz")
  np.savez(tmp_path / "b.npz", w=np.array(["text"]))
  with pytest.raises(InputError, match=r"b\.npz: cannot be read.*w has the type <U4"):
    models.read_torch(tmp_path / "b.npz")
  with pytest.raises(InputError, match=r"c\.pt: there is no such file"):
    models.read_torch(tmp_path / "c.pt")

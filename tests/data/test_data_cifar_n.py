"""CIFAR-N's labels from small files in the layouts of the official ones, in both orders."""

import csv
import dataclasses
import io
import pickle
import zipfile

import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core.errors import InputError

N = 300
RNG = np.random.RandomState(0)
ORDER = RNG.permutation(N)
CLEAN = RNG.randint(0, 10, N)
LABELS = {"clean_label": CLEAN} | {
  name: np.where(RNG.random_sample(N) < rate, RNG.randint(0, 10, N), CLEAN)
  for name, rate in (
    ("aggre_label", 0.1), ("worse_label", 0.45), ("random_label1", 0.2), ("random_label2", 0.2),
    ("random_label3", 0.2),
  )
}  # fmt: skip
NAMES = {
  "aggregate_label": "aggre_label", "worst_label": "worse_label", "random_label1": "random_label1",
  "random_label2": "random_label2", "random_label3": "random_label3",
}  # fmt: skip


def source(labels=CLEAN, num_classes=10, **fields):
  images = np.zeros((len(labels), 4, 4, 3), np.uint8)
  return data.Source("cifar10", images, labels, images[:2], [0, 1], num_classes, **fields)


def pt(content, protocol=2):
  """What torch.save writes for a dictionary of NumPy arrays."""
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps(content, protocol))
    archive.writestr("archive/version", "3\n")
  return out.getvalue()


def legacy(content):
  """The same before PyTorch 1.6: pickles, one after the other."""
  facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
  parts = (0x1950A86A20F9469CFC6C, 1001, facts, content, [])
  return b"".join(pickle.dumps(part, 2) for part in parts)


@pytest.fixture
def folder(tmp_path):
  """The authors' repository: labels in data/, the order above it."""
  (tmp_path / "data").mkdir()
  (tmp_path / "data" / "CIFAR-10_human.pt").write_bytes(pt(LABELS))
  ordered = {name: labels[ORDER] for name, labels in LABELS.items()}
  np.save(tmp_path / "data" / "CIFAR-10_human_ordered.npy", ordered)
  np.save(tmp_path / "image_order_c10.npy", ORDER)
  return tmp_path


def check(found, rows=slice(None)):
  assert set(found.human_labels) == set(NAMES)
  for name, official in NAMES.items():
    np.testing.assert_array_equal(found.human_labels[name], LABELS[official][rows], name)


@pytest.mark.parametrize("order", ["python", "tfds"])
def test_both_orders_give_the_same_labels(folder, order):
  check(data.cifar_n(folder, source(), order))
  name = {"python": "CIFAR-10_human.pt", "tfds": "CIFAR-10_human_ordered.npy"}[order]
  check(data.cifar_n(folder / "data" / name, source(), order))


@pytest.mark.parametrize(("name", "order", "right"), [
  ("CIFAR-10_human.pt", "tfds", "python"), ("CIFAR-10_human_ordered.npy", "python", "tfds"),
])  # fmt: skip
def test_the_wrong_order_is_found_out_and_the_right_one_named(folder, name, order, right):
  message = rf"order='{order}' .* [89]\d\.\d%.*agree with order='{right}'"
  with pytest.raises(InputError, match=message):
    data.cifar_n(folder / "data" / name, source(), order)
  # The inverse of the order is an order too, and a wrong one.
  np.save(folder / "image_order_c10.npy", np.argsort(ORDER))
  with pytest.raises(InputError, match="so it is in another order or of another set"):
    data.cifar_n(folder, source(), "tfds")


def test_other_forms_of_the_same_files(folder, tmp_path):
  file = tmp_path / "CIFAR-10_human.pt"
  lists = {name: labels.tolist() for name, labels in LABELS.items()}
  for content in (legacy(LABELS), pt(lists), pt({**LABELS, "worker": np.arange(3)}, 4)):
    file.write_bytes(content)
    check(data.cifar_n(file, source()))
  table = tmp_path / "CIFAR-10_human_annotations.csv"  # as TFDS wants it
  with table.open("w", newline="") as stream:
    writer = csv.writer(stream)
    writer.writerow(LABELS)
    writer.writerows(zip(*(labels[ORDER].tolist() for labels in LABELS.values())))
  check(data.cifar_n(table, source(), "tfds", folder / "image_order_c10.npy"))


def test_tensors(tmp_path):
  # int64, contiguous, each in a storage of its own.
  def tensor(key, array):
    def text(value):
      return b"X" + len(value).to_bytes(4, "little") + value

    size = b"J" + array.size.to_bytes(4, "little")
    kind = b"ctorch\nLongStorage\n"
    storage = b"(" + text(b"storage") + kind + text(key) + text(b"cpu") + size + b"tQ"
    place = b"K\x00(" + size + b"t(K\x01t\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + b"tR"

  out, body = tmp_path / "CIFAR-10_human.pt", b""
  with zipfile.ZipFile(out, "w") as archive:
    for n, (name, array) in enumerate(LABELS.items()):
      body += b"X" + len(name).to_bytes(4, "little") + name.encode() + tensor(b"%d" % n, array)
      archive.writestr(f"archive/data/{n}", array.astype("<i8").tobytes())
    archive.writestr("archive/data.pkl", b"\x80\x02}(" + body + b"u.")
  check(data.cifar_n(out, source()))


def test_a_part_gets_the_labels_of_its_images(folder):
  rows = np.array([250, 3, 77, 12])
  for order in ("python", "tfds"):
    check(data.cifar_n(folder, source().take(rows), order), rows)


def test_cifar100(tmp_path):
  clean = np.arange(N) % 100
  noisy = np.roll(clean, 1)
  (tmp_path / "CIFAR-100_human.pt").write_bytes(
    pt({"clean_label": clean, "noisy_label": noisy, "noisy_coarse_label": noisy // 5})
  )
  found = data.cifar_n(tmp_path, source(clean, 100))
  assert set(found.human_labels) == {"noisy_label"}
  np.testing.assert_array_equal(data.human_labels(found, "noisy"), noisy)
  # The ordered file has another name for them.
  np.save(tmp_path / "image_order_c100.npy", ORDER)
  ordered = {"clean_label": clean[ORDER], "noise_label": noisy[ORDER]}
  np.save(tmp_path / "CIFAR-100_human_ordered.npy", ordered)
  found = data.cifar_n(tmp_path, source(clean, 100), "tfds")
  np.testing.assert_array_equal(found.human_labels["noisy_label"], noisy)


def test_names(folder):
  found = data.cifar_n(folder, source(human_labels={"mine": CLEAN}))
  for name in ("worst_label", "worse_label", "worst", "worse"):
    np.testing.assert_array_equal(data.human_labels(found, name), LABELS["worse_label"])
  np.testing.assert_array_equal(data.human_labels(found, "aggre"), LABELS["aggre_label"])
  np.testing.assert_array_equal(data.human_labels(found, "rand3"), LABELS["random_label3"])
  np.testing.assert_array_equal(data.human_labels(found, "mine"), CLEAN)
  with pytest.raises(InputError, match=r"labels: found 'wurst_label'.*did you mean 'worst_label'"):
    data.human_labels(found, "wurst_label")
  with pytest.raises(InputError, match="it has no human labels"):
    data.human_labels(source(), "worst")


def test_noisy_labels_are_no_reason_to_refuse(folder):
  noisy = source().with_labels(np.zeros(N, int))
  check(data.cifar_n(folder, noisy))


def written(name, content):
  def write(folder):
    (folder / name).write_bytes(content)
    return folder / name

  return write


BAD = {
  "nothing": (lambda folder: folder / "none", {}, "there is no CIFAR-10_human.pt or"),
  "order": (lambda folder: folder, {"order": "tfsd"}, "did you mean 'tfds'"),
  "classes": (lambda folder: folder, {"source": source(CLEAN, 12)}, "has 12 classes, but CIFAR-N"),
  "damaged": (written("a.pt", pt(LABELS)[:200]), {}, "cannot be read as labels of CIFAR-N"),
  "code": (
    written("a.pt", pt({"clean_label": np.random.RandomState})), {}, "cannot be read as labels"
  ),
  "list": (written("a.pt", pt([1, 2])), {}, "holds a list, expected a dictionary"),
  "keys": (written("a.pt", pt({"clean_label": CLEAN})), {}, "expected clean_label and annotations"),
  "ending": (written("a.txt", b""), {}, "other files of labels are read by label_noise.from_file"),
  "length": (
    written("a.pt", pt({**LABELS, "worse_label": CLEAN[:9]})), {}, "found 9 labels for 300 images"
  ),
  "range": (written("a.pt", pt({**LABELS, "worse_label": CLEAN + 1})), {}, "found 10 at position"),
  "ids": (
    lambda folder: folder, {"source": source(ids=np.arange(1, N + 1))}, "other ids, such as 300"
  ),
  "names for ids": (
    lambda folder: folder, {"source": source(ids=np.arange(N).astype(str))}, "other ids, such as '"
  ),
  "no order": (
    lambda folder: folder, {"order": "tfds", "image_order": "none.npy"}, "none.npy does not exist"
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(folder, name):
  place, changes, message = BAD[name]
  given = {"source": source(), **changes}
  with pytest.raises(InputError, match=message) as caught:
    data.cifar_n(place(folder), **given)
  assert "\n" not in str(caught.value)


def test_the_order_file_must_be_there_and_an_order(folder):
  order = np.load(folder / "image_order_c10.npy")
  (folder / "image_order_c10.npy").unlink()
  with pytest.raises(InputError, match=r"image_order_c10\.npy is neither beside"):
    data.cifar_n(folder, source(), "tfds")
  check(data.cifar_n(folder, source()))
  np.save(folder / "image_order_c10.npy", order[:-1])
  with pytest.raises(InputError, match="is no order of the 300 images"):
    data.cifar_n(folder, source(), "tfds")


def test_files_without_pickles_are_no_dictionary(folder):
  np.save(folder / "a.npy", CLEAN)
  with pytest.raises(InputError, match=r"it holds an array int64 of shape \(300,\)"):
    data.cifar_n(folder / "a.npy", source())


def test_other_fields_stay(folder):
  found = data.cifar_n(folder, source(class_names=tuple("abcdefghij")))
  kept = {f.name for f in dataclasses.fields(found)} - {"human_labels"}
  for name in kept:
    assert np.all(getattr(found, name) == getattr(source(class_names=tuple("abcdefghij")), name))

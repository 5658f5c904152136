"""Files of labels: what is written comes back, what others write is read, another order is not."""

import csv
import json

import numpy as np
import pytest

from jaxnoise import label_noise
from jaxnoise.core.errors import InputError
from jaxnoise.label_noise import __main__ as command

TRUE = np.random.RandomState(0).permutation(np.arange(400) % 10).astype(np.int32)
IDS = np.array([f"img_{n:04d}.png" for n in np.random.RandomState(1).permutation(400)])
NOISY = label_noise.corrupt(TRUE, "symmetric", num_classes=10, rate=0.4, seed=3)
SHUFFLED = np.random.RandomState(2).permutation(400)


def read(path, **kwargs):
  return label_noise.from_file(path, num_classes=10, **{"true_labels": TRUE, **kwargs})


def test_npz_gives_everything_back(tmp_path):
  path = label_noise.write_file(tmp_path / "new" / "noisy.npz", NOISY, TRUE, IDS)
  found = read(path, ids=IDS)
  assert same(found, NOISY)
  first = path.read_bytes()
  label_noise.write_file(path, found, TRUE, IDS)
  assert path.read_bytes() == first
  assert [p.name for p in path.parent.iterdir()] == ["noisy.npz"]  # nothing temporary is left
  with np.load(path, allow_pickle=False) as archive:
    meta = json.loads(str(archive["meta"]))
    counts = archive["counts"]
  realised = label_noise.realised(TRUE, NOISY.labels, 10)
  assert meta["format_version"] == 1 and meta["sha256"] == realised.sha256
  assert meta["realised_rate"] == realised.rate and meta["nominal_rate"] == 0.4
  np.testing.assert_array_equal(counts, realised.counts)


def test_csv_is_what_other_tools_read(tmp_path):
  path = label_noise.write_file(tmp_path / "noisy.csv", NOISY, TRUE, IDS)
  with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [int(row["noisy_label"]) for row in rows] == NOISY.labels.tolist()
  assert [int(row["clean_label"]) for row in rows] == TRUE.tolist()
  assert [row["id"] for row in rows] == IDS.tolist()
  assert [int(row["index"]) for row in rows] == list(range(400))
  assert json.loads((tmp_path / "noisy.csv.json").read_text())["kind"] == "symmetric"
  found = read(path, ids=IDS)
  np.testing.assert_array_equal(found.labels, NOISY.labels)
  np.testing.assert_array_equal(found.flipped, NOISY.flipped)


def same(found, expected):
  for field, value in expected._asdict().items():
    other = getattr(found, field)
    if isinstance(value, np.ndarray):
      assert other.dtype == value.dtype and other.tobytes() == value.tobytes(), field
    else:
      assert other == value and type(other) is type(value), field
  return True


def test_csv_is_described_by_the_file_beside_it(tmp_path):
  path = label_noise.write_file(tmp_path / "noisy.csv", NOISY, TRUE, IDS)
  beside = tmp_path / "noisy.csv.json"
  assert same(read(path, ids=IDS), NOISY)
  part = SHUFFLED[:50]  # the hash is of the file's labels, the data set may have fewer
  found = read(path, ids=IDS[part], true_labels=TRUE[part])
  assert (found.kind, found.nominal_rate, found.seed, found.exact) == ("symmetric", 0.4, 3, True)
  matrix = label_noise.pair_flip_matrix(10, 0.1)
  drawn = label_noise.corrupt(TRUE, "matrix", num_classes=10, matrix=matrix, exact=False)
  assert same(read(label_noise.write_file(path, drawn, TRUE, IDS), ids=IDS), drawn)
  # Of other labels, of another column, without it, or unreadable: the file says nothing.
  unknown = NOISY._replace(kind="file", nominal_rate=None, matrix=None, seed=None, exact=None)
  alone = label_noise.write_file(tmp_path / "other.csv", NOISY, TRUE, IDS)
  (tmp_path / "other.csv.json").unlink()
  assert same(read(alone, ids=IDS), unknown)
  for text in (beside.read_text(), "[]", "{", '{"sha256": 3}'):
    (tmp_path / "other.csv.json").write_text(text)
    assert same(read(alone, ids=IDS), unknown)
  assert read(path, ids=IDS, field="clean_label").kind == "file"


def test_the_clean_labels_of_an_own_file_are_not_described_by_it(tmp_path):
  path = label_noise.write_file(tmp_path / "noisy.npz", NOISY, TRUE, IDS)
  found = read(path, ids=IDS, field="clean_labels")
  np.testing.assert_array_equal(found.labels, TRUE)
  assert (found.kind, found.nominal_rate, found.matrix, found.seed) == ("file", None, None, None)
  assert same(read(path, ids=IDS, field="noisy_labels"), NOISY)


def others(folder, labels, ids):
  """The labels in every form that other tools write: (name of the file, whether it has ids)."""
  np.save(folder / "a.npy", labels)
  np.savez(folder / "a.npz", noisy_labels=labels)
  np.savez(folder / "ids.npz", label=labels, ids=ids)
  (folder / "list.json").write_text(json.dumps(labels.tolist()))
  (folder / "dict.json").write_text(json.dumps({"noisy_labels": labels.tolist()}))
  (folder / "map.json").write_text(json.dumps(dict(zip(ids.tolist(), labels.tolist()))))
  (folder / "a.txt").write_text("\n".join(map(str, labels)) + "\n\n")
  (folder / "bare.csv").write_text("\n".join(map(str, labels)))
  pairs = [f"{i},{y}" for i, y in zip(ids, labels)]
  (folder / "pairs.csv").write_text("\n".join(pairs))
  (folder / "named.csv").write_text("\r\n".join(["id,label", *pairs]))
  rows = [f"{n},{y},3" for n, y in enumerate(labels)]
  (folder / "index.csv").write_text("\n".join(["index,given_label,score", *rows]))
  return ("a.npy", False), ("a.npz", False), ("ids.npz", True), ("list.json", False), (
    "dict.json", False), ("map.json", True), ("a.txt", False), ("bare.csv", False), (
    "pairs.csv", True), ("named.csv", True), ("index.csv", False)  # fmt: skip


def test_reads_what_others_write(tmp_path):
  for name, _ in others(tmp_path, NOISY.labels, IDS):
    np.testing.assert_array_equal(read(tmp_path / name, ids=IDS).labels, NOISY.labels, name)
  columns = {"aggre": TRUE.tolist(), "worst": NOISY.labels.tolist()}
  (tmp_path / "two.json").write_text(json.dumps(columns))
  found = read(tmp_path / "two.json", field="worst")
  np.testing.assert_array_equal(found.labels, NOISY.labels)


def test_ids_put_another_order_right_and_its_absence_is_found_out(tmp_path):
  for name, has_ids in others(tmp_path, NOISY.labels[SHUFFLED], IDS[SHUFFLED]):
    if has_ids:
      np.testing.assert_array_equal(read(tmp_path / name, ids=IDS).labels, NOISY.labels, name)
      continue
    with pytest.raises(InputError, match=r"no more than chance.*another order"):
      read(tmp_path / name, ids=IDS)
    found = read(tmp_path / name, ids=IDS, check_order=False)
    np.testing.assert_array_equal(found.labels, NOISY.labels[SHUFFLED])


def test_index_puts_another_order_right(tmp_path):
  rows = [f"{n},{NOISY.labels[n]}" for n in SHUFFLED]
  (tmp_path / "a.csv").write_text("\n".join(["index,label", *rows]))
  np.testing.assert_array_equal(read(tmp_path / "a.csv", ids=IDS).labels, NOISY.labels)


def test_clean_labels_find_out_another_order(tmp_path):
  # So few flips that labels alone agree far more often than chance.
  half = np.arange(400)
  half[:40] = np.roll(half[:40], 1)
  path = tmp_path / "a.npz"
  np.savez(path, noisy_labels=NOISY.labels[half], clean_labels=TRUE[half])
  with pytest.raises(InputError, match=r"clean labels disagree .* on \d\.\d% .*another order"):
    read(path)
  few = TRUE.copy()
  few[:4] = (few[:4] + 1) % 10  # one percent: corrections of the data set itself
  np.savez(path, noisy_labels=NOISY.labels, clean_labels=few)
  np.testing.assert_array_equal(read(path).labels, NOISY.labels)


def test_a_part_of_the_data_set_gets_its_own_labels(tmp_path):
  path = label_noise.write_file(tmp_path / "noisy.npz", NOISY, TRUE, IDS)
  part = SHUFFLED[:50]
  found = read(path, ids=IDS[part], true_labels=TRUE[part])
  np.testing.assert_array_equal(found.labels, NOISY.labels[part])


def test_noise_beyond_chance_is_no_other_order(tmp_path):
  noisy = label_noise.corrupt(TRUE, "symmetric", num_classes=10, rate=0.8)
  np.save(tmp_path / "a.npy", noisy.labels)
  np.testing.assert_array_equal(read(tmp_path / "a.npy").labels, noisy.labels)


@pytest.mark.parametrize("ending", ["npz", "csv"])
@pytest.mark.parametrize(("classes", "rate"), [(5, 0.8), (10, 0.95)])
def test_own_files_are_taken_however_much_noise_there_is(tmp_path, classes, rate, ending):
  true = TRUE % classes
  noisy = label_noise.corrupt(
    true, "symmetric_exclusive", num_classes=classes, rate=rate, allow_unlearnable=True
  )
  path = label_noise.write_file(tmp_path / f"a.{ending}", noisy, true)
  given = {"num_classes": classes, "true_labels": true}
  assert same(label_noise.from_file(path, **given), noisy)
  # The same labels with nothing that vouches for their order; and with ids, and an index, that do.
  bare = tmp_path / "bare.npy"
  np.save(bare, noisy.labels)
  with pytest.raises(InputError, match="no more than chance"):
    label_noise.from_file(bare, **given)
  for known, names in ((IDS, IDS), (None, np.arange(400))):
    np.savez(
      tmp_path / "b.npz", noisy_labels=noisy.labels[SHUFFLED],
      **{"index" if known is None else "ids": names[SHUFFLED]},
    )  # fmt: skip
    found = label_noise.from_file(tmp_path / "b.npz", ids=known, **given)
    np.testing.assert_array_equal(found.labels, noisy.labels)


def test_own_files_of_another_order_are_refused_however_much_noise_there_is(tmp_path):
  noisy = label_noise.corrupt(
    TRUE, "symmetric_exclusive", num_classes=10, rate=0.95, allow_unlearnable=True
  )
  path = label_noise.write_file(tmp_path / "a.npz", noisy, TRUE)
  with pytest.raises(InputError, match="clean labels disagree"):
    read(path, true_labels=TRUE[SHUFFLED])


def test_advice_is_right_for_every_way_in(tmp_path):
  np.save(tmp_path / "a.npy", NOISY.labels[SHUFFLED])
  with pytest.raises(InputError) as order:
    read(tmp_path / "a.npy")
  np.savez(tmp_path / "a.npz", x=NOISY.labels)
  with pytest.raises(InputError) as field:
    read(tmp_path / "a.npz")
  with pytest.raises(InputError) as noise:
    label_noise.check_matrix([[0.4, 0.6], [0.0, 1.0]])
  for error, name in ((order, "check_order"), (field, "field"), (noise, "allow_unlearnable")):
    assert f"set {name} (" in str(error.value) and f"config.data.noise.{name})" in str(error.value)
    assert "pass " not in str(error.value)
  assert "--allow_unlearnable" in str(noise.value)


def save(name, content):
  def write(folder):
    path = folder / name
    if name.endswith(".npz"):
      np.savez(path, **content)
    elif name.endswith(".npy"):
      np.save(path, content)
    else:
      path.write_text(content)
    return path

  return write


def write_text(name):
  def write(folder):
    (folder / name).write_text("1\n2\n")
    return folder / name

  return write


LABELS = NOISY.labels
BAD = {
  "no file": (lambda folder: folder / "a.npz", "there is no such file"),
  "ending": (save("a.dat", "1"), r"ends with '\.dat', expected \.npz, \.npy"),
  "torch": (save("a.pt", "1"), "read by data.cifar_n"),
  "length": (save("a.npy", LABELS[:-1]), "found 399 for 400 training examples"),
  "long": (save("a.txt", "1\n" * 401), "found 401 for 400 training examples"),
  "range": (save("a.npy", LABELS + 1), r"found 10 at position \d+, expected 0\.\.9"),
  "floats": (save("a.npy", LABELS * 1.0), "dtype is float64, expected integers"),
  "text": (save("a.txt", "1\n2\ncat\n"), "line 3: found 'cat', expected an integer"),
  "csv text": (save("a.csv", "id,label\na,1\nb,1.0\n"), "line 3: found '1.0'"),
  "csv columns": (save("a.csv", "a,b\n1,2\n"), "has a, b, expected noisy_labels"),
  "csv ragged": (save("a.csv", "id,label\na\n"), "line 2 has 1 columns, the first has 2"),
  "npz keys": (save("a.npz", {"x": LABELS}), "has x, expected noisy_labels"),
  "objects": (
    save("a.npz", {"noisy_labels": np.array(["a"], object)}),
    r"cannot be read as \.npz of labels \(it holds Python objects",
  ),
  "objects npy": (save("a.npy", np.array(["a"], object)), "it holds Python objects"),
  "no npz": (write_text("a.npz"), r"a\.npz: is no \.npz file"),
  "no npy": (write_text("a.npy"), r"it is no \.npy file"),
  "json": (save("a.json", "[1, 2"), "cannot be read as .json"),
  "json kind": (save("a.json", "3"), "holds a int, expected a list"),
  "json rows": (save("a.json", "[[1], [2, 3]]"), "rows of unequal length"),
  "ids": (
    save("a.npz", {"noisy_labels": LABELS, "ids": np.arange(400)}),
    r"ids: 400 of the 400 training examples are not there, such as 'img_\d+\.png'; found 400, such "
    r"as '0'; give",
  ),
  "twice": (save("a.csv", "id,label\na,1\na,2\n"), "ids: 'a' occurs twice"),
  "index": (save("a.csv", "index,label\n1,1\n2,2\n"), "index: 398 of the 400"),
  "short clean": (
    save("a.npz", {"noisy_labels": LABELS, "clean_labels": LABELS[:3]}), "found 3 labels for 400"
  ),
  "newer": (
    save("a.npz", {"noisy_labels": LABELS, "meta": np.array('{"format_version": 2}')}),
    "has format version 2; this jaxnoise reads up to 1",
  ),
  "classes": (
    save("a.npz", {"noisy_labels": LABELS, "meta": np.array('{"num_classes": 100}')}),
    "is of 100 classes, but the data set has 10",
  ),
  "edited": (
    save("a.npz", {"noisy_labels": LABELS, "meta": np.array('{"sha256": "0"}')}), "was it edited"
  ),
  "matrix": (
    save("a.npz", {"noisy_labels": LABELS, "matrix": np.ones((10, 10))}), "row 0 sums to 10"
  ),
}  # fmt: skip


@pytest.mark.parametrize(
  ("name", "content"), [("a.npy", NOISY.labels), ("a.txt", "1\n"), ("a.json", "[1]")]
)
def test_a_bare_list_has_no_field(tmp_path, name, content):
  path = save(name, content)(tmp_path)
  with pytest.raises(InputError, match="nothing is called 'worst'; leave field"):
    read(path, field="worst")


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
  write, message = BAD[name]
  path = write(tmp_path)
  with pytest.raises(InputError, match=message) as caught:
    read(path, ids=IDS)
  assert "pickle" not in str(caught.value) and "np." not in str(caught.value)
  assert "\n" not in str(caught.value)


def test_refuses_to_write_elsewhere(tmp_path):
  with pytest.raises(InputError, match=r"expected \.npz or \.csv"):
    label_noise.write_file(tmp_path / "a.parquet", NOISY, TRUE)
  with pytest.raises(InputError, match="found 3 labels for 400"):
    label_noise.write_file(tmp_path / "a.npz", NOISY, TRUE[:3])
  with pytest.raises(InputError, match=r"expected \[400\] integers or strings"):
    label_noise.write_file(tmp_path / "a.npz", NOISY, TRUE, IDS[:3])
  assert not list(tmp_path.iterdir())


def test_command_writes_the_labels_that_a_run_draws(tmp_path, capsys):
  from jaxnoise import data

  out = tmp_path / "digits.npz"
  arguments = ["--data=digits", "--kind=asymmetric_digits", "--rate=0.4", "--seed=5"]
  assert command.main([*arguments, f"--out={out}"]) == 0
  source = data.digits()
  noisy = label_noise.corrupt(
    source.labels, "asymmetric_digits", num_classes=10, rate=0.4, seed=5
  )
  found = label_noise.from_file(
    out, num_classes=10, ids=source.ids, true_labels=source.labels
  )
  np.testing.assert_array_equal(found.labels, noisy.labels)
  printed = capsys.readouterr().out
  realised = label_noise.realised(source.labels, noisy.labels, 10)
  assert realised.sha256 in printed and f"{realised.rate:.2%}" in printed
  assert "nominal rate 0.4" in printed and str(out) in printed
  assert len([line for line in printed.splitlines() if " | " in line]) == 10


def test_command_writes_noise_beyond_chance_that_is_read_back(tmp_path, capsys):
  from jaxnoise import data

  out = tmp_path / "digits.csv"
  arguments = ["--data=digits", "--kind=symmetric_exclusive", "--rate=0.95"]
  assert command.main([*arguments, "--allow_unlearnable", f"--out={out}"]) == 0
  source = data.digits()
  found = label_noise.from_file(
    out, num_classes=10, ids=source.ids, true_labels=source.labels
  )
  assert (found.kind, found.nominal_rate, found.seed) == ("symmetric_exclusive", 0.95, 0)
  assert f"{found.flipped.mean():.2%}" in capsys.readouterr().out


def test_command_says_that_a_file_holds_no_matrix(tmp_path, capsys):
  (tmp_path / "m.npy").write_text("0.9,0.1")
  arguments = ["--data=digits", "--kind=matrix", f"--matrix={tmp_path / 'm.npy'}"]
  assert command.main(arguments) == 2
  error = capsys.readouterr().err
  assert "holds no matrix" in error and "no .npy file" in error and "pickle" not in error


def test_command_reads_a_matrix(tmp_path, capsys):
  matrix = label_noise.pair_flip_matrix(10, 0.1)
  np.savetxt(tmp_path / "m.csv", matrix, delimiter=",")
  arguments = ["--data=digits", "--kind=matrix", f"--matrix={tmp_path / 'm.csv'}"]
  assert command.main(arguments) == 0
  assert "nominal rate 0.1" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
  (["--data=digits", "--kind=symetric"], "did you mean 'symmetric'"),
  (["--data=digts", "--kind=symmetric"], "digits"),
  (["--data=digits", "--kind=asymmetric", "--rate=0.2"], "use --kind=asymmetric_digits"),
  (["--data=digits", "--kind=pair_flip", "--rate=0.7"], "cannot be learnt"),
  (["--data=digits", "--kind=symmetric", "--rate=40"], "40 percent is 0.4"),
  (["--data=digits", "--kind=symmetric", "--out=a.xlsx"], "expected .npz or .csv"),
  (["--data=digits", "--kind=matrix", "--matrix=none.npy"], "does not exist"),
  (["--data=digits", "--kind=matrix"], "give it with --matrix=FILE"),
  (["--data=digits", "--kind=symmetric", "--matrix=m.npy"], "--matrix is m.npy, but --kind is"),
  (["--data=digits", "--kind=symmetric_exclusive", "--rate=0.9"], "--allow_unlearnable"),
])  # fmt: skip
def test_command_says_what_is_wrong_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert command.main(arguments) == 2
  captured = capsys.readouterr()
  assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
  assert not list(tmp_path.iterdir())

"""The parts of a page on classes, images and labels, with names that want to be markup."""

import json
import re

import numpy as np
import pytest

from jaxnoise import reporting
from jaxnoise.training import writers
from tests.reporting import fabricate
from tests.reporting.reader import Reader, assert_self_contained

NAMES = ("<script>alert(1)</script>", '"quoted"', "a & b", *"defghij")


def page_of(path):
  return reporting.write_report(path).read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path):
  return fabricate.run_directory(tmp_path / "run", epochs=5, details=True, class_names=NAMES)


def change(path, table, **values):
  file = path / "tables" / f"{table}.json"
  content = json.loads(file.read_text())
  content.update({k: v(content) if callable(v) else v for k, v in values.items()})
  file.write_text(json.dumps(content))


def rows_of(page, label):
  """The cells of the table in the box of that name."""
  box = re.search(rf'aria-label="{label}">(.*?)</table>', page, re.DOTALL)[1]
  cells = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
  rows = [cells.findall(row) for row in box.split("<tr>")[1:]]
  return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in rows]


def test_class_names_are_text(run):
  page = page_of(run)
  assert_self_contained(page)
  text = Reader(page).text
  assert "<script>alert(1)</script>" in text and '"quoted"' in text and "a & b" in text


def test_classes_are_sorted_with_the_hardest_first(run):
  # 349, 346 and 353 of 360 right: the last 11, 14 and 7 images are wrong, two of a class at most.
  rows = rows_of(page_of(run), "accuracy by class")
  assert rows[0] == ["class", "accuracy, %", "", "min to max", "images"]
  wrong = np.array([np.bincount(fabricate.labels()[n:], minlength=10) for n in (349, 346, 353)])
  accuracy = (1 - wrong / 36).mean(axis=0)
  shown = [float(row[1]) for row in rows[1:]]
  assert shown == sorted(shown) and shown == pytest.approx(sorted(100 * accuracy), abs=0.051)
  low = 100 * (1 - wrong[:, 9].max() / 36)
  assert [row[3] for row in rows if row[0] == "j"] == [f"{low:.1f} to 97.2"]


def test_the_most_frequent_confusions(run):
  rows = rows_of(page_of(run), "most frequent confusions")
  assert rows[0] == ["true class", "taken for", "images per seed", "% of the class"]
  # The last class is among the wrong images 2, 2 and 1 times, the three before it 1, 2 and 1.
  assert rows[1][0] == "j" and rows[1][2:] == ["1.7", "4.6"]
  assert rows[2] == ["g", "h", "1.3", "3.7"]
  assert len(rows) == 11


def test_a_network_without_mistakes(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", seeds=1, clean=(1.0,), epochs=5, details=True)
  change(path, "samples", mistakes=[])
  text = Reader(page_of(path)).text
  assert "No test image is classified wrongly." in text and "Most confident mistakes" not in text


def test_right_and_wrong_are_told_by_more_than_colour(run):
  page = page_of(run)
  text = Reader(page).text
  assert text.count("✗ ") - 1 == page.count('<figure class="wrong">') == 10 + 1
  assert text.count("✓ ") - 1 == page.count('<figure class="right">') == 23
  assert "✗ j → <script>alert(1)</script>" in text
  alt = "test image 359, j, taken for &lt;script&gt;alert(1)&lt;/script&gt; with 99 %"
  assert f'alt="{alt}"' in page


def test_label_noise(run):
  page = page_of(run)
  text = Reader(page).text
  for part in ("labels: worse", "180 of 1,000: 18.00 %", "0000beef", "ab" * 32):
    assert part in text, part
  rows = rows_of(page, "Given label of the training images of a class, in %")
  assert len(rows) == 11 and rows[1][1:3] == ["82.0", "2.0"]


def test_labels_of_each_seed(run):
  assert "All seeds have these labels." in page_of(run), "a table without a list of seeds"
  fabricate.add_seed_labels(run, (0.25, 0.2, 0.3), first="4")
  page = page_of(run)
  assert "count, hashes and matrix are those of seed 0." in Reader(page).text
  assert "All seeds have these labels." not in page
  assert rows_of(page, "label noise of each seed")[1:] == [
    ["0", "250", "25.00", "4" * 12],
    ["1", "200", "20.00", "5" * 12],
    ["2", "300", "30.00", "6" * 12],
  ]


def test_labels_of_seeds_that_do_not_begin_at_0(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", seed=5, epochs=5, details=True)
  fabricate.add_seed_labels(path, (0.25, 0.2, 0.3))
  page = page_of(path)
  assert "are those of seed 5." in Reader(page).text
  assert [row[0] for row in rows_of(page, "label noise of each seed")[1:]] == ["5", "6", "7"]


def test_one_seed_has_no_list_of_labels(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", seeds=1, epochs=5, details=True)
  text = Reader(page_of(path)).text
  assert "All seeds have" not in text and "labels of its own" not in text


def test_many_classes_are_shortened(run):
  counts = np.full((30, 30), 1) + np.diag([70] * 30)
  counts[3, 4] = 50
  rates = [0.25] * 29 + [None]
  change(run, "label_noise", counts=counts.tolist(), class_rates=rates, num_classes=30)
  names = [f"class {k}" for k in range(30)]
  correct = {"student": [list(range(30))] * 3}
  change(run, "clean", classes={"names": names, "count": [30] * 29 + [0], "correct": correct})
  change(run, "clean", confusion={"student": [counts.tolist()] * 3})
  page = page_of(run)
  assert rows_of(page, "most frequent wrong labels")[1][:3] == ["class 3", "class 4", "50"]
  assert len(rows_of(page, "accuracy by class")) == 21 and "The other 9 classes" in page
  assert "All confusions" not in page and "median 25.0 %" in page


def test_more_than_200_classes_have_no_matrix(run):
  change(run, "label_noise", counts=None)
  change(run, "clean", confusion={})
  page = page_of(run)
  assert "Share of wrong labels by class" in page and "most frequent confusions" not in page


def test_numbers_have_their_spread(run):
  rows = rows_of(page_of(run), "every score of student")
  assert rows[0] == ["student", "mean", "s. e.", "s. d.", "min", "max", "95 % interval", "n"]
  # t(2) at 97.5 % is 4.3027, from tables; the values are 97, 96 and 98.
  low, high = 97 - 4.3027 / np.sqrt(3), 97 + 4.3027 / np.sqrt(3)
  assert rows[1] == [
    "accuracy, clean", "97.00", "0.58", "1.00", "96.00", "98.00", f"{low:.2f} to {high:.2f}", "3",
  ]  # fmt: skip
  assert rows[2][0] == "accuracy, clean; best, epoch 5"


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_no_interval(tmp_path, seeds):
  path = fabricate.run_directory(tmp_path / "run", seeds=seeds, epochs=5)
  page = page_of(path)
  assert "An interval needs three seeds." in page
  assert {row[6] for row in rows_of(page, "every score of student")[1:]} == {"-"}
  assert "nan" not in Reader(page).text


def test_time_and_rate_are_told_where_rows_have_them(tmp_path):
  path = fabricate.run_directory(tmp_path / "run", epochs=5)
  writer = writers.MetricsWriter(path / "metrics.jsonl", 10**6)
  for epoch, rate in ((6, 900.0), (7, 1100.0), (8, 5000.0)):
    values = {"train/student/images_per_second": rate, "train/student/wall_seconds": 10.0 * epoch}
    writer.write(20 * epoch, epoch, values)
  writer.close()
  assert "80 s · 1,100 images/s" in Reader(page_of(path)).text


def test_the_teacher_of_a_student(run):
  assert "<h2>Teacher</h2>" not in page_of(run)
  file = run / "config.json"
  info = json.loads(file.read_text())
  info["teacher"] = {
    "run": "runs/<teacher>", "sha256": "ab" * 32, "method": "erm", "seed": 3, "step": 2000,
    "num_steps": 2000, "accuracy": 0.9511, "n": 360,
  }  # fmt: skip
  file.write_text(json.dumps(info))
  assert rows_of(page_of(run), "teacher")[1:] == [
    ["run", "runs/&lt;teacher&gt;"], ["method", "erm, seed 3"], ["parameters after", "2,000 steps"],
    ["accuracy", "95.11 %, on 360 test images"], ["parameters, SHA-256", "ab" * 32],
  ]  # fmt: skip
  info["teacher"] |= {"step": 500, "accuracy": None}
  file.write_text(json.dumps(info))
  rows = dict(rows_of(page_of(run), "teacher"))
  assert rows["parameters after"] == "500 steps of 2,000: it had not ended"
  assert rows["accuracy"] == "not measured at that step"

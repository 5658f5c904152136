"""Runs side by side: what is one setting, what may be compared, and the page that says so."""

import json
import re

import numpy as np
import pytest

from jaxnoise import reporting
from jaxnoise.core import InputError
from jaxnoise.reporting import _groups
from tests.reporting import fabricate
from tests.reporting.reader import Reader, assert_self_contained
from tests.reporting.test_details import rows_of


def made(folder, name="erm", method="erm", **kwargs):
  return fabricate.run_directory(folder / name, method, epochs=5, **kwargs)


def groups_of(*paths):
  return reporting.group_runs([reporting.load_run(path) for path in paths])


def test_runs_that_differ_in_seed_are_one_group(tmp_path):
  a = made(tmp_path, "a", clean=(0.9, 0.8, 0.7))
  b = made(tmp_path, "b", "noisymix")
  c = made(tmp_path, "c", seed=3, seeds=2, clean=(0.6, 0.5))
  first, second = groups_of(a, b, c)
  assert (first.label, len(first.runs), second.label) == ("erm", 2, "noisymix")
  want = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 4: 0.5}
  assert first.scores("clean", "accuracy") == want
  assert first.cells().value.shape == (5, 11, 5)
  assert first.curve("test/student/accuracy").value.shape == (1, 5)


def test_curves_of_a_group_are_cut_to_common_epochs(tmp_path):
  (group,) = groups_of(made(tmp_path, "a"), made(tmp_path, "b", seed=3, finished=False))
  assert group.curve("train/student/loss").value.shape == (2, 6)


def test_the_same_network_twice_is_refused(tmp_path):
  with pytest.raises(InputError, match="same seed 2; its network would count twice"):
    groups_of(made(tmp_path, "a"), made(tmp_path, "b", seed=2))


def test_groups_of_one_method_are_told_apart_by_what_differs(tmp_path):
  a = made(tmp_path, "a", changes={"optim": {"lr": 0.1}})
  b = made(tmp_path, "b", changes={"optim": {"lr": 0.2}})
  c = made(tmp_path, "c", "noisymix")
  labels = [group.label for group in groups_of(a, b, c)]
  assert labels == ["erm (optim.lr = 0.1)", "erm (optim.lr = 0.2)", "noisymix"]
  many = {"optim": {"lr": 0.3, "momentum": 0.5}, "batch_size": 32}
  d = made(tmp_path, "d", changes=many)
  assert [group.label for group in groups_of(a, d)] == ["erm (a)", "erm (d)"]


def test_differences_of_settings(tmp_path):
  pair = groups_of(made(tmp_path, "a", seed=5), made(tmp_path, "b", "noisymix", seeds=2))
  assert _groups.differences(pair) == [("method.name", ["erm", "noisymix"])]


def test_other_training_labels_are_another_setting(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", seed=3)
  info = json.loads((b / "config.json").read_text())
  (b / "config.json").write_text(json.dumps({**info, "data_crc32": 1}))
  assert [group.label for group in groups_of(a, b)] == ["erm (a)", "erm (b)"]


def test_by_seed_takes_common_seeds_only():
  got = _groups.by_seed({0: 0.5, 1: 0.6, 2: 0.7}, {2: 0.71, 1: 0.62, 7: 0.1})
  assert got.n == 2 and got.mean == pytest.approx(0.015)
  assert _groups.by_seed({0: 0.5}, {1: 0.6}) is None


def test_by_example_takes_common_seeds_or_else_all():
  right, wrong = np.ones(4) > 0, np.zeros(4) > 0
  got = _groups.by_example({0: right, 1: wrong}, {1: right, 2: wrong})
  assert (got.mean, got.gained, got.lost) == (1.0, 4, 0), "seed 1 alone"
  got = _groups.by_example({0: right, 1: wrong}, {5: right})
  assert (got.mean, got.gained) == (0.5, None)
  assert _groups.by_example({}, {0: right}) is None


def test_a_comparison_page(tmp_path):
  a = made(tmp_path, "a", details=True)
  b = made(tmp_path, "b", "noisymix", details=True, clean=(0.98, 0.97, 0.97),
    corrupted=(0.80, 0.83, 0.78))  # fmt: skip
  page = reporting.write_comparison([a, b], tmp_path / "page.html").read_text(encoding="utf-8")
  assert_self_contained(page)
  assert Reader(page).text.startswith("erm and noisymix on digits")
  scores = rows_of(page, "scores")
  assert [row[0] for row in scores] == ["", "erm", "noisymix"] and scores[2][-1] == "3"
  assert scores[1][1].startswith("97.00 ± 0.58") and "94.52 to 99.48" in scores[1][1]
  by_seed = rows_of(page, "differences paired by seed")[1]
  d = np.array([10.0, 11.0, 10.0])
  error = np.std(d, ddof=1) / np.sqrt(3)
  low, high = d.mean() - 4.30265 * error, d.mean() + 4.30265 * error
  assert by_seed[2] == f"+{d.mean():.2f} ± {error:.2f}+{low:.2f} to +{high:.2f}"
  assert by_seed[-1] == "3"
  # 349, 346 and 353 right of 360 against 353, 349 and 349, all at the beginning.
  by_image = rows_of(page, "differences paired by test image")[1]
  assert by_image[3:] == ["360", "7", "4"] and by_image[1].startswith("+0.28 ± ")
  assert [row[0] for row in rows_of(page, "settings that differ")[1:]] == ["method.name"]
  assert "noisymix minus erm, in points" in page and page.count('role="img"') == 5
  assert [row[:3] for row in rows_of(page, "runs")[1:]] == [
    ["erm", str(a), "0, 1, 2"],
    ["noisymix", str(b), "0, 1, 2"],
  ]


def test_runs_without_common_seeds_are_not_paired_by_seed(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "noisymix", seed=7)
  page = reporting.write_comparison([a, b], tmp_path / "page.html").read_text(encoding="utf-8")
  assert set(rows_of(page, "differences paired by seed")[1][1:]) == {"-"}
  assert "Paired by test image" not in page, "old runs have no record of single images"
  assert "nan" not in Reader(page).text


def test_other_predictors_are_rows_of_their_own(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "noisymix", predictors=("student", "ema"))
  page = reporting.write_comparison([a, b], tmp_path / "page.html").read_text(encoding="utf-8")
  names = [row[0] for row in rows_of(page, "scores")[1:]]
  assert names == ["erm", "noisymix", "noisymix: ema"]


def test_other_corruptions_are_left_out_and_said(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "noisymix", names=fabricate.NAMES[:3])
  page = reporting.write_comparison([a, b], tmp_path / "page.html").read_text(encoding="utf-8")
  erm, noisymix = rows_of(page, "scores")[1:]
  assert erm[2] != "-" and noisymix[2] == "-" and noisymix[1] != "-"
  assert "on other corruptions than the first run" in Reader(page).text
  assert "minus" not in page


def test_a_run_that_has_not_ended_is_said(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "noisymix", finished=False)
  page = reporting.write_comparison([a, b], tmp_path / "page.html").read_text(encoding="utf-8")
  assert f"{b} has not ended" in Reader(page).text
  assert set(rows_of(page, "scores")[2][1:]) == {"-"}


def test_many_settings_are_counted_in_the_title(tmp_path):
  paths = [made(tmp_path, str(k), changes={"optim": {"lr": 0.1 * k}}) for k in range(1, 5)]
  page = reporting.write_comparison(paths, tmp_path / "page.html").read_text(encoding="utf-8")
  assert Reader(page).text.startswith("4 settings on digits")
  assert len(rows_of(page, "differences paired by seed")) == 4


def test_names_are_text(tmp_path):
  a = made(tmp_path, "<i>a")
  b = made(tmp_path, "b", changes={"policy": {"name": "<b>bold"}})
  page = reporting.write_comparison([a, b], tmp_path / "page.html").read_text(encoding="utf-8")
  assert_self_contained(page)
  assert not re.search("<i>a|<b>bold", page) and "<b>bold" in Reader(page).text


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"dataset": "cifar10"}, "are on digits and cifar10"),
    ({"crc": 8}, "are on different test images of digits"),
    ({"n": 720}, "360 and 720 test images"),
  ],
)
def test_another_test_set_is_refused(tmp_path, change, says):
  a = made(tmp_path, "a", details=True)
  b = made(tmp_path, "b", "noisymix", details=True, dataset=change.get("dataset", "digits"))
  if "crc" in change:
    fabricate.add_details(b, test_crc32=8)
  if "n" in change:
    clean = json.loads((b / "tables" / "clean.json").read_text())
    (b / "tables" / "clean.json").write_text(json.dumps({**clean, "n": 720}))
  with pytest.raises(InputError, match=says):
    reporting.write_comparison([a, b], tmp_path / "page.html")
  assert not (tmp_path / "page.html").exists()

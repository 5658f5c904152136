"""Runs with noisy labels side by side: rates, what was fitted, whether labels are the same."""

import json

from jaxnoise import reporting
from tests.reporting import fabricate
from tests.reporting.reader import Reader, assert_self_contained
from tests.reporting.test_details import rows_of


def made(folder, name, method="erm", **kwargs):
  path = fabricate.run_directory(folder / name, method, epochs=5, details=True, **kwargs)
  fabricate.add_fitted(path, ((0.1, 0.1, 0.1), (0.5, 0.6, 0.7)))
  return path


def page_of(*paths):
  return reporting.write_comparison(paths, paths[0].parent / "page.html").read_text("utf-8")


def test_rates_accuracy_and_what_was_fitted(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "gjs", clean=(0.99, 0.98, 0.97))
  fabricate.add_seed_labels(a, (0.25, 0.125, 0.1875))
  fabricate.add_seed_labels(b, (0.25, 0.125, 0.1875))
  page = page_of(a, b)
  assert_self_contained(page)
  rows = rows_of(page, "label noise")
  assert rows[0][1:] == [
    "wrong labels", "test accuracy, last", "test accuracy, best", "wrong labels fitted",
    "wrong labels seen through", "fitted labels that are right", "n",
  ]  # fmt: skip
  # A made-up curve ends 50 exp(-5 / 8) points below the final table.
  assert rows[1] == [
    "erm", "18.7512.50 to 25.00", "97.00 ± 0.58", "70.24 ± 0.58epoch 5 by held-out",
    "60.00 ± 5.77", "30.00 ± 5.77", "70.00 ± 2.89", "3",
  ]  # fmt: skip
  assert rows[2][0] == "gjs" and rows[2][2] == "98.00 ± 0.58"
  assert "trained on different labels" not in page, "the seeds' labels are the same"
  assert "the held-out ones are as noisy as those of training" in Reader(page).text
  assert "reading, not for choosing" not in page


def test_other_labels_of_paired_seeds_are_warned_of(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "gjs", seed=1)
  fabricate.add_seed_labels(a, (0.25, 0.25, 0.25))
  fabricate.add_seed_labels(b, (0.25, 0.25, 0.25), first="1")
  assert "trained on different labels" not in page_of(a, b), "seeds 1 and 2 have 1... and 2..."
  fabricate.add_seed_labels(b, (0.25, 0.25, 0.25), first="7")
  page = page_of(a, b)
  assert rows_of(page, "label noise")[1][1] == "25.00", "one rate has no range"
  text = Reader(page).text
  says = "gjs and erm were trained on different labels of seeds 1, 2 (SHA-256 of seed 1 begins "
  assert says + "777777777777 and 111111111111)" in text
  assert page.count('class="warning"') == 1


def test_labels_that_all_seeds_share_are_those_of_each(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", "gjs")
  assert "trained on different labels" not in page_of(a, b)
  fabricate.add_seed_labels(b, (0.18, 0.18, 0.18))
  assert "different labels of seeds 0, 1, 2 " in Reader(page_of(a, b)).text


def test_a_run_without_noise_or_fitted_labels_has_dashes(tmp_path):
  a, b = made(tmp_path, "a"), fabricate.run_directory(tmp_path / "b", "gjs", epochs=5)
  page = page_of(a, b)
  clean = rows_of(page, "label noise")[2]
  assert clean[:2] == ["gjs", "-"] and clean[2] == "97.00 ± 0.58" and set(clean[4:7]) == {"-"}
  assert "a dash where no noise is on record" in Reader(page).text


def test_runs_on_true_labels_have_no_such_table(tmp_path):
  a = fabricate.run_directory(tmp_path / "a", epochs=5)
  b = fabricate.run_directory(tmp_path / "b", "gjs", epochs=5)
  assert "Label noise" not in page_of(a, b)


def test_nothing_held_out_is_best_by_the_test_set_and_said(tmp_path):
  a = made(tmp_path, "a")
  rows = [json.loads(line) for line in (a / "metrics.jsonl").read_text().splitlines()]
  kept = [{k: v for k, v in row.items() if not k.startswith("holdout/")} for row in rows]
  (a / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
  page = page_of(a)
  assert rows_of(page, "label noise")[1][3].endswith("epoch 5 by the test set")
  text = Reader(page).text
  assert "by the test set itself: for reading, not for choosing" in text
  assert "the held-out ones are as noisy" not in text


def test_a_setting_of_several_runs_has_all_its_seeds(tmp_path):
  a, b = made(tmp_path, "a"), made(tmp_path, "b", seed=3)
  fabricate.add_seed_labels(a, (0.1, 0.2, 0.3))
  fabricate.add_seed_labels(b, (0.4, 0.5, 0.6))
  (row,) = rows_of(page_of(a, b), "label noise")[1:]
  assert row[1] == "35.0010.00 to 60.00" and row[-1] == "6"

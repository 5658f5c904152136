"""The final tables: what they say against numpy, and that what is there is left alone."""

import dataclasses
import zlib

import numpy as np
import pytest

from jaxnoise import data, evaluation
from jaxnoise.training import final, label_noise_table, loop, writers
from tests.training.common import tiny_run

NAMES = ("label_noise", "clean", "samples", "corruptions")


def noisy_source():
  source = data.generated(num_train=48, num_test=21, num_classes=3, size=8)
  human = (source.labels + (np.arange(48) % 4 == 0)) % 3
  return dataclasses.replace(source, human_labels={"worse": human.astype(np.int32)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run of two seeds on noisy labels, trained for a step, with its tables."""
  directory = tmp_path_factory.mktemp("runs") / "run"
  run = tiny_run(
    source=noisy_source(),
    seed=5,
    seeds=2,
    total="1 steps",
    data={"labels": "worse"},
    wrappers=("with_ema",),
    evaluate={"corruptions": ("contrast",), "severities": (1,), "batch_size": 8},
  )
  result = loop.train(run, directory, quiet=True)
  assert final.finish(run, result, directory, lambda text: None, lambda: False)
  tables = {name: writers.read_json(directory / "tables" / f"{name}.json") for name in NAMES}
  return run, result, directory, tables


def test_every_table_says_whose_it_is(finished):
  for name, table in finished[3].items():
    assert (table["format_version"], table["seeds"]) == (1, [5, 6])
    # What labels a run has is known before its first step.
    assert name == "label_noise" or table["step"] == 1


def test_classes_confusions_and_examples_agree(finished):
  run, _, _, tables = finished
  clean, label = tables["clean"], run.source.test_labels
  assert clean["n"] == 21 and list(clean["predictors"]) == ["student", "ema"]
  assert clean["classes"]["count"] == np.bincount(label, minlength=3).tolist()
  for predictor in ("student", "ema"):
    for s in range(2):
      matrix = np.array(clean["confusion"][predictor][s])
      right = evaluation.unpack(clean["examples"]["correct"][predictor][s], 21)
      np.testing.assert_array_equal(matrix.sum(axis=1), clean["classes"]["count"])
      np.testing.assert_array_equal(np.diag(matrix), clean["classes"]["correct"][predictor][s])
      np.testing.assert_array_equal(np.diag(matrix), np.bincount(label[right], minlength=3))
      assert right.mean() == pytest.approx(clean["predictors"][predictor]["accuracy"][s])
  want = zlib.crc32(label.astype("<i4").tobytes(), zlib.crc32(run.source.test_images.tobytes()))
  assert clean["examples"]["test_crc32"] == want


def test_samples_are_of_the_first_seed(finished):
  run, _, _, tables = finished
  samples, clean = tables["samples"], tables["clean"]
  assert (samples["seed"], samples["predictor"], samples["n"]) == (5, "student", 21)
  assert [s["index"] for s in samples["spread"]] == list(range(21))
  right = [s["label"] == s["prediction"] for s in samples["spread"]]
  packed = clean["examples"]["correct"]["student"][0]
  assert right == evaluation.unpack(packed, 21).tolist()
  assert len(samples["mistakes"]) == 21 - sum(right)
  assert [s["label"] for s in samples["spread"]] == run.source.test_labels.tolist()


def test_label_noise(finished):
  run, _, _, tables = finished
  noise, source = tables["label_noise"], run.source
  assert noise["nominal"] == {"labels": "worse"}
  assert (noise["n"], noise["changed"], noise["rate"]) == (48, 12, 0.25)
  want = np.zeros((3, 3), int)
  np.add.at(want, (source.clean_labels, source.labels), 1)
  assert noise["counts"] == want.tolist()
  rates = 1 - np.diag(want) / want.sum(axis=1)
  np.testing.assert_allclose(noise["class_rates"], rates)
  assert noise["labels_crc32"] == zlib.crc32(source.labels.astype("<i4").tobytes())


def test_only_missing_tables_are_written_again(finished, monkeypatch):
  run, result, directory, tables = finished
  (directory / "tables" / "samples.json").unlink()
  written = []
  write = writers.write_json
  monkeypatch.setattr(
    writers, "write_json", lambda path, content: (written.append(path.stem), write(path, content))
  )
  for want in (["samples"], []):
    assert final.finish(run, result, directory, lambda text: None, lambda: True)
    assert written == want
    written.clear()
  assert writers.read_json(directory / "tables" / "samples.json") == tables["samples"]


def test_stored_corruptions_replace_the_named_ones(finished, tmp_path):
  run, result, _, _ = finished

  class Stored:
    names, severities = ("upside_down",), (1, 2)

    def pool(self, name, severity):
      return data.Pool(run.source.test_images[:, ::-1], run.source.test_labels)

  quiet = lambda text: None
  assert final.finish(run, result, tmp_path, quiet, lambda: False, corrupted=Stored())
  table = writers.read_json(tmp_path / "tables" / "corruptions.json")
  assert table["images"] == "stored"
  assert table["predictors"]["ema"][1]["names"] == ["upside_down"]
  assert np.array(table["predictors"]["ema"][1]["conditional"]).shape == (1, 2)


def test_many_classes_keep_no_matrix():
  source = data.generated(num_train=402, num_test=8, num_classes=201, size=4)
  assert label_noise_table.noise_table(source) is None
  table = label_noise_table.noise_table(source.with_labels((source.labels + 1) % 201))
  assert table["rate"] == 1.0 and "counts" not in table and len(table["class_rates"]) == 201

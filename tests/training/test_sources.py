"""Noisy labels of a run: drawn for each seed, before anything is held out; what is told of them."""

import dataclasses

import numpy as np
import pytest

from jaxnoise import label_noise, methods
from jaxnoise.core import InputError
from jaxnoise.training import label_noise_table, loop, restore, schema, sources, writers
from tests.toy import toy_network
from tests.training.common import tiny_run, tiny_source


def section(**changes):
  return schema.check({"data": {"name": "generated", **changes}})["data"]


NOISE = {"kind": "symmetric_exclusive", "rate": 0.25}


def test_each_seed_has_the_labels_of_its_single_run():
  config = section(noise=NOISE, holdout=16, trusted=8, trusted_in_train=False)
  several = sources.load(config, seed=3, seeds=2)
  singles = [sources.load(config, seed=seed) for seed in (3, 4)]
  for s, single in enumerate(singles):
    np.testing.assert_array_equal(several.labels[s], single.source.labels)
    np.testing.assert_array_equal(several.holdout_labels[s], single.holdout.labels)
    # Which examples are held out and trusted has nothing to do with the noise.
    np.testing.assert_array_equal(several.source.ids, single.source.ids)
    np.testing.assert_array_equal(several.holdout.ids, single.holdout.ids)
  assert np.any(several.labels[0] != several.labels[1])
  np.testing.assert_array_equal(several.source.labels, several.labels[0])
  assert singles[0].labels is None and singles[0].holdout_labels is None


def test_held_out_labels_are_noisy_and_trusted_ones_true():
  clean = sources.load(section()).source
  config = section(noise=NOISE, holdout=60, trusted=20, trusted_in_train=False)
  loaded = sources.load(config)
  parts = [loaded.source.train, loaded.holdout, loaded.source.pools["trusted"]]
  assert sum(part.size for part in parts) == clean.num_train
  wrong = [np.sum(part.labels != clean.labels[part.ids]) for part in parts]
  assert wrong[1] > 0 and wrong[2] == 0
  # Exactly a quarter of all labels were changed; those of trusted examples were put right.
  drawn = label_noise.corrupt(clean.labels, NOISE["kind"], num_classes=4, rate=0.25, seed=0)
  assert wrong[0] + wrong[1] == np.sum(drawn.flipped) - np.sum(drawn.flipped[parts[2].ids])


def test_a_fixed_noise_seed_is_that_of_all_seeds():
  fixed = section(noise={**NOISE, "seed": 7})
  assert sources.load(fixed, seed=1, seeds=3).labels is None
  a, b = (sources.load(fixed, seed=seed).source.labels for seed in (1, 2))
  np.testing.assert_array_equal(a, b)


def test_a_matrix_and_a_file_of_labels(tmp_path):
  swap = ((0.75, 0.25, 0, 0), (0.25, 0.75, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
  loaded = sources.load(section(noise={"kind": "matrix", "matrix": swap}))
  given, true = loaded.source.labels, loaded.source.clean_labels
  assert set(zip(true[given != true], given[given != true], strict=True)) == {(0, 1), (1, 0)}
  assert loaded.nominal["matrix"] == [list(map(float, row)) for row in swap]
  file = tmp_path / "labels.npy"
  np.save(file, given)
  again = sources.load(section(noise={"kind": "file", "file": str(file)}), seeds=2)
  np.testing.assert_array_equal(again.source.labels, given)
  assert again.labels is None and again.nominal == {"kind": "file", "file": str(file)}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"noise": {"rate": 0.4}}, "config.data.noise.rate is 0.4, but config.data.noise.kind is ''"),
    ({"noise": {"kind": "symetric", "rate": 0.4}}, "did you mean"),
    ({"noise": {"kind": "symmetric", "rate": 1.4}}, "1.4"),
    ({"noise": {"kind": "file"}}, "config.data.noise.file is empty; give a file"),
    ({"noise": {"kind": "file", "file": "x.npy", "rate": 0.4}}, "config.data.noise.rate is 0.4"),
    ({"noise": {"kind": "symmetric", "file": "x.npy"}}, "config.data.noise.file is given"),
    ({"noise": {"kind": "matrix"}}, "config.data.noise.matrix is empty; give a matrix"),
    ({"noise": {"kind": "matrix", "matrix": ((1.0, 0.5), (0.0, 1.0))}}, "matrix"),
    ({"noise": {"kind": "matrix", "matrix": ((0.6, 0.4), (0.1, 0.9, 0))}}, "config.data.noise"),
    ({"noise": {"kind": "matrix", "matrix": (("a", 0.4), (0.1, 0.9))}}, "config.data.noise"),
    ({"noise": {**NOISE, "seed": -5}}, "config.data.noise.seed is -5"),
    ({"name": "digits", "noise": {"kind": "asymmetric", "rate": 0.4}}, "'asymmetric_digits'"),
    ({"holdout": 10**6}, "config.data: holdout count"),
    ({"labels": "worst", "noise": NOISE}, "config.data.labels is 'worst'"),
  ],
)
def test_bad_input(changes, message):
  with pytest.raises(InputError) as error:
    sources.load(section(**changes))
  assert message in str(error.value)


def test_a_run_tells_which_labels_each_seed_fits(tmp_path):
  source = dataclasses.replace(tiny_source(num_train=52), human_labels={})
  run = tiny_run(
    source=source, seed=5, seeds=2, total="1 epoch", data={"noise": NOISE, "holdout": 4}
  )
  result = loop.train(run, tmp_path, quiet=True)
  true, images = run.source.clean_labels, run.source.images / np.float32(255)
  shares = {"memorised": [], "corrected": [], "label_precision": [], "label_recall": []}
  for s in range(2):
    predicted = np.argmax(result.predictors(s)["student"](images), axis=-1)
    given = run.loaded.labels[s]
    wrong, agrees = given != true, predicted == given
    shares["memorised"].append(np.mean(agrees[wrong]))
    shares["corrected"].append(np.mean((predicted == true)[wrong]))
    shares["label_precision"].append(np.mean(~wrong[agrees]))
    shares["label_recall"].append(np.mean(agrees[~wrong]))
  for name, values in shares.items():
    np.testing.assert_allclose(result.metrics[f"labels/student/{name}"], values, rtol=1e-6)
  parts = {"source": source, "network": toy_network(), "method": methods.erm}
  opened = restore.open_run(tmp_path, seed=6, **parts)
  np.testing.assert_array_equal(opened.train.labels, run.loaded.labels[1])
  np.testing.assert_array_equal(opened.holdout.labels, run.loaded.holdout_labels[1])
  table = writers.read_json(tmp_path / "tables" / "label_noise.json")
  assert table["nominal"] == {**NOISE, "exact": True, "matrix": table["nominal"]["matrix"]}
  assert [own["changed"] for own in table["of_seeds"]] == [
    int(np.sum(row != true)) for row in run.loaded.labels
  ]
  lines = label_noise_table.lines(table)
  assert "asked for: kind symmetric_exclusive, rate 0.25, exact True" in lines[0]
  assert lines[1].startswith("seed 6: ") and len(lines) == 3 + 3


def test_a_share_that_one_seed_does_not_have_is_left_out(tmp_path):
  """With one wrong label in 200, some seeds have none: their share of it is of nothing."""
  noise = {"kind": "symmetric_exclusive", "rate": 0.05, "exact": False}
  source = tiny_source()
  for first in range(40):
    config = section(noise=noise)
    loaded = sources.load(config, source, seed=first, seeds=2)
    counts = np.sum(loaded.labels != source.labels, axis=1)
    if min(counts) == 0 < max(counts):
      break
  run = tiny_run(source=source, seed=first, seeds=2, total="1 steps", data={"noise": noise})
  result = loop.train(run, tmp_path, quiet=True)
  told = {name.split("/")[-1] for name in result.metrics if name.startswith("labels/")}
  assert told == {"label_precision", "label_recall"}

"""Parts of a suite: what they measure equals plain numpy, and what is measured is kept."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, corruptions, data, evaluation, methods, metrics
from jaxnoise.core import InputError, Spec, TrainState
from jaxnoise.training import sharding
from tests.toy import toy_network

SPEC = Spec(num_train=48, num_classes=3, image_shape=(8, 8, 3))
KEY = jax.random.key(3)
SOURCE = data.generated(num_train=48, num_test=21, num_classes=3, size=8)


def subject(devices=1, batch_size=8, seeds=2, holdout=None):
  network = toy_network()
  mesh = sharding.make_mesh(jax.devices()[:devices])
  states = []
  for seed in range(seeds):
    params, stats = network.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    state = TrainState.create(jax.random.key(9), params, stats)
    states.append(jax.device_put(state, sharding.replicated(mesh)))
  method = methods.erm(network, spec=SPEC)
  return evaluation.Subject(method, states, mesh, SOURCE.test, holdout, batch_size)


def logits_of(of, seed, image):
  return np.asarray(of.method.predictors(of.states[seed])["student"](jnp.asarray(image)))


def clean_images():
  return np.asarray(SOURCE.test_images, np.float32) / 255


# --- keeping what is measured ---


def counting_part(log, **changes):
  def measure(cell):
    log.append(cell)
    return {"student": [{"accuracy": len(log) / 8}]}

  def summarise(cells):
    return {"student": {"mean": [sum(v["student"][0]["accuracy"] for v in cells.values())]}}

  fields = {"settings": {"radius": 0.5}, "cells": ("a", "b", "c"), **changes}
  return evaluation.Part("numbers", measure=measure, summarise=summarise, **fields)


def test_goes_on_at_the_cell_where_it_was_stopped(tmp_path):
  log = []
  asked = iter([False, False, True])
  part = counting_part(log)
  assert not evaluation.run_parts([part], tmp_path, {"step": 1}, stop=lambda: next(asked))
  assert log == ["a", "b"] and evaluation.read_table(tmp_path / "numbers.json") is None
  assert evaluation.run_parts([part], tmp_path, {"step": 1})
  assert log == ["a", "b", "c"]
  table = evaluation.read_table(tmp_path / "numbers.json")
  assert list(table["cells"]) == ["a", "b", "c"]
  assert table["summary"] == {"student": {"mean": [(1 + 2 + 3) / 8]}}
  assert evaluation.run_parts([part], tmp_path, {"step": 1}) and len(log) == 3


def test_a_cell_that_fails_leaves_those_before_it(tmp_path):
  log = []
  part = counting_part(log)

  def broken(cell):
    if cell == "b":
      raise MemoryError
    return part.measure(cell)

  failing = counting_part(log)
  object.__setattr__(failing, "measure", broken)
  with pytest.raises(MemoryError):
    evaluation.run_parts([failing], tmp_path, {"step": 1})
  stored = json.loads((tmp_path / "numbers.json").read_text())
  assert list(stored["cells"]) == ["a"] and not stored["complete"]


@pytest.mark.parametrize(
  ("about", "changes", "again"),
  [
    ({"step": 2}, {}, 3),
    ({"step": 1}, {"settings": {"radius": 0.25}}, 3),
    ({"step": 1}, {"cells": ("c", "a", "d")}, 1),
    ({"step": 1}, {"notes": {"reference": "other"}}, 0),
  ],
)
def test_what_has_changed_is_measured_anew(tmp_path, about, changes, again):
  log, lines = [], []
  evaluation.run_parts([counting_part(log)], tmp_path, {"step": 1})
  part = counting_part(log, **changes)
  evaluation.run_parts([part], tmp_path, about, tell=lines.append)
  assert len(log) == 3 + again
  table = evaluation.read_table(tmp_path / "numbers.json")
  assert list(table["cells"]) == list(part.cells)
  assert table["notes"] == part.notes
  if again == 3:
    assert "measuring anew" in lines[0]


# --- calibration ---


def test_calibration_equals_numpy_and_fits_no_temperature_on_test_images():
  of = subject()
  part = evaluation.calibration_part(of)
  rows = part.measure("test")["student"]
  assert "temperature" not in rows[0] and part.settings["held_out"] == 0
  for seed, row in enumerate(rows):
    z = logits_of(of, seed, clean_images()).astype(np.float64)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    label = SOURCE.test_labels
    assert row["accuracy"] == pytest.approx(np.mean(z.argmax(-1) == label))
    assert row["nll"] == pytest.approx(-np.log(p[np.arange(21), label]).mean(), rel=1e-5)
    assert row["brier"] == pytest.approx(np.sum((p - np.eye(3)[label]) ** 2, -1).mean(), rel=1e-5)
    gap = abs(p.max(-1).mean() - np.mean(z.argmax(-1) == label))
    assert row["rms"] == pytest.approx(gap, rel=1e-4)  # fewer than 100 images: one bin
    assert "rms_drop_last" not in row
    assert sum(row["bins"]["count"]) == 21


def test_temperature_is_that_of_the_held_out_examples():
  holdout = data.Pool(SOURCE.images[:30], SOURCE.labels[:30])
  of = subject(holdout=holdout, seeds=1)
  (row,) = evaluation.calibration_part(of).measure("test")["student"]
  held_out = logits_of(of, 0, holdout.images / np.float32(255))
  z, label = logits_of(of, 0, clean_images()), SOURCE.test_labels

  def nll(z, label, t):
    return float(jnp.mean(metrics.negative_log_likelihood(jnp.asarray(z) / t, label)))

  t = row["temperature"]
  assert nll(held_out, holdout.labels, t) <= min(
    nll(held_out, holdout.labels, t * k) for k in (0.9, 1.1)
  )
  assert row["scaled_nll"] == pytest.approx(nll(z, label, t), rel=1e-5)
  assert row["scaled_accuracy"] == row["accuracy"]


# --- corruptions ---


def test_corruption_part_has_the_table_and_the_papers_means():
  of = subject(devices=2)
  test_set = evaluation.TestSet(of.test, of.batch_size, of.mesh)
  views = evaluation.generated_views(test_set, KEY)
  names, severities = ("gaussian_noise", "brightness", "contrast", "saturate"), (1, 5)
  reference = {"gaussian_noise": 0.5, "brightness": 0.25}
  part = evaluation.corruption_part(
    of, test_set, views, names=names, severities=severities, settings={}, reference=reference
  )
  cells = {cell: part.measure(cell) for cell in part.cells}
  label = SOURCE.test_labels

  def accuracy(name, severity, seed=1):
    image = corruptions.corrupt(KEY, jnp.asarray(clean_images()), name, severity)
    return np.mean(logits_of(of, seed, image).argmax(-1) == label)

  table = {(n, s): accuracy(n, s) for n in names for s in severities}
  for (name, severity), value in table.items():
    row = cells[f"{name}/{severity}"]["student"][1]
    assert row["accuracy"] == pytest.approx(value)
  summary = part.summarise(cells)["student"]
  standard = [v for (n, _), v in table.items() if n != "saturate"]
  noise = [v for (n, _), v in table.items() if n == "gaussian_noise"]
  quiet = [v for (n, _), v in table.items() if n in ("brightness", "contrast")]
  assert summary["mean_accuracy"][1] == pytest.approx(np.mean(standard))
  assert summary["mean_all"][1] == pytest.approx(np.mean(list(table.values())))
  assert summary["noise"][1] == pytest.approx(np.mean(noise))
  assert summary["without_noise"][1] == pytest.approx(np.mean(quiet))
  bright = [v for (n, _), v in table.items() if n == "brightness"]
  mce = ((1 - np.mean(noise)) / 0.5 + (1 - np.mean(bright)) / 0.25) / 2
  assert summary["mce"][1] == pytest.approx(mce)


def test_corruption_variant_by_size():
  sizes = {32: "cifar", 63: "cifar", 64: "imagenet", 224: "imagenet"}
  assert {s: evaluation.corruption_variant((s, 300, 3)) for s in sizes} == sizes


# --- attacks ---


def test_attacks_count_what_withstands_every_run():
  of = subject(seeds=1, devices=2)
  threats = {"linf 2/255": evaluation.PGD["linf 2/255"], "l2 0.5": evaluation.PGD["l2 0.5"]}
  kwargs = {"restarts": 2}
  part = evaluation.attack_part(of, "pgd", threats, KEY, **kwargs)
  every = evaluation.attack_part(of, "pgd", threats, KEY, every_run=True, **kwargs)
  image, label = jnp.asarray(clean_images()), jnp.asarray(SOURCE.test_labels)
  predict = of.method.predictors(of.states[0])["student"]
  clean = np.asarray(metrics.correct(predict(image), label)) > 0
  for cell, threat in threats.items():
    loss = attacks.cross_entropy_ascent(predict, label)
    runs = []
    for run in range(2):
      found = attacks.pgd(
        loss, image, epsilon=threat.epsilon, step_size=threat.epsilon / 4, num_steps=20,
        norm=threat.norm, rng=jax.random.fold_in(KEY, run), index=jnp.arange(21),
      )  # fmt: skip
      runs.append((np.asarray(metrics.correct(predict(found), label)) > 0) & clean)
    runs = np.stack(runs)
    (row,) = part.measure(cell)["student"]
    (counted,) = every.measure(cell)["student"]
    assert row["accuracy"] == pytest.approx(runs.all(0).mean())
    assert counted["accuracy"] == row["accuracy"]
    assert counted["worst_run"] == pytest.approx(runs.mean(1).min())
  assert runs.all(0).mean() < clean.mean()  # the attack does something


def test_fgsm_is_one_step_from_the_image_itself():
  of = subject(seeds=1)
  part = evaluation.attack_part(of, "fgsm", evaluation.FGSM, KEY, restarts=5)
  image, label = jnp.asarray(clean_images()), jnp.asarray(SOURCE.test_labels)
  predict = of.method.predictors(of.states[0])["student"]
  clean = np.asarray(metrics.correct(predict(image), label)) > 0
  found = attacks.fgsm(attacks.cross_entropy_ascent(predict, label), image, epsilon=8 / 255)
  right = (np.asarray(metrics.correct(predict(found), label)) > 0) & clean
  assert part.measure("linf 8/255")["student"][0]["accuracy"] == pytest.approx(right.mean())


@pytest.mark.parametrize(
  ("norm", "radius", "message"),
  [
    ("l1", "0.5", "norm is 'l1'; it must be linf or l2"),
    ("linf", "eight", "epsilon is 'eight'; it must be a number such as 8/255"),
    ("linf", "8", "epsilon is 8; it is in units of pixels in [0, 1], so write 8/255"),
    ("l2", "-1", "epsilon is -1; it is in units of pixels"),
  ],
)
def test_bad_threats(norm, radius, message):
  with pytest.raises(InputError) as error:
    evaluation.threats_of(norm, [radius])
  assert message in str(error.value)


# --- sequences ---


def test_sequence_part_compares_noise_with_the_first_frame():
  of = subject(seeds=1, batch_size=8)
  test_set = evaluation.TestSet(of.test, of.batch_size, of.mesh)
  names = ("gaussian_noise", "translate")
  part = evaluation.sequence_part(of, test_set, KEY, names=names, reference={"translate": 0.5})
  cells = {cell: part.measure(cell) for cell in part.cells}
  flips = {}
  for name in names:
    frames = np.asarray(corruptions.perturb(KEY, jnp.asarray(clean_images()), name))
    said = np.stack([logits_of(of, 0, f).argmax(-1) for f in np.moveaxis(frames, 1, 0)], 1)
    before = said[:, :1] if name == "gaussian_noise" else said[:, :-1]
    flips[name] = np.mean(said[:, 1:] != before)
    assert cells[name]["student"][0]["flip_probability"] == pytest.approx(flips[name])
  summary = part.summarise(cells)["student"]
  assert summary["mean_flip_probability"] == [pytest.approx(np.mean(list(flips.values())))]
  assert summary["without_noise"] == [pytest.approx(flips["translate"])]
  assert summary["mean_flip_rate"] == [pytest.approx(flips["translate"] / 0.5)]


# --- some of the classes ---


def test_renditions_leave_only_the_classes_that_are_there():
  of = subject(seeds=1)
  keep = np.isin(SOURCE.test_labels, (1, 2))
  pool = data.Pool(SOURCE.test_images[keep], SOURCE.test_labels[keep])
  part = evaluation.rendition_part(of, pool, {})
  (row,) = part.measure("images")["student"]
  z = logits_of(of, 0, clean_images()[keep])
  right = np.where(z[:, 1] >= z[:, 2], 1, 2) == pool.labels
  assert row["accuracy"] == pytest.approx(right.mean())
  assert row["accuracy"] != pytest.approx(np.mean(z.argmax(-1) == pool.labels))
  assert part.settings["classes"] == 2
  with pytest.raises(InputError, match="labels: found 0, which is none of the 2 classes"):
    evaluation.among_classes(z, np.array([0]), np.array([1, 2]))

"""The ensemble of attacks as a part of a suite."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, data, evaluation, methods
from jaxnoise.core import Spec, TrainState
from jaxnoise.training import sharding
from tests.toy import toy_network

KEY = jax.random.key(2)
QUICK = {"num_steps": 3, "num_queries": 6}


def subject(classes, devices=1, count=10):
  source = data.generated(num_train=48, num_test=count, num_classes=classes, size=8)
  network = toy_network(classes)
  mesh = sharding.make_mesh(jax.devices()[:devices])
  params, stats = network.init(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
  state = TrainState.create(jax.random.key(9), params, stats)
  state = jax.device_put(state, sharding.replicated(mesh))
  spec = Spec(num_train=48, num_classes=classes, image_shape=(8, 8, 3))
  image = source.test_images / np.float32(255)
  labels = np.asarray(network.apply(params, stats, jnp.asarray(image)).logits).argmax(-1)
  labels[0] = (labels[0] + 1) % classes  # all but one are right without an attack
  pool = data.Pool(source.test_images, labels.astype(np.int32))
  return evaluation.Subject(methods.erm(network, spec=spec), [state], mesh, pool, None, 8)


def stand_in(calls):
  """Each attack of this ensemble beats one image more."""

  def ensemble(predict, *, attacks, **settings):
    def run(params, image, label, rng, epsilon):
      right = np.asarray(predict(params, image / np.float32(255))).argmax(-1) == label
      calls.append((epsilon, len(image), settings))
      order = np.cumsum(right) * right
      stages = enumerate(("clean", *attacks))
      return {name: right & (order > k) for k, name in stages}

    return run

  return ensemble


def test_stages_fall_and_the_last_is_the_robust_accuracy(monkeypatch):
  calls = []
  monkeypatch.setattr(attacks, "ensemble", stand_in(calls))
  radii = {"linf 8/255": 8 / 255, "linf 0.5": 0.5}
  part = evaluation.ensemble_part(subject(3), radii, KEY, **QUICK)
  assert part.settings["attacks"] == ["apgd-ce", "fab-t", "square"]
  assert part.notes["left_out"] == ["apgd-t needs 4 classes or more, the network has 3"]
  assert part.settings["num_queries"] == 6 and part.settings["num_targets"] == 2
  cells = {cell: part.measure(cell) for cell in part.cells}
  assert [call[:2] for call in calls] == [(8 / 255, 10), (0.5, 10)]
  assert calls[0][2].items() >= {**QUICK, "batch_size": 8}.items()
  (row,) = cells["linf 8/255"]["student"]
  stages = {"clean": 0.9, "apgd-ce": 0.8, "fab-t": 0.7, "square": 0.6, "accuracy": 0.6}
  assert row == pytest.approx(stages) and list(row) == list(stages)
  summary = part.summarise(cells)["student"]
  assert summary["clean"] == [0.9] and summary["linf 8/255"] == summary["linf 0.5"] == [0.6]
  assert summary["linf 8/255/apgd-ce"] == [0.8]


def test_four_classes_meet_all_four_attacks():
  part = evaluation.ensemble_part(subject(4), {"linf 8/255": 8 / 255}, KEY)
  assert tuple(part.settings["attacks"]) == attacks.STANDARD and part.notes == {"left_out": []}
  assert part.settings["num_steps"] == 100 and part.settings["num_queries"] == 5000


@pytest.mark.slow
def test_devices_share_a_batch_and_find_the_same():
  rows = []
  for devices in (1, 4):
    part = evaluation.ensemble_part(subject(4, devices), {"r": 0.02}, KEY, **QUICK)
    rows += part.measure("r")["student"]
  assert rows[0] == pytest.approx(rows[1])
  assert rows[0]["clean"] == 0.9 and rows[0]["accuracy"] < 0.9
  assert all(after <= before for before, after in itertools.pairwise(rows[0].values()))

"""Balanced sampling in a run: every class equally often, and the same after a break."""

import dataclasses

import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.training import build, loop, seeds
from tests.training.common import assert_same, tiny_run, told
from tests.training.test_loop import visit_counter

COUNTS = (33, 12, 3)
BALANCED = {"data": {"sampling": "balanced"}, "total": "2 epochs"}


def uneven(counts=COUNTS):
  """48 examples, some classes rarer than others, in no order."""
  source = data.generated(num_train=48, num_test=24, num_classes=3, size=8)
  label = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
  return dataclasses.replace(source, labels=label.astype(np.int32))


def visits(state, source):
  """How often each example of each class was visited."""
  count = np.asarray(state.method_state["visits"])
  return [count[source.labels == k] for k in range(3)]


def test_every_class_is_visited_equally_often(tmp_path):
  source = uneven()
  run = tiny_run(visit_counter, source=source, **BALANCED)
  assert run.spec.steps_per_epoch == 3
  state = loop.train(run, tmp_path / "run", quiet=True).state
  per_class = visits(state, source)
  assert [int(v.sum()) for v in per_class] == [32, 32, 32]
  # 16 visits an epoch: without replacement while a class lasts, and then as evenly as can be.
  assert per_class[0].max() <= 2 and set(per_class[1]) <= {2, 3, 4}
  assert set(per_class[2]) <= {10, 11, 12}
  assert np.sum(per_class[0] > 0) > 16, "the second epoch draws afresh"


def test_a_break_within_an_epoch_changes_nothing(tmp_path):
  run = tiny_run(visit_counter, source=uneven(), **BALANCED)
  whole = loop.train(run, tmp_path / "whole", quiet=True)
  done = []
  part = loop.train(
    run, tmp_path / "run", quiet=True, on_step=done.append, stop=lambda: len(done) == 4
  )
  assert (part.step, part.finished) == (4, False)
  rest = loop.train(run, tmp_path / "run", quiet=True, on_step=done.append)
  assert done == [1, 2, 3, 4, 5, 6]
  assert_same(rest.state, whole.state)
  assert rest.metrics == whole.metrics
  measured = lambda rows: [r for r in rows if "test/student/accuracy" in r]
  assert measured(told(tmp_path / "run")) == measured(told(tmp_path / "whole"))


def orders(source, **changes):
  """Those of epoch 1: [48], or [S, 48]."""
  run = tiny_run(source=source, **BALANCED, **changes)
  programs, seed, count = loop.Programs(run), run.config["seed"], run.config["seeds"]
  epochs = np.ones((count, 1) if count > 1 else 1, int)
  labels = {"labels": np.asarray(source.labels)}
  return np.asarray(programs.orders(seeds.root_keys(seed, count), labels, epochs)["train"])


def test_every_seed_has_an_order_of_its_own():
  source = uneven()
  first, second = orders(source, seed=5, seeds=2)
  np.testing.assert_array_equal(second, orders(source, seed=6))
  assert np.any(first != second)
  assert np.bincount(source.labels[first]).tolist() == [16, 16, 16]


def test_classes_are_those_that_training_sees():
  """Of noisy labels: a class without any is left out."""
  source = uneven().with_labels(np.arange(48) % 2)
  assert np.bincount(source.labels[orders(source)]).tolist() == [24, 24]


def test_with_equal_classes_every_example_is_visited_once():
  assert sorted(orders(uneven((16, 16, 16)))) == list(range(48))


def test_a_misspelt_choice_is_named():
  with pytest.raises(InputError, match=r"config\.data\.sampling is 'balance': did you mean 'bala"):
    build.assemble({"data": {"name": "generated", "sampling": "balance"}})

"""Several optimizer steps in one call: the same numbers, and nothing between them is missed."""

import itertools

import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import InputError
from jaxnoise.training import loop
from jaxnoise.training import step as step_lib
from tests.training.common import assert_same, tiny_run, tiny_source, told


def trained(workdir, together, *, stop_at=None, **changes):
  """A run of two epochs of 8 steps; returns its result and the step after each call."""
  run = tiny_run(
    methods.erm, source=tiny_source(128), total="2 epochs", steps_per_call=together,
    wrappers=("multiplicative_reweighting",), **changes,
  )  # fmt: skip
  calls = []
  stop = None if stop_at is None else lambda: bool(calls) and calls[-1] >= stop_at
  result = loop.train(run, workdir, quiet=True, on_step=calls.append, stop=stop)
  return result, calls


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("one")
  result, calls = trained(workdir, 1)
  assert calls == list(range(1, 17))
  return result, workdir


def test_the_numbers_are_those_of_single_steps(one_by_one, tmp_path):
  result, calls = trained(tmp_path, 4)
  assert calls == [4, 8, 12, 16]
  expected, workdir = one_by_one
  assert_same(result.state.params, expected.state.params, rtol=1e-5, atol=1e-6)
  assert_same(result.state.method_state, expected.state.method_state, rtol=1e-5, atol=1e-6)
  for row, other in itertools.zip_longest(told(tmp_path), told(workdir)):
    assert row.keys() == other.keys()
    for name in row:
      np.testing.assert_allclose(row[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    # A row at step 6 falls into the second call of the first epoch, one at 12 on a call's end.
    ({"log": {"every": "6 steps"}}, [4, 5, 6, 7, 8, 12, 16]),
    pytest.param(
      {"checkpoint": {"every": "5 steps"}}, [4, *range(5, 17)], marks=pytest.mark.slow
    ),
    pytest.param({"total": "13 steps"}, [4, 8, 12, 13], marks=pytest.mark.slow),
  ],
)
def test_calls_end_where_something_is_due(tmp_path, changes, expected):
  changes = {"evaluate": {"every": "1 epoch", "batch_size": 16}, **changes}
  run = tiny_run(
    methods.erm, source=tiny_source(128), steps_per_call=4, **{"total": "2 epochs", **changes}
  )
  calls = []
  loop.train(run, tmp_path, quiet=True, on_step=calls.append)
  assert calls == expected


def test_a_stopped_run_makes_the_same_calls_when_it_goes_on(tmp_path):
  undisturbed, _ = trained(tmp_path / "whole", 4)
  stopped, calls = trained(tmp_path / "run", 4, stop_at=12)
  assert calls == [4, 8, 12] and stopped.step == 12
  resumed, calls = trained(tmp_path / "run", 4)
  assert calls == [16]
  assert_same(resumed.state.params, undisturbed.state.params)
  assert told(tmp_path / "run")[-1] == told(tmp_path / "whole")[-1]


def test_no_steps_in_a_call_are_refused():
  with pytest.raises(InputError, match=r"config\.steps_per_call is 0"):
    tiny_run(methods.erm, steps_per_call=0)
  with pytest.raises(InputError, match=r"steps_per_call is 3, but config\.log\.every is 2 steps"):
    tiny_run(methods.erm, steps_per_call=3, log={"every": "2 steps"})
  rare = {name: {"every": "9 steps"} for name in ("log", "evaluate", "checkpoint")}
  with pytest.raises(InputError, match="steps_per_call is 4, but an epoch has 3 steps"):
    tiny_run(methods.erm, steps_per_call=4, **rare)
  with pytest.raises(InputError, match="steps_per_call is 4, but an epoch has 3 steps on full"):
    tiny_run(
      methods.erm, steps_per_call=4, source=tiny_source(56), data={"remainder": "keep"}, **rare
    )


def test_the_initial_state_is_traced_once(monkeypatch):
  traced, made = [], step_lib.init_state
  monkeypatch.setattr(step_lib, "init_state", lambda *a, **k: (traced.append(1), made(*a, **k))[1])
  programs = loop.Programs(tiny_run(methods.erm))
  programs.init_shapes()
  programs.init()
  assert len(traced) == 1
  assert programs.steps is programs.step, "one step in a call is the step itself"

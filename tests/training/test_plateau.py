"""The plateau schedule in a whole run: it reduces, the logged rate has it, and it resumes."""

import numpy as np
import pytest

from jaxnoise.training import loop, optim
from tests.training.common import assert_same, tiny_run, told

# A rate so small that no epoch beats the first by a part in ten.
OPTIM = {
  "name": "sgd", "lr": 1e-3, "schedule": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.1,
}  # fmt: skip


def run():
  return tiny_run(total="5 epochs", optim=OPTIM, log={"every": "1 steps"})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  directory = tmp_path_factory.mktemp("plateau")
  return loop.train(run(), directory, quiet=True), directory


def test_the_logged_rate_is_the_one_that_was_used(undisturbed):
  result, directory = undisturbed
  rates = [row["train/student/lr"] for row in told(directory) if "train/student/lr" in row]
  # The first epoch sets the mark; each of the others misses it and halves the rate after it.
  wanted = 1e-3 * np.repeat([1, 1, 0.5, 0.25, 0.125], 3)
  assert rates == pytest.approx(wanted.tolist())
  assert float(optim.scale_of(result.state.opt_state)) == 0.125


def test_a_resumed_run_is_the_undisturbed_one(undisturbed, tmp_path):
  done = []
  stop = lambda: len(done) == 7  # within the third epoch
  first = loop.train(run(), tmp_path, quiet=True, on_step=done.append, stop=stop)
  assert first.step == 7
  second = loop.train(run(), tmp_path, quiet=True)
  assert_same(second.state, undisturbed[0].state)
  assert told(tmp_path) == told(undisturbed[1])

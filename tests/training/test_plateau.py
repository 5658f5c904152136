"""The plateau schedule in a whole run: it reduces, the logged rate has it, and it resumes."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.training import loop, optim
from tests.training.common import assert_same, tiny_run, told
from tests.training.test_optim import TorchPlateau

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


def test_free_adversarial_training_follows_pytorch_s_rule(tmp_path):
  """MR's own optimizer section: the epoch's mean is over all replays, of the perturbed loss."""
  file = Path(__file__).parents[2] / "configs" / "mr_adversarial.py"
  config = runpy.run_path(str(file))["get_config"]("method=adv").optim.to_dict()
  own = {"schedule": "plateau", "factor": 0.9, "patience": 3, "threshold": 1e-4, "min_scale": 0.0}
  assert config | own == config
  config["lr"] = 2.0  # at which the loss goes up and down
  replays, batches, epochs = 2, 3, 16
  made = tiny_run(
    functools.partial(methods.free_at, replays=replays), total=f"{epochs} epochs", optim=config,
    log={"every": "1 steps"}, evaluate={"every": f"{epochs} epochs", "memorisation": False},
    checkpoint={"every": f"{epochs} epochs"},
  )  # fmt: skip
  loop.train(made, tmp_path, quiet=True)
  rows = [row for row in told(tmp_path) if "train/student/lr" in row]
  losses = np.array([row["train/student/loss"] for row in rows]).reshape(epochs, -1)
  rates = np.array([row["train/student/lr"] for row in rows]).reshape(epochs, -1)
  assert losses.shape == (epochs, replays * batches)
  theirs, expected = TorchPlateau(0.9, 3, 1e-4, 0.0), []
  for epoch in losses:
    expected.append(config["lr"] * theirs.scale)
    theirs.step(float(np.mean(epoch)))
  assert len(set(expected)) >= 2, expected
  np.testing.assert_allclose(rates, np.repeat(np.array(expected)[:, None], 6, 1), rtol=1e-6)

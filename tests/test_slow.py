"""What takes longer: `make test-slow`."""

import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxnoise import data, main
from jaxnoise.training import build, loop, sharding
from tests.training.common import assert_same
from tests.training.test_loop import ROOT, in_process, restored

pytestmark = pytest.mark.slow


def test_noisymix_learns_digits(tmp_path):
  arguments = ["--config=configs/noisymix_digits.py", "--config.total=15 epochs"]
  config = main.parse(["main", *arguments])[0]["config"]
  run = build.assemble(config, mesh=sharding.make_mesh(jax.devices()[:1]))
  result = loop.train(run, tmp_path / "run", quiet=True)
  assert result.metrics["test/student/accuracy"] > 0.9


def one_step(devices):
  config = main.parse(["main", "--config=configs/noisymix_digits.py"])[0]["config"]
  run = build.assemble(config, mesh=sharding.make_mesh(jax.devices()[:devices]))
  programs = loop.Programs(run)
  state = programs.init()
  arrays = data.device_data(run.source, sharding.replicated(run.mesh))
  orders = programs.epoch_orders(state, arrays, 0)
  totals = programs.zero_totals(state, arrays, orders)
  state, totals = programs.step(state, arrays, orders, totals)
  return jax.device_get((state.params, state.batch_stats, totals))


def test_the_whole_recipe_agrees_on_1_and_on_8_devices():
  (params, stats, totals), (params8, stats8, totals8) = one_step(1), one_step(8)
  assert_same(params, params8, rtol=1e-6, atol=1e-6)
  assert_same(stats, stats8, rtol=1e-6, atol=1e-6)
  for name in totals:
    np.testing.assert_allclose(totals[name][0], totals8[name][0], rtol=1e-5)


def test_killed_at_random_moments_until_it_ends_bitwise_equal(tmp_path):
  undisturbed = tmp_path / "undisturbed"
  cache = tmp_path / "cache"
  assert "finished 12" in in_process(undisturbed / "run", cache).stdout
  started = time.monotonic()  # again, with the compilation cache: how long a whole run takes
  assert "finished 12" in in_process(tmp_path / "timed", cache).stdout
  whole = time.monotonic() - started
  rng = random.Random(0)
  command = [sys.executable, "-m", "tests.training.worker", str(tmp_path / "run")]
  environment = {**os.environ, "CACHE": str(cache), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  kills = 0
  for _ in range(6):
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    time.sleep(rng.uniform(0.3, 0.9) * whole)
    process.send_signal(signal.SIGKILL)
    kills += process.wait() == -signal.SIGKILL
  assert kills
  assert "finished 12" in in_process(tmp_path / "run", cache).stdout
  assert_same(restored(tmp_path / "run"), restored(undisturbed / "run"))

"""The loop: resume, stop, refuse, and the same numbers on any number of devices."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, methods
from jaxnoise.core import InputError
from jaxnoise.training import checkpoint, loop, writers
from tests.training.common import assert_same, compilations, tiny_run, tiny_source, told
from tests.training.test_contracts import loss_collector, noisy_mix_factory

ROOT = Path(__file__).parents[2]


def in_process(workdir, cache, *arguments):
  environment = {**os.environ, "CACHE": str(cache), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    [sys.executable, "-m", "tests.training.worker", str(workdir), *map(str, arguments)],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def restored(workdir):
  run = tiny_run(noisy_mix_factory, total="4 epochs")
  saver = checkpoint.Checkpointer(workdir / "checkpoints")
  state = saver.restore(loop.Programs(run).init())
  saver.close()
  return state


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  done = in_process(folder / "run", folder / "cache")
  assert done.returncode == 0 and "finished 12" in done.stdout, done.stderr
  return folder


@pytest.mark.parametrize(
  "step", [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(8, marks=pytest.mark.slow)]
)
def test_after_kill_9_the_same_command_ends_bitwise_equal(undisturbed, tmp_path, step):
  killed = in_process(tmp_path / "run", undisturbed / "cache", step, "SIGKILL")
  assert killed.returncode == -9, killed.stderr
  resumed = in_process(tmp_path / "run", undisturbed / "cache")
  assert resumed.returncode == 0 and "finished 12" in resumed.stdout, resumed.stderr
  assert_same(restored(tmp_path / "run"), restored(undisturbed / "run"))
  rows, expected = told(tmp_path / "run"), told(undisturbed / "run")
  assert [r["step"] for r in rows] == [r["step"] for r in expected]
  assert rows == expected


def test_sigterm_saves_the_step_and_exits_0(undisturbed, tmp_path):
  stopped = in_process(tmp_path / "run", undisturbed / "cache", 5, "SIGTERM")
  assert stopped.returncode == 0 and "stopped 5" in stopped.stdout, stopped.stderr
  assert (tmp_path / "run" / "checkpoints" / "5").is_dir()
  resumed = in_process(tmp_path / "run", undisturbed / "cache")
  assert "finished 12" in resumed.stdout, resumed.stderr
  assert_same(restored(tmp_path / "run"), restored(undisturbed / "run"))


def ready(devices, factory):
  run = tiny_run(factory, devices=devices)
  programs = loop.Programs(run)
  state = programs.init()
  arrays = data.device_data(run.source, jax.sharding.NamedSharding(run.mesh, jax.P()))
  orders = programs.epoch_orders(state, arrays, 0)
  return programs, state, arrays, orders, programs.zero_totals(state, arrays, orders)


def first_step(devices, factory):
  programs, state, arrays, orders, totals = ready(devices, factory)
  state, totals = programs.step(state, arrays, orders, totals)
  return jax.device_get((state.params, state.batch_stats, totals))


@pytest.mark.parametrize("factory", [methods.erm, noisy_mix_factory, methods.free_at])
def test_one_step_on_1_and_on_8_devices_agrees(factory):
  assert_same(first_step(1, factory), first_step(8, factory), rtol=1e-6, atol=1e-6)


def flops_per_device(devices, factory):
  programs, state, arrays, orders, totals = ready(devices, factory)
  compiled = programs.step.lower(state, arrays, orders, totals).compile()
  return compiled.cost_analysis()["flops"]


@pytest.mark.parametrize("factory", [methods.erm, noisy_mix_factory])
def test_batches_are_split_over_the_devices(factory):
  # The toy network is so small that what is not split (order, optimizer, sums) shows as well.
  assert flops_per_device(8, factory) < 0.3 * flops_per_device(1, factory)


def diverging(network, *, spec):
  inner = methods.erm(network, spec=spec)

  def loss_fn(state):
    fn = inner.loss_fn(state)

    def broken(params, batch, rng):
      loss, aux = fn(params, batch, rng)
      bad = jnp.where(state.step >= 7, jnp.nan, 1.0)
      metrics = {k: (s * bad, c) for k, (s, c) in aux.metrics.items()}
      return loss * bad, aux._replace(metrics=metrics)

    return broken

  return dataclasses.replace(inner, loss_fn=loss_fn)


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
  run = tiny_run(diverging, checkpoint={"every": "2 steps"})
  with pytest.raises(loop.NonFiniteError, match=r"not finite at or before step 8; step 6 is kept"):
    loop.train(run, tmp_path / "run", quiet=True)
  assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["6"]


# On one device all that comes later is compiled before the first step. On several the checkpoint
# library compiles the copies it writes at its first save, so that has to fall into the first epoch.
RARE = {"evaluate": {"every": "2 epochs"}, "checkpoint": {"every": "2 epochs"}}


@pytest.mark.parametrize(("devices", "changes"), [(1, RARE), (8, {})], ids=["one", "eight"])
def test_nothing_compiles_after_the_first_epoch(tmp_path, devices, changes):
  remainder = {"data": {"remainder": "keep"}, "total": "6 epochs"}
  run = tiny_run(loss_collector, source=tiny_source(40), devices=devices, **changes, **remainder)
  assert run.spec.steps_per_epoch == 3
  with compilations() as counts:
    loop.train(run, tmp_path / "run", quiet=True, on_step=counts.note)
  assert counts[3] > 0
  assert counts[18] == counts[3], "a compilation after the first epoch"


def visit_counter(network, *, spec):
  """ERM that counts how often the loss was given each training example."""
  inner = methods.erm(network, spec=spec)

  def loss_fn(state):
    def fn(params, batch, rng):
      loss, aux = inner.loss_fn(state)(params, batch, rng)
      return loss, aux._replace(extra=batch["index"])

    return fn

  def count(state, batch, aux, rng):
    del batch, rng
    visits = state.method_state["visits"]
    return state.with_method_state("visits", visits.at[aux.extra].add(1))

  return dataclasses.replace(
    inner,
    loss_fn=loss_fn,
    post_step=count,
    init_state=lambda state: state.with_method_state("visits", jnp.zeros(spec.num_train, int)),
  )


def test_the_kept_remainder_is_trained_on(tmp_path):
  seen = []
  kept = {"source": tiny_source(40), "data": {"remainder": "keep"}, "total": "1 epoch"}
  run = tiny_run(visit_counter, **kept)
  result = loop.train(run, tmp_path / "run", quiet=True, on_step=seen.append)
  assert seen == [1, 2, 3]
  np.testing.assert_array_equal(result.state.method_state["visits"], np.ones(40))
  with pytest.raises(InputError, match=r"last partial batch .* is 4 examples, which 8 devices"):
    tiny_run(source=tiny_source(20), data={"remainder": "keep"}, devices=8)


def test_holdout_keeps_the_best_and_the_latest(tmp_path):
  run = tiny_run(
    total="6 epochs", data={"holdout": 16}, batch_size=16, checkpoint={"every": "1 epoch"},
    optim={"lr": 0.02},
  )  # fmt: skip
  loop.train(run, tmp_path / "run", quiet=True)
  rows = list(writers.read_rows(tmp_path / "run" / "metrics.jsonl"))
  name = "holdout/student/accuracy"
  score = {r["step"]: r[name] for r in rows if name in r}
  kept = {int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir()}
  last = max(score)
  assert last in kept and len(kept) <= 2
  assert max(score[step] for step in kept) == max(score.values())


def test_a_finished_run_is_not_trained_again(tmp_path):
  run = tiny_run()
  first = loop.train(run, tmp_path / "run", quiet=True)
  steps = []
  again = loop.train(run, tmp_path / "run", quiet=True, on_step=steps.append)
  assert not steps and again.finished
  assert_same(again.state, first.state)


def test_rows_tell_the_time_of_earlier_parts_too(tmp_path):
  run, done, times = tiny_run(log={"every": "1 steps"}, total="4 steps"), [], []
  for last in (2, 4):
    stop = lambda last=last: len(done) == last
    loop.train(run, tmp_path / "run", quiet=True, on_step=done.append, stop=stop)
    rows = [r for r in writers.read_rows(tmp_path / "run" / "metrics.jsonl") if "epoch" in r]
    rows = [row for row in rows if "train/student/loss" in row]
    times = [row["train/host/wall_seconds"] for row in rows]
    assert all(row["train/host/images_per_second"] > 0 for row in rows)
  assert len(times) == 4 and times == sorted(times)
  assert times[2] > times[1] > 0, "the clock of a resumed run goes on"


def test_rates_are_those_between_rows_whatever_falls_between_them(tmp_path, monkeypatch):
  """By a clock that goes on by a second a step, and by an hour for what is no training."""
  now = [0.0]
  monkeypatch.setattr(writers.time, "monotonic", lambda: now[0])
  measured = loop._Loop._measure_all

  def slowly(*args):
    now[0] += 3600
    return measured(*args)

  monkeypatch.setattr(loop._Loop, "_measure_all", slowly)
  run = tiny_run(
    source=tiny_source(192), total="1 epoch", log={"every": "2 steps"},
    evaluate={"every": "4 steps"}, checkpoint={"every": "4 steps"},
  )  # fmt: skip

  def second(step):
    now[0] += 1

  loop.train(run, tmp_path / "run", quiet=True, on_step=second)
  rows = [row for row in told(tmp_path / "run", host=True) if "train/student/loss" in row]
  assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
  # The step that compiles is left out of the first row, with the second it takes.
  rates = [row["train/host/images_per_second"] for row in rows]
  assert rates == [16, 16, 16, 16, 16, 16]


def test_workdir_of_another_run_is_refused(tmp_path):
  loop.train(tiny_run(total="1 epoch"), tmp_path / "run", quiet=True)
  with pytest.raises(InputError, match=r"another run: its config\.optim\.lr is 0\.1, not 0\.2"):
    loop.train(tiny_run(total="1 epoch", optim={"lr": 0.2}), tmp_path / "run", quiet=True)
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "notes.txt").write_text("mine")
  with pytest.raises(InputError, match="exists and is no run of jaxnoise"):
    loop.train(tiny_run(), tmp_path / "other", quiet=True)
  assert sorted(p.name for p in (tmp_path / "other").iterdir()) == ["notes.txt"]


def test_checkpoint_of_another_model_is_refused(tmp_path):
  loop.train(tiny_run(total="1 epoch"), tmp_path / "run", quiet=True)
  other = tiny_run(noisy_mix_factory, total="1 epoch")
  saver = checkpoint.Checkpointer(tmp_path / "run" / "checkpoints")
  with pytest.raises(InputError, match="has nothing at model/ema_batch_stats/mean"):
    saver.restore(loop.Programs(other).init())
  saver.close()


def test_metrics_file_is_truncated_to_the_resumed_step_and_tolerates_a_torn_line(tmp_path):
  path = tmp_path / "metrics.jsonl"
  writer = writers.MetricsWriter(path, 0)
  for step in (2, 4, 6):
    writer.write(step, step / 2, {"train/student/loss": 1.0})
  writer.close()
  with path.open("a") as file:
    file.write('{"step": 8, "epo')
  writers.MetricsWriter(path, 4).close()
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines[0] == {"format_version": writers.FORMAT_VERSION}
  assert [line["step"] for line in lines[1:]] == [2, 4]


def test_a_newer_format_is_met_with_a_word(tmp_path):
  path = tmp_path / "config.json"
  path.write_text('{"format_version": 99}')
  with pytest.raises(InputError, match="format version 99; this jaxnoise reads up to"):
    writers.read_json(path)

"""Runs with multiplicative reweighting: resumed, on other devices, and never on other data."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxnoise import data, evaluation, methods
from jaxnoise.core import InputError
from jaxnoise.training import checkpoint, loop, restore, rundir
from jaxnoise.training.programs import Programs
from tests.toy import toy_network
from tests.training.common import assert_same, tiny_run, tiny_source

NAME = "multiplicative_reweighting"


def reweighted(network, *, spec, first=None):
  """With a step size at which one pass makes some weights several times as large as others."""
  del first
  inner = methods.erm(network, spec=spec)
  method = methods.multiplicative_reweighting(
    inner, network, spec=spec, eta=2.0, milestones=(1,), factor=1.5, updates_per_epoch=2
  )
  return methods.with_ema(method, decay=0.5)


def loss_sum(state):
  return np.asarray(state.method_state[NAME]["loss_sum"])


def short_run(devices=1):
  """Two epochs of two steps, each with a pass after it, whose last batch is padded."""
  source = tiny_source(44)
  return tiny_run(
    reweighted, devices=devices, source=source, total="2 epochs", evaluate={"every": "2 epochs"}
  )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """The run, what it is compiled to, and its end."""
  run = short_run()
  programs, measure = loop.Programs(run), evaluation.make_measure(run.method, run.mesh)
  assert run.spec.steps_per_epoch == 2 and programs.pass_steps == {1, 2}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "Programs", lambda run: programs)
    patch.setattr(evaluation, "make_measure", lambda method, mesh: measure)
    state = loop.train(run, tmp_path_factory.mktemp("whole") / "run", quiet=True).state
    yield run, state


def test_a_resumed_run_is_bitwise_the_undisturbed_one(undisturbed, tmp_path):
  """Stopped within an epoch, right after the pass that falls there."""
  run, state = undisturbed
  done = []
  stop = lambda: len(done) == 3
  part = loop.train(run, tmp_path / "run", quiet=True, on_step=done.append, stop=stop)
  half = loss_sum(part.state)
  rest = loop.train(run, tmp_path / "run", quiet=True, on_step=done.append)
  assert done == [1, 2, 3, 4] and rest.finished and not part.finished
  assert_same(rest.state, state)
  w = np.exp(-2 * (half - half.min()))
  assert w.min() < 0.5 and np.all(half > 0) and np.all(half < loss_sum(rest.state))


def test_1_and_8_devices_agree(undisturbed):
  kept = lambda s: jax.device_get((s.params, s.ema_params, s.batch_stats, s.method_state))
  run = short_run(devices=8)
  programs = Programs(run)
  state, totals = programs.init(), None
  arrays = data.device_data(run.source, jax.sharding.NamedSharding(run.mesh, jax.P()))
  for step in range(4):
    if step % 2 == 0:
      orders = programs.epoch_orders(state, arrays, step // 2)
    totals = programs.zero_totals(state, arrays, orders) if totals is None else totals
    state, totals = programs.step(state, arrays, orders, totals)
    state = programs.example_pass(state, arrays)
  assert run.mesh.size == 8
  assert_same(kept(state), kept(undisturbed[1]), rtol=1e-6, atol=1e-6)


def test_weights_of_other_data_are_refused(tmp_path):
  """Of other labels, of another order of the same examples, of another number of them."""
  run, folder = tiny_run(reweighted), tmp_path / "run"
  record = rundir.claim(run, folder)
  saver = checkpoint.Checkpointer(folder / "checkpoints")
  saver.save(Programs(run).init(), 1, record)
  saver.wait()
  source = tiny_source()
  fewer, rolled = tiny_source(36), lambda x: np.roll(x, 1, axis=0)
  others = [
    source.with_labels((np.asarray(source.labels) + 1) % 3),
    dataclasses.replace(source, images=rolled(source.images), labels=rolled(source.labels)),
    fewer,
  ]
  given = {"network": toy_network(), "method": reweighted}
  for other in others:
    with pytest.raises(InputError, match=r"holds another run: its data_crc32 is \d+, not \d+; "):
      loop.train(tiny_run(reweighted, source=other), folder, quiet=True)
    with pytest.raises(InputError, match="was trained on other data than what was found now: its"):
      restore.open_run(folder, source=other, **given)
  # A checkpoint that is read without its run's record still tells by the table's length.
  like = Programs(tiny_run(reweighted, source=fewer)).init_shapes()
  table = f"train/method_state/{NAME}/loss_sum"
  with pytest.raises(InputError, match=rf"shape \(48,\) at {table} where .* shape \(36,\)"):
    saver.restore(like)
  saver.close()

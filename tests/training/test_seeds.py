"""Several seeds are what the seeds are alone, in whichever form one program runs them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxnoise import methods
from jaxnoise.core import InputError
from jaxnoise.training import build, loop, restore, seeds, sharding, step
from tests.toy import toy_network
from tests.training.common import assert_same, tiny_run, tiny_source

SEEDS = 3
FORMS = (*seeds.FORMS, "sharded")
# Every seed has labels of its own; the reweighting has a table, a pass and a step after the update.
NOISE = {"noise": {"kind": "symmetric", "rate": 0.4}}
CASES = {"erm": (), "reweighted": ("multiplicative_reweighting",)}


def assembled(case, form, **changes):
  """Seeds on one device, or on three groups of two devices."""
  # A rate that moves is float32 in any case, and rounded as each program is compiled.
  constant = {"schedule": "constant"}
  run = tiny_run(seed=5, wrappers=CASES[case], data=NOISE, optim=constant, **changes)
  if form != "sharded":
    return run
  return dataclasses.replace(run, mesh=sharding.make_mesh(jax.devices()[:6], seeds=SEEDS))


def trained(programs, state, arrays, steps, orders, totals):
  """The state after some steps of an epoch, the pass at its end, and the sums of its metrics."""
  for t in range(1, steps + 1):
    state, totals = programs.step(state, arrays, orders, totals)
    if t in programs.pass_steps:
      state = programs.example_pass(state, arrays)
  return state, totals


def started(programs, arrays):
  """A first state, an epoch's orders, and zeros to add metrics to."""
  state = programs.init()
  orders = programs.epoch_orders(state, arrays, 0)
  zeros = programs.zero_totals(state, arrays, orders)
  return state, orders, jax.tree.map(np.asarray, zeros)


def row(tree, s):
  return jax.tree.map(lambda x: x[s], tree)


def compare(case, steps, forms=FORMS, **tolerance):
  """Every form against each seed by itself, in one program, all from the same first states."""
  several = assembled(case, "mapped", seeds=SEEDS)
  arrays = several.host_data()
  assert arrays["labels"].shape == (SEEDS, 48)
  first, orders, zeros = started(loop.Programs(several), arrays)
  orders = jax.tree.map(np.asarray, orders)
  single = loop.Programs(assembled(case, "mapped", seeds=1))
  alone = [
    trained(
      single, step.init_state(single.run.network, single.run.method, single.run.optimizer,
      single.run.spec, jax.random.key(5 + s)),
      {**arrays, "labels": arrays["labels"][s]}, steps, row(orders, s), row(zeros, s),
    )
    for s in range(SEEDS)
  ]  # fmt: skip
  assert np.ptp([float(totals["loss"][0]) for _, totals in alone]) > 1e-3, "seeds are all one"
  for form in forms:
    run = assembled(case, form, seeds=SEEDS)
    programs = loop.Programs(run, form=None if form == "sharded" else form)
    state = jax.tree.map(jnp.copy, first)
    if form == "sharded":
      lies = sharding.of_seeds(run.mesh)
      rows = jax.device_put(state.replace(step=None), lies)
      state = rows.replace(step=jax.device_put(state.step, sharding.replicated(run.mesh)))
    state, totals = trained(programs, state, arrays, steps, orders, zeros)
    for s, (expected, expected_totals) in enumerate(alone):
      assert_same(seeds.take(state, s), expected, **tolerance)
      assert_same(row(totals, s), expected_totals, **tolerance)
    spec = state.params["w1"].sharding.spec
    assert spec == (PartitionSpec("seed") if form == "sharded" else PartitionSpec())


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_every_form_is_that_of_single_runs(case):
  compare(case, 1, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_five_steps_of_every_form_are_those_of_single_runs_in_float64(case):
  with jax.enable_x64(True):
    compare(case, 5, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_seeds_over_devices_train_resume_and_open_as_on_one(tmp_path):
  """Evaluated, stopped, saved, gone on with; what a group of devices holds is one seed of three."""
  changes = {"seeds": SEEDS, "total": "4 steps"}
  seen, parts = [], ("reweighted", "sharded")
  stopped = loop.train(
    assembled(*parts, **changes), tmp_path / "run", quiet=True, on_step=seen.append,
    stop=lambda: len(seen) == 2,
  )  # fmt: skip
  shards = stopped.state.params["w1"].addressable_shards
  assert not stopped.finished and [shard.data.shape[0] for shard in shards] == [1] * 6
  result = loop.train(assembled(*parts, **changes), tmp_path / "run", quiet=True)
  one = loop.train(assembled("reweighted", "mapped", **changes), tmp_path / "one", quiet=True)
  assert_same(one.state, result.state, rtol=1e-4, atol=1e-5)
  assert one.metrics.keys() == result.metrics.keys()
  for name, values in one.metrics.items():
    np.testing.assert_allclose(result.metrics[name], values, rtol=1e-4, atol=1e-5)
  given = {"source": tiny_source(), "network": toy_network(), "method": methods.erm}
  opened = restore.open_run(tmp_path / "run", seed=6, **given)
  assert_same(opened.state, seeds.take(result.state, 1))


@pytest.mark.parametrize(
  ("count", "devices", "shape"), [(4, 8, (4, 2)), (3, 8, (1, 8)), (6, 4, (2, 2)), (5, 1, (1, 1))]
)
def test_as_many_groups_of_devices_have_seeds_of_their_own_as_both_allow(count, devices, shape):
  mesh = sharding.make_mesh(jax.devices()[:devices], seeds=count)
  assert mesh.devices.shape == shape
  assert sharding.one_group(mesh).devices.shape == (1, devices)
  assert sharding.one_group(mesh).devices.flatten().tolist() == mesh.devices.flatten().tolist()


def test_a_run_spreads_its_seeds_and_its_batch_over_the_devices_there_are():
  given = {"source": tiny_source(), "network": toy_network(), "method": methods.erm}
  run = build.assemble({"seeds": 2, "batch_size": 12, "data": {"name": "generated"}}, **given)
  # 8 devices could not share a batch of 12; 4 can.
  assert dict(run.mesh.shape) == {"seed": 2, "data": 4}


def test_every_backend_has_a_form_and_another_name_is_none():
  assert {seeds.fastest(b) for b in ("cpu", "gpu", "tpu", "a new one")} <= set(seeds.FORMS)
  with pytest.raises(InputError, match=r"form is 'vmaped', no such form: did you mean 'vmapped'"):
    seeds.over_seeds([lambda x, data: x], 2, form="vmaped")

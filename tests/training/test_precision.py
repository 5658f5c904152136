"""config.precision and config.deterministic: what they change, and what they leave alone."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.core import InputError
from jaxnoise.training import build, cache, sharding
from jaxnoise.training.programs import Programs
from tests.training.common import tiny_source

MODEL = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
CASES = {
  "erm": {},
  "noisymix": {"method": {"name": "noisymix"}, "policy": {"name": "augmix"}},
  "nrd": {"method": {"name": "nrd"}},
  "elr": {"method": {"name": "elr"}},
  "gjs": {"method": {"name": "gjs"}},
  "trades": {"method": {"name": "trades", "steps": 2}},
}


def after_a_step(precision, **changes):
  """The state before and after one step, and the loss."""
  config = {
    "precision": precision, "total": "4 steps", "batch_size": 32, "model": MODEL,
    "data": {"name": "generated"}, "optim": {"schedule": "constant"}, **changes,
  }  # fmt: skip
  mesh = sharding.make_mesh(jax.devices()[:1])
  run = build.assemble(config, source=tiny_source(64), mesh=mesh)
  programs = Programs(run)
  before = programs.init()
  start = jax.tree.map(jnp.copy, before.params)
  arrays = jax.device_put(run.host_data())
  orders = programs.epoch_orders(before, arrays, 0)
  zeros = programs.zero_totals(before, arrays, orders)
  state, totals = programs.step(before, arrays, orders, zeros)
  return start, state, float(totals["loss"][0])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bfloat16_computes_the_same_step_to_its_digits(name):
  steps = {p: after_a_step(p, **CASES[name]) for p in ("float32", "bfloat16")}
  start, state, loss = steps["float32"]
  half_start, half, half_loss = steps["bfloat16"]
  jax.tree.map(np.testing.assert_array_equal, start, half_start)
  assert half_loss != loss, "bfloat16 changed nothing: was it used?"
  assert abs(half_loss - loss) < 0.02 * abs(loss)
  moved, half_moved = (
    np.concatenate([(np.asarray(b) - np.asarray(a)).ravel() for a, b in zip(
      jax.tree.leaves(start), jax.tree.leaves(s.params), strict=True
    )]) for s in (state, half)
  )  # fmt: skip
  cosine = moved @ half_moved / np.linalg.norm(moved) / np.linalg.norm(half_moved)
  assert cosine > 0.97
  for tree in (half.params, half.batch_stats, half.opt_state, half.method_state):
    kinds = {x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}
    assert kinds <= {jnp.dtype(jnp.float32)}, "what is kept is kept in float32"


def test_a_gpu_is_asked_for_the_same_bits_or_the_run_is_refused(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_one=1")
  cache.check_determinism("cpu")
  with pytest.raises(InputError, match="set the environment variable XLA_FLAGS"):
    cache.check_determinism("gpu")
  cache.ask_for_determinism()
  cache.ask_for_determinism()
  assert os.environ["XLA_FLAGS"] == "--xla_one=1 --xla_gpu_deterministic_ops=true"
  cache.check_determinism("gpu")


class Plain(nn.Module):
  """A module that says neither its precision nor where its blocks are."""

  @nn.compact
  def __call__(self, image, *, train=False, **options):
    return nn.Dense(3)(image.mean((1, 2)))


@pytest.mark.parametrize("precision", ["bfloat16", "bflaot16"])
def test_a_precision_that_an_object_would_not_take_is_refused(precision):
  with pytest.raises(InputError, match=rf"config\.precision is '{precision}', but the network was"):
    build.assemble({"precision": precision}, source=tiny_source(64), network=Plain())


def test_a_network_without_blocks_has_nothing_to_compute_again():
  with pytest.raises(InputError, match=r"config\.remat is True, but the network has no blocks"):
    build.assemble({"remat": True}, source=tiny_source(64), network=Plain())

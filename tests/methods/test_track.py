"""track_losses: the table is the sum of what training saw, and training is unchanged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import Aux, InputError, TrainState
from tests.methods.cases import SPEC
from tests.toy import toy_batch, toy_network


def tracked():
  network = toy_network()
  method = methods.track_losses(methods.erm(network, spec=SPEC), spec=SPEC)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = TrainState.create(jax.random.key(2), params, stats)
  return method, method.init_state(state)


def test_adds_each_examples_loss_where_it_belongs():
  method, state = tracked()
  step = jax.jit(method.post_step)
  visits = [([4, 0, 7, 1, 11, 3], 1.0), ([0, 4, 2, 1, 9, 8], 10.0)]
  for index, scale in visits:
    batch = {**toy_batch(), "index": jnp.array(index)}
    values = scale * jnp.arange(1.0, 7.0).astype(jnp.bfloat16)
    state = step(state, batch, Aux({}, values), jax.random.key(0))
  table = state.method_state["track_losses"]
  np.testing.assert_array_equal(table["count"], [2, 2, 1, 1, 2, 0, 0, 1, 1, 1, 0, 1])
  wanted = np.zeros(12)
  for index, scale in visits:
    wanted[index] += scale * np.arange(1.0, 7.0)
  np.testing.assert_array_equal(table["loss_sum"], wanted)
  assert table["loss_sum"].dtype == jnp.float32


def test_training_is_unchanged():
  inner = methods.with_ema(methods.erm(toy_network(), spec=SPEC), decay=0.5)
  method = methods.track_losses(inner, spec=SPEC)
  kept = ("loss_fn", "value_and_grad", "predictors", "example_pass", "side_batches", "labelled")
  assert all(getattr(method, name) is getattr(inner, name) for name in kept)
  assert method.wrappers == ("with_ema", "track_losses")
  params, stats = toy_network().init(jax.random.key(1), toy_batch()["image"])
  state = method.init_state(TrainState.create(jax.random.key(2), params, stats))
  moved = state.replace(params=jax.tree.map(lambda x: x + 1, params))
  after = method.post_step(moved, toy_batch(), Aux({}, jnp.ones(6)), jax.random.key(0))
  # What it wraps has had its turn: the average has moved half of the way.
  np.testing.assert_allclose(after.ema_params["b3"], params["b3"] + 0.5)


def test_refuses_itself_and_values_that_are_not_one_for_each_row():
  method, state = tracked()
  with pytest.raises(InputError, match="twice"):
    methods.track_losses(method, spec=SPEC)
  other = dataclasses.replace(methods.erm(toy_network(), spec=SPEC), name="pairs")
  method = methods.track_losses(other, spec=SPEC)
  with pytest.raises(InputError, match=r"cannot wrap pairs.*\(6, 2\) for a batch of 6"):
    method.post_step(state, toy_batch(), Aux({}, jnp.zeros((6, 2))), jax.random.key(0))

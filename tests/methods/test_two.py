"""Two networks: how the second is made, and what is evaluated."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import TrainState, fold
from jaxnoise.methods import _two
from tests.methods.cases import SPEC
from tests.toy import toy_batch, toy_network


def make(seed=2):
  network = toy_network()
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = TrainState.create(jax.random.key(seed), params, stats)
  return network, state, _two.init_two(network, SPEC)(state)


def test_the_second_network_is_fresh_and_the_first_is_kept():
  network, state, two = make()
  expected, stats = network.init(fold(state.rng, "net1"), jnp.zeros((1, 4, 4, 3)))
  for a, b in ((two.params["net0"], state.params), (two.params["net1"], expected)):
    jax.tree.map(np.testing.assert_array_equal, a, b)
  assert two.batch_stats.keys() == two.params.keys() == {"net0", "net1"}
  jax.tree.map(np.testing.assert_array_equal, two.batch_stats["net1"], stats)
  assert np.any(np.asarray(two.params["net1"]["w1"] != state.params["w1"]))
  other = make(seed=3)[2]
  assert np.any(np.asarray(two.params["net1"]["w1"] != other.params["net1"]["w1"]))


def test_predictors_combine_logits_headline_first():
  network, _, state = make()
  # Statistics that differ show which ones a predictor was given.
  state = state.replace(batch_stats={"net0": {"mean": jnp.ones(4)}, "net1": {"mean": -jnp.ones(4)}})
  image = toy_batch()["image"]
  first, second = (
    network.apply(state.params[n], state.batch_stats[n], image).logits for n in ("net0", "net1")
  )
  for combine, expected in (("mean", (first + second) / 2), ("sum", first + second)):
    named = _two.two_predictors(network, combine)(state)
    assert list(named) == [combine, "net0", "net1"]
    np.testing.assert_allclose(named[combine](image), expected, rtol=1e-6)
    np.testing.assert_array_equal(named["net0"](image), first)
    np.testing.assert_array_equal(named["net1"](image), second)

"""Co-teaching: who selects for whom, how many, and that nothing else passes between the two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Network, Output, TrainState, fold
from tests.methods.cases import SPEC, shift
from tests.toy import toy_batch, toy_network


def make(**arguments):
  network = toy_network()
  method = methods.co_teaching(network, spec=SPEC, **{"noise_rate": 0.5, **arguments})
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  return network, method, method.init_state(TrainState.create(jax.random.key(2), params, stats))


def test_each_network_learns_from_the_other_ones_choice():
  """The loss and both gradients, redone row by row."""
  network, method, state = make(ramp_epochs=1.0, first=shift)
  state = state.replace(step=jnp.int32(2))  # one epoch is over: R = 1 - 1/2, three rows of six
  batch, key = toy_batch(), jax.random.key(0)
  (value, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, key)
  image = jax.jit(augment.batched(shift))(fold(key, "augment"), batch["image"])

  def losses_of(params):
    z = network.apply(params, {"mean": jnp.zeros(4)}, image, train=True).logits
    return -jax.nn.log_softmax(z)[jnp.arange(6), batch["label"]]

  @jax.jit
  def hand(params, rows):
    of_rows = lambda p: jnp.sum(losses_of(p) * rows) / 3
    return losses_of(params), jax.grad(of_rows)(params)

  values = {net: np.asarray(hand(state.params[net], jnp.ones(6))[0]) for net in ("net0", "net1")}
  easy = {net: np.argsort(v)[:3] for net, v in values.items()}
  assert set(easy["net0"].tolist()) != set(easy["net1"].tolist()), "the case would show nothing"
  expected = 0.0
  for net, other in (("net0", "net1"), ("net1", "net0")):
    expected += values[net][easy[other]].mean()
    rows = np.isin(np.arange(6), easy[other]).astype("f4")
    by_hand = hand(state.params[net], rows)[1]
    for a, b in zip(jax.tree.leaves(grads[net]), jax.tree.leaves(by_hand), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, (values["net0"] + values["net1"]) / 2, rtol=1e-5)
  both = len(set(easy["net0"].tolist()) & set(easy["net1"].tolist()))
  np.testing.assert_allclose(aux.metrics["shared"], (both, 3))
  np.testing.assert_allclose(aux.metrics["loss"], (expected / 2 * 6, 6), rtol=1e-5)
  # Each network's statistic is that of its own pass.
  for net in ("net0", "net1"):
    hidden = np.tanh((np.asarray(image) - 0.5) * 2 @ np.asarray(state.params[net]["w1"]))
    np.testing.assert_allclose(
      aux.batch_stats[net]["mean"], 0.1 * hidden.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )


def test_share_falls_to_one_minus_the_rate():
  """R(T) = 1 - tau min(T^c / T_k, 1), T epochs completed, two steps each, rows of six."""
  for exponent, expected in ((1.0, (6, 5, 4, 3)), (2.0, (6, 5, 3, 3)), (0.5, (6, 5, 4, 4))):
    _, method, state = make(ramp_epochs=4.0, exponent=exponent)
    kept = jax.jit(
      lambda step, m=method, s=state: m.loss_fn(s.replace(step=step))(
        s.params, toy_batch(), jax.random.key(0)
      )[1].metrics["kept"][0]
    )
    # Steps of epochs 0, 1, 2 and 4; the last step of an epoch is of that epoch.
    assert tuple(int(kept(step)) for step in (1, 3, 4, 9)) == expected, exponent


def test_count_is_rounded_down_and_never_zero():
  z, t = np.random.default_rng(0).normal(size=(10, 3)).astype("f4"), np.eye(3)[np.arange(10) % 3]
  objective = jax.jit(methods.co_teaching_objective)
  for share, count in ((1.0, 10), (0.4, 4), (1 - 0.6, 4), (0.49, 4), (0.05, 1)):
    kept = objective(z, -z, t, jnp.float32(share))[2]["kept"]
    assert tuple(map(int, kept)) == (count, 10), share
  # Of equal losses no more are selected than asked for.
  loss, _, metrics = objective(0 * z, 0 * z, t, jnp.float32(0.5))
  np.testing.assert_allclose(loss, 2 * np.log(3), rtol=1e-6)
  assert tuple(map(int, metrics["shared"])) == (5, 5)


def test_dropout_masks_differ_and_the_view_is_shared():
  """A network that hands back what it was given, as its statistics."""

  def apply(params, batch_stats, image, *, train, rng, dropout):
    assert (train, dropout) == (True, 0.3)
    given = {"key": jax.random.key_data(rng), "image": image}
    return Output(params * jnp.ones((6, 3)), given, batch_stats)

  network = Network(lambda key, image: (jnp.ones(()), {}), apply, 0)
  method = methods.co_teaching(network, spec=SPEC, noise_rate=0.2, first=shift, dropout=0.3)
  state = method.init_state(TrainState.create(jax.random.key(2), jnp.ones(()), {}))
  run = jax.jit(lambda key: method.loss_fn(state)(state.params, toy_batch(), key)[1].batch_stats)
  given = run(jax.random.key(0))
  assert np.any(np.asarray(given["net0"]["key"] != given["net1"]["key"]))
  np.testing.assert_array_equal(given["net0"]["image"], given["net1"]["image"])


def test_headline_and_no_weights():
  _, method, state = make()
  assert list(method.predictors(state)) == ["mean", "net0", "net1"]
  with pytest.raises(InputError, match="random_weighting cannot wrap co_teaching"):
    methods.random_weighting(method)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"noise_rate": None}, "config.method.noise_rate is None"),
    ({"noise_rate": 1.0}, "config.method.noise_rate is 1.0"),
    ({"noise_rate": "high"}, "config.method.noise_rate is 'high'"),
    ({"ramp_epochs": 0}, "config.method.ramp_epochs is 0"),
    ({"exponent": -1.0}, "config.method.exponent is -1.0"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    make(**arguments)

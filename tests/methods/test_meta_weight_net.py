"""Meta-Weight-Net: its gradient through the virtual step, the step itself, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from jaxnoise.methods.meta_weight_net import init_weight_net
from tests.toy import toy_batch, toy_network

SPEC = Spec(
  num_train=12, num_classes=3, image_shape=(4, 4, 3), batch_size=6,
  learning_rate=lambda step: 0.3 * (step + 1),
)  # fmt: skip
KEY = jax.random.key(0)
WEIGHT = np.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])


def batch_of(weight=None):
  trusted = toy_batch(4, seed=5)
  batch = {**toy_batch(), "side": {"trusted": trusted}}
  return batch if weight is None else {**batch, "weight": jnp.asarray(weight)}


def make(spec=SPEC, network=None, **arguments):
  network = toy_network() if network is None else network
  method = methods.meta_weight_net(network, spec=spec, hidden=5, trusted_size=4, **arguments)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  # Not what a fresh run has, so that a pass that starts from other statistics is seen.
  state = TrainState.create(jax.random.key(2), params, {"mean": stats["mean"] + 0.2})
  state = method.init_state(state.replace(step=jnp.array(1)))
  return network, method, state


def cross_entropies(network, state, params, batch):
  out = network.apply(params, state.batch_stats, batch["image"], train=True)
  return -jax.nn.log_softmax(out.logits)[jnp.arange(len(batch["label"])), batch["label"]]


def weighted(v, values, weight, normalised):
  w = jnp.ones(values.shape) if weight is None else jnp.asarray(weight)
  return jnp.sum(w * v * values) / jnp.sum(w * v if normalised else w)


def meta_gradient(aux):
  """Adam's first moment after one update from zero is (1 - 0.9) times the gradient."""
  return jax.tree.map(lambda m: 10 * m, aux.extra["opt_state"][1][0].mu)


def smooth_network():
  """The toy network in evaluation mode: in train mode it stops the gradient of its mean."""
  network = toy_network()

  def apply(params, batch_stats, image, *, train=False, rng=None):
    return network.apply(params, batch_stats, image)

  return network._replace(apply=apply)


@pytest.mark.parametrize("normalised", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_meta_gradient_by_finite_differences(normalised):
  """And weight decay, which enters Adam's moments as part of the gradient."""
  with jax.enable_x64(True):
    network, method, state = make(
      network=smooth_network(), meta_weight_decay=0.01, normalised=normalised
    )
    lift = lambda tree: jax.tree.map(
      lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
    state = state.replace(
      params=lift(state.params), method_state=lift(state.method_state),
      batch_stats=lift(state.batch_stats),
    )
    batch = lift(batch_of(WEIGHT))
    theta = state.method_state["meta_weight_net"]["params"]

    @jax.jit
    def after_virtual_step(theta):
      def objective(params):
        values = cross_entropies(network, state, params, batch)
        v = methods.weight_net(theta, jax.lax.stop_gradient(values))
        # The sum of weights is a constant of w, as V is.
        return weighted(v, values, WEIGHT, normalised)

      slope = jax.grad(objective)(state.params)
      moved = jax.tree.map(lambda p, g: p - 0.6 * g, state.params, slope)
      return jnp.mean(cross_entropies(network, state, moved, batch["side"]["trusted"]))

    _, aux = jax.jit(method.loss_fn(state))(state.params, batch, KEY)
    given = meta_gradient(aux)
    total, count = aux.metrics["trusted_loss"]
    np.testing.assert_allclose(total / count, after_virtual_step(theta), rtol=1e-9)
    seen = []
    for name, array in theta.items():
      for position in np.ndindex(array.shape):
        step = 1e-5
        up, down = (
          after_virtual_step({**theta, name: array.at[position].add(s)}) for s in (step, -step)
        )
        seen.append(float(up - down) / (2 * step))
        slope = given[name][position] - 0.01 * array[position]
        np.testing.assert_allclose(slope, seen[-1], rtol=1e-5, atol=1e-10)
    assert max(abs(s) for s in seen) > 1e-6


def line():
  """One parameter p: logits (p x, 0), x the mean of the image."""

  def apply(params, batch_stats, image, *, train=False, rng=None, **options):
    z = params["p"] * jnp.mean(image, axis=(1, 2, 3))
    return Output(jnp.stack((z, jnp.zeros_like(z)), axis=1), batch_stats, {})

  return Network(lambda rng, image: ({"p": jnp.zeros(())}, {}), apply, 0)


def test_one_parameter_by_hand():
  """At p = 0 every loss is log 2; label 0 pulls p up, label 1 down, and trusted examples up."""
  spec = SPEC._replace(num_classes=2, learning_rate=lambda step: jnp.asarray(0.5))
  method = methods.meta_weight_net(line(), spec=spec, hidden=1, meta_lr=0.01, meta_weight_decay=0.0)
  state = method.init_state(TrainState.create(jax.random.key(0), {"p": jnp.zeros(())}, {}))
  # V = sigmoid(2 relu(3 l - 1) - 1).
  theta = {"w1": jnp.array([3.0]), "b1": jnp.array([-1.0]),
           "w2": jnp.array([2.0]), "b2": jnp.asarray(-1.0)}  # fmt: skip
  own = {**state.method_state["meta_weight_net"], "params": theta}
  state = state.with_method_state("meta_weight_net", own)
  image = lambda *x: jnp.asarray(x).reshape(-1, 1, 1, 1)
  batch = {
    "image": image(1.0, 0.25), "label": jnp.array([0, 1]),
    "side": {"trusted": {"image": image(0.5), "label": jnp.array([0])}},
  }  # fmt: skip
  (loss, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, KEY)

  log2, sigmoid = np.log(2), lambda a: 1 / (1 + np.exp(-a))
  relu = 3 * log2 - 1
  v = sigmoid(2 * relu - 1)
  slopes = np.array([-0.5, 0.125])  # dl/dp = -x / 2 where the label is 0, x / 2 where it is 1
  moved = -0.5 * v * slopes.mean()
  trusted_slope = -0.5 * sigmoid(-0.5 * moved)
  through = trusted_slope * -0.5 * slopes.mean() * v * (1 - v)  # in the sigmoid's argument
  expected = {"b2": through, "w2": through * relu, "b1": through * 2, "w1": through * 2 * log2}
  for name, slope in expected.items():
    np.testing.assert_allclose(np.squeeze(meta_gradient(aux)[name]), slope, rtol=1e-5)
    # Adam's first step is its learning rate against the gradient's sign: V grows, since both
    # training examples together move p where the trusted one wants it.
    change = np.squeeze(aux.extra["params"][name] - theta[name])
    np.testing.assert_allclose(change, 0.01, rtol=1e-3)
  new_v = float(methods.weight_net(aux.extra["params"], jnp.array([log2]))[0])
  assert new_v > v
  np.testing.assert_allclose(loss, new_v * log2, rtol=1e-5)
  np.testing.assert_allclose(grads["p"], new_v * slopes.mean(), rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, [log2, log2], rtol=1e-5)


def test_the_step_uses_the_new_weights_as_constants():
  network, method, state = make(normalised=True)
  batch = batch_of()
  run = jax.jit(lambda state: method.grad_fn(state)(state.params, batch, KEY))
  (value, aux), grads = run(state)
  after = method.post_step(state, batch, aux, KEY)
  theta = after.method_state["meta_weight_net"]["params"]
  old = state.method_state["meta_weight_net"]["params"]
  assert any(np.any(np.asarray(theta[name]) != np.asarray(old[name])) for name in theta)

  @jax.jit
  def by_hand(params):
    out = network.apply(params, state.batch_stats, batch["image"], train=True)
    values = -jax.nn.log_softmax(out.logits)[jnp.arange(6), batch["label"]]
    v = jax.lax.stop_gradient(methods.weight_net(theta, values))
    return jnp.sum(v * values) / jnp.sum(v), (values, v, out.batch_stats)

  (expected, (values, v, stats)), slopes = jax.value_and_grad(by_hand, has_aux=True)(state.params)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(aux.per_example, values, rtol=1e-5)
  np.testing.assert_allclose(aux.metrics["meta_weight"][0], jnp.sum(v), rtol=1e-5)
  # The trusted pass and the virtual step leave the running statistics alone.
  np.testing.assert_allclose(aux.batch_stats["mean"], stats["mean"], rtol=1e-5)

  # Sigmoids that have all underflowed weigh nothing, and divide nothing by zero.
  own = state.method_state["meta_weight_net"]
  own = {**own, "params": {**own["params"], "b2": jnp.asarray(-1e4)}}
  (value, aux), grads = run(state.with_method_state("meta_weight_net", own))
  assert value == 0
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((grads, aux.extra)))


def test_weight_net_and_its_initialisation():
  theta = init_weight_net(jax.random.key(3), 400)
  assert {name: np.shape(x) for name, x in theta.items()} == {
    "w1": (400,), "b1": (400,), "w2": (400,), "b2": ()
  }  # fmt: skip
  for name, bound in (("w1", 1.0), ("b1", 1.0), ("w2", 0.05)):
    x = np.asarray(theta[name])
    assert 0.97 * bound < np.abs(x).max() <= bound and abs(x.mean()) < 0.1 * bound
  assert abs(float(theta["b2"])) <= 0.05
  losses = np.array([0.0, 0.7, 30.0])
  by_hand = [
    1 / (1 + np.exp(-(np.maximum(l * theta["w1"] + theta["b1"], 0) @ theta["w2"] + theta["b2"])))
    for l in losses
  ]
  np.testing.assert_allclose(methods.weight_net(theta, jnp.asarray(losses)), by_hand, rtol=1e-4)


def test_side_batch():
  _, method, _ = make()
  assert [tuple(side) for side in method.side_batches] == [("trusted", "trusted", 4, None)]
  default = methods.meta_weight_net(toy_network(), spec=SPEC)
  assert default.side_batches[0].size == 6


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"hidden": 0}, r"config\.method\.hidden is 0"),
    ({"trusted_size": 0}, r"config\.method\.trusted_size is 0"),
    ({"meta_lr": 0.0}, r"config\.method\.meta_lr is 0.0; it must be larger than 0"),
    ({"meta_weight_decay": -1.0}, r"config\.method\.meta_weight_decay is -1.0"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.meta_weight_net(toy_network(), spec=SPEC, **arguments)

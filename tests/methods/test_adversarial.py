"""Free adversarial training under weights: whose gradient the perturbation follows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from tests.methods.attacked import same
from tests.toy import toy_batch

SPEC = Spec(num_train=8, num_classes=3, image_shape=(4, 4, 3), batch_size=8)
KEY = jax.random.key(3)
BATCH = toy_batch(8)
# As unequal as exp(2 z) for a standard normal z.
WEIGHT = np.exp(2 * np.array([1.9, -0.3, 0.4, -1.6, 0.8, -0.7, 1.2, -2.0], "f4"))
STEP, EPSILON = 0.03, 0.1


def network(batch_norm):
  """Colours -> 4 channels, normalised over the batch or not -> tanh -> mean -> 3 logits."""

  def init(rng, image):
    w = jax.random.normal(rng, (2, 4, 4))
    return {"in": w[0, :3], "out": w[1, :, :3]}, {}

  def apply(params, batch_stats, image, **_):
    h = 2 * (image - 0.5) @ params["in"]
    if batch_norm:
      centred = h - jnp.mean(h, (0, 1, 2), keepdims=True)
      h = centred / jnp.sqrt(jnp.mean(centred**2, (0, 1, 2), keepdims=True) + 1e-5)
    return Output(jnp.mean(jnp.tanh(h), (1, 2)) @ params["out"], batch_stats, {})

  return Network(init, apply, 0)


@functools.cache
def made(batch_norm, unweighted):
  """A first state, and the gradient function of (state, batch)."""
  net = network(batch_norm)
  method = methods.free_at(
    net, spec=SPEC, epsilon=EPSILON, step_size=STEP, unweighted_ascent=unweighted
  )
  state = TrainState.create(jax.random.key(0), *net.init(jax.random.key(1), None))
  delta = 0.05 * jnp.sign(BATCH["image"] - 0.5)
  state = method.init_state(state).with_method_state("free_at", {"delta": delta})
  return state, jax.jit(lambda s, batch: method.grad_fn(s)(s.params, batch, KEY))


def moves(batch_norm, unweighted, weight):
  """(loss, the parameters' gradient, the signs that the perturbation moved by)."""
  state, fn = made(batch_norm, unweighted)
  batch = BATCH if weight is None else {**BATCH, "weight": jnp.asarray(weight)}
  (loss, aux), grads = fn(state, batch)
  signs = (aux.extra - state.method_state["free_at"]["delta"]) / STEP
  return loss, grads, np.round(np.asarray(signs), 3)


@functools.partial(jax.jit, static_argnums=0)
def by_hand(batch_norm, state, weight):
  """Loss, gradients of parameters and perturbation: of one loss with weights, as for all of it."""

  def loss(params, delta):
    image = jnp.clip(BATCH["image"] + delta, 0, 1)
    log_p = jax.nn.log_softmax(network(batch_norm).apply(params, {}, image).logits)
    return -jnp.sum(weight * log_p[jnp.arange(8), BATCH["label"]]) / jnp.sum(weight)

  delta = state.method_state["free_at"]["delta"]
  value, (grads, ascent) = jax.value_and_grad(loss, argnums=(0, 1))(state.params, delta)
  return value, grads, jnp.sign(ascent)


def test_batch_norm_turns_signs_under_weights_unless_the_ascent_has_none():
  """The parameters' gradient is that of the weighted loss in both."""
  state, _ = made(True, False)
  weighted, plain = (by_hand(True, state, w) for w in (WEIGHT, np.ones(8, "f4")))
  joint, split = (moves(True, unweighted, WEIGHT) for unweighted in (False, True))
  same(joint, weighted)
  same(split, (*weighted[:2], plain[2]))
  turned = np.mean(joint[2] != split[2])
  assert turned > 0.1, turned
  # With equal weights there is one loss.
  for weight in (None, np.full(8, 0.25, "f4")):
    same(moves(True, True, weight), plain)
    same(moves(True, False, weight), plain)


def test_without_batch_statistics_positive_weights_turn_none():
  weight = np.maximum(WEIGHT * 1e-3 / WEIGHT.max(), 1e-12)
  joint, split = (moves(False, unweighted, weight) for unweighted in (False, True))
  np.testing.assert_array_equal(joint[2], split[2])
  assert np.mean(joint[2] == 0) < 0.2, "only what the range of pixels cuts off stays"


@pytest.mark.parametrize("unweighted", [False, True])
def test_an_example_of_weight_0_is_attacked_on_request(unweighted):
  """`random_weighting` gives half of a batch no weight."""
  z = np.array([0.8, -1.1, 0.3, -0.2, -0.9, 1.4, 0.1, -0.5], "f4")
  signs = moves(False, unweighted, methods.rectified_weights(z))[2]
  stays = np.all(signs == 0, axis=(1, 2, 3))
  np.testing.assert_array_equal(stays, (z < 0) & (not unweighted))


def test_the_joint_gradient_has_one_backward_pass():
  state, _ = made(True, False)
  weights = {**BATCH, "weight": jnp.asarray(WEIGHT)}

  def flops(fn, *arguments):
    return jax.jit(fn).lower(*arguments).cost_analysis()["flops"]

  one = flops(functools.partial(by_hand, True), state, WEIGHT)
  joint, split = (flops(made(True, u)[1], state, weights) for u in (False, True))
  bare = flops(made(True, True)[1], state, BATCH)
  # Beside the network there are the step and the metrics.
  assert one < joint < 1.1 * one and bare < 1.1 * one, (one, joint, bare, split)
  assert split > 1.2 * joint, (joint, split)


def test_the_perturbation_is_of_the_images_as_the_crop_leaves_them():
  first = functools.partial(augment.random_resized_crop, size=2)
  net = network(False)
  method = methods.free_at(net, spec=SPEC, first=first)
  state = TrainState.create(jax.random.key(0), *net.init(jax.random.key(1), None))
  state = method.init_state(state)
  assert state.method_state["free_at"]["delta"].shape == (8, 2, 2, 3)
  (_, aux), _ = jax.eval_shape(lambda s: method.grad_fn(s)(s.params, BATCH, KEY), state)
  assert aux.extra.shape == (8, 2, 2, 3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"epsilon": -0.1}, r"config.method.epsilon is -0.1; pixels lie in \[0, 1\]"),
    ({"epsilon": 8.0}, "config.method.epsilon is 8.0"),
    ({"epsilon": float("nan")}, "config.method.epsilon is nan"),
    ({"step_size": float("nan")}, "config.method.step_size is nan"),
    ({"step_size": -0.1}, "config.method.step_size is -0.1"),
    ({"replays": 0}, "config.method.replays is 0"),
  ],
)
def test_bad_arguments(changes, message):
  with pytest.raises(InputError, match=message):
    methods.free_at(network(False), spec=SPEC, **changes)

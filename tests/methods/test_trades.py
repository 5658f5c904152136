"""TRADES: the authors' loss and steps, what moves the running statistics, weights and mixing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, fold
from jaxnoise.methods import _adversarial
from tests.attacks.tiny import nhwc
from tests.methods.attacked import (
  KEY,
  SPEC,
  TOY,
  WEIGHT,
  climb,
  cross_entropy,
  recording_network,
  run,
  same,
  stored,
  toy_state,
  uniform_share,
  weighted_mixup,
)

RADII = {"epsilon": 0.1, "step_size": 0.04}


def divergence(z, other):
  log_p, log_q = jax.nn.log_softmax(z), jax.nn.log_softmax(other)
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


# --- the authors' loss ---------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "x64"), [(0, True), (1, True), (2, True), (2, False)])
def test_objective_equals_authors_code(golden, case, x64):
  data, c = golden("attacks"), f"trades_logits/c{case}/"
  tolerance = {"rtol": 1e-7, "atol": 1e-9} if x64 else {"rtol": 1e-5, "atol": 1e-6}
  with jax.enable_x64(x64):
    z, other = (jnp.asarray(data[f"{c}logits_{n}"]) for n in ("natural", "adv"))
    t = jax.nn.one_hot(data[f"{c}labels"], z.shape[-1], dtype=z.dtype)
    beta = float(data[f"{c}beta"])
    objective = lambda z, other: methods.trades_objective(z, other, t, t, 1.0, beta=beta)[0]
    value, grads = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))(z, other)
    expected = [data[f"{c}grad_logits_{n}"] for n in ("natural", "adv")]
    same((value, grads), (data[f"{c}loss"], expected), **tolerance)


@pytest.mark.parametrize("steps", [1, pytest.param(5, marks=pytest.mark.slow), 10])
def test_a_step_equals_authors_code(golden, monkeypatch, steps):
  with jax.enable_x64(True):
    data, state, batch, radii = stored(golden)
    normal = jnp.asarray(nhwc(data["trades_normal_start"]))
    monkeypatch.setattr(_adversarial, "normal_start", lambda rng, image, scale: scale * normal)
    method = methods.trades(
      recording_network(), spec=SPEC, beta=float(data["trades/beta"]), steps=steps, **radii
    )
    (loss, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, KEY)
    c = f"trades/k{steps}/"
    # The authors' code passes x, x' and x again in train mode.
    x, attacked, again = aux.batch_stats
    np.testing.assert_allclose(attacked, nhwc(data[f"{c}x_adv"]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(x, batch["image"])
    np.testing.assert_array_equal(again, batch["image"])
    expected = {
      "conv": data[f"{c}grad_conv_kernel_OIHW"].transpose(2, 3, 1, 0),
      "conv_bias": data[f"{c}grad_conv_bias"],
      "dense": data[f"{c}grad_dense_kernel_out_in"].T,
      "dense_bias": data[f"{c}grad_dense_bias"],
    }
    natural = data[f"{c}loss_natural"]
    same((loss, grads), (data[f"{c}loss"], expected), 1e-7, 1e-9)
    np.testing.assert_allclose(jnp.mean(aux.per_example), natural, rtol=1e-7)
    label_loss, kl = (aux.metrics[n][0] / aux.metrics[n][1] for n in ("label_loss", "kl"))
    same((label_loss, label_loss + 6 * kl), (natural, data[f"{c}loss"]), 1e-7, 1e-9)


def test_the_start_is_a_small_normal_draw():
  image = jnp.zeros((40, 8, 8, 3))
  start = np.asarray(_adversarial.normal_start(KEY, image, 0.001))
  assert start.shape == image.shape and start.dtype == np.float32
  np.testing.assert_allclose(start.std(), 0.001, rtol=0.05)
  np.testing.assert_allclose(start.mean(), 0, atol=1e-4)


# --- by hand on the toy network ------------------------------------------------------------------


@jax.jit
def by_hand():
  network, state, batch = toy_state()
  image, label = batch["image"], batch["label"]
  predict = lambda x: network.apply(state.params, state.batch_stats, x).logits
  start = _adversarial.normal_start(fold(KEY, "start"), image, 0.001)
  target = predict(image)
  x = climb(lambda x: divergence(target, predict(x)), image, image + start, steps=2, **RADII)

  def loss(params):
    natural = network.apply(params, state.batch_stats, image, train=True)
    attacked = network.apply(params, natural.batch_stats, x, train=True)
    ce, kl = cross_entropy(natural.logits, label), divergence(natural.logits, attacked.logits)
    again = network.apply(params, attacked.batch_stats, image, train=True)
    statistics = attacked.batch_stats, again.batch_stats
    return jnp.sum(WEIGHT * (ce + 4.0 * kl)) / WEIGHT.sum(), (ce, jnp.sum(kl), *statistics)

  return jax.value_and_grad(loss, has_aux=True)(state.params)


@pytest.mark.parametrize("twice", [True, False])
def test_weighted_loss_gradient_and_statistics(twice):
  """The weights, one of them 0, are the outer loss's alone: every image is attacked."""
  (value, aux), grads = run(
    methods.trades, WEIGHT, beta=4.0, steps=2, natural_twice=twice, **RADII
  )
  (expected, (ce, kl, once, again)), expected_grads = by_hand()
  same((value, grads), (expected, expected_grads))
  same((aux.per_example, aux.metrics["kl"][0]), (ce, kl))
  same(aux.batch_stats, again if twice else once)


def test_without_the_divergence_it_is_mixup_of_the_same_draws(monkeypatch):
  monkeypatch.setattr(augment, "sample_coefficient", uniform_share)
  (value, aux), grads = run(methods.trades, WEIGHT, steps=1, beta=0.0, alpha=0.7)
  same((value, aux.per_example, grads), weighted_mixup())


def test_mixed_labels_and_weights_by_hand():
  """lam w_i CE(y_i) + (1 - lam) w_j CE(y_j) + (lam w_i + (1 - lam) w_j) beta KL_i, over sum w."""
  z, other = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4")
  y, perm, w = np.array([0, 2, 3]), np.array([2, 0, 1]), np.array([0.5, 2.0, 1.0])
  t, lam, beta = np.eye(4, dtype="f4")[y], 0.3, 5.0
  objective = jax.jit(functools.partial(methods.trades_objective, beta=beta))
  value, own, _ = objective(z, other, t, t[perm], lam, weight=w, partner_weight=w[perm])
  log_p, kl = np.asarray(jax.nn.log_softmax(z)), np.asarray(divergence(z, other))
  total = 0.0
  for i, j in enumerate(perm):
    total += lam * w[i] * -log_p[i, y[i]] + (1 - lam) * w[j] * -log_p[i, y[j]]
    total += (lam * w[i] + (1 - lam) * w[j]) * beta * kl[i]
  np.testing.assert_allclose(value, total / w.sum(), rtol=1e-5)
  np.testing.assert_allclose(own, -log_p[np.arange(3), y], rtol=1e-5)


def test_gradients_stay_finite_where_the_predictions_are_certain():
  z = jnp.array([[200.0, 0.0, -200.0]])
  t = jnp.eye(3)[2:]
  objective = lambda a, b: methods.trades_objective(a, b, t, t, 1.0)[0]
  value, grads = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))(z, z[:, ::-1])
  np.testing.assert_allclose(value, 400.0 + 6 * 400.0, rtol=1e-6)
  assert all(np.all(np.isfinite(g)) for g in grads)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"epsilon": 8.0}, r"config.method.epsilon is 8.0; pixels lie in \[0, 1\]"),
    ({"epsilon": -0.1}, "config.method.epsilon is -0.1"),
    ({"step_size": -0.007}, "config.method.step_size is -0.007"),
    ({"steps": -10}, "config.method.steps is -10"),
    ({"beta": -6.0}, "config.method.beta is -6.0"),
    ({"start_scale": -0.001}, "config.method.start_scale is -0.001"),
    ({"alpha": -1.0}, "config.method.alpha is -1.0"),
    ({"mix_groups": 4}, "config.method.mix_groups is 4"),
  ],
)
def test_bad_arguments(changes, message):
  with pytest.raises(InputError, match=message):
    methods.trades(toy_state()[0], spec=TOY, **changes)

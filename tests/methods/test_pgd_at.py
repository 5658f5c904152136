"""PGD and fast adversarial training: the authors' attack, modes, starts, weights and mixing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, augment, methods
from jaxnoise.attacks import _gradient
from jaxnoise.core import InputError, fold
from tests.attacks.tiny import nhwc, tiny_ascent
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


@pytest.fixture(autouse=True)
def cheap_draws(monkeypatch):
  monkeypatch.setattr(augment, "sample_coefficient", uniform_share)


# --- the authors' attack -------------------------------------------------------------------------


@jax.jit
@jax.value_and_grad
def at_image(params, label, image):
  return jnp.mean(tiny_ascent(params, label)(image))


@pytest.mark.parametrize(
  ("name", "changes"),
  [
    ("madry/k10", {"steps": 10}),
    ("pgd_no_random_start/k5", {"steps": 5, "random_start": False}),
  ],
)
def test_trains_on_the_stored_images(golden, monkeypatch, name, changes):
  with jax.enable_x64(True):
    data, state, batch, radii = stored(golden)
    start = jnp.asarray(nhwc(data["uniform_start"]))
    monkeypatch.setattr(_gradient, "uniform_start", lambda *a, **k: start)
    method = methods.pgd_at(recording_network(), spec=SPEC, **{**radii, **changes})
    (loss, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, KEY)
    expected = jnp.asarray(nhwc(data[f"{name}/x_adv"]))
    np.testing.assert_allclose(aux.batch_stats[-1], expected, rtol=0, atol=1e-12)
    # One pass in train mode: the ascent left the running statistics alone.
    np.testing.assert_array_equal(aux.batch_stats[:-1], 0)
    same((loss, grads), at_image(state.params, batch["label"], expected), 1e-7, 1e-9)
    np.testing.assert_allclose(jnp.mean(aux.per_example), loss, rtol=1e-12)


# --- by hand on the toy network ------------------------------------------------------------------


@functools.cache
def draw():
  """The start's draw from KEY, in [-1, 1)."""
  return jax.jit(lambda x: attacks.uniform_start(fold(KEY, "start"), x, epsilon=1.0))(
    toy_state()[2]["image"]
  )


def by_hand(mode, steps, weight, **radii):
  return _by_hand(draw(), mode, steps, weight, **radii)


@functools.partial(jax.jit, static_argnames="mode")
def _by_hand(noise, mode, steps, weight, **radii):
  network, state, batch = toy_state()
  image, label = batch["image"], batch["label"]

  def ascended(x):
    out = network.apply(state.params, state.batch_stats, x, train=mode == "train")
    return cross_entropy(out.logits, label)

  start = jnp.clip(image + radii["epsilon"] * noise, 0, 1)
  x = climb(ascended, image, start, steps=steps, **radii)

  def loss(params):
    out = network.apply(params, state.batch_stats, x, train=True)
    values = cross_entropy(out.logits, label)
    return jnp.sum(weight * values) / jnp.sum(weight), (values, out.batch_stats)

  return jax.value_and_grad(loss, has_aux=True)(state.params)


def results(found):
  (value, aux), grads = found
  return (value, (aux.per_example, aux.batch_stats)), grads


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_weighted_loss_gradient_and_statistics(mode):
  """The weights, one of them 0, are the outer loss's alone: every image is attacked."""
  expected = by_hand(mode, 2, WEIGHT, **RADII)
  same(results(run(methods.pgd_at, WEIGHT, steps=2, mode=mode, **RADII)), expected)
  # Else the parity would not show which mode is which.
  (_, (other, _)), _ = by_hand("train" if mode == "eval" else "eval", 2, WEIGHT, **RADII)
  assert np.abs(np.asarray(expected[0][1][0] - other)).max() > 1e-3


def test_fast_is_one_step_of_five_quarters_of_epsilon():
  found = run(methods.fast_at, WEIGHT, epsilon=0.1)
  same(results(found), by_hand("eval", 1, WEIGHT, epsilon=0.1, step_size=0.125))
  assert methods.fast_at(toy_state()[0], spec=TOY).name == "fast_at"


@pytest.mark.slow
def test_the_l2_ball(golden):
  _, state, batch, _ = stored(golden)
  state, batch = jax.tree.map(
    lambda x: x.astype("f4") if x.dtype == "f8" else x, (state.replace(step=None, rng=None), batch)
  )
  radii = {"epsilon": 0.5, "step_size": 0.2, "norm": "l2"}
  method = methods.pgd_at(recording_network(), spec=SPEC, steps=4, random_start=False, **radii)
  _, aux = jax.jit(method.loss_fn(state))(state.params, batch, KEY)
  moved = np.asarray(aux.batch_stats[-1]) - np.asarray(batch["image"])
  length = np.linalg.norm(moved.reshape(5, -1), axis=1)
  assert length.min() > 0.4 and length.max() < 0.5 + 1e-5


# --- mixing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [methods.pgd_at, methods.free_at])
def test_without_a_ball_it_is_mixup_of_the_same_draws(factory):
  few = {"steps": 1} if factory is methods.pgd_at else {}
  (value, aux), grads = run(factory, WEIGHT, alpha=0.7, epsilon=0.0, **few)
  same((value, aux.per_example, grads), weighted_mixup())


@functools.cache
def mixture():
  """The mixed image, and z -> the mixed loss, of the draws from KEY."""
  _, _, batch = toy_state()
  partners = np.asarray(augment.sample_partners(fold(KEY, "partners"), 6))[0]
  lam, label = float(uniform_share(fold(KEY, "lam"), 1.0)), batch["label"]
  assert 0.05 < lam < 0.95 and np.any(label[partners] != label)
  image = lam * batch["image"] + (1 - lam) * batch["image"][partners]

  def mixed(z):
    return lam * cross_entropy(z, label) + (1 - lam) * cross_entropy(z, label[partners])

  return image, mixed


def test_the_attack_starts_at_the_mixed_image_and_ascends_the_mixed_loss():
  network, state, batch = toy_state()
  (value, aux), _ = run(methods.pgd_at, alpha=1.0, steps=2, random_start=False, **RADII)
  image, mixed = mixture()

  @jax.jit
  def by_hand():
    predict = lambda x: network.apply(state.params, state.batch_stats, x).logits
    x = climb(lambda x: mixed(predict(x)), image, image, steps=2, **RADII)
    z = network.apply(state.params, state.batch_stats, x, train=True).logits
    return jnp.mean(mixed(z)), cross_entropy(z, batch["label"])

  same((value, aux.per_example), by_hand())


def test_free_at_adds_its_perturbation_to_the_mixed_image():
  network, state, batch = toy_state()
  method = methods.free_at(network, spec=TOY, epsilon=0.1, alpha=1.0)
  image, mixed = mixture()
  delta = 0.1 * jnp.sign(batch["image"] - 0.5)
  state = state.with_method_state("free_at", {"delta": delta})
  value, aux = jax.jit(method.loss_fn(state))(state.params, batch, KEY)

  @jax.jit
  def by_hand():
    x = jnp.clip(image + delta, 0, 1)
    z = network.apply(state.params, state.batch_stats, x, train=True).logits
    return jnp.mean(mixed(z)), cross_entropy(z, batch["label"])

  same((value, aux.per_example), by_hand())


@pytest.mark.slow
def test_both_players_have_the_loss_of_the_config():
  smoothing = {"loss": "label_smoothing", "loss_args": {"smoothing": 0.4}}
  network, state, batch = toy_state()
  (value, aux), _ = run(methods.pgd_at, steps=1, random_start=False, **RADII, **smoothing)

  @jax.jit
  def by_hand():
    target = 0.6 * jax.nn.one_hot(batch["label"], 3) + 0.4 / 3
    smoothed = lambda z: jnp.sum(target * (jnp.log(target) - jax.nn.log_softmax(z)), axis=-1)
    predict = lambda x: network.apply(state.params, state.batch_stats, x).logits
    x = climb(lambda x: smoothed(predict(x)), batch["image"], batch["image"], steps=1, **RADII)
    z = network.apply(state.params, state.batch_stats, x, train=True).logits
    return jnp.mean(smoothed(z)), smoothed(z)

  same((value, aux.per_example), by_hand())


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [methods.pgd_at, methods.fast_at])
@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"epsilon": 8.0}, r"config.method.epsilon is 8.0; pixels lie in \[0, 1\]"),
    ({"epsilon": -0.1}, "config.method.epsilon is -0.1"),
    ({"epsilon": float("nan")}, "config.method.epsilon is nan"),
    ({"step_size": -1.0}, "config.method.step_size is -1.0"),
    ({"mode": "evaluation"}, "config.method.mode is 'evaluation'; .*eval"),
    ({"alpha": -1.0}, "config.method.alpha is -1.0"),
    ({"mix_groups": 4}, "config.method.mix_groups is 4"),
    ({"loss": "cross_entropi"}, "did you mean 'cross_entropy'"),
  ],
)
def test_bad_arguments(factory, changes, message):
  with pytest.raises(InputError, match=message):
    factory(toy_state()[0], spec=TOY, **changes)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"steps": -1}, "config.method.steps is -1"),
    ({"steps": 1.5}, "config.method.steps is 1.5"),
    ({"norm": "l1"}, "config.method.norm is 'l1'"),
    ({"norm": "l2", "epsilon": 7.0}, "epsilon is 7.0; images of this size are at most 6.93 apart"),
  ],
)
def test_bad_arguments_of_pgd(changes, message):
  with pytest.raises(InputError, match=message):
    methods.pgd_at(toy_state()[0], spec=TOY, **changes)
  methods.pgd_at(toy_state()[0], spec=TOY, norm="l2", epsilon=2.0)


def test_free_at_refuses_bad_mixing():
  with pytest.raises(InputError, match=r"config.method.alpha is -1\.0"):
    methods.free_at(toy_state()[0], spec=TOY, alpha=-1.0)

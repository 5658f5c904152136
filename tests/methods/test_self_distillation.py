"""Noisy self-distillation: its two losses, whose noise it is, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import InputError, TrainState, fold
from tests.methods.cases import SPEC, shift
from tests.toy import toy_batch, toy_network

KEY = jax.random.key(5)
WEIGHT = np.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3], np.float32)


def made(**kwargs):
  network = toy_network()
  return methods.self_distillation(
    network, spec=SPEC, teacher_network=network, first=shift, **kwargs
  )


@functools.cache
def state():
  """A student and a teacher whose running statistics differ from those of the batch."""
  network, image = toy_network(), toy_batch()["image"]
  params, stats = network.init(jax.random.key(1), image)
  taught, _ = network.init(jax.random.key(2), image)
  teacher = {"params": taught, "batch_stats": {"mean": jnp.arange(4.0)}}
  return TrainState.create(jax.random.key(3), params, stats, teacher=teacher)


@functools.cache
def value(key=5, weighted=False, **kwargs):
  """(loss, aux) of one step of the method."""
  batch = toy_batch() | ({"weight": jnp.asarray(WEIGHT)} if weighted else {})
  method = made(**dict(kwargs))
  return method.loss_fn(state())(state().params, batch, jax.random.key(key))


@functools.cache
def outputs():
  """Logits of the student in training mode and of the teacher in evaluation mode, one view."""
  network = toy_network()
  image = augment.batched(shift)(fold(KEY, "augment"), toy_batch()["image"])
  z = network.apply(state().params, state().batch_stats, image, train=True).logits
  y = network.apply(state().teacher["params"], state().teacher["batch_stats"], image).logits
  return z, y


@pytest.mark.parametrize("weighted", [False, True])
def test_the_squared_loss_with_gaussian_noise_by_hand(weighted):
  """Half of the sum over classes, mean over examples; the number in the config is the variance."""
  z, y = outputs()
  e = jax.random.normal(fold(KEY, "logit_noise"), y.shape)
  for scale, reading in ((0.25, "variance"), (0.5, "deviation")):
    found, aux = value(weighted=weighted, noise="gaussian", scale=scale, scale_reading=reading)
    own = 0.5 * np.sum(np.asarray(z - (y + 0.5 * e)) ** 2, axis=1)
    np.testing.assert_allclose(aux.per_example, own, rtol=1e-5)
    w = WEIGHT if weighted else np.ones(6)
    np.testing.assert_allclose(found, np.sum(w * own) / w.sum(), rtol=1e-5)


@pytest.mark.parametrize("reading", losses.SWAP_READINGS)
def test_the_divergence_with_swaps_by_hand(reading):
  z, y = outputs()
  y = losses.swap_logits(fold(KEY, "logit_noise"), y, probability=0.6, reading=reading)
  log_s, log_t = jax.nn.log_softmax(z / 2), jax.nn.log_softmax(y / 2)
  expected = 4 * jnp.mean(jnp.sum(jnp.exp(log_t) * (log_t - log_s), axis=1))
  found, aux = value(noise="swap", scale=0.6, swap_reading=reading, loss="kl", temperature=2.0)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  label = toy_batch()["label"]
  ce = -np.asarray(jax.nn.log_softmax(z))[np.arange(6), label]
  np.testing.assert_allclose(aux.metrics["label_loss"][0], ce.sum(), rtol=1e-5)


def test_a_scale_of_0_is_the_noiseless_student_exactly():
  for loss in ("squared", "kl"):
    plain = value(loss=loss)[0]
    assert value(loss=loss, noise="gaussian")[0] == plain == value(loss=loss, noise="swap")[0]
  z, y = outputs()
  np.testing.assert_allclose(
    value()[0], 0.5 * np.mean(np.sum(np.asarray(z - y) ** 2, axis=1)), rtol=1e-5
  )


def test_noise_is_of_the_step_and_of_the_example():
  same = {k: jnp.tile(v[:1], (6,) + (1,) * (v.ndim - 1)) for k, v in toy_batch().items()}
  method = methods.self_distillation(
    toy_network(), spec=SPEC, teacher_network=toy_network(), noise="gaussian", scale=1.0
  )
  fn = jax.jit(method.loss_fn(state()))
  first, again, other = (fn(state().params, same, jax.random.key(k))[1] for k in (0, 0, 1))
  np.testing.assert_array_equal(first.per_example, again.per_example)
  assert len({float(v) for v in (*first.per_example, *other.per_example)}) == 12


def test_no_gradient_reaches_the_teacher():
  method = made(noise="swap", scale=0.5)

  def of_teacher(teacher):
    fn = method.loss_fn(state().replace(teacher=teacher))
    return fn(state().params, toy_batch(), KEY)[0]

  grads = jax.grad(of_teacher)(state().teacher)
  assert all(not np.any(np.asarray(g)) for g in jax.tree.leaves(grads))
  moved = jax.tree.map(lambda x: x + 0.5, state().teacher)
  assert abs(float(of_teacher(moved)) - float(of_teacher(state().teacher))) > 1e-3


def test_gaussian_noise_is_unbiased_in_the_gradient_and_has_its_strength():
  """Of the last layer's bias, whose Jacobian is the identity: mean as without, cov sigma^2 / B."""
  variance, draws, keys = 2.0, 2000, jax.random.split(jax.random.key(9), 2000)
  network, batch = toy_network(), toy_batch()

  def gradient(**kwargs):
    method = methods.self_distillation(network, spec=SPEC, teacher_network=network, **kwargs)
    grad = jax.grad(method.loss_fn(state()), has_aux=True)
    return lambda key: grad(state().params, batch, key)[0]["b3"]

  noisy = np.asarray(jax.jit(jax.vmap(gradient(noise="gaussian", scale=variance)))(keys))
  plain = np.asarray(gradient()(KEY))
  assert np.all(np.abs(noisy.mean(0) - plain) < 4 * noisy.std(0) / np.sqrt(draws))
  expected = variance / 6 * np.eye(3)
  np.testing.assert_allclose(np.cov(noisy.T), expected, atol=4 * variance / 6 * (2 / draws) ** 0.5)


def test_a_teacher_is_required_and_weights_by_labels_are_refused():
  with pytest.raises(InputError, match=r"config\.teacher is empty, but self_distillation needs"):
    made().init_state(state().replace(teacher=None))
  assert made().init_state(state()) is state()
  with pytest.raises(InputError, match="cannot wrap self_distillation: it has no single labelled"):
    methods.random_weighting(made())


def test_a_teacher_of_one_class_does_not_broadcast():
  method = methods.self_distillation(
    toy_network(), spec=SPEC, teacher_network=toy_network(num_classes=1)
  )
  params, stats = toy_network(num_classes=1).init(jax.random.key(2), toy_batch()["image"])
  other = state().replace(teacher={"params": params, "batch_stats": stats})
  with pytest.raises(InputError, match=r"config\.teacher is a network of 1 classes, .* have 3; n"):
    method.loss_fn(other)(state().params, toy_batch(), KEY)


@pytest.mark.parametrize(("kwargs", "message"), [
  ({"noise": "gausian"}, r"config\.method\.noise is 'gausian', .* did you mean 'gaussian'"),
  ({"swap_reading": "A"}, r"config\.method\.swap_reading is 'A', .* independent, shift, transp"),
  ({"scale_reading": "std"}, r"config\.method\.scale_reading is 'std', .* deviation, variance"),
  ({"loss": "mse"}, r"config\.method\.loss is 'mse', .* kl, squared"),
  ({"noise": "swap", "scale": 1.1}, r"config\.method\.scale is 1\.1; .* a probability"),
  ({"noise": "swap", "scale": float("nan")}, r"config\.method\.scale is nan"),
  ({"noise": "gaussian", "scale": -0.5}, r"config\.method\.scale is -0\.5; .* at least 0"),
  ({"scale": 0.5}, r"config\.method\.scale is 0\.5, but config\.method\.noise is empty"),
  ({"loss": "kl", "temperature": 0.0}, r"config\.method\.temperature is 0\.0; .* larger than 0"),
  ({"temperature": 4.0}, r"config\.method\.temperature is 4\.0, but .*'squared' has none"),
])  # fmt: skip
def test_bad_input(kwargs, message):
  with pytest.raises(InputError, match=message):
    made(**kwargs)

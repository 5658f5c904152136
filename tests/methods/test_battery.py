"""What every method must do, and the contract of each wrapper, by numbers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, TrainState, fold
from tests.methods.cases import CASES, SPEC, jitter, teacher_of
from tests.toy import toy_batch, toy_network


def make(name):
  network = toy_network()
  method, teacher = CASES[name](network)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = TrainState.create(jax.random.key(2), params, stats, teacher=teacher)
  return network, method, method.init_state(state)


OWN_GRADIENT = [name for name in CASES if CASES[name](toy_network())[0].value_and_grad is not None]


@functools.cache
def compiled(name):
  """What the battery asks of every method: its gradient is compiled once for all the questions."""
  _, method, state = make(name)
  return method, state, jax.jit(method.grad_fn(state))


@pytest.fixture(params=CASES)
def made(request):
  return compiled(request.param)


def test_gradient_is_finite_and_shaped_like_the_parameters(made):
  _, state, grad_fn = made
  (loss, aux), grads = grad_fn(state.params, toy_batch(), jax.random.key(0))
  assert loss.shape == () and loss.dtype == jnp.float32
  assert aux.per_example.shape == (6,)
  assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, state.params)
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
  assert any(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", OWN_GRADIENT)
def test_own_gradient_is_that_of_the_loss(name):
  method, state, grad_fn = compiled(name)
  key = jax.random.key(4)
  _, given = grad_fn(state.params, toy_batch(), key)
  plain = jax.jit(jax.grad(method.loss_fn(state), has_aux=True))
  derived, _ = plain(state.params, toy_batch(), key)
  for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(derived), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_same_key_same_loss_other_key_other_loss(made):
  _, state, grad_fn = made
  first, again, other = (
    grad_fn(state.params, toy_batch(), jax.random.key(k))[0][0] for k in (0, 0, 1)
  )
  assert first == again and first != other


def test_weight_one_changes_nothing_and_scaling_weights_changes_nothing(made):
  method, state, fn = made
  if "random_weighting" in method.wrappers:
    pytest.skip("draws its own weights")
  batch, key = toy_batch(), jax.random.key(0)
  w = jnp.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])
  (plain, _), plain_grads = fn(state.params, batch, key)
  (ones, _), ones_grads = fn(state.params, {**batch, "weight": jnp.ones(6)}, key)
  (weighted, _), weighted_grads = fn(state.params, {**batch, "weight": w}, key)
  (scaled, _), scaled_grads = fn(state.params, {**batch, "weight": 7 * w}, key)
  np.testing.assert_allclose(plain, ones, rtol=1e-6)
  for one, other in ((plain_grads, ones_grads), (weighted_grads, scaled_grads)):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(weighted, scaled, rtol=1e-5)
  assert abs(float(weighted) - float(plain)) > 1e-4


def test_state_keeps_its_structure_through_a_step(made):
  method, state, grad_fn = made
  batch, key = toy_batch(), jax.random.key(0)
  (_, aux), _ = grad_fn(state.params, batch, key)
  after = method.post_step(state, batch, aux, key)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert jax.tree.map(jnp.shape, after.method_state) == jax.tree.map(jnp.shape, state.method_state)


def test_predictors_are_logits_in_evaluation_mode(made):
  method, state, _ = made
  image = toy_batch()["image"]
  named = method.predictors(state)
  assert next(iter(named)) == "student"
  for predict in named.values():
    assert predict(image).shape == (6, 3)
    assert np.all(np.isfinite(jax.grad(lambda x, p=predict: jnp.sum(p(x)))(image)))


# --- weights -------------------------------------------------------------------------------------


def test_random_weighting_equals_a_hand_sum():
  network, method, state = make("random_weighting(erm)")
  batch, key = toy_batch(), jax.random.key(11)
  value, aux = method.loss_fn(state)(state.params, batch, key)
  z = np.asarray(jax.random.normal(fold(key, "random_weighting/weight"), (6,)))
  w = np.maximum(z, 0) / np.maximum(z, 0).sum()
  np.testing.assert_allclose(value, np.sum(w * np.asarray(aux.per_example)), rtol=1e-5)
  inner = methods.erm(network, spec=SPEC, first=jitter).loss_fn(state)
  np.testing.assert_allclose(inner(state.params, batch, key)[1].per_example, aux.per_example)


def test_random_weights_golden(golden):
  data = golden("reweighting")
  n = 0
  while f"batch/c{n}/random_weighting/weights" in data:
    prefix = f"batch/c{n}/random_weighting"
    with jax.enable_x64(True):
      w = methods.rectified_weights(jnp.asarray(data[f"{prefix}/normal_draws"]))
      np.testing.assert_allclose(w, data[f"{prefix}/weights"], rtol=1e-7, atol=1e-9)
      value = jnp.sum(w * data[f"batch/c{n}/per_example_ce"])
      np.testing.assert_allclose(value, data[f"{prefix}/value"], rtol=1e-7)
    n += 1
  assert n
  np.testing.assert_allclose(methods.rectified_weights(-jnp.ones(4)), 0.25)


def test_weights_travel_with_mixed_labels():
  """lam w_i CE(y_i) + (1 - lam) w_j CE(y_j), JSD by the mixed weight, over the sum of weights."""
  z = jax.random.normal(jax.random.key(0), (3, 3, 4))
  t = jnp.eye(4)[jnp.array([0, 2, 3])]
  perm, lam, w = np.array([2, 0, 1]), 0.3, np.array([0.5, 2.0, 1.0])
  value, _, _ = methods.noisymix_objective(
    z, t, t[perm], lam, jsd_weight=12.0, weight=jnp.asarray(w), partner_weight=jnp.asarray(w[perm])
  )
  log_p = np.asarray(jax.nn.log_softmax(z))
  p, y = np.exp(log_p), np.array([0, 2, 3])
  jsd = np.sum(p * (log_p - np.log(p.mean(1, keepdims=True))), axis=(1, 2)) / 3
  total = 0.0
  for i in range(3):
    j = perm[i]
    total += lam * w[i] * -log_p[i, 0, y[i]] + (1 - lam) * w[j] * -log_p[i, 0, y[j]]
    total += 12 * (lam * w[i] + (1 - lam) * w[j]) * jsd[i]
  np.testing.assert_allclose(value, total / w.sum(), rtol=1e-5)


def test_wrapper_refuses_a_method_without_labelled_terms_and_itself():
  network = toy_network()
  method = methods.erm(network, spec=SPEC)
  with pytest.raises(InputError, match="random_weighting wraps erm twice"):
    methods.random_weighting(methods.random_weighting(method))
  unlabelled = dataclasses.replace(method, labelled=False)
  with pytest.raises(InputError, match="random_weighting cannot wrap erm"):
    methods.random_weighting(unlabelled)


# --- averages ------------------------------------------------------------------------------------


def test_with_ema_averages_by_hand_and_predicts_with_it():
  method, state, grad_fn = compiled("with_ema(noisymix)")
  new = state.replace(
    params=jax.tree.map(lambda x: x + 1.0, state.params),
    batch_stats={"mean": jnp.ones(4)},
  )
  (_, aux), _ = grad_fn(state.params, toy_batch(), jax.random.key(0))
  after = method.post_step(new, toy_batch(), aux, jax.random.key(0))
  for a, b in zip(jax.tree.leaves(after.ema_params), jax.tree.leaves(state.params), strict=True):
    np.testing.assert_allclose(a, b + 0.1, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(after.ema_batch_stats["mean"], 0.1, rtol=1e-5)
  named = method.predictors(after)
  assert list(named) == ["student", "ema"]
  image = toy_batch()["image"]
  expected = toy_network().apply(after.ema_params, after.ema_batch_stats, image).logits
  np.testing.assert_allclose(named["ema"](image), expected, rtol=1e-6)


def test_two_owners_of_the_average_are_refused():
  method = compiled("with_ema(noisymix)")[0]
  with pytest.raises(InputError, match=r"with_ema wraps noisymix twice.*config\.wrappers"):
    methods.with_ema(methods.random_weighting(method))


# --- replays and their own gradient --------------------------------------------------------------


def test_free_at_with_two_replays_equals_two_hand_written_updates():
  network = toy_network()
  eps, lr = 0.03, 0.5
  method = methods.free_at(network, spec=SPEC, epsilon=eps, replays=2, first=augment.identity)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = method.init_state(TrainState.create(jax.random.key(2), params, stats))
  batch, key = toy_batch(), jax.random.key(0)
  y = jax.nn.one_hot(batch["label"], 3)

  hand, mean, delta = params, stats, jnp.zeros_like(batch["image"])
  for _ in range(2):

    def loss(p, d, mean=mean):
      out = network.apply(p, mean, jnp.clip(batch["image"] + d, 0, 1), train=True)
      ce = -jnp.sum(y * jax.nn.log_softmax(out.logits), -1)
      return jnp.mean(ce), out.batch_stats

    (g_p, g_d), mean = jax.grad(loss, argnums=(0, 1), has_aux=True)(hand, delta)
    hand = jax.tree.map(lambda p, g: p - lr * g, hand, g_p)
    delta = jnp.clip(delta + eps * jnp.sign(g_d), -eps, eps)

  for _ in range(2):
    (_, aux), grads = method.grad_fn(state)(state.params, batch, key)
    new = jax.tree.map(lambda p, g: p - lr * g, state.params, grads)
    state = state.replace(params=new, batch_stats=aux.batch_stats, step=state.step + 1)
    state = method.post_step(state, batch, aux, key)
  for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(hand), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(state.method_state["free_at"]["delta"], delta, atol=1e-7)
  np.testing.assert_allclose(state.batch_stats["mean"], mean["mean"], rtol=1e-5)


def test_free_at_uses_the_leading_rows_for_a_short_batch():
  _, method, state = make("free_at")
  short = {k: v[:4] for k, v in toy_batch().items()}
  (_, aux), _ = method.grad_fn(state)(state.params, short, jax.random.key(0))
  delta = method.post_step(state, short, aux, jax.random.key(0)).method_state["free_at"]["delta"]
  assert np.any(np.asarray(delta[:4]) != 0) and not np.any(np.asarray(delta[4:]))


# --- teacher -------------------------------------------------------------------------------------


def test_no_gradient_reaches_the_teacher():
  network, method, state = make("knowledge_distillation")

  def of_teacher(teacher):
    fn = method.loss_fn(state.replace(teacher=teacher))
    return fn(state.params, toy_batch(), jax.random.key(0))[0]

  grads = jax.grad(of_teacher)(teacher_of(network))
  assert all(not np.any(np.asarray(g)) for g in jax.tree.leaves(grads))
  moved = jax.tree.map(lambda x: x + 0.5, teacher_of(network))
  assert abs(float(of_teacher(moved)) - float(of_teacher(teacher_of(network)))) > 1e-4


def test_distillation_equals_its_formula():
  network, _, state = make("knowledge_distillation")
  method = methods.knowledge_distillation(
    network, spec=SPEC, teacher_network=network, temperature=3.0, alpha=0.8
  )
  batch = toy_batch()
  value, _ = method.loss_fn(state)(state.params, batch, jax.random.key(0))
  z = network.apply(state.params, state.batch_stats, batch["image"], train=True).logits
  t = network.apply(state.teacher["params"], state.teacher["batch_stats"], batch["image"]).logits
  log_s, log_t = jax.nn.log_softmax(z / 3), jax.nn.log_softmax(t / 3)
  kl = jnp.mean(jnp.sum(jnp.exp(log_t) * (log_t - log_s), -1))
  ce = -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(6), batch["label"]])
  np.testing.assert_allclose(value, 0.2 * ce + 0.8 * 9 * kl, rtol=1e-5)


def test_teacher_is_required():
  network = toy_network()
  method = methods.knowledge_distillation(network, spec=SPEC, teacher_network=network)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  with pytest.raises(InputError, match=r"config\.teacher is empty"):
    method.init_state(TrainState.create(jax.random.key(2), params, stats))


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda n: methods.free_at(n, spec=SPEC, epsilon=2.0), "epsilon is 2.0"),
    (lambda n: methods.free_at(n, spec=SPEC, step_size=-1.0), "step_size is -1.0"),
    (lambda n: methods.free_at(n, spec=SPEC, replays=0), "replays is 0"),
    (
      lambda n: methods.knowledge_distillation(n, spec=SPEC, teacher_network=n, temperature=0.0),
      "temperature is 0.0",
    ),
    (
      lambda n: methods.knowledge_distillation(n, spec=SPEC, teacher_network=n, alpha=1.5),
      "alpha is 1.5",
    ),
    (lambda n: methods.with_ema(methods.erm(n, spec=SPEC), decay=1.0), "decay is 1.0"),
    (lambda n: methods.erm(n, spec=SPEC, loss="cross_entropi"), "did you mean 'cross_entropy'"),
  ],
)
def test_bad_arguments(build, message):
  with pytest.raises(InputError, match=message):
    build(toy_network())

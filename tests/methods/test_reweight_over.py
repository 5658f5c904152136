"""The wrappers that weigh examples, over every kind of method: a value by hand for each."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.attacks import _gradient
from jaxnoise.core import InputError, Network, TrainState, fold
from jaxnoise.methods import _adversarial
from tests.methods.attacked import same
from tests.methods.cases import SPEC
from tests.methods.linear import linear_network
from tests.toy import toy_batch

NAME = "multiplicative_reweighting"
PERM, LAM = np.array([2, 0, 5, 3, 1, 4]), 0.3
INDEX = np.array([7, 0, 3, 11, 4, 2])
LOSS_SUM = jnp.array([0.5, 9, 2, 14, 0.25, 9, 9, 3, 9, 9, 9, 30.0])
SMOOTHED = {"loss": "label_smoothing", "loss_args": {"smoothing": 0.1, "variant": "off_target"}}
BATCH = {**toy_batch(), "index": jnp.asarray(INDEX)}
IMAGE, LABEL = np.asarray(BATCH["image"], "f8"), np.asarray(BATCH["label"])
KEY = jax.random.key(6)


def tapped() -> Network:
  """The linear network, with a tap at its input."""
  inner = linear_network()

  def apply(params, batch_stats, image, *, tap=lambda stage, h: h, **options):
    return inner.apply(params, batch_stats, tap(0, image), **options)

  return Network(inner.init, apply, 0)


NETWORK = tapped()


# --- what a loss is made of, by hand -------------------------------------------------------------


@functools.cache
def fresh():
  return TrainState.create(jax.random.key(2), *NETWORK.init(jax.random.key(1), BATCH["image"]))


def log_p(image, params=None, train=True, mean=0.0):
  """In train mode the running mean, of which a tenth is taken off, moves first."""
  w = np.asarray((fresh().params if params is None else params)["w"], "f8")
  pooled = image.mean((-3, -2))
  z = 4 * (pooled - 0.1 * (moved(image, mean) if train else mean)) @ w
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


def moved(image, mean=0.0):
  return 0.9 * mean + 0.1 * image.mean((-3, -2)).reshape(-1, 3).mean(0)


def cross_entropy(log_p, label=None):
  return -log_p[np.arange(6), LABEL if label is None else label]


def smoothed(log_p, label=None):
  """0.9 for the label, 0.05 for each of the other two."""
  return 0.85 * cross_entropy(log_p, label) - 0.05 * log_p.sum(-1)


def divergence(log_p, log_q):
  return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def mixture():
  return LAM * IMAGE + (1 - LAM) * IMAGE[PERM]


def mixed(loss, log_p):
  return {"own": loss(log_p), "other": loss(log_p, LABEL[PERM]), "lam": LAM}


def total(w, *, own, other=0.0, both=0.0, lam=1.0):
  """A weight stays with its label; what has no label has that of the mixture."""
  w_other = w[PERM]
  terms = lam * w * own + (1 - lam) * w_other * other + (lam * w + (1 - lam) * w_other) * both
  return np.sum(terms) / np.sum(w)


def erm_by_hand(state):
  return {"own": cross_entropy(log_p(IMAGE))}


def smoothing_by_hand(state):
  return {"own": smoothed(log_p(IMAGE))}


def mixup_by_hand(state):
  return mixed(cross_entropy, log_p(mixture()))


def mixup_smoothing_by_hand(state):
  return mixed(smoothed, log_p(mixture()))


def noisymix_by_hand(state):
  views = np.stack([IMAGE, IMAGE**2, IMAGE**2], axis=1)
  z = log_p(LAM * views + (1 - LAM) * views[PERM])
  middle = np.log(np.exp(z).mean(axis=1, keepdims=True))
  jsd = divergence(z, middle).mean(axis=1)
  assert jsd.min() > 1e-3
  return {**mixed(cross_entropy, z[:, 0]), "both": 12 * jsd}


def nrd_by_hand(state):
  """The teacher has other parameters than the student."""
  student, teacher = log_p(IMAGE), log_p(IMAGE, state.ema_params)
  label = np.eye(3)[LABEL]
  m = np.log(0.2 * label + 0.6 * np.exp(student) + 0.2 * np.exp(teacher))
  values = 0.2 * cross_entropy(m) + 0.6 * divergence(student, m) + 0.2 * divergence(teacher, m)
  return {"own": values / -(0.8 * np.log(0.8))}


def free_at_by_hand(state):
  delta = np.asarray(state.method_state["free_at"]["delta"])
  return {"own": cross_entropy(log_p(np.clip(IMAGE + delta, 0, 1)))}


def free_at_mixup_by_hand(state):
  delta = np.asarray(state.method_state["free_at"]["delta"])
  return mixed(cross_entropy, log_p(np.clip(mixture() + delta, 0, 1)))


def start():
  return 0.1 * np.sin(np.arange(IMAGE.size, dtype="f4")).reshape(IMAGE.shape)


def attacked(image, slope, step, centre=IMAGE):
  """One step along the slope [B, K] of the logits, which every pixel of a channel shares."""
  signs = np.sign(slope @ np.asarray(fresh().params["w"], "f8").T)
  return np.clip(np.clip(image + step * signs[:, None, None], centre - 0.1, centre + 0.1), 0, 1)


def probability(image):
  return np.exp(log_p(image, train=False))


def pgd_by_hand(state, step=0.06):
  slope = probability(IMAGE) - np.eye(3)[LABEL]
  return {"own": cross_entropy(log_p(attacked(IMAGE, slope, step)))}


def fast_by_hand(state):
  return pgd_by_hand(state, 0.125)


def pgd_mixup_by_hand(state, step=0.06):
  """The ascent is on the loss of the mixed labels, from the mixed image."""
  label = np.eye(3)[LABEL]
  slope = probability(mixture()) - LAM * label - (1 - LAM) * label[PERM]
  return mixed(cross_entropy, log_p(attacked(mixture(), slope, step, mixture())))


def fast_mixup_by_hand(state):
  return pgd_mixup_by_hand(state, 0.125)


def trades_mixup_by_hand(state):
  near = mixture() + start()
  slope = probability(near) - probability(mixture())
  natural = log_p(mixture())
  other = log_p(attacked(near, slope, 0.06, mixture()), mean=moved(mixture()))
  return {**mixed(cross_entropy, natural), "both": 6 * divergence(natural, other)}


def trades_by_hand(state):
  """The attacked images pass second, with the statistics that the natural ones left."""
  near = IMAGE + start()
  image = attacked(near, probability(near) - probability(IMAGE), 0.06)
  natural, other = log_p(IMAGE), log_p(image, mean=moved(IMAGE))
  return {"own": cross_entropy(natural), "both": 6 * divergence(natural, other)}


def views(rng, image):
  del rng
  return image**2


AT = {"epsilon": 0.1, "step_size": 0.06, "steps": 1}
FAST = {
  "erm": (methods.erm, {}, erm_by_hand),
  "mixup + label smoothing": (methods.mixup, SMOOTHED, mixup_smoothing_by_hand),
  "noisymix": (
    methods.noisymix,
    {"stages": (0,), "add_noise": 0.0, "mult_noise": 0.0, "policy": views},
    noisymix_by_hand,
  ),
  "nrd": (methods.nrd, {"teacher_policy": None}, nrd_by_hand),
  "free_at": (methods.free_at, {"epsilon": 0.1, "replays": 2}, free_at_by_hand),
  "trades": (methods.trades, AT, trades_by_hand),
}
# What has two parts of the above, or a third one with an attack.
SLOW = {
  "mixup": (methods.mixup, {}, mixup_by_hand),
  "label smoothing": (methods.erm, SMOOTHED, smoothing_by_hand),
  "free_at + mixup": (methods.free_at, {"epsilon": 0.1, "alpha": 1.0}, free_at_mixup_by_hand),
  "pgd_at": (methods.pgd_at, {**AT, "random_start": False}, pgd_by_hand),
  "fast_at": (methods.fast_at, {"epsilon": 0.1}, fast_by_hand),
  "pgd_at + mixup": (
    methods.pgd_at,
    {**AT, "random_start": False, "alpha": 1.0},
    pgd_mixup_by_hand,
  ),
  "fast_at + mixup": (methods.fast_at, {"epsilon": 0.1, "alpha": 1.0}, fast_mixup_by_hand),
  "trades + mixup": (methods.trades, {**AT, "alpha": 1.0}, trades_mixup_by_hand),
}
CASES = {**FAST, **SLOW}


@pytest.fixture(autouse=True)
def fixed_draws(monkeypatch):
  monkeypatch.setattr(augment, "sample_partners", lambda *_: jnp.asarray(PERM)[None])
  monkeypatch.setattr(augment, "sample_coefficient", lambda *_: jnp.asarray(LAM))
  monkeypatch.setattr(_adversarial, "normal_start", lambda *_: jnp.asarray(start()))
  monkeypatch.setattr(_gradient, "uniform_start", lambda rng, image, **_: jnp.zeros_like(image))


def wrap(inner, **arguments):
  return methods.multiplicative_reweighting(inner, NETWORK, spec=SPEC, **arguments)


def with_sum(state, loss_sum):
  return state.with_method_state(NAME, {"loss_sum": loss_sum})


def started(method):
  """The method's first state, its average and its perturbation moved away from where they start."""
  state = method.init_state(fresh())
  if state.ema_params is not None:
    state = state.replace(ema_params=jax.tree.map(lambda x: 0.5 * x, state.params))
  if "free_at" in state.method_state:
    state = state.with_method_state("free_at", {"delta": jnp.asarray(start())})
  return state


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(k, marks=pytest.mark.slow) for k in SLOW)])
def test_weights_over_a_method(name):
  """Equal sums are the bare method, a common constant is nothing; values of both wrappers by hand.

  An average around it is kept and trains alike; a method that has its own refuses it.
  """
  factory, arguments, terms = CASES[name]
  inner = factory(NETWORK, spec=SPEC, **arguments)
  method, drawn = wrap(inner, eta=0.25), methods.random_weighting(inner)
  assert method.wrappers == (NAME,) and method.replays == inner.replays
  state = started(method)

  @jax.jit
  def run(state, loss_sum, batch, key):
    bare = inner.grad_fn(state)(state.params, batch, key)
    weighted = method.grad_fn(with_sum(state, loss_sum))(state.params, batch, key)
    return bare, weighted, drawn.loss_fn(state)(state.params, batch, key)[0]

  bare, equal, at_random = run(state, jnp.full(12, 7.0), BATCH, KEY)
  same(equal, bare)
  _, ((value, aux), grads), _ = run(state, LOSS_SUM, BATCH, KEY)
  _, ((shifted, _), shifted_grads), _ = run(state, LOSS_SUM + 1024, BATCH, KEY)
  same((value, grads), (shifted, shifted_grads), rtol=0, atol=0)
  # What a method says of its examples is not weighted.
  same(aux.per_example, bare[0][1].per_example)

  w = np.exp(-0.25 * np.asarray(LOSS_SUM, "f8")[INDEX])
  expected = terms(state)
  np.testing.assert_allclose(value, total(w, **expected), rtol=1e-5)
  assert abs(value - bare[0][0]) > 1e-3
  z = np.asarray(jax.random.normal(fold(KEY, "random_weighting/weight"), (6,)), "f8")
  assert 1 < np.sum(z > 0) < 6
  np.testing.assert_allclose(at_random, total(np.maximum(z, 0), **expected), rtol=1e-5)

  averaged = methods.with_ema(method, decay=0.5)
  if name == "nrd":
    with pytest.raises(InputError, match="with_ema cannot wrap nrd: ema_params has an owner"):
      averaged.init_state(fresh())
    return
  assert averaged.loss_fn is method.loss_fn and averaged.value_and_grad is method.value_and_grad
  state = with_sum(averaged.init_state(fresh()), LOSS_SUM)
  moved = state.replace(params=jax.tree.map(lambda x: x + 1, state.params))
  after = averaged.post_step(moved, BATCH, aux, KEY)
  same(after.ema_params, jax.tree.map(lambda x: x + 0.5, state.params))
  np.testing.assert_array_equal(after.method_state[NAME]["loss_sum"], LOSS_SUM)
  if "free_at" in name:
    np.testing.assert_array_equal(after.method_state["free_at"]["delta"], aux.extra)
  passed = averaged.after_pass(after, {f"{NAME}/loss": jnp.ones(12)}, KEY)
  np.testing.assert_array_equal(passed.method_state[NAME]["loss_sum"], LOSS_SUM + 1)
  same(passed.ema_params, after.ema_params)


def test_both_wrappers_multiply_and_draw_anew_with_every_key():
  seen = lambda state: lambda params, batch, rng: batch["weight"]
  inner = dataclasses.replace(methods.erm(NETWORK, spec=SPEC), loss_fn=seen)
  w = np.asarray(jax.nn.softmax(-0.25 * LOSS_SUM[INDEX]))
  orders = (wrap(methods.random_weighting(inner), eta=0.25),
            methods.random_weighting(wrap(inner, eta=0.25)))  # fmt: skip
  assert orders[0].wrappers == ("random_weighting", NAME) == orders[1].wrappers[::-1]
  draws = []
  for seed in (6, 0):
    z = jax.random.normal(fold(jax.random.key(seed), "random_weighting/weight"), (6,))
    draws.append(np.maximum(z, 0) / np.maximum(z, 0).sum())
    for method in orders:
      state = with_sum(method.init_state(fresh()), LOSS_SUM)
      # Free-AT's replays of a batch share its key, and so its weights.
      for step in (0, 1):
        got = method.loss_fn(state.replace(step=step))({}, BATCH, jax.random.key(seed))
        np.testing.assert_allclose(got, w * draws[-1], rtol=1e-5)
  assert np.abs(draws[0] - draws[1]).max() > 0.1

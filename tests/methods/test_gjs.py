"""JS and GJS: the authors' training steps, and what only looking inside can show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import InputError, TrainState, fold
from tests.methods.cases import SPEC
from tests.methods.golden_steps import SPEC as STEP_SPEC
from tests.methods.golden_steps import take_steps, torch_network
from tests.toy import toy_batch, toy_network

KEY = jax.random.key(7)


def shift(rng, image):
  """Adds up to 1/16, another number for another key, without a draw to compile."""
  return image + (jax.random.key_data(rng)[1] % 4096).astype(image.dtype) / 65536


def make_state(network):
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  return TrainState.create(jax.random.key(2), params, stats)


def stored_views(transform, count):
  """In place of `augment.views`: several views are the image's channels, three for each."""
  one = augment.batched(transform)
  split = lambda image: jnp.stack(jnp.split(image[..., : 3 * count], count, axis=-1), axis=1)
  return lambda rng, image: one(rng, image)[:, None] if count == 1 else split(image)


def run(method, state):
  """(loss, aux) of the toy batch."""
  return jax.jit(method.loss_fn(state))(state.params, toy_batch(), KEY)


def program(method, state):
  """What the loss computes, as text: two that are equal need not both be compiled."""
  return str(jax.make_jaxpr(method.loss_fn(state))(state.params, toy_batch(), KEY))


def test_steps_equal_the_authors(golden, monkeypatch):
  monkeypatch.setattr(augment, "views", stored_views)
  data = golden("nrd")
  with jax.enable_x64(True):
    pi = data["step/gjs/pi"]
    method = methods.gjs(torch_network(), spec=STEP_SPEC, label_weight=float(pi[0]))
    take_steps(data, "gjs", method, ("x_student_v0", "x_student_v1"))


def hand(logits, label, weights, scaled=True):
  """[B] divergences of one-hot labels and [B, V, K] predictions, with plain numpy sums."""
  z = np.asarray(logits, float)
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  parts = np.concatenate([np.eye(z.shape[-1])[np.asarray(label)][:, None], p], axis=1)
  pi = np.asarray(weights)
  mixture = np.sum(pi[None, :, None] * parts, axis=1)
  entropy = lambda q: -np.sum(np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0), axis=-1)
  value = entropy(mixture) - np.sum(pi[None] * entropy(parts), axis=1)
  return value / (-(1 - pi[0]) * np.log(1 - pi[0])) if scaled else value


@pytest.mark.parametrize("separate", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_views_are_independent_and_pass_as_they_say(separate):
  """Each view has a crop and a policy draw of its own; two passes, or one for both views."""
  network, batch = toy_network(), toy_batch()
  state = make_state(network)
  weights = (0.2, 0.5, 0.3)
  method = methods.gjs(
    network, spec=SPEC, weights=weights, scaled=False, separate=separate, first=shift, policy=shift
  )
  loss, aux = run(method, state)

  @jax.jit
  def by_hand(image):
    views = augment.views(augment.compose(shift, shift), 2)(fold(KEY, "augment"), image)
    if not separate:
      return views, *network.apply(state.params, state.batch_stats, views, train=True)[:2]
    one = network.apply(state.params, state.batch_stats, views[:, 0], train=True)
    two = network.apply(state.params, one.batch_stats, views[:, 1], train=True)
    return views, jnp.stack([one.logits, two.logits], axis=1), two.batch_stats

  views, logits, after = by_hand(batch["image"])
  assert np.all(np.abs(np.mean(views[:, 0] - views[:, 1], axis=(1, 2, 3))) > 1e-5)
  expected = hand(logits, batch["label"], weights, scaled=False)
  np.testing.assert_allclose(aux.per_example, expected, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(loss, expected.mean(), rtol=1e-4)
  np.testing.assert_allclose(aux.batch_stats["mean"], after["mean"], rtol=1e-5)
  total, count = aux.metrics["jsd"]
  between = losses.jensen_shannon(logits, weights=(0.625, 0.375))
  np.testing.assert_allclose(total / count, jnp.mean(between), rtol=1e-4)


def test_the_label_s_weight_leaves_the_views_equal_shares():
  network = toy_network()
  given = {"spec": SPEC, "views": 3, "separate": False}
  methods_of = [
    methods.gjs(network, **given, **weights)
    for weights in ({"label_weight": 0.25}, {"weights": (0.25, 0.25, 0.25, 0.25)}, {})
  ]
  same, again, other = (program(method, make_state(network)) for method in methods_of)
  assert same == again != other


def test_js_is_erm_and_gjs_with_one_view():
  network = toy_network()
  state = make_state(network)
  given = {"spec": SPEC, "label_weight": 0.7, "first": shift, "policy": shift}
  js = methods.js(network, **given)
  plain = methods.erm(
    network, spec=SPEC, loss="js", loss_args={"label_weight": 0.7}, first=shift, policy=shift
  )
  assert program(js, state) == program(plain, state)
  assert program(js, state) != program(methods.js(network, scaled=False, **given), state)
  (value, aux), (other, of_gjs) = run(js, state), run(methods.gjs(network, views=1, **given), state)
  np.testing.assert_allclose(value, other, rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, of_gjs.per_example, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda n: methods.js(n, spec=SPEC, label_weight=1.0), "label_weight is 1.0"),
    (lambda n: methods.gjs(n, spec=SPEC, label_weight=0.0), "label_weight is 0.0"),
    (lambda n: methods.gjs(n, spec=SPEC, views=0), "views is 0"),
    (lambda n: methods.gjs(n, spec=SPEC, weights=(0.3, 0.7)), "must hold 3 numbers"),
    (lambda n: methods.gjs(n, spec=SPEC, weights=(0.3, 0.3, 0.3)), "sum to 1, not to 0.9"),
    (lambda n: methods.gjs(n, spec=SPEC, weights=(0.3, 0.8, -0.1)), r"weights\[2\] is -0.1"),
    (lambda n: methods.gjs(n, spec=SPEC, weights=(0.3, 0.7, float("nan"))), r"weights\[2\] is nan"),
    (lambda n: methods.gjs(n, spec=SPEC, weights=(0.0, 0.5, 0.5)), "the label's, must lie"),
  ],
)
def test_bad_arguments(build, message):
  with pytest.raises(InputError, match=message):
    build(toy_network())

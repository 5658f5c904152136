"""ELR: the whole method against the authors' numbers, its table, its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from jaxnoise.training.accumulate import accumulated
from tests.methods.cases import SPEC
from tests.toy import toy_network

# Its parameters are the logits: what a method does with them is then all there is to see.
GIVEN = Network(
  lambda rng, image: (jnp.zeros(()), {}),
  lambda params, batch_stats, image, **_: Output(params, batch_stats, {}),
  0,
)


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_three_steps_golden(golden, case):
  """Loss, gradient and table over three steps: the table moves before it is used, and is kept."""
  data = {k.split("/")[-1]: v for k, v in golden("elr").items() if k.startswith(f"elr/{case}/")}
  with jax.enable_x64(True):
    spec = Spec(int(data["num_examples"]), int(data["num_classes"]), (1, 1, 1))
    method = methods.elr(
      GIVEN, spec=spec, elr_weight=float(data["lambda"]), beta=float(data["beta"])
    )
    state = method.init_state(TrainState.create(jax.random.key(0), jnp.zeros(()), {}))

    @jax.jit
    def step(state, logits, batch):
      key = jax.random.key(1)
      (loss, aux), grad = method.grad_fn(state)(logits, batch, key)
      return method.post_step(state, batch, aux, key), loss, grad

    for t in range(3):
      batch = {
        "image": jnp.zeros((len(data["labels"][t]), 1, 1, 1)),
        "label": jnp.asarray(data["labels"][t]),
        "index": jnp.asarray(data["index"][t]),
      }
      state, loss, grad = step(state, jnp.asarray(data["logits"][t]), batch)
      np.testing.assert_allclose(loss, data["loss"][t], rtol=1e-9)
      np.testing.assert_allclose(grad, data["grad_logits"][t], rtol=1e-7, atol=1e-12)
      table = state.method_state["elr"]["targets"]
      np.testing.assert_allclose(table, data["target_state_after"][t], rtol=1e-9, atol=1e-15)


# The logits are the image, which is split as a batch is.
SHOWN = GIVEN._replace(
  apply=lambda params, stats, image, **_: Output(params * image[:, 0, 0], stats, {})
)


def shown():
  method = methods.elr(SHOWN, spec=SPEC)
  state = method.init_state(TrainState.create(jax.random.key(0), jnp.ones(()), {}))
  logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  batch = {
    "image": jnp.asarray(logits[:, None, None]),
    "label": jnp.arange(6) % 3,
    "index": jnp.array([11, 3, 0, 7, 5, 2]),
  }
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  return method, state, batch, p


def test_weights_scale_both_terms_and_rows_go_where_they_belong():
  method, state, batch, p = shown()
  w, key = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 1.5], np.float32), jax.random.key(3)
  fn = jax.jit(method.loss_fn(state))
  loss, aux = fn(state.params, {**batch, "weight": jnp.asarray(w)}, key)
  t = 0.3 * p
  ce = -np.log(p[np.arange(6), np.arange(6) % 3])
  values = ce + 3 * np.log(1 - np.sum(t * p, 1))
  np.testing.assert_allclose(loss, np.sum(w * values) / np.sum(w), rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, ce, rtol=1e-5)
  after = method.post_step(state, batch, aux, key).method_state["elr"]["targets"]
  expected = np.zeros((12, 3))
  expected[np.asarray(batch["index"])] = t
  np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_accumulation_keeps_rows_in_order():
  method, state, batch, p = shown()
  grad_fn = jax.jit(accumulated(method.grad_fn, 2)(state))
  (_, aux), _ = grad_fn(state.params, batch, jax.random.key(1))
  np.testing.assert_allclose(aux.extra, 0.3 * p, rtol=1e-5)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [({"elr_weight": -1.0}, "elr_weight is -1.0"), ({"beta": 1.0}, "beta is 1.0; it must lie in")],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.elr(toy_network(), spec=SPEC, **arguments)

"""NRD's divergence, its author's pointwise losses, and ELR's term against the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses

VIEWS = {1: range(5), 2: range(5, 7)}  # student views -> settings


def _nrd(z, teacher, targets, weights):
  """(values, gradients) for weights [S, 3 or 4]: scaled, unscaled."""

  def one(pi, scaled):
    # The teacher has no gradient in the author's code: it is closed over.
    value, pull = jax.vjp(
      lambda x: losses.nrd(x, teacher, targets, weights=pi, scaled=scaled), z
    )
    return value, pull(jnp.ones_like(value))[0]

  return {
    "scaled": jax.vmap(lambda pi: one(pi, True))(weights),
    "unscaled": jax.vmap(lambda pi: one(pi, False))(weights),
  }


@pytest.mark.parametrize(
  ("cases", "x64"),
  [
    pytest.param((0, 2), True, id="10-float64"),
    pytest.param((1,), True, id="100-float64", marks=pytest.mark.slow),
    pytest.param((3,), True, id="14-float64", marks=pytest.mark.slow),
    pytest.param((0, 2), False, id="10-float32", marks=pytest.mark.slow),
  ],
)
def test_nrd(golden, cases, x64):
  data = golden("nrd")
  assert int(data["jsd/num_settings"]) == 7 and int(data["jsd/num_cases"]) == 4
  stack = lambda name: np.concatenate([data[f"jsd/c{n}/{name}"] for n in cases])
  z, teacher, labels = (
    np.stack([stack("student_logits_v0"), stack("student_logits_v1")], axis=1),
    stack("teacher_logits"),
    stack("labels"),
  )
  tolerance = {"rtol": 1e-7, "atol": 1e-9} if x64 else {"rtol": 1e-5, "atol": 1e-6}
  grad_tolerance = tolerance if x64 else {"rtol": 0.0, "atol": 1e-6}
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    array = lambda x: jnp.asarray(x, dtype)
    targets = array(np.eye(z.shape[-1])[labels])
    for views, settings in VIEWS.items():
      weights = array(np.stack([data[f"jsd/h{s}/weights"] for s in settings]))
      assert {int(data[f"jsd/h{s}/num_student_views"]) for s in settings} == {views}
      logits = array(z if views == 2 else z[:, 0])
      found = jax.jit(_nrd)(logits, array(teacher), targets, weights)
      for scale, (value, grad) in jax.tree.map(np.asarray, found).items():
        assert value.dtype == grad.dtype == dtype
        start = 0
        for n in cases:
          size = len(data[f"jsd/c{n}/labels"])
          rows = slice(start, start + size)
          start += size
          for row, s in enumerate(settings):
            key = f"jsd/c{n}/h{s}/{scale}"
            np.testing.assert_allclose(
              value[row, rows], data[f"{key}/per_example"], **tolerance, err_msg=key
            )
            expected = np.swapaxes(data[f"{key}/grad_student"], 0, 1)
            np.testing.assert_allclose(
              grad[row, rows].reshape(expected.shape) / size,
              expected,
              **grad_tolerance,
              err_msg=key,
            )


def test_pointwise_and_distillation(golden):
  data = golden("nrd")
  settings = range(int(data["kd/num_settings"]))
  with jax.enable_x64(True):
    z, teacher = jnp.asarray(data["kd/student_logits"]), jnp.asarray(data["kd/teacher_logits"])
    targets = jnp.asarray(np.eye(z.shape[1])[data["kd/labels"]])

    @jax.jit
    def run(z):
      fns = {
        "pointwise/mae": (lambda x: losses.mean_absolute_error(x, targets, scale=2.0), "grad"),
        "pointwise/rce": (lambda x: losses.reverse_cross_entropy(x, targets), "grad"),
      }
      for s in settings:
        tau = float(data[f"kd/h{s}/temperature"])
        fns[f"kd/h{s}/kl_div"] = (
          lambda x, tau=tau: losses.hinton(x, teacher, temperature=tau),
          "grad_student",
        )
      out = {}
      for key, (fn, name) in fns.items():
        value, pull = jax.vjp(fn, z)
        out[f"{key}/per_example"] = value
        out[f"{key}/{name}"] = pull(jnp.full_like(value, 1 / len(value)))[0]
      return out

    for key, value in run(z).items():
      np.testing.assert_allclose(value, data[key], rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("case", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_elr(golden, case):
  data = {k: v for k, v in golden("elr").items() if k.startswith(f"elr/c{case}/")}
  get = lambda name: data[f"elr/c{case}/{name}"]
  beta, weight, count = float(get("beta")), float(get("lambda")), int(get("num_classes"))
  with jax.enable_x64(True):

    @jax.jit
    def step(table, index, logits, labels):
      history = losses.elr_update(table[index], logits, beta=beta)
      targets = jax.nn.one_hot(labels, count, dtype=logits.dtype)

      def loss(z):
        return jnp.mean(losses.cross_entropy(z, targets) + weight * losses.elr(z, history))

      return table.at[index].set(history), jax.value_and_grad(loss)(logits)

    table = jnp.zeros((int(get("num_examples")), count))
    for t in range(3):
      table, (value, grad) = step(table, *(get(n)[t] for n in ("index", "logits", "labels")))
      np.testing.assert_allclose(table, get("target_state_after")[t], rtol=1e-7, atol=1e-9)
      np.testing.assert_allclose(value, get("loss")[t], rtol=1e-7, atol=1e-9)
      np.testing.assert_allclose(grad, get("grad_logits")[t], rtol=1e-7, atol=1e-9)


def test_elr_plus_history_and_term(golden):
  """What ELR+ takes from here: the history without a clip, and the term on a mixture of two."""
  data = {k: v for k, v in golden("elr").items() if k.startswith("elr_plus/c0/")}
  get = lambda name: data[f"elr_plus/c0/{name}"]
  beta, weight, ramp = float(get("beta")), float(get("lambda")), int(get("coef_step"))
  with jax.enable_x64(True):

    @jax.jit
    def step(table, index, history_logits, logits, soft_labels, perm, share, iteration):
      history = losses.elr_update(table[index], history_logits, beta=beta, clip=None)
      mixed = share * history + (1 - share) * history[perm]
      rise = jnp.exp(-5 * (1 - jnp.minimum(iteration, ramp) / ramp) ** 2)

      def loss(z):
        values = losses.cross_entropy(z, soft_labels)
        return jnp.mean(values + rise * weight * losses.elr(z, mixed))

      return table.at[index].set(history), mixed, jax.value_and_grad(loss)(logits)

    names = ("index", "history_logits", "logits", "soft_labels", "mix_perm", "mix_lambda")
    table = jnp.zeros((int(get("num_examples")), int(get("num_classes"))))
    for t in range(3):
      arguments = [jnp.asarray(get(n)[t]) for n in (*names, "iteration")]
      table, mixed, (value, grad) = step(table, *arguments)
      np.testing.assert_allclose(table, get("pred_hist_after")[t], rtol=1e-7, atol=1e-9)
      np.testing.assert_allclose(mixed, get("q_mixed_target")[t], rtol=1e-7, atol=1e-9)
      np.testing.assert_allclose(value, get("loss")[t], rtol=1e-7, atol=1e-9)
      np.testing.assert_allclose(grad, get("grad_logits")[t], rtol=1e-7, atol=1e-9)

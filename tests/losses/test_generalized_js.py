"""JS, GJS and NRD's divergence: closed forms, limits, order of weights, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from jaxnoise.core.errors import InputError

K = 4
RNG = np.random.default_rng(1)
VIEWS = 1.5 * RNG.normal(size=(3, 2, K))
TEACHER = 1.5 * RNG.normal(size=(3, K))
LABEL = np.eye(K)[[2, 0, 3]]
SOFT = RNG.dirichlet(np.ones(K), 3)
PI = (0.5, 0.3, 0.2)
SCALE = -1 / (0.5 * np.log(0.5))


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def _entropy(p):
  return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)


def _expected(weights, *distributions):
  """H(m) - sum_j pi_j H(d^j), the other form of the divergence."""
  mixture = sum(w * d for w, d in zip(weights, distributions, strict=True))
  parts = (w * _entropy(d) for w, d in zip(weights, distributions, strict=True))
  return _entropy(mixture) - sum(parts)


P = _softmax(VIEWS)
P_T = _softmax(TEACHER)


@pytest.fixture(scope="module")
def found():
  """Everything that the tests below compare, from one program in float64."""

  def run(views, teacher, label, soft):
    z = views[:, 0]
    pair = jnp.stack([z, teacher], axis=1)
    taught = lambda x: jnp.sum(losses.nrd(x, teacher, label, weights=PI, scaled=False))
    both = lambda x: jnp.sum(losses.gjs(x, soft, weights=PI, scaled=False))
    return {
      "js_to_ce": losses.js(z, label, label_weight=1e-6),
      "js_to_mae": losses.js(z, label, label_weight=1 - 1e-12, floor=1e-30),
      "js": losses.js(z, soft, label_weight=0.3, scaled=False),
      "js_scaled": losses.js(z, soft, label_weight=0.5),
      "gjs": losses.gjs(views, soft, weights=PI, scaled=False),
      "gjs_scaled": losses.gjs(views, soft, weights=list(PI)),
      "gjs_slope": jax.grad(both)(views),
      "gjs_equal": losses.gjs(views, soft, label_weight=0.4, scaled=False),
      "gjs_default": losses.gjs(views, soft),
      "gjs_one_view": losses.gjs(views[:, :1], soft, label_weight=0.3, scaled=False),
      "label_term": losses.gjs_no_consistency(
        views, soft, weights=PI, scaled=False, renormalise=True
      ),
      "consistency": losses.jensen_shannon(views, weights=(0.6, 0.4)),
      "nrd": losses.nrd(z, teacher, soft, weights=PI, scaled=False),
      "nrd_scaled": losses.nrd(z, teacher, soft, weights=PI),
      "nrd_no_teacher": losses.nrd(z, teacher, soft, weights=(0.3, 0.7, 0.0), scaled=False),
      "nrd_no_label": losses.nrd(z, teacher, soft, weights=(0.0, 0.7, 0.3), scaled=False),
      "nrd_two": losses.nrd(views, teacher, soft, weights=PI, scaled=False),
      "nrd_two_each": losses.nrd(views, teacher, soft, weights=(0.4, 0.1, 0.3, 0.2), scaled=False),
      "nrd_slope": jax.grad(taught)(z),
      "teacher_slope": jax.grad(
        lambda x: jnp.sum(losses.nrd(z, x, soft, weights=PI, scaled=False))
      )(teacher),
      "pair_slope": jax.grad(both)(pair),
      "unbatched": losses.nrd(z[0], teacher[0], soft[0], weights=PI, scaled=False),
    }

  with jax.enable_x64(True):
    arrays = [jnp.asarray(x) for x in (VIEWS, TEACHER, LABEL, SOFT)]
    return jax.tree.map(np.asarray, jax.jit(run)(*arrays))


def _close(actual, expected, rtol=1e-9):
  np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-12)


def _through_softmax(p, g):
  return p * (g - np.sum(p * g, axis=-1, keepdims=True))


def test_closed_forms(found):
  p1, p2 = P[:, 0], P[:, 1]
  _close(found["js"], _expected((0.3, 0.7), SOFT, p1))
  _close(found["js_scaled"], SCALE * _expected((0.5, 0.5), SOFT, p1))
  _close(found["gjs"], _expected(PI, SOFT, p1, p2))
  _close(found["gjs_scaled"], SCALE * _expected(PI, SOFT, p1, p2))
  _close(found["gjs_equal"], _expected((0.4, 0.3, 0.3), SOFT, p1, p2))
  scale = -1 / (0.7 * np.log(0.7))
  _close(found["gjs_default"], scale * _expected((0.3, 0.35, 0.35), SOFT, p1, p2))
  _close(found["gjs_one_view"], found["js"])


def test_limits_of_the_scaled_divergence(found):
  p_y = np.sum(P[:, 0] * LABEL, axis=1)
  _close(found["js_to_ce"], -np.log(p_y), rtol=1e-4)
  # The limit is approached as slowly as 1 / log(1 - w), and not with the usual floor.
  np.testing.assert_allclose(found["js_to_mae"], 1 - p_y, rtol=0.1)


def test_gradient_is_weight_times_log_ratio(found):
  mixture = PI[0] * SOFT + PI[1] * P[:, 0] + PI[2] * P[:, 1]
  for v in range(2):
    g = PI[1 + v] * np.log(P[:, v] / mixture)
    _close(found["gjs_slope"][:, v], _through_softmax(P[:, v], g), rtol=1e-8)


def test_gjs_is_a_label_term_and_a_consistency_term(found):
  _close(found["gjs"], found["label_term"] + 0.5 * found["consistency"], rtol=1e-8)


def test_nrd_weighs_label_student_teacher_in_this_order(found):
  p1, p2 = P[:, 0], P[:, 1]
  _close(found["nrd"], _expected(PI, SOFT, p1, P_T))
  _close(found["nrd_scaled"], SCALE * _expected(PI, SOFT, p1, P_T))
  _close(found["unbatched"], found["nrd"][0])
  _close(found["nrd_two"], _expected((0.5, 0.15, 0.15, 0.2), SOFT, p1, p2, P_T))
  _close(found["nrd_two_each"], _expected((0.4, 0.1, 0.3, 0.2), SOFT, p1, p2, P_T))


def test_nrd_without_a_teacher_is_js(found):
  _close(found["nrd_no_teacher"], found["js"])
  _close(found["nrd_no_label"], _expected((0.7, 0.3), P[:, 0], P_T))


def test_nrd_gradients(found):
  mixture = PI[0] * LABEL + PI[1] * P[:, 0] + PI[2] * P_T
  g = PI[1] * np.log(P[:, 0] / mixture)
  _close(found["nrd_slope"], _through_softmax(P[:, 0], g), rtol=1e-8)
  # Nothing is cut here: with a gradient for the teacher it is GJS.
  _close(found["teacher_slope"], found["pair_slope"][:, 1], rtol=1e-8)
  assert np.max(np.abs(found["teacher_slope"])) > 1e-3


def test_bounds_and_finite_gradients_in_float32():
  """Agreement costs nothing, contradiction the weights' entropy; no gradient breaks on the way."""
  z = jnp.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4], [0.0, 0.0, 0.0]])
  t = jnp.eye(3)[jnp.array([0, 2, 0])]

  @jax.jit
  def run(z):
    fn = lambda x, y: losses.nrd(x, y, t, weights=PI, scaled=False)
    value, pull = jax.vjp(fn, z, z)
    return value, pull(jnp.ones_like(value))

  value, grads = run(z)
  np.testing.assert_allclose(value[:2], [0.0, np.log(2)], atol=1e-6)
  assert all(np.all(np.isfinite(g)) for g in grads)


@pytest.mark.parametrize(
  ("call", "says"),
  [
    (lambda z, t: losses.gjs(z, t, weights=(0.3, 0.7)), r"weights has 2 .* 3 numbers \(label, vi"),
    (lambda z, t: losses.gjs(z, t, weights=(0.3, 0.3, 0.3)), r"\(0.3, 0.3, 0.3\), .* sums to 0.9;"),
    (lambda z, t: losses.gjs(z, t, weights=(0.5, 0.7, -0.2)), "none below 0"),
    (lambda z, t: losses.gjs(z, t, weights=(0.3, 0.3, float("nan"))), "nan"),
    (lambda z, t: losses.gjs(z, t, weights=(0.3, 0.3, 0.4), label_weight=0.3), "give one"),
    (lambda z, t: losses.gjs(z, t, label_weight=1.5), "label_weight is 1.5"),
    (lambda z, t: losses.gjs(z, t, weights=(0.0, 0.5, 0.5)), "scaled=False"),
    (lambda z, t: losses.gjs(z, t, floor=0.0), "floor is 0"),
    (
      lambda z, t: losses.gjs_no_consistency(
        z, t, weights=(1.0, 0.0, 0.0), scaled=False, renormalise=True
      ),
      "no weight to renormalise",
    ),
    (lambda z, t: losses.js(t, t, label_weight=1.0), "mean_absolute_error"),
    (lambda z, t: losses.nrd(t, t, t, weights=(0.2, 0.2, 0.2)), "sums to 0.6"),
    (lambda z, t: losses.nrd(z, t, t, weights=(0.2, 0.8)), r"2 entries; .* 4 numbers"),
    (lambda z, t: losses.nrd(z[..., None, :], t, t), r"shape \(3, 2, 1, 4\) for targets \(3, 4\)"),
  ],
)
def test_bad_arguments(call, says):
  with pytest.raises(InputError, match=says):
    jax.eval_shape(call, jnp.zeros((3, 2, K)), jnp.zeros((3, K)))


def test_weights_that_are_only_almost_a_distribution_pass():
  """Float32's own rounding, and an array of NumPy's, are no error and lift no precision."""
  weights = np.full(3, 1 / 3, np.float32)
  z, t = jnp.zeros((1, 2, K)), jnp.zeros((1, K))
  out = jax.eval_shape(lambda x: losses.gjs(x, t, weights=weights), z)
  with jax.enable_x64(True):
    double = jax.eval_shape(
      lambda x: losses.gjs(x, t, weights=weights.astype(np.float64)), z
    )
  assert out.dtype == double.dtype == jnp.float32

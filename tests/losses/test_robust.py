"""What robust losses are to one another, to closed forms, and near the ends of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from jaxnoise.core.errors import InputError

K = 4
RNG = np.random.default_rng(0)
Z = 2 * RNG.normal(size=(3, K))
LABEL = np.eye(K)[[2, 0, 3]]
SOFT = RNG.dirichlet(np.ones(K), 3)
OTHER = RNG.dirichlet(np.ones(K), 3)
P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
P_Y = (P * LABEL).sum(1)
# Mixing losses and mixing targets are the same for these.
LINEAR = {
  "mean_absolute_error": {},
  "generalized_cross_entropy": {},
  "normalized_cross_entropy": {},
}


@pytest.fixture(scope="module")
def found():
  """Everything that the tests below compare, from one program in float64."""

  def run(z, label, soft, other):
    entropy = lambda x: losses.soft_bootstrap(x, label, prediction_weight=1.0)
    out = {
      "ce": losses.cross_entropy(z, label),
      "gce_small_q": losses.generalized_cross_entropy(z, label, q=1e-9),
      "gce_half": losses.generalized_cross_entropy(z, label, q=0.5),
      "gce_one": losses.generalized_cross_entropy(z, label, q=1.0),
      "mae": losses.mean_absolute_error(z, label),
      "smooth_kl": losses.label_smoothing(z, soft, smoothing=0.3),
      "smooth_ce": losses.label_smoothing(z, soft, smoothing=0.3, variant="cross_entropy"),
      "smooth_off": losses.label_smoothing(z, label, smoothing=0.3, variant="off_target"),
      "smooth_kl_none": losses.label_smoothing(z, label, smoothing=0.0),
      "smooth_slope_in_targets": jax.grad(
        lambda t: jnp.sum(losses.label_smoothing(z, t, smoothing=0.0))
      )(label),
      "soft_each": losses.soft_bootstrap(
        z, label, prediction_weight=jnp.array([0.0, 0.3, 1.0], z.dtype)
      ),
      "entropy_slope": jax.grad(lambda x: jnp.sum(entropy(x)))(z),
      "stopped_slope": jax.grad(
        lambda x: jnp.sum(
          losses.soft_bootstrap(x, label, prediction_weight=0.4, stop_gradient=True)
        )
      )(z),
      "hard": losses.hard_bootstrap(z, label, prediction_weight=0.3),
      "nce": losses.normalized_cross_entropy(z, label),
      "rce": losses.reverse_cross_entropy(z, label),
      "rce_soft": losses.reverse_cross_entropy(z, soft),
      "sce": losses.symmetric_cross_entropy(z, label, alpha=0.3, beta=0.7),
      "nce_rce": losses.nce_rce(z, label, alpha=0.3, beta=0.7),
    }
    for name, arguments in LINEAR.items():
      fn = getattr(losses, name)
      parts = 0.3 * fn(z, soft, **arguments) + 0.7 * fn(z, other, **arguments)
      out[name] = fn(z, 0.3 * soft + 0.7 * other, **arguments), parts
    return out

  with jax.enable_x64(True):
    arrays = [jnp.asarray(x) for x in (Z, LABEL, SOFT, OTHER)]
    return jax.tree.map(np.asarray, jax.jit(run)(*arrays))


def _close(actual, expected, rtol=1e-9):
  np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-12)


def test_generalized_cross_entropy_between_its_ends(found):
  _close(found["gce_small_q"], -np.log(P_Y), rtol=1e-7)
  _close(found["gce_half"], 2 * (1 - np.sqrt(P_Y)))
  _close(found["gce_one"], 1 - P_Y)
  _close(found["mae"], 1 - P_Y)


def test_label_smoothing_variants(found):
  q = 0.7 * SOFT + 0.3 / K
  _close(found["smooth_ce"], -(q * np.log(P)).sum(1))
  _close(found["smooth_kl"], (q * (np.log(q) - np.log(P))).sum(1))
  off = np.where(LABEL == 1, 0.7, 0.3 / (K - 1))
  _close(found["smooth_off"], -(off * np.log(P)).sum(1))
  _close(found["smooth_kl_none"], found["ce"])
  assert np.all(np.isfinite(found["smooth_slope_in_targets"]))


def test_bootstrapping(found):
  weight = np.array([[0.0], [0.3], [1.0]])
  _close(found["soft_each"], -(((1 - weight) * LABEL + weight * P) * np.log(P)).sum(1))
  # The whole slope of the entropy, dH/dz = -p (log p + H): the target has a gradient.
  entropy = -(P * np.log(P)).sum(1, keepdims=True)
  _close(found["entropy_slope"], -P * (np.log(P) + entropy))
  _close(found["stopped_slope"], P - (0.6 * LABEL + 0.4 * P))
  target = 0.7 * LABEL + 0.3 * np.eye(K)[P.argmax(1)]
  _close(found["hard"], -(target * np.log(P)).sum(1))


def test_normalised_and_reverse_cross_entropy(found):
  _close(found["nce"], np.log(P_Y) / np.log(P).sum(1))
  _close(found["rce"], -np.log(1e-4) * (1 - P_Y))
  _close(found["rce_soft"], -(P * np.log(SOFT)).sum(1))
  _close(found["sce"], 0.3 * found["ce"] + 0.7 * found["rce"])
  _close(found["nce_rce"], 0.3 * found["nce"] + 0.7 * found["rce"])


@pytest.mark.parametrize("name", LINEAR)
def test_linear_in_the_target(found, name):
  mixed, parts = found[name]
  _close(mixed, parts)


def test_digits_survive_where_p_is_one():
  """Certain and right, or certain and wrong: float32 has no digit of 1 - p left, the losses do."""
  z = jnp.array([[40.0, 0.0], [0.0, 40.0]])
  t = jnp.array([[1.0, 0.0], [1.0, 0.0]])
  fns = {
    "mae": losses.mean_absolute_error,
    "rce": lambda z, t: losses.reverse_cross_entropy(z, t, floor=0.0),
    "gce": lambda z, t: losses.generalized_cross_entropy(z, t, floor=0.0),
  }

  @jax.jit
  def run(z):
    out = {}
    for name, fn in fns.items():
      value, pull = jax.vjp(lambda x, fn=fn: fn(x, t), z)
      out[name] = value, pull(jnp.ones_like(value))[0]
    return out

  found = jax.tree.map(np.asarray, run(z))
  rest = np.exp(-40.0)
  slope = np.array([[-rest, rest], [-rest, rest]])
  for name, scale in (("mae", 1.0), ("rce", -np.log(1e-4))):
    value, grad = found[name]
    np.testing.assert_allclose(value, scale * np.array([rest, 1.0]), rtol=1e-5)
    np.testing.assert_allclose(grad, scale * slope, rtol=1e-5)
  value, grad = found["gce"]
  # A wrong and certain example keeps p^q; one below the default floor has no gradient.
  np.testing.assert_allclose(value[1], (1 - rest**0.7) / 0.7, rtol=1e-6)
  np.testing.assert_allclose(grad[1], rest**0.7 * np.array([-1.0, 1.0]), rtol=1e-5)
  floored = jax.jit(
    jax.grad(lambda x: jnp.sum(losses.generalized_cross_entropy(x, t)))
  )(z)
  np.testing.assert_array_equal(floored[1], 0.0)


@pytest.mark.parametrize(
  ("call", "says"),
  [
    (lambda z: losses.label_smoothing(z, z, smoothing=1.5), r"smoothing is 1.5; .* \[0, 1\]"),
    (lambda z: losses.label_smoothing(z, z, variant="kll"), "did you mean 'kl'"),
    (lambda z: losses.soft_bootstrap(z, z, prediction_weight=-0.1), "prediction_weight is -0.1"),
    (lambda z: losses.hard_bootstrap(z, z, prediction_weight=np.array([0, 2])), "weight is 2"),
    (lambda z: losses.generalized_cross_entropy(z, z, q=0.0), r"q is 0; .* \(0, 1\]"),
    (lambda z: losses.generalized_cross_entropy(z, z, q=float("nan")), "q is nan"),
    (lambda z: losses.mean_absolute_error(z, z, scale=-1.0), r"scale is -1; .* \[0, inf\)"),
    (lambda z: losses.symmetric_cross_entropy(z, z, beta=-1.0), "beta is -1"),
    (lambda z: losses.nce_rce(z, z, alpha=-1.0), "alpha is -1"),
    (lambda z: losses.reverse_cross_entropy(z, z, label_floor=0.0), "label_floor is 0"),
  ],
)
def test_bad_arguments(call, says):
  with pytest.raises(InputError, match=says):
    jax.eval_shape(call, jnp.zeros((2, 3)))

"""Theorem 3 on a linear model and a ReLU network without biases, where its assumptions hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import theory
from jaxnoise.core import InputError
from tests.theory.smooth import EPSILON, MIX

ANGLES = 0.3 + 2 * np.pi * np.arange(5) / 5
CIRCLE = 1.5 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)  # centred, of equal norms
UNEQUAL = np.concatenate([CIRCLE, 2 * CIRCLE[:3], -2 * CIRCLE[:3]])
# Seven ReLU units that face every way: no point is without a gradient.
TURNS = 0.1 + 2 * np.pi * np.arange(7) / 7
W = np.stack([np.cos(TURNS), np.sin(TURNS)], axis=1)
HEAD = np.array([1.0, 1.4, 0.6, -0.3, -1.2, -0.9, 0.5])
GRID = theory.perturbation_grid((2,), mix=MIX)
MOMENTS = theory.PerturbationMoments(*theory.coefficient_moments(1.0))
NOISE = {"add_noise": 0.3, "mult_noise": 0.4}

MODELS = {
  "linear": lambda x: x @ jnp.array([1.2, -0.7]),
  "relu": lambda x: jax.nn.relu(jnp.asarray(W) @ x) @ jnp.asarray(HEAD),
}


@pytest.fixture(autouse=True)
def double():
  with jax.enable_x64(True):
    yield


def labels(f, x):
  return (jax.vmap(f)(x) > 0).astype(jnp.float64)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("data", [CIRCLE, UNEQUAL], ids=["equal", "unequal"])
def test_the_loss_is_above_the_adversarial_loss(name, data):
  f, x = MODELS[name], jnp.asarray(data)

  def sides(e):
    y = labels(f, x)
    exact = theory.nfm_loss(f, x, y, e, GRID, **NOISE)
    bound = theory.robust_bound(f, x, y, e, MOMENTS, **NOISE)
    return exact, bound

  @jax.jit
  def computed(epsilon):
    assumed = theory.robust_assumptions(f, x, labels(f, x))
    return assumed, jax.vmap(f)(x), jax.lax.map(sides, epsilon)

  epsilon = EPSILON / 4
  assumed, f_x, (exact, bound) = jax.device_get(computed(epsilon))
  assert max(assumed["homogeneity"], assumed["centring"]) < 1e-14
  assert min(assumed["margin"], assumed["gradient"], assumed["norm"]) > 0.01

  below = bound.adversarial + bound.regularizer
  assert np.all(np.abs(exact - bound.loss)[-3:] < 0.05 * epsilon[-3:] ** 2)
  assert np.all(exact >= below) and np.all(bound.loss >= below)
  if data is UNEQUAL:  # mixing protects by each point's own norm, the radius by the smallest
    assert np.all((exact - below) / epsilon > 0.005)
    return
  # Sharp: to first order nothing is given away, to second order the variance of lam.
  p = 1 / (1 + np.exp(-f_x))
  limit = np.mean(p * (1 - p) * f_x**2) / 2 * (MOMENTS.mix_square - MOMENTS.mix**2)
  np.testing.assert_allclose(((exact - below) / epsilon**2)[-2:], limit, rtol=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_the_adversary_is_the_worst_point_of_the_ball(name):
  f, x = MODELS[name], jnp.asarray(UNEQUAL)
  turn = np.linspace(0, 2 * np.pi, 721)
  ball = np.stack([np.cos(turn), np.sin(turn)], axis=1)

  @jax.jit
  def computed():
    y = labels(f, x)
    bound = theory.robust_bound(f, x, y, 0.05, MOMENTS, **NOISE)
    radius = theory.robust_radius(f, x, 0.05, MOMENTS)
    value = jax.vmap(jax.vmap(f))(x[:, None] + radius[:, None, None] * ball[None])
    loss = jax.nn.softplus(value) - y[:, None] * value
    half = theory.robust_radius(f, x, 0.05, MOMENTS, norm=0.75)
    g = jax.vmap(jax.grad(f))(x)
    return bound.adversarial, jnp.mean(jnp.max(loss, axis=1)), radius, half, g

  adversarial, worst, radius, half, g = jax.device_get(computed())
  np.testing.assert_allclose(adversarial, worst, rtol=1e-6)
  # epsilon E[1 - lam] |cos| min |x|, point by point.
  cosine = np.sum(g * UNEQUAL, 1) / np.linalg.norm(g, axis=1) / np.linalg.norm(UNEQUAL, axis=1)
  np.testing.assert_allclose(radius, 0.05 / 3 * np.abs(cosine) * 1.5, rtol=1e-12)
  np.testing.assert_allclose(half, radius / 2, rtol=1e-12)


def test_the_regularization_radius_is_the_spread_of_f():
  """Of f at what is added to an example: another example, and either noise."""
  w = np.array([1.2, -0.7])
  others = MOMENTS.mix_square * np.mean((UNEQUAL @ w) ** 2)
  noise = (0.3 * GRID.add @ w)[:, None] ** 2 + (0.4 * (GRID.mult * w) @ UNEQUAL.T) ** 2
  radius = jax.jit(
    lambda x: theory.regularization_radius(MODELS["linear"], x, 0.01, MOMENTS, **NOISE)
  )(UNEQUAL)
  np.testing.assert_allclose(radius, 0.01 * np.sqrt(others + GRID.weight @ noise), rtol=1e-12)


def test_a_flat_model_has_no_radius_and_a_gradient():
  def radii(w):
    f = lambda x: w * x[0]
    return jnp.sum(
      theory.robust_radius(f, CIRCLE, 0.1, MOMENTS)
      + theory.regularization_radius(f, CIRCLE, 0.1, MOMENTS)
    )

  value, slope = jax.jit(jax.value_and_grad(radii))(0.0)
  assert value == 0 and np.isfinite(slope)
  with pytest.raises(InputError, match=r"must be \[n, d\]"):
    theory.robust_radius(lambda x: x[0], CIRCLE[0], 0.1, MOMENTS)

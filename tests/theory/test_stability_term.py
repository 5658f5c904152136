"""Theorem 2 against the exact Jensen-Shannon term, and its Fisher metric where all views agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import theory
from jaxnoise.core import InputError
from tests.theory.smooth import EPSILON, MIX, B, X, logits, order

VIEWS = np.stack([X[:4], X[:4] @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + 0.1], axis=1)
GRID = theory.perturbation_grid((2, 2), mix=MIX)
MOMENTS = theory.PerturbationMoments(*theory.coefficient_moments(1.0))
OPTIONS = {"view_factors": (1.0, 2.0), "weights": (0.3, 0.7)}
POINTS = np.array([[0.3, -0.2], [-0.4, 0.5], [1.0, 0.2]])
MOVES = np.array([[0.6, 0.1], [-0.5, 0.9], [0.2, -0.7]])


@pytest.fixture(autouse=True)
def double():
  with jax.enable_x64(True):
    yield


def divergence(points, pi):
  """JSD of the predictions at points [V, d], straight from its definition."""
  p = jax.nn.softmax(jax.vmap(logits)(points))
  m = jnp.asarray(pi) @ p
  return jnp.sum(jnp.asarray(pi)[:, None] * p * jnp.log(p / m[None]))


@pytest.mark.parametrize("pi", [(0.3, 0.7), None, (0.2, 0.5, 0.3)])
def test_any_number_of_distributions(pi):
  views = 2 if pi is None else len(pi)
  x, u = POINTS[:views], MOVES[:views]

  @jax.jit
  def sides():
    exact = jax.vmap(lambda e: divergence(x + e * u, pi or (0.5, 0.5)))
    terms = theory.jensen_shannon_expansion(logits, x, u, pi)
    return exact(jnp.append(EPSILON, 0.0)), terms

  exact, terms = jax.device_get(sides())
  errors = exact[:-1] - sum(t * EPSILON**k for k, t in enumerate(terms))
  assert 2.9 < order(errors) < 3.4 and all(abs(t) > 1e-3 for t in terms)
  np.testing.assert_allclose(terms[0], exact[-1], rtol=1e-13)


@jax.jit
def both_sides(mixed, add_noise, mult_noise):
  levels = {"add_noise": add_noise, "mult_noise": mult_noise, **OPTIONS}
  grid = GRID._replace(mix=mixed * GRID.mix)
  moments = MOMENTS._replace(mix=mixed * MOMENTS.mix, mix_square=mixed * MOMENTS.mix_square)
  exact = jax.lax.map(lambda e: theory.stability_loss(logits, VIEWS, e, grid, **levels), EPSILON)
  return exact, theory.stability_expansion(logits, VIEWS, moments, **levels)


CASES = {
  "mixing": ((1.0, 0.0, 0.0), ("first", "mixing"), 3),
  "additive": ((0.0, 0.3, 0.0), ("additive",), 4),
  "multiplicative": ((0.0, 0.0, 0.4), ("multiplicative",), 4),
  "all": ((1.0, 0.3, 0.4), ("first", "mixing", "additive", "multiplicative"), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_expansion_converges_at_its_order(case):
  arguments, fields, expected = CASES[case]
  exact, terms = jax.device_get(both_sides(*arguments))
  errors = exact - terms.at(EPSILON)
  assert expected - 0.1 < order(errors) < expected + 0.4
  for name in fields:  # a term that is off by a factor spoils the order
    wrong = terms._replace(**{name: 2 * getattr(terms, name)})
    assert order(exact - wrong.at(EPSILON)) < (1.5 if name == "first" else 2.5)


def prediction(x):
  """p and its Jacobian [K, d]."""
  p = lambda x: jax.nn.softmax(logits(x))
  return p(x), jax.jacfwd(p)(x)


@pytest.mark.parametrize("pi", [(0.3, 0.7), None])
def test_views_of_one_point_leave_the_fisher_metric(pi):
  x, u = X[0], MOVES[: 2 if pi else 3]

  @jax.jit
  def computed():
    terms = theory.jensen_shannon_expansion(logits, jnp.tile(x, (len(u), 1)), u, pi)
    return prediction(x), terms, theory.fisher_penalty(logits, x, u, pi)

  (p, jacobian), terms, penalty = jax.device_get(computed())
  if pi:
    expected = 0.3 * 0.7 / 2 * np.sum((jacobian @ (u[0] - u[1])) ** 2 / p)
  else:
    expected = np.sum(np.var(u @ jacobian.T, axis=0) / p) / 2
  np.testing.assert_allclose([penalty, terms[2]], expected, rtol=1e-12)
  np.testing.assert_allclose(terms[:2], 0, atol=1e-15)


def test_noise_between_copies_is_a_jacobian_penalty():
  """Two copies with noise s f_v: pi (1 - pi) / 2 s^2 (f_1^2 + f_2^2) tr F, and no mixing term."""
  copies = np.repeat(X[:, None], 2, axis=1)
  noise = {"add_noise": 0.2, "mult_noise": 0.0, **OPTIONS}

  @jax.jit
  def computed():
    return jax.vmap(prediction)(X), theory.stability_expansion(logits, copies, MOMENTS, **noise)

  (p, jacobian), terms = jax.device_get(computed())
  trace = np.mean(np.sum(jacobian**2 / p[..., None], axis=(1, 2)))
  np.testing.assert_allclose(terms.additive, 0.3 * 0.7 / 2 * 0.04 * (1 + 4) * trace, rtol=1e-12)
  np.testing.assert_allclose(terms[:3], 0, atol=1e-15)


def test_certain_predictions_stay_finite():
  def steep(scale):
    model = lambda x: scale * jnp.stack([x[0], x[1], 0 * x[0]])
    zeroth, first, second = theory.jensen_shannon_expansion(model, POINTS[:2], MOVES[:2])
    return zeroth + first + second + theory.fisher_penalty(model, jnp.asarray(POINTS[0]), MOVES)

  with jax.enable_x64(False):
    value, slope = jax.jit(jax.value_and_grad(steep))(1e4)
  assert value > 0 and np.isfinite(value) and np.isfinite(slope)


def test_bad_input():
  with pytest.raises(InputError, match="displacements are"):
    theory.jensen_shannon_expansion(logits, POINTS, MOVES[:2])
  with pytest.raises(InputError, match=r"\[2\] where \[V, d\]"):
    theory.jensen_shannon_expansion(logits, POINTS[0], MOVES[0])
  with pytest.raises(InputError, match="weights has 3 entries for 2 views"):
    theory.stability_expansion(logits, VIEWS, MOMENTS, weights=(0.2, 0.3, 0.5))
  with pytest.raises(InputError, match="view_factors has 3 entries for 2 views"):
    theory.stability_expansion(logits, VIEWS, MOMENTS, view_factors=(1, 2, 3))
  with pytest.raises(InputError, match=r"must be \[m, V, d\]"):
    theory.stability_loss(logits, VIEWS, 0.1, theory.perturbation_grid((2,), mix=MIX))
  with pytest.raises(InputError, match=r"it must be \[d\]"):
    theory.fisher_penalty(logits, B, MOVES)

"""Theorem 1 against the exact loss of noisy feature mixup, without sampling error."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, theory
from jaxnoise.core import InputError
from tests.theory.smooth import EPSILON, MIX, X, Y, order, scalar

# A normal coordinate's first five moments.
NOISE = ((-math.sqrt(3), 0.0, math.sqrt(3)), (1 / 6, 2 / 3, 1 / 6))
GRID = theory.perturbation_grid((2,), mix=MIX, noise=NOISE)
MOMENTS = theory.PerturbationMoments(*theory.coefficient_moments(1.0))


@pytest.fixture(autouse=True)
def double():
  with jax.enable_x64(True):
    yield


@jax.jit
def both_sides(mixed, add_noise, mult_noise):
  """The exact loss at every epsilon, and the expansion; `mixed` is 0 to leave the mixing out."""
  levels = {"add_noise": add_noise, "mult_noise": mult_noise}
  grid = GRID._replace(mix=mixed * GRID.mix)
  moments = MOMENTS._replace(mix=mixed * MOMENTS.mix, mix_square=mixed * MOMENTS.mix_square)
  exact = jax.lax.map(lambda e: theory.nfm_loss(scalar, X, Y, e, grid, **levels), EPSILON)
  return exact, theory.nfm_expansion(scalar, X, Y, moments, **levels)


# What is symmetric has no third order.
CASES = {
  "mixing": ((1.0, 0.0, 0.0), ("first", "mixing"), 3),
  "additive": ((0.0, 0.6, 0.0), ("additive",), 4),
  "multiplicative": ((0.0, 0.0, 0.5), ("multiplicative",), 4),
  "all": ((1.0, 0.6, 0.5), ("first", "mixing", "additive", "multiplicative"), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_expansion_converges_at_its_order(case):
  arguments, fields, expected = CASES[case]
  exact, terms = jax.device_get(both_sides(*arguments))
  errors = exact - terms.at(EPSILON)
  assert expected - 0.1 < order(errors) < expected + 0.4
  assert abs(errors[-1]) < 5e-3 * EPSILON[-1] ** 2
  assert [name for name in terms._fields[1:] if getattr(terms, name)] == list(fields)
  for name in fields:  # a term that is off by a factor spoils the order
    wrong = terms._replace(**{name: 2 * getattr(terms, name)})
    assert order(exact - wrong.at(EPSILON)) < (1.5 if name == "first" else 2.5)


def test_a_linear_model_with_squared_loss_is_its_own_expansion():
  """h = u^2 / 2 makes the loss a parabola in epsilon, so it has to agree at epsilon = 1."""
  model = {"f": lambda x: 1.5 * x[0] - 0.7 * x[1] + 0.2, "x": X, "y": Y}
  options = {"h": lambda u: u**2 / 2, "add_noise": 0.6, "mult_noise": 0.0}

  @jax.jit
  def sides():
    exact = theory.nfm_loss(**model, epsilon=1.0, perturbations=GRID, **options)
    return exact, theory.nfm_expansion(**model, moments=MOMENTS, **options)

  exact, terms = sides()
  np.testing.assert_allclose(terms.at(1.0), exact, rtol=1e-13)
  np.testing.assert_allclose(terms.additive, 0.36 * (1.5**2 + 0.7**2) / 2, rtol=1e-13)


def reweighted(a, b, count=24):
  """Nodes of lam in [0, 1] with the weights of Beta(a, b) and of the re-weighted distribution."""

  def density(p, q):
    return lam ** (p - 1) * (1 - lam) ** (q - 1) * math.gamma(p + q) / math.gamma(p) / math.gamma(q)

  nodes, weights = np.polynomial.legendre.leggauss(count)
  lam, weights = (1 + nodes) / 2, weights / 2
  mixture = (a * density(a + 1, b) + b * density(b + 1, a)) / (a + b)
  return lam, weights * density(a, b), weights * mixture


@pytest.mark.parametrize("a, b", [(1, 1), (2, 2), (2, 3)])
def test_mixed_labels_are_a_kept_label_with_another_coefficient(a, b):
  lam, beta, kept = reweighted(a, b)
  first, square = theory.coefficient_moments(a, b)
  np.testing.assert_allclose([kept @ (1 - lam), kept @ (1 - lam) ** 2], [first, square], rtol=1e-12)

  @jax.jit
  def mixed_labels(lam):
    between = lam * X[:, None] + (1 - lam) * X[None]
    value = jax.vmap(jax.vmap(scalar))(between)
    loss = [jax.nn.softplus(value) - y * value for y in (Y[:, None], Y[None])]
    return jnp.mean(lam * loss[0] + (1 - lam) * loss[1])

  expected = beta @ jax.vmap(mixed_labels)(lam)
  still = np.zeros((len(lam), 2))
  draws = theory.Perturbations(1 - lam, still, still, kept)
  loss = jax.jit(lambda draws: theory.nfm_loss(scalar, X, Y, 1.0, draws))(draws)
  np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_moments_of_what_is_released():
  keys = jax.random.split(jax.random.key(0))
  levels = augment.sample_levels(keys[0], 20000)
  normal, uniform = augment.sparse_noise(keys[1], (20000, 4), 0.65)
  moments = theory.released_moments(alpha=0.5)
  measured = [np.mean(s**2) * np.mean(n**2) for s, n in zip(levels, (normal, uniform), strict=True)]
  np.testing.assert_allclose(measured, moments[2:], rtol=0.03)
  assert moments.mix == 0.25 and moments.mix_square == 0.125
  assert theory.released_moments(alpha=0.0, sparsity=0.0, random_level=False) == (0, 0, 1, 1 / 3)


def test_the_grid_is_every_outcome():
  mix, noise = ([0.0, 0.5], [0.75, 0.25]), ([-1, 2], [2 / 3, 1 / 3])
  grid = theory.perturbation_grid((2, 1), mix=mix, noise=noise)
  assert grid.add.shape == grid.mult.shape == (32, 2, 1) and grid.mix.shape == (32,)
  rows = np.concatenate([grid.mix[:, None], grid.add[..., 0], grid.mult[..., 0]], axis=1)
  assert len(np.unique(rows, axis=0)) == 32
  centred = rows - grid.weight @ rows
  np.testing.assert_allclose(grid.weight.sum(), 1)
  covariance = np.diag([0.75 * 0.25 * 0.25, 2, 2, 2, 2])
  np.testing.assert_allclose((centred.T * grid.weight[None]) @ centred, covariance, atol=1e-15)


def test_bad_input():
  with pytest.raises(InputError, match=r"x is \[5, 2\] and y \[4\]"):
    theory.nfm_expansion(scalar, X, Y[:4], MOMENTS)
  with pytest.raises(InputError, match=r"must be \[m, d\]"):
    theory.nfm_loss(scalar, X, Y, 0.1, theory.perturbation_grid((3,), mix=MIX))
  with pytest.raises(InputError, match="alpha and beta are 0 and 1"):
    theory.coefficient_moments(0, 1)
  with pytest.raises(InputError, match="sparsity is 1"):
    theory.released_moments(sparsity=1)
  with pytest.raises(InputError, match="noise has 2 values and 1 prob"):
    theory.perturbation_grid((2,), mix=MIX, noise=([0, 1], [1]))
  with pytest.raises(InputError, match="draw Perturbations at random"):
    theory.perturbation_grid((20,), mix=MIX)

"""Unbiased label noise: covariances in three scalings, eq. (16) and (14) by Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import theory
from jaxnoise.core import InputError

DRAWS = 4000
ETA, SIGMA2, BATCH = 0.1, 0.7, 3
POWERS = {"gradient": 0, "paper": 1, "increment": 2}


def network(params, x):
  """A scalar output, so small that its gradients are written out below."""
  return params["v"] @ jnp.tanh(params["w"] * x[0]) + params["w"][0]


PARAMS = {"v": jnp.array([0.5, -1.0]), "w": jnp.array([1.0, 0.3])}
X = jnp.linspace(-2.0, 3.0, 8).reshape(8, 1)


def gradients():
  """[8, 4], by hand: v first, as `jax.tree.leaves` has it."""
  v, w, x = np.array([0.5, -1.0]), np.array([1.0, 0.3]), np.asarray(X)
  h = np.tanh(w * x)
  return np.concatenate([h, v * (1 - h**2) * x + np.array([1.0, 0.0])], axis=1)


def test_gradients_of_the_output():
  found = theory.output_gradients(network, PARAMS, X)
  np.testing.assert_allclose(found, gradients(), rtol=1e-5, atol=1e-6)


def test_covariances_by_loops():
  g = gradients()
  sampling, noise = np.zeros((4, 4)), np.zeros((4, 4))
  for row in g:
    sampling += np.outer(row - g.mean(0), row - g.mean(0)) / 8
    noise += SIGMA2 * np.outer(row, row) / 8
  np.testing.assert_allclose(theory.uln_sampling_covariance(g), sampling, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(theory.uln_noise_covariance(g, SIGMA2), noise, rtol=1e-4, atol=1e-6)


def test_least_squares_case():
  # Eq. (19): Sigma_ULN = sigma^2 S_N; Sigma_SGD depends on beta - beta* and vanishes there.
  rng = np.random.default_rng(0)
  x, off = rng.normal(size=(20, 3)), rng.normal(size=3)
  second = x.T @ x / 20
  np.testing.assert_allclose(theory.uln_noise_covariance(x, 2.0), 2 * second, rtol=1e-5)
  rows = np.array([(np.outer(r, r) - second) @ off for r in x])
  found = theory.uln_sampling_covariance((x @ off)[:, None] * x)
  np.testing.assert_allclose(found, rows.T @ rows / 20, rtol=1e-4, atol=1e-5)
  assert not np.any(theory.uln_sampling_covariance(0 * x))


@pytest.mark.parametrize("scale", POWERS)
def test_scales(scale):
  g = gradients()
  options = {"batch_size": BATCH, "learning_rate": ETA, "scale": scale}
  covariance = theory.uln_regularizer_covariance(g, SIGMA2, **options)
  expected = ETA ** POWERS[scale] * SIGMA2 / BATCH * (g.T @ g) / 8
  np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-7)
  strength = theory.uln_regularizer_strength(g, SIGMA2, **options)
  np.testing.assert_allclose(strength, np.trace(expected), rtol=1e-5)


@pytest.mark.parametrize("scale", POWERS)
@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_equation_16_by_monte_carlo(scale, sampling):
  g = gradients()
  options = {"batch_size": BATCH, "learning_rate": ETA, "scale": scale}
  xi = theory.uln_regularizer_draws(
    jax.random.key(1), g, SIGMA2, draws=DRAWS, sampling=sampling, **options
  )
  assert xi.shape == (DRAWS, 4)
  factor = ETA ** POWERS[scale]
  square = BATCH * np.sum(np.square(xi, dtype=np.float64), axis=1) / SIGMA2 / factor
  truth = np.mean(np.sum(g**2, axis=1))
  error = square.std() / DRAWS**0.5
  assert error < 0.03 * truth, "a wrong factor must show"
  assert abs(square.mean() - truth) < 4 * error
  strength = theory.uln_regularizer_strength(g, SIGMA2, **options)
  np.testing.assert_allclose(strength, factor * SIGMA2 / BATCH * truth, rtol=1e-5)


def test_draws_without_replacement_are_uniform_subsets():
  # Gradients that are unit vectors show which examples were in the batch.
  xi = theory.uln_regularizer_draws(
    jax.random.key(2), np.eye(5), 1.0, draws=DRAWS, batch_size=3, scale="gradient",
    sampling="without_replacement",
  )  # fmt: skip
  chosen = np.asarray(xi) != 0
  assert np.all(chosen.sum(1) == 3)
  names, counts = np.unique(chosen @ (1 << np.arange(5)), return_counts=True)
  assert len(names) == 10
  # Each of the ten is binomial with deviation sqrt(4000 * 0.1 * 0.9) = 19.
  assert np.abs(counts - DRAWS / 10).max() < 4 * 19


def test_dynamics_have_the_moments_of_one_step():
  # Mean -eta gbar, covariance (eta^2 / B) (Sigma_SGD + Sigma_ULN), from many chains' first step.
  targets = jnp.sin(X[:, 0])
  run = jax.vmap(
    lambda key: theory.uln_dynamics(
      key, network, PARAMS, X, targets, steps=1, learning_rate=ETA, batch_size=BATCH,
      noise_variance=SIGMA2,
    )
  )  # fmt: skip
  after = run(jax.random.split(jax.random.key(3), DRAWS))
  moves = [np.asarray(after[k], np.float64)[:, 0] - np.asarray(PARAMS[k]) for k in "vw"]
  move = np.concatenate(moves, axis=1)
  g = gradients()
  residual = np.asarray(jax.vmap(network, (None, 0))(PARAMS, X) - targets)[:, None]
  losses = residual * g
  both = theory.uln_sampling_covariance(losses) + theory.uln_noise_covariance(g, SIGMA2)
  covariance = np.asarray(both) * ETA**2 / BATCH
  deviation = np.sqrt(np.diag(covariance))
  np.testing.assert_array_less(
    np.abs(move.mean(0) + ETA * losses.mean(0)), 4 * deviation / DRAWS**0.5
  )
  # Normal draws: an entry of the covariance has standard error sqrt((ss + s^2) / n).
  error = np.sqrt((np.outer(deviation, deviation) ** 2 + covariance**2) / DRAWS)
  np.testing.assert_array_less(np.abs(np.cov(move.T) - covariance), 4.5 * error)
  sampling = np.asarray(theory.uln_sampling_covariance(losses)) * ETA**2 / BATCH
  assert np.max(np.diag(sampling) / np.diag(error)) > 10, "without Sigma_SGD it would fail"


def test_dynamics_without_noise_are_gradient_descent():
  x, targets = jnp.ones(4), jnp.full(4, 3.0)  # equal examples: sampling adds nothing
  path = theory.uln_dynamics(
    jax.random.key(0), lambda beta, x: beta * x, 1.0, x, targets, steps=3, learning_rate=0.5,
    batch_size=2, noise_variance=0.0,
  )  # fmt: skip
  np.testing.assert_allclose(path, [2.0, 2.5, 2.75], rtol=1e-6)


G = np.ones((4, 2))


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda: theory.uln_regularizer_strength(G, 1.0, batch_size=2, scale="papr"), "'paper'"),
    (lambda: theory.uln_regularizer_strength(G, 1.0, batch_size=2, scale="paper"), "learning_rate"),
    (lambda: theory.uln_regularizer_strength(G[0], 1.0, batch_size=2, scale="gradient"), "N, d"),
    (lambda: theory.uln_regularizer_covariance(G, 1.0, batch_size=0, scale="gradient"), "batch"),
    (lambda: theory.uln_noise_covariance(G, -1.0), "noise_variance is -1.0"),
    (lambda: theory.output_gradients(lambda p, x: p * x, 1.0, jnp.ones((2, 2))), "one number"),
    (
      lambda: theory.uln_regularizer_draws(
        jax.random.key(0), G, 1.0, draws=2, batch_size=5, scale="gradient",
        sampling="without_replacement",
      ),
      "at most 4",
    ),
    (
      lambda: theory.uln_regularizer_draws(
        jax.random.key(0), G, 1.0, draws=0, batch_size=2, scale="gradient"
      ),
      "draws is 0",
    ),
    (
      lambda: theory.uln_dynamics(
        jax.random.key(0), lambda p, x: p * x, 1.0, G[:, 0], G, steps=1, learning_rate=1.0,
        batch_size=1, noise_variance=0.0,
      ),
      "targets are",
    ),
    (
      lambda: theory.uln_dynamics(
        jax.random.key(0), lambda p, x: p * x, 1.0, G[:, :1], G[:, 0], steps=1, learning_rate=1.0,
        batch_size=1, noise_variance=0.0,
      ),
      "one number",
    ),
  ],
)  # fmt: skip
def test_bad_input(call, words):
  with pytest.raises(InputError, match=words):
    call()

"""Multiplicative reweighting as a regularised leader: its weights are the only minimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import stats, theory
from jaxnoise.core import InputError

ETA = 0.3


@pytest.fixture(autouse=True)
def double():
  with jax.enable_x64(True):
    yield


def test_the_weights_of_reweighting_are_the_only_minimiser():
  rng = np.random.default_rng(0)
  loss_sum = rng.gamma(2.0, 3.0, size=(1, 6))
  others = rng.dirichlet(np.ones(6), size=200)
  others[0] = np.eye(6)[2]  # a vertex, where p log p is 0 log 0

  @jax.jit
  def run(others, loss_sum):
    best = stats.weights(loss_sum, ETA)
    # No direction within the simplex changes the objective at its minimiser.
    slope = jax.grad(lambda p: jnp.sum(theory.mr_ftrl_objective(p, loss_sum, ETA)))(best)
    both = (theory.mr_ftrl_gap(p, loss_sum, ETA) for p in (others, best))
    return best, slope, theory.mr_ftrl_objective(others, loss_sum, ETA), *both

  best, slope, objective, gap, least = jax.device_get(run(others, loss_sum))
  positive = np.where(others > 0, others, 1.0)
  negentropy = np.sum(others * np.log(positive), axis=1)
  by_hand = np.sum(others * loss_sum, axis=1) + (negentropy - 1) / ETA
  np.testing.assert_allclose(objective, by_hand, rtol=1e-12)
  divergence = negentropy - np.sum(others * np.log(best), axis=1)
  np.testing.assert_allclose(gap, divergence / ETA, rtol=1e-10)
  assert gap.min() > 1e-3
  np.testing.assert_allclose(least, 0, atol=1e-12)
  np.testing.assert_allclose(slope, np.mean(slope), rtol=1e-10)


def test_algorithm_2_follows_the_leader():
  def losses(theta):
    return (theta - jnp.array([0.0, 0.1, 3.0])) ** 2 / 2

  @jax.jit
  def run():
    out = theory.reweighted_gradient_descent(
      losses, 0.0, steps=4, learning_rate=0.5, step_size=ETA
    )
    total = jnp.cumsum(out.losses[1:], axis=0)  # theta_0 is not counted
    wrong = total + out.losses[:1]
    return [theory.mr_ftrl_gap(out.weights[1:], sums, ETA) for sums in (total, wrong)]

  gap, wrong = jax.device_get(run())
  np.testing.assert_allclose(gap, 0, atol=1e-13)
  assert wrong.min() > 1e-3


def test_a_step_size_of_zero_has_no_such_objective():
  with pytest.raises(InputError, match="step_size is 0"):
    theory.mr_ftrl_gap(np.ones(2) / 2, np.ones(2), 0)

"""The Beta mixture and the model of losses: the authors' numbers, and their edges."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import stats
from jaxnoise.core import InputError

EXACT = {"rtol": 1e-7, "atol": 1e-9}
LENGTH = 1010  # all cases are padded to it: one program serves them
def stored(golden, prefix):
  return {
    k.removeprefix(prefix): v for k, v in golden("beta_mixture").items() if k.startswith(prefix)
  }


DEFAULT = {"alphas": (1.0, 2.0), "betas": (2.0, 1.0), "weights": (0.5, 0.5)}


@jax.jit
def fit(x, mask, iterations, at, start):
  """Everything that is asked of a mixture, in one program."""
  start = {name: jnp.stack(v) for name, v in start.items()}
  mixture = stats.beta_mixture(x, mask=mask, iterations=iterations, **start)
  table = stats.posterior_table(mixture)
  found = stats.beta_posterior(mixture, at), stats.beta_density(mixture, at)
  return mixture, table, found, stats.beta_posterior(mixture, jnp.clip(x, 1e-4, 1 - 1e-4))


def padded(x):
  """Values and mask: the rows that do not count carry values that would move the fit."""
  rest = LENGTH - len(x)
  return np.append(x, np.arange(rest) % 2), np.arange(LENGTH) < len(x)


@pytest.mark.parametrize("case", range(3))
def test_equals_authors_code(golden, case):
  data = stored(golden, f"fit/c{case}/")
  start = {name: tuple(data[f"{name}_init"].tolist()) for name in DEFAULT}
  assert (start == DEFAULT) == (case < 2)
  x, mask = padded(data["x"])
  with jax.enable_x64(True):
    for k in (1, 4, 10):
      mixture, table, found, own = fit(x, mask, k, data["posterior_x"], start)
      np.testing.assert_allclose(mixture.alphas, data["alphas_after_iteration"][k - 1], **EXACT)
      np.testing.assert_allclose(mixture.betas, data["betas_after_iteration"][k - 1], **EXACT)
      np.testing.assert_allclose(mixture.weights, data["weight_after_iteration"][k - 1], **EXACT)
    np.testing.assert_allclose(found[0], data["posterior_component1"], **EXACT)
    np.testing.assert_allclose(found[1].T, data["likelihood"], **EXACT)
    np.testing.assert_array_equal(np.asarray(own)[mask] > 0.5, data["predict_component1"])
    np.testing.assert_allclose(table, data["lookup_table"], **EXACT)
    looked_up = stats.look_up(table, jnp.asarray(data["lookup_query"]))
    np.testing.assert_allclose(looked_up, data["lookup_result"], **EXACT)


@jax.jit
def model_of(losses, others):
  model = stats.fit_losses(losses)
  u = stats.normalise_losses(others, model.low, model.high)
  return model, u, stats.noise_posterior(model, others), stats.beta_posterior(model.mixture, u)


def cross_entropy(logits, labels):
  shifted = logits - logits.max(1, keepdims=True)
  log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
  return -log_p[np.arange(len(labels)), labels]


def test_loss_model_equals_authors_code(golden):
  data, batch = stored(golden, "track/"), stored(golden, "batch/")
  losses = cross_entropy(batch["logits"], batch["labels"])
  with jax.enable_x64(True):
    model, u, posterior, exact = model_of(data["all_losses"], losses)
    np.testing.assert_allclose(model.high, data["max_loss_p95"], **EXACT)
    np.testing.assert_allclose(model.low, data["min_loss_p5_plus_1e-5"], **EXACT)
    np.testing.assert_allclose(model.mixture.alphas, data["alphas"], **EXACT)
    np.testing.assert_allclose(model.mixture.betas, data["betas"], **EXACT)
    np.testing.assert_allclose(model.mixture.weights, data["weight"], **EXACT)
    np.testing.assert_allclose(model.table, data["lookup_table"], **EXACT)
    np.testing.assert_allclose(u, batch["normalised_losses"], **EXACT)
    np.testing.assert_allclose(posterior, batch["noise_posterior_lookup"], **EXACT)
    np.testing.assert_allclose(exact, batch["noise_posterior_exact"], **EXACT)


def test_single_precision_comes_close_and_equal_losses_leave_finite_numbers(golden):
  """Mapped: the authors' losses, and two sets without any spread."""
  data = stored(golden, "track/")
  losses = np.stack([data["all_losses"], np.zeros(400), np.full(400, 2.3)]).astype("f4")
  out = jax.vmap(model_of)(losses, losses[:, :3])
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(out))
  model = jax.tree.map(lambda v: v[0], out[0])
  assert model.table.dtype == jnp.float32
  np.testing.assert_allclose(model.mixture.alphas, data["alphas"], rtol=1e-3)
  np.testing.assert_allclose(model.mixture.betas, data["betas"], rtol=1e-3)
  # The last point of the grid, 1 - 1e-12, is 1 in this precision.
  np.testing.assert_allclose(model.table, data["lookup_table"], atol=2e-4)


def test_one_round_by_hand():
  """The moments of the reference: weights that are given, not computed."""
  u, r = np.array([0.1, 0.2, 0.4, 0.7]), np.array([0.9, 0.8, 0.4, 0.1])
  mean = (r * u).sum() / r.sum()
  variance = (r * (u - mean) ** 2).sum() / r.sum()
  alpha = mean * (mean * (1 - mean) / variance - 1)
  np.testing.assert_allclose((alpha, alpha * (1 - mean) / mean), (1.4435424354, 5.1726937269))
  # With the default start, r of component 0 at u is 1 - u.
  with jax.enable_x64(True):
    mixture = fit(*padded(u), 1, np.full(101, 0.5), DEFAULT)[0]
  r = 1 - u
  mean = (r * u).sum() / r.sum()
  variance = (r * (u - mean) ** 2).sum() / r.sum()
  alpha = mean * (mean * (1 - mean) / variance - 1)
  np.testing.assert_allclose(mixture.alphas[0], alpha, rtol=1e-9)
  np.testing.assert_allclose(mixture.betas[0], alpha * (1 - mean) / mean, rtol=1e-9)
  np.testing.assert_allclose(mixture.weights, [r.mean(), u.mean()], rtol=1e-9)
  parameters = inspect.signature(stats.beta_mixture).parameters
  assert {name: parameters[name].default for name in DEFAULT} == DEFAULT


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: stats.beta_mixture(jnp.ones((2, 2))), r"values of shape \(2, 2\)"),
    (lambda: stats.beta_mixture(jnp.ones(2), alphas=(1.0,)), "alphas is"),
    (lambda: stats.beta_mixture(jnp.ones(2), betas=(1.0, -1.0)), "two positive numbers"),
    (lambda: stats.beta_mixture(jnp.ones(2), weights=(0.7, 0.7)), "must sum to 1"),
    (lambda: stats.fit_losses(jnp.ones(2), percentiles=(95, 5)), "the lower first"),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()

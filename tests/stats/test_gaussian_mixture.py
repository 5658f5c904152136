"""The Gaussian mixture: the authors' numbers, its own start, and its edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import stats
from jaxnoise.core import InputError

CASES = range(3)
LENGTH = 1600  # all cases are padded to it: one program serves them


def stored(golden, case):
  """One case, padded by masked rows whose values would move everything."""
  prefix = f"gmm/c{case}/"
  data = {k.removeprefix(prefix): v for k, v in golden("dividemix").items() if prefix in k}
  rest = LENGTH - len(data["raw_losses"])
  data["values"] = np.append(data["normalised_losses"], np.linspace(-50, 70, rest))
  data["start"] = np.append(data["init_responsibilities"], np.tile([0.3, 0.7], (rest, 1)), axis=0)
  data["mask"] = np.arange(LENGTH) < LENGTH - rest
  return data


@functools.partial(jax.jit, static_argnums=3)
def fit(values, mask, settings, max_iter, start=None):
  mixture = stats.gaussian_mixture(
    values, mask=mask, max_iter=max_iter, responsibilities=start, **settings
  )
  return mixture, stats.gaussian_posterior(mixture, values)


@pytest.mark.parametrize("case", CASES)
def test_equals_authors_code_from_the_same_start(golden, case):
  data, settings = stored(golden, case), golden("dividemix")
  order, exact = np.argsort(data["means"]), {"rtol": 1e-6, "atol": 1e-9}
  with jax.enable_x64(True):
    given = {"tol": settings["gmm/tol"], "reg": settings["gmm/reg_covar"]}
    rounds = int(settings["gmm/max_iter"])
    mixture, clean = fit(data["values"], data["mask"], given, rounds, data["start"])
    for name in ("means", "variances", "weights"):
      np.testing.assert_allclose(getattr(mixture, name), data[name][order], **exact)
    assert int(mixture.iterations) == data["num_iterations"]
    assert bool(mixture.converged) == data["converged"]
    clean = np.asarray(clean)[data["mask"]]
    np.testing.assert_allclose(clean[:, 0], data["clean_posterior"], **exact)
    np.testing.assert_allclose(clean.sum(1), 1.0, rtol=1e-12)
    assert np.sum(clean[:, 0] > 0.5) == data["num_above_threshold_0p5"]


def test_own_start_comes_close_in_single_precision_and_equal_values_are_one_component(golden):
  """Mapped over the cases; in the last row all values are the same."""
  cases = [stored(golden, case) for case in CASES]
  values = np.stack([*(c["values"] for c in cases), np.full(LENGTH, 0.3)]).astype("f4")
  masks = np.stack([*(c["mask"] for c in cases), np.arange(LENGTH) < 8])
  mixture, posterior = jax.jit(jax.vmap(lambda v, m: fit(v, m, {}, 10)))(values, masks)
  for row, data in enumerate(cases):
    np.testing.assert_allclose(mixture.means[row], np.sort(data["means"]), atol=5e-3)
    clean = np.asarray(posterior)[row][data["mask"], 0]
    assert np.mean((clean > 0.5) == (data["clean_posterior"] > 0.5)) > 0.99
  np.testing.assert_allclose(mixture.means[3], 0.3, rtol=1e-5)
  np.testing.assert_allclose(posterior[3, :, 0], 1.0, atol=1e-5)


def test_posterior_is_sorted_by_mean_whatever_the_order():
  mixture = stats.GaussianMixture(
    jnp.array([3.0, 0.0]), jnp.array([4.0, 1.0]), jnp.array([0.8, 0.2]), None, None
  )
  density = lambda x, m, v: np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)
  x = np.array([[-1.0, 0.5], [2.0, 7.0]], "f4")
  low, high = 0.2 * density(x, 0, 1), 0.8 * density(x, 3, 4)
  expected = np.stack([low, high], -1) / (low + high)[..., None]
  posterior = jax.jit(lambda x: stats.gaussian_posterior(mixture, x))
  np.testing.assert_allclose(posterior(x), expected, atol=1e-6)
  # Far out both densities are 0 in float32.
  far = posterior(np.array([[1e4, -1e4], [1e6, 0.0]], "f4"))
  np.testing.assert_array_equal(far[0], [[0.0, 1.0], [0.0, 1.0]])


@pytest.mark.slow
def test_three_components_mapped():
  noise = 0.1 * np.random.default_rng(1).normal(size=(2, 60))
  x = (np.repeat([0.0, 5.0, 9.0], 20) + noise + [[0.0], [100.0]]).astype("f4")
  many = jax.jit(jax.vmap(lambda v: stats.gaussian_mixture(v, components=3)))(x)
  expected = x.reshape(2, 3, 20)
  np.testing.assert_allclose(many.means, expected.mean(-1), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(many.variances, expected.var(-1) + 5e-4, rtol=2e-3)
  np.testing.assert_allclose(many.weights, 1 / 3, rtol=1e-4)


@pytest.mark.parametrize(
  ("values", "arguments", "message"),
  [
    (jnp.ones((2, 2)), {}, r"values of shape \(2, 2\)"),
    (jnp.ones(3), {"components": 0}, "0 components"),
    (jnp.ones(3), {"max_iter": 0}, "max_iter = 0"),
    (jnp.ones(3), {"responsibilities": jnp.ones((3, 3))}, r"3 values and 2 components need"),
  ],
)
def test_bad_input(values, arguments, message):
  with pytest.raises(InputError, match=message):
    stats.gaussian_mixture(values, **arguments)

"""Multiplicative weights: the authors' numbers, far exponents, the cap, the step sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import stats
from jaxnoise.core import InputError

EXACT = {"rtol": 1e-7, "atol": 1e-9}


def stored(golden, case):
  prefix = f"mr/c{case}/"
  return {k.removeprefix(prefix): v for k, v in golden("reweighting").items() if prefix in k}


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_weights_equal_the_authors(golden, dtype):
  """All cases in one program: the shorter are padded by examples whose losses are infinite."""
  cases = [stored(golden, case) for case in range(5)]
  total, sizes = np.full((5, 13, 64), np.inf), np.full((5, 13), 0.1)
  with jax.enable_x64(dtype == "f8"):
    for row, data in enumerate(cases):
      epochs, n = data["losses"].shape
      total[row, 0, :n] = total[row, epochs + 1 :, :n] = 0
      total[row, 1 : epochs + 1, :n] = np.cumsum(data["losses"], axis=0)
      # Their milestone is met before the update that ends the epoch: row t + 1 has eta of epoch t.
      eta = stats.step_size_at(
        np.arange(epochs + 1),
        float(data["eta"]),
        data["eta_milestones_1based"].tolist(),
        float(data["eta_scale_gamma"]),
      )
      np.testing.assert_allclose(eta[1:], data["eta_per_epoch"], rtol=1e-6)
      sizes[row, : epochs + 1] = eta
    every = jax.jit(jax.vmap(jax.vmap(stats.log_weights)))
    logs = every(jnp.asarray(total.astype(dtype)), jnp.asarray(sizes.astype(dtype)))
  assert logs.dtype == np.dtype(dtype)
  exact = {"rtol": 1e-7} if dtype == "f8" else {"rtol": 1e-5, "atol": 1e-6}
  for data, got in zip(cases, np.asarray(logs), strict=True):
    epochs, n = data["losses"].shape
    # An absolute tolerance says nothing of the small weights; their logarithms do.
    np.testing.assert_allclose(got[: epochs + 1, :n], np.log(data["weights"]), **exact)
    if dtype == "f8":
      np.testing.assert_allclose(np.exp(got[: epochs + 1, :n]), data["weights"], **EXACT)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_cap_equals_the_authors(golden, dtype):
  data = stored(golden, 4)
  share, eta = float(data["max_weight"]), float(data["eta"])
  given = data["weights"][1:]
  cap = 1 / (share * given.shape[1])
  assert np.any(given > cap) and np.any(given < cap)

  @jax.jit
  @jax.vmap
  def both(p, total):
    return stats.cap_weights(p, share), stats.weights(total, eta, max_weight=share)

  with jax.enable_x64(dtype == "f8"):
    capped = both(given.astype(dtype), np.cumsum(data["losses"], axis=0).astype(dtype))
  for got in capped:
    assert got.dtype == np.dtype(dtype)
    tolerance = EXACT if dtype == "f8" else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(got, data["weights_capped"], **tolerance)


def test_the_cap_raises_the_others_once_and_has_ends():
  # The cap is 1/3; the second, raised by 1 + (0.6 - 1/3) / 0.4, would exceed it and is cut off.
  p = jnp.array([0.6, 0.3, 0.06, 0.04])
  capped = stats.cap_weights(p, 0.75)
  np.testing.assert_allclose(capped, [1 / 3, 1 / 3, 0.1, 0.2 / 3], rtol=1e-5)
  # None exceeds 5/8.
  np.testing.assert_allclose(stats.cap_weights(p, 0.4), p, rtol=1e-6)
  one = jnp.array([1.0, 0.0, 0.0, 0.0])
  np.testing.assert_allclose(stats.cap_weights(one, 0.5), [0.5, 0, 0, 0], rtol=1e-6)
  # The two that follow are below the smallest float, and yet they share what is left.
  far = stats.weights(jnp.array([0.0, 1000.0, 1000.0, 3000.0]), 1.0, max_weight=0.5)
  np.testing.assert_allclose(far, [0.5, 0.25, 0.25, 0.0], rtol=1e-5)
  for bad in (0.0, 1.0, float("nan")):
    with pytest.raises(InputError, match=f"max_weight is {bad}"):
      stats.cap_weights(p, bad)


def test_numbers_of_the_paper_by_hand():
  total = jnp.array([0.5, 2.0, 10.0, 0.1])
  expected = [0.2565093818, 0.2526904547, 0.2332626893, 0.2575374742]
  np.testing.assert_allclose(stats.weights(total, 0.01), expected, rtol=1e-6)
  batch = stats.batch_weights(total[1:3], 0.01)
  np.testing.assert_allclose(batch, [0.5199893402, 0.4800106598], rtol=1e-6)
  np.testing.assert_allclose(jnp.sum(batch * total[1:3]), 5.8400852788, rtol=1e-6)


def test_a_common_constant_changes_nothing_and_nothing_underflows():
  total = jnp.array([0.25, 3.0, 1.5, 40.0])
  order = jnp.array([2, 0, 3, 1])
  for fn in (stats.weights, stats.batch_weights):
    np.testing.assert_array_equal(fn(total, 1.25), fn(total + 8192.0, 1.25))
    np.testing.assert_allclose(fn(total, 0.0), 0.25, rtol=1e-6)
    np.testing.assert_allclose(fn(total, 1.25)[order], fn(total[order], 1.25), rtol=1e-6)
  # Weights of e^-5000 and less, were they divided by the sum over all.
  pair = stats.batch_weights(jnp.array([5000.0, 5001.0]), 1.0)
  np.testing.assert_allclose(pair, jax.nn.softmax(jnp.array([1.0, 0.0])), rtol=1e-6)
  rows = jnp.stack([total, 2 * total])
  np.testing.assert_allclose(stats.weights(rows, 0.5)[1], stats.weights(total, 1.0), rtol=1e-6)
  assert stats.weights(total.astype(jnp.bfloat16), 0.1).dtype == jnp.float32


def test_step_sizes_rescale_at_finished_epochs():
  sizes = stats.step_size_at(jnp.arange(8), 0.01, (6, 2, 2), 1.5)
  expected = 0.01 * np.array([1, 1, 1.5, 1.5, 1.5, 1.5, 2.25, 2.25])
  np.testing.assert_allclose(sizes, expected, rtol=1e-6)
  assert stats.step_size_at(3, 0.25).shape == () and stats.step_size_at(3, 0.25) == 0.25

"""ELR's term and its running average, away from the golden numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from jaxnoise.core.errors import InputError


def test_term_and_gradient():
  """Clipped probabilities have no gradient, and a history that sums to more stays finite."""
  z = jnp.array([[1.0, 0.0, -1.0], [60.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
  h = jnp.array([[0.5, 0.2, 0.1], [1.0, 0.0, 0.0], [1.01, 0.0, 0.0]])

  @jax.jit
  def run(z):
    value, pull = jax.vjp(lambda x: losses.elr(x, h), z)
    return value, pull(jnp.ones_like(value))[0]

  value, grad = run(z)
  p = np.exp([1.0, 0.0, -1.0]) / np.exp([1.0, 0.0, -1.0]).sum()
  inner = np.sum(p * np.asarray(h[0]))
  np.testing.assert_allclose(value[0], np.log(1 - inner), rtol=1e-6)
  expected = -p * (np.asarray(h[0]) - inner) / (1 - inner)
  np.testing.assert_allclose(grad[0], expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(value[1], np.log(1e-4), rtol=1e-3)
  assert np.all(np.isfinite(value)) and np.all(np.asarray(grad[1:]) == 0)


def test_update_keeps_beta_of_the_old_and_has_no_gradient():
  history, z = jnp.array([0.6, 0.1]), jnp.array([200.0, 0.0], jnp.bfloat16)

  @jax.jit
  def run(history, z):
    clipped = losses.elr_update(history, z, beta=0.75)
    plain = losses.elr_update(history, z, beta=0.75, clip=None)
    total = lambda h, x: jnp.sum(losses.elr_update(h, x, beta=0.75)[0])
    return clipped, plain, jax.grad(total, argnums=(0, 1))(history, z)

  clipped, plain, grads = run(history, z)
  assert clipped.dtype == jnp.float32
  np.testing.assert_allclose(plain, [0.75 * 0.6 + 0.25, 0.75 * 0.1], rtol=1e-6)
  np.testing.assert_allclose(
    clipped, [0.75 * 0.6 + 0.25 * 0.9999, 0.75 * 0.1 + 0.25 * 1e-4], rtol=1e-6
  )
  assert all(np.all(np.asarray(g, np.float32) == 0) for g in grads)


@pytest.mark.parametrize(
  ("call", "says"),
  [
    (lambda z: losses.elr(z, z, clip=0.0), r"clip is 0; it must lie in \(0, 0.5\]"),
    (lambda z: losses.elr_update(z, z, beta=1.5), "beta is 1.5"),
    (lambda z: losses.elr_update(z, z, beta=0.5, clip=0.6), "clip is 0.6"),
  ],
)
def test_bad_arguments(call, says):
  with pytest.raises(InputError, match=says):
    jax.eval_shape(call, jnp.zeros((2, 3)))

"""Binary cross-entropy of a softmax: values, gradients, and where 1 - p has no digits left."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import losses

LOSS = jax.jit(losses.binary_cross_entropy)


def test_equals_the_formula_and_its_gradient():
  rng = np.random.default_rng(0)
  z, t = 2 * rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), 5)
  p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
  expected = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p), axis=1)
  # dl/dp, then through the softmax.
  slope = -(t / p - (1 - t) / (1 - p)) / 4
  with jax.enable_x64(True):
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(LOSS(x, t))))
    value, grad = run(jnp.asarray(z))
    np.testing.assert_allclose(LOSS(jnp.asarray(z), t), expected, rtol=1e-9)
  np.testing.assert_allclose(value, expected.sum(), rtol=1e-9)
  np.testing.assert_allclose(grad, p * (slope - (p * slope).sum(1, keepdims=True)), rtol=1e-7)


def test_is_finite_and_exact_at_extreme_logits():
  z = jnp.array([[60.0, 0.0, 0.0], [1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [30.0, 30.0, -5.0]])
  t = jnp.eye(3)[jnp.array([1, 0, 2, 0])]
  value, grad = jax.jit(jax.value_and_grad(lambda x: jnp.sum(LOSS(x, t))))(z)
  assert np.isfinite(value) and np.all(np.isfinite(grad))
  # Certain and wrong: 1 - p is 2 exp(-60), which 1 - p in float32 is not.
  wrong = (60 + 60 - np.log(2)) / 3
  np.testing.assert_allclose(LOSS(z, t)[0], wrong, rtol=1e-6)
  half = LOSS(z.astype(jnp.bfloat16), t)
  assert half.dtype == jnp.float32 and np.all(np.isfinite(half))


def test_is_linear_in_the_target():
  z = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
  a, b = jnp.eye(5)[jnp.array([0, 1, 2])], jnp.eye(5)[jnp.array([4, 1, 0])]
  mixed = LOSS(z, 0.3 * a + 0.7 * b)
  parts = 0.3 * LOSS(z, a) + 0.7 * LOSS(z, b)
  np.testing.assert_allclose(mixed, parts, rtol=1e-5)

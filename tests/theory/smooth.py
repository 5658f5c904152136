"""A smooth model on five points of the plane, and the order at which an error vanishes."""

import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(3)
W, B, HEAD = (RNG.normal(size=s) for s in ((4, 2), 4, (4, 3)))
X = RNG.normal(size=(5, 2)) + np.array([[0.4, -0.2]])
Y = np.array([0, 1, 1, 0, 1])
EPSILON = 2.0 ** -np.arange(2, 8)

# 1 - lam on three Gauss nodes, weighted by the density 2 lam of the re-weighted coefficient.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(3)
MIX = ((1 + NODES) / 2, WEIGHTS * (1 - NODES) / 2)


def logits(x):
  return jnp.tanh(jnp.asarray(W) @ x + jnp.asarray(B)) @ jnp.asarray(HEAD)


def scalar(x):
  return logits(x)[0] + x[0] * x[1] / 2


def order(error, epsilon=EPSILON):
  """The slope of log |error| against log epsilon over the four smallest epsilons."""
  return np.polyfit(np.log(epsilon[-4:]), np.log(np.abs(error[-4:])), 1)[0]

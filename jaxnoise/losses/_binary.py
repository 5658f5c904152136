"""Losses that take every class as a yes-or-no question."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
  """Computes -(1/K) sum_c [t_c log p_c + (1 - t_c) log(1 - p_c)] with p = softmax(z).

  Linear in the target, so that mixing losses and mixing targets are the same. It is about 2/K times
  the cross-entropy: learning rates do not carry over from one to the other.

  Args:
    logits: [..., K] z, K at least 2; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.

  Returns:
    [...] one value per example, in [0, inf); larger is worse.

  Source: the authors' code of Puzzle Mix, which trains every mixing method with it. PyTorch cuts
  logarithms off at -100; here none is cut.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.binary_cross_entropy(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0])))
    0.6931471824645996
  """
  log_p = jax.nn.log_softmax(promote(logits))
  # Only the largest p can be above 1/2, where log(1 - p) loses its digits: there it is written as
  # the log-sum of the other classes.
  largest = jax.nn.one_hot(jnp.argmax(log_p, axis=-1), log_p.shape[-1], dtype=bool)
  others = jax.nn.logsumexp(jnp.where(largest, -jnp.inf, log_p), axis=-1, keepdims=True)
  log_not = jnp.where(largest, others, jnp.log1p(-jnp.where(largest, 0, jnp.exp(log_p))))
  return -jnp.mean(targets * log_p + (1 - targets) * log_not, axis=-1)

"""Losses of one prediction against one target distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def cross_entropy(logits: Array, targets: Array) -> Array:
  """Computes -sum_c t_c log p_c with p = softmax(z).

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.

  Returns:
    [...] one value per example, in [0, inf); larger is worse.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.cross_entropy(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0])))
    0.6931471824645996
  """
  return -jnp.sum(targets * jax.nn.log_softmax(promote(logits)), axis=-1)

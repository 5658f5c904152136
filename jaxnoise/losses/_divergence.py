"""Divergences between several predictions for the same example."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def jensen_shannon(
  logits: Array, *, weights: Sequence[float] | None = None, floor: float = 1e-7
) -> Array:
  """Computes JSD_pi(p^1, ..., p^V) = sum_v pi_v sum_c p^v_c (log p^v_c - log m_c).

  Here p^v = softmax(z^v) and m = clip(sum_v pi_v p^v, floor, 1). Only the mixture is clipped;
  log p^v is a log-softmax, so that 0 log 0 is 0 and gradients stay finite at any logits. Gradients
  flow to every view and through the mixture.

  Args:
    logits: [..., V, K] one row of logits per view.
    weights: V numbers pi, a distribution; None means 1/V each.
    floor: the smallest probability of the mixture inside the logarithm.

  Returns:
    [...] one value per example, in [0, log V] for equal weights; 0 when all views agree.

  Source: NoisyMix eq. (2) and the authors' code (equal weights, floor 1e-7); AugMix, section 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> views = jnp.array([[8.0, -8.0], [8.0, -8.0], [-8.0, 8.0]])
    >>> round(float(losses.jensen_shannon(views)), 4)
    0.6365
  """
  views = logits.shape[-2]
  if weights is None:
    weights = (1.0 / views,) * views
  if len(weights) != views:
    raise ValueError(f"weights has {len(weights)} entries for {views} views in logits[..., V, K]")
  log_p = jax.nn.log_softmax(promote(logits))
  p = jnp.exp(log_p)
  pi = jnp.asarray(weights, p.dtype).reshape((1,) * (p.ndim - 2) + (views, 1))
  log_mixture = jnp.log(jnp.clip(jnp.sum(pi * p, axis=-2, keepdims=True), floor, 1.0))
  return jnp.sum(pi * p * (log_p - log_mixture), axis=(-2, -1))

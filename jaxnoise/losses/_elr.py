"""Early-learning regularisation: an average of past predictions, and the term that holds to it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.losses import _checks


def elr(logits: Array, history: Array, *, clip: float = 1e-4) -> Array:
  """Computes log(1 - <h, clip(p, c, 1 - c)>), p = softmax(z), ELR's regulariser.

  It is to be minimised, added to cross-entropy with a weight (lambda in the paper): a prediction
  that agrees with its own history h lowers it. Clipped probabilities have no gradient. h is a
  constant for a method (`elr_update` cuts its gradient); it is updated before it is used here.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    history: [..., K] h, running averages of predictions, or mixtures of such: >= 0, sums at most 1.
    clip: c in (0, 0.5].

  Returns:
    [...] one value per example, in [log c, 0].

  Raises:
    InputError: for a clip out of range.

  Source: Liu et al. (2020); the clip is the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> round(float(losses.elr(jnp.zeros(2), jnp.array([0.5, 0.5]))), 4)
    -0.6931
  """
  _checks.within("clip", clip, 0, 0.5, open_low=True)
  p = jnp.clip(jax.nn.softmax(promote(logits)), clip, 1 - clip)
  rest = 1 - jnp.sum(promote(history) * p, axis=-1)
  # At least c for a history that sums to 1. One stored in half precision may sum to more.
  return jnp.log(jnp.maximum(rest, 0.5 * clip))


def elr_update(
  history: Array, logits: Array, *, beta: float | Array, clip: float | None = 1e-4
) -> Array:
  """Computes beta h + (1 - beta) q with q = clip(p, c, 1 - c) over its sum, p = softmax(z).

  No gradient flows to either argument.

  Args:
    history: [..., K] h, 0 before the first update.
    logits: [..., K] z of the same examples; half precision is promoted to float32.
    beta: in [0, 1], the part that stays.
    clip: c in [0, 0.5], as ELR's code; None is no clip, as the code of ELR+.

  Returns:
    [..., K] the new history, at least float32.

  Raises:
    InputError: for beta or clip out of range.

  Source: Liu et al. (2020) and the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> losses.elr_update(jnp.zeros(2), jnp.zeros(2), beta=0.5).tolist()
    [0.25, 0.25]
  """
  _checks.within("beta", beta, 0, 1)
  p = jax.nn.softmax(promote(logits))
  if clip is not None:
    _checks.within("clip", clip, 0, 0.5)
    p = jnp.clip(p, clip, 1 - clip)
  q = p / jnp.sum(p, axis=-1, keepdims=True)
  return jax.lax.stop_gradient(beta * promote(history) + (1 - beta) * q)

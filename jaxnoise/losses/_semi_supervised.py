"""What semi-supervised methods put together: sharpened guesses, squared errors, entropy terms."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def sharpen(p: Array, *, temperature: float = 0.5) -> Array:
  """Computes p_c^(1/T) / sum_j p_j^(1/T).

  Done in log space, so that a small T takes no row to 0 / 0; an entry of 0 stays 0.

  Args:
    p: [..., K] non-negative, each row with a positive entry; half precision is promoted.
    temperature: T > 0; 1 normalises p, towards 0 all goes to the largest entry.

  Returns:
    [..., K] distributions.

  Source: MixMatch (Berthelot et al., 2019), eq. (7); DivideMix (Li et al., 2020), eq. (4).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> [round(v, 4) for v in losses.sharpen(jnp.array([0.75, 0.25])).tolist()]
    [0.9, 0.1]
  """
  p = promote(p)
  log_p = jnp.log(jnp.where(p > 0, p, 1.0)) / temperature
  return jax.nn.softmax(log_p, axis=-1, where=p > 0)


def squared_error(logits: Array, targets: Array) -> Array:
  """Computes (1 / K) sum_c (p_c - t_c)^2 with p = softmax(z).

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.

  Returns:
    [...] one value per example, in [0, 2 / K]. The mean is over classes too, so that it is K times
    smaller than the Brier score.

  Source: DivideMix (Li et al., 2020), eq. (10), and the authors' code (the mean over classes).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.squared_error(jnp.zeros(2), jnp.array([1.0, 0.0])))
    0.25
  """
  return jnp.mean((jax.nn.softmax(promote(logits)) - targets) ** 2, axis=-1)


def negative_entropy(logits: Array) -> Array:
  """Computes sum_c p_c log p_c with p = softmax(z): added to a loss, it penalises confidence.

  Args:
    logits: [..., K] z; half precision is promoted to float32.

  Returns:
    [...] one value per example, in [-log K, 0].

  Source: DivideMix (Li et al., 2020), eq. (3), after Pereyra et al. (2017).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> round(float(losses.negative_entropy(jnp.zeros(2))), 4)
    -0.6931
  """
  log_p = jax.nn.log_softmax(promote(logits))
  return jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def uniform_prior(logits: Array) -> Array:
  """Computes KL(u || m) = sum_c (1 / K) log((1 / K) / m_c), m the mean prediction of the batch.

  A term of the whole batch: it keeps a network from giving every example the same class. log m is
  made from log-probabilities, finite at any logits.

  Args:
    logits: [..., K] z; m is the mean of softmax(z) over every leading axis.

  Returns:
    A scalar in [0, inf); 0 when the batch is predicted evenly.

  Source: DivideMix (Li et al., 2020), eq. (11), after Tanaka et al. (2018).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> round(float(losses.uniform_prior(jnp.array([[9.0, 0.0], [0.0, 9.0]]))), 4)
    0.0
  """
  log_p = jax.nn.log_softmax(promote(logits))
  classes = log_p.shape[-1]
  log_p = log_p.reshape(-1, classes)
  log_mean = jax.nn.logsumexp(log_p, axis=0) - jnp.log(jnp.asarray(log_p.shape[0], log_p.dtype))
  return -jnp.log(jnp.asarray(classes, log_p.dtype)) - jnp.mean(log_mean)

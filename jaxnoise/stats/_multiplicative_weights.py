"""Multiplicative weights: a distribution over examples, derived from their summed losses."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def log_weights(
  loss_sum: Array, eta: Array | float, *, max_weight: float | None = None
) -> Array:
  """Computes log p_i = -eta L_i - logsumexp_j(-eta L_j), the weights of multiplicative reweighting.

  What all sums have in common changes nothing and is taken off first, so that it costs no digits;
  no exponent is too large or too small.

  Args:
    loss_sum: [..., N], L, each example's losses summed over the updates so far, in nats.
    eta: step size, >= 0, a scalar; 0 gives equal weights. It multiplies the whole history.
    max_weight: as in `cap_weights`, for L of shape [N]; None for no cap.

  Returns:
    [..., N], at least float32; without a cap the exponentials sum to 1 over the last axis.

  Raises:
    InputError: for a max_weight outside (0, 1).

  Source: "Multiplicative Reweighting for Robust Neural Network Optimization", Algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> stats.log_weights(jnp.array([0.0, 1000.0]), 1.0).tolist()
    [0.0, -1000.0]
  """
  log_p = jax.nn.log_softmax(_exponents(loss_sum, eta))
  return log_p if max_weight is None else _capped(log_p, max_weight)


def weights(loss_sum: Array, eta: Array | float, *, max_weight: float | None = None) -> Array:
  """Computes p_i = exp(-eta L_i) / sum_j exp(-eta L_j).

  Args:
    loss_sum: [..., N], L, each example's losses summed over the updates so far, in nats.
    eta: step size, >= 0, a scalar.
    max_weight: as in `cap_weights`, for L of shape [N]; None for no cap.

  Returns:
    [..., N], at least float32, on the simplex where there is no cap; what lies below the smallest
    float is 0, for which `log_weights` keeps the number.

  Raises:
    InputError: for a max_weight outside (0, 1).

  Source: "Multiplicative Reweighting for Robust Neural Network Optimization", Algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> p = stats.weights(jnp.array([0.5, 2.0, 10.0, 0.1]), 0.01)
    >>> [round(x, 4) for x in p.tolist()]
    [0.2565, 0.2527, 0.2333, 0.2575]
  """
  return jnp.exp(log_weights(loss_sum, eta, max_weight=max_weight))


def batch_weights(loss_sum: Array, eta: Array | float) -> Array:
  """Computes p_i / sum_(j in I) p_j for the examples I of a batch: softmax over I of -eta L.

  The sum over the training set cancels, so that a batch of examples whose own weights are all
  below the smallest float is weighted too.

  Args:
    loss_sum: [..., B], L of the batch's examples, in nats.
    eta: step size, >= 0, a scalar.

  Returns:
    [..., B], at least float32, on the simplex.

  Source: "Multiplicative Reweighting for Robust Neural Network Optimization", Algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> [round(p, 4) for p in stats.batch_weights(jnp.array([2.0, 10.0]), 0.01).tolist()]
    [0.52, 0.48]
  """
  return jax.nn.softmax(_exponents(loss_sum, eta))


def cap_weights(weights: Array, max_weight: float) -> Array:
  """Caps weights at c = 1 / (max_weight N) and scales the others up by the excess, as far as c.

    p'_i = min(c, s p_i),   s = 1 + sum_j max(p_j - c, 0) / sum_(j: p_j < c) p_j.

  What is over c after the scaling is cut off and goes nowhere: the sum may be smaller than 1. The
  batch's normalisation, in which the weights are used, takes care of that.

  Args:
    weights: [N], on the simplex.
    max_weight: in (0, 1), the smallest share of the examples that can have all the weight.

  Returns:
    [N], at least float32, in [0, c]. Nothing is changed where no weight exceeds c.

  Raises:
    InputError: for a max_weight outside (0, 1).

  Source: the option of this name in the authors' code of "Multiplicative Reweighting for Robust
    Neural Network Optimization", whose loop ends after one round, since in it nothing stays over c.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> p = stats.cap_weights(jnp.array([0.7, 0.2, 0.05, 0.05]), 0.5)
    >>> [round(x, 4) for x in p.tolist()]
    [0.5, 0.3333, 0.0833, 0.0833]
  """
  return jnp.exp(_capped(jnp.log(promote(weights)), max_weight))


def step_size_at(
  epoch: Array | int, eta: float, milestones: Sequence[int] = (), factor: float = 1.0
) -> Array:
  """Computes eta factor^k, k the number of milestones that `epoch` has reached.

  The step size multiplies the whole history of losses: reaching a milestone rescales what was
  summed before it too.

  Args:
    epoch: finished epochs, 0 during the first; of any shape.
    eta: step size of the first epochs.
    milestones: counts of finished epochs, each at least 1: the update that ends epoch m, the first
      being 1, has the new step size already. Listing one twice changes nothing.
    factor: what the step size is multiplied by at each.

  Returns:
    The step size, of the shape of `epoch`.

  Source: the authors' code of "Multiplicative Reweighting for Robust Neural Network Optimization";
    Clothing1M has 1.5 after 2 and 6 epochs.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> stats.step_size_at(jnp.arange(4), 0.5, milestones=(2, 3), factor=0.5).tolist()
    [0.5, 0.5, 0.25, 0.125]
  """
  size = jnp.full(jnp.shape(epoch), eta, jnp.result_type(float))
  for milestone in sorted(set(milestones)):
    size = jnp.where(epoch >= milestone, size * factor, size)
  return size


def _exponents(loss_sum: Array, eta: Array | float) -> Array:
  """-eta L, up to a constant: 0 is the largest."""
  loss_sum = promote(loss_sum)
  return -eta * (loss_sum - jnp.min(loss_sum, axis=-1, keepdims=True))


def _capped(log_p: Array, max_weight: float) -> Array:
  """`cap_weights` of logarithms [N]: those far below the smallest float stay apart."""
  if not 0 < max_weight < 1:
    raise InputError(f"max_weight is {max_weight}; it must lie in (0, 1), or be None for no cap")
  log_cap = -jnp.log(jnp.asarray(max_weight * log_p.shape[0], log_p.dtype))
  excess = jnp.sum(jnp.maximum(jnp.exp(log_p) - jnp.exp(log_cap), 0.0))
  low = jnp.where(log_p < log_cap, log_p, -jnp.inf)
  # Relative to the largest of the low ones, which may be hundreds of digits from the cap.
  largest = jnp.max(low)
  largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
  total = jnp.maximum(jnp.sum(jnp.exp(low - largest)), jnp.finfo(log_p.dtype).tiny)
  raised = low - largest + jnp.logaddexp(largest + jnp.log(total), jnp.log(excess)) - jnp.log(total)
  return jnp.where(log_p < log_cap, jnp.minimum(raised, log_cap), log_cap)

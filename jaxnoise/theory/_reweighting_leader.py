"""Multiplicative reweighting (MR) as a regularised leader: what its weights minimise.

After the losses L_i have been summed, the weights are the distribution with the least weighted sum
of losses, plus a price for being far from uniform that falls with the step size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.types import Array
from jaxnoise.theory._reweighting import check_positive


def mr_ftrl_objective(weights: Array, loss_sum: Array, step_size: float | Array) -> Array:
  """Computes what MR's weights minimise: <p, L> + (1 / eta) sum_i (p_i log p_i - p_i).

  Its minimiser on the simplex is p_i ~ exp(-eta L_i), with L_i = sum_s l_i(theta_s): the weights
  of MR follow the regularised leader.

  Args:
    weights: [..., N], p >= 0; an entry of 0 adds nothing.
    loss_sum: [..., N], L in nats.
    step_size: eta > 0.

  Returns:
    [...].

  Raises:
    InputError: for a step size that is not positive.

  Source: MR, the view of the weights as follow the regularised leader.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> p = jnp.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])
    >>> loss_sum = jnp.array([[0.0, jnp.log(3.0)]])  # exp(-L) is 3 to 1
    >>> theory.mr_ftrl_objective(p, loss_sum, 1.0).tolist()
    [-1.2877, -1.1438, -1.0]
  """
  check_positive("step_size", step_size)
  regulariser = -jnp.sum(jax.scipy.special.entr(weights) + weights, axis=-1)
  return jnp.sum(weights * loss_sum, axis=-1) + regulariser / step_size


def mr_ftrl_gap(weights: Array, loss_sum: Array, step_size: float | Array) -> Array:
  """Computes by how much a distribution misses the least `mr_ftrl_objective`: never below 0.

  The least value is -(1 + log sum_j exp(-eta L_j)) / eta. The gap is KL(p || p*) / eta, p* ~
  exp(-eta L): 0 for MR's weights alone.

  Args:
    weights: [..., N], p, on the simplex.
    loss_sum: [..., N], L in nats.
    step_size: eta > 0.

  Returns:
    [...], >= 0 up to rounding.

  Raises:
    InputError: for a step size that is not positive.

  Source: MR, the view of the weights as follow the regularised leader; the closed form is derived
    here.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> p = jnp.array([[0.75, 0.25], [0.5, 0.5]])
    >>> loss_sum = jnp.array([[0.0, jnp.log(3.0)]])
    >>> [round(float(v), 4) for v in theory.mr_ftrl_gap(p, loss_sum, 1.0)]
    [0.0, 0.1438]
  """
  least = -(1 + jax.nn.logsumexp(-step_size * loss_sum, axis=-1)) / step_size
  return mr_ftrl_objective(weights, loss_sum, step_size) - least

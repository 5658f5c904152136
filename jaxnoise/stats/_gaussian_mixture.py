"""A mixture of Gaussians in one dimension, fitted by EM in a fixed shape."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array

_MAX_ROUNDS = 100  # of the start's clustering; it settles in about ten


class GaussianMixture(NamedTuple):
  """p(x) = sum_k weights_k N(x; means_k, variances_k).

  Attributes:
    means: [K], ascending.
    variances: [K], positive.
    weights: [K], on the simplex.
    iterations: int32 scalar, EM rounds made.
    converged: bool scalar, whether the last round changed the mean log-likelihood by less than the
      tolerance.
  """

  means: Array
  variances: Array
  weights: Array
  iterations: Array
  converged: Array


def gaussian_mixture(
  values: Array,
  *,
  mask: Array | None = None,
  components: int = 2,
  max_iter: int = 10,
  tol: float = 1e-2,
  reg: float = 5e-4,
  responsibilities: Array | None = None,
) -> GaussianMixture:
  """Fits a mixture of Gaussians to the values by EM.

  E: r_ik = pi_k N(x_i; m_k, v_k) / sum_j pi_j N(x_i; m_j, v_j).
  M: n_k = sum_i r_ik, m_k = sum_i r_ik x_i / n_k, v_k = sum_i r_ik (x_i - m_k)^2 / n_k + reg,
     pi_k = n_k / N.

  It starts with an M step and ends with one, after `max_iter` rounds or when the mean
  log-likelihood, measured in the E step, has changed by less than `tol`.

  The start without `responsibilities` is deterministic: K-means of centres spread evenly from the
  smallest to the largest value, until no value changes its cluster. With so loose a tolerance the
  start leaves a trace in the result; the authors' start is a random one.

  Args:
    values: [N], in any unit; `reg` is in its square. DivideMix' are losses scaled to [0, 1].
    mask: [N], 0 for values to leave out; None for none. At least one is to be left in.
    components: K.
    max_iter: most EM rounds; 10 in DivideMix.
    tol: of the mean log-likelihood, in nats.
    reg: added to every variance.
    responsibilities: [N, K], non-negative with rows that sum to 1, to start from.

  Returns:
    The mixture, its components sorted by their means. Where all values are the same, one component
    has them all and the other none.

  Raises:
    InputError: for fewer than one component or round, values that are not a vector, or
      responsibilities of another shape.

  Source: Dempster et al. (1977); the settings are those of DivideMix (Li et al., 2020) and its
    code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> fit = stats.gaussian_mixture(jnp.array([0.0, 0.1, 0.9, 1.0]))
    >>> [round(float(m), 3) for m in fit.means]
    [0.05, 0.95]
  """
  values = promote(jnp.asarray(values))
  if values.ndim != 1 or components < 1 or max_iter < 1:
    raise InputError(
      f"gaussian_mixture was given values of shape {values.shape}, {components} components and "
      f"max_iter = {max_iter}; it takes a vector, and at least one of either"
    )
  shape = (values.shape[0], components)
  if responsibilities is not None and responsibilities.shape != shape:
    raise InputError(
      f"responsibilities is of shape {responsibilities.shape}; {shape[0]} values and {components} "
      f"components need {shape}"
    )
  kept = jnp.ones_like(values) if mask is None else mask.astype(values.dtype)
  if responsibilities is None:
    responsibilities = _clusters(values, kept, components)
  start = responsibilities.astype(values.dtype) * kept[:, None]
  overall = jnp.sum(kept * values) / jnp.sum(kept)

  def maximise(r: Array) -> tuple[Array, Array, Array]:
    n = jnp.sum(r, axis=0)
    safe = jnp.where(n > 0, n, 1.0)
    # A component without values stays at the mean of all; its weight is 0.
    means = jnp.where(n > 0, jnp.sum(r * values[:, None], axis=0) / safe, overall)
    deviation = (values[:, None] - means[None]) ** 2
    return means, jnp.sum(r * deviation, axis=0) / safe + reg, n / jnp.sum(n)

  def round_of_em(carry):
    (means, variances, weights), before, iteration, _ = carry
    joint = _log_joint(values, means, variances, weights)
    evidence = jax.nn.logsumexp(joint, axis=1, keepdims=True)
    bound = jnp.sum(kept * evidence[:, 0]) / jnp.sum(kept)
    fitted = maximise(jnp.exp(joint - evidence) * kept[:, None])
    return fitted, bound, iteration + 1, jnp.abs(bound - before) < tol

  def unfinished(carry):
    _, _, iteration, converged = carry
    return (iteration < max_iter) & ~converged

  first = (maximise(start), -jnp.inf * jnp.ones((), values.dtype), jnp.int32(0), jnp.array(False))
  fitted, _, iterations, converged = jax.lax.while_loop(unfinished, round_of_em, first)
  order = jnp.argsort(fitted[0])
  return GaussianMixture(*(v[order] for v in fitted), iterations, converged)


def gaussian_posterior(mixture: GaussianMixture, values: Array) -> Array:
  """Computes p(k | x) = pi_k N(x; m_k, v_k) / sum_j pi_j N(x; m_j, v_j), in log space.

  Args:
    mixture: from `gaussian_mixture`.
    values: [...], in the unit of the fit.

  Returns:
    [..., K] distributions, components in the order of their means: column 0 is the probability of
    the component with the lowest mean, DivideMix' probability of a clean label.

  Source: DivideMix (Li et al., 2020), section 3.1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> fit = stats.gaussian_mixture(jnp.array([0.0, 0.1, 0.9, 1.0]))
    >>> stats.gaussian_posterior(fit, jnp.array([0.05, 0.5])).round(2).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
  """
  values = promote(jnp.asarray(values))
  order = jnp.argsort(mixture.means)
  parameters = (mixture.means, mixture.variances, mixture.weights)
  joint = _log_joint(values.ravel(), *(v[order] for v in parameters))
  return jax.nn.softmax(joint, axis=-1).reshape((*values.shape, -1))


def _log_joint(values: Array, means: Array, variances: Array, weights: Array) -> Array:
  """log pi_k + log N(x_i; m_k, v_k): [N, K]."""
  squared = (values[:, None] - means[None]) ** 2 / variances[None]
  constant = jnp.log(weights) - 0.5 * jnp.log(2 * jnp.pi * variances)
  return constant[None] - 0.5 * squared


def _clusters(values: Array, kept: Array, components: int) -> Array:
  """K-means from evenly spread centres: [N, K] of 0 and 1."""
  low = jnp.min(jnp.where(kept > 0, values, jnp.inf))
  high = jnp.max(jnp.where(kept > 0, values, -jnp.inf))
  spread = jnp.arange(components, dtype=values.dtype) / max(components - 1, 1)

  def assigned(centres: Array) -> Array:
    nearest = jnp.argmin(jnp.abs(values[:, None] - centres[None]), axis=1)
    return jax.nn.one_hot(nearest, components, dtype=values.dtype)

  def moved(carry):
    centres, _, rounds = carry
    members = assigned(centres) * kept[:, None]
    n = jnp.sum(members, axis=0)
    total = jnp.sum(members * values[:, None], axis=0)
    new = jnp.where(n > 0, total / jnp.maximum(n, 1), centres)
    return new, jnp.any(new != centres), rounds + 1

  first = (low + (high - low) * spread, jnp.array(True), jnp.int32(0))
  unsettled = lambda carry: carry[1] & (carry[2] < _MAX_ROUNDS)
  centres, _, _ = jax.lax.while_loop(unsettled, moved, first)
  return assigned(centres)

"""A mixture of two Beta distributions, and what it says of losses: which labels are noisy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array

_FLOOR = 1e-12  # of a component's density times its weight
_EDGE = 1e-4  # the fit stays this far from 0 and 1


class BetaMixture(NamedTuple):
  """p(u) = sum_k weights_k Beta(u; alphas_k, betas_k), u in (0, 1), k = 0 and 1.

  Attributes:
    alphas: [2], positive. With the default start, component 1 is the one of large values: of noisy
      labels, where the values are losses.
    betas: [2], positive.
    weights: [2], on the simplex.
  """

  alphas: Array
  betas: Array
  weights: Array


class LossModel(NamedTuple):
  """What turns a loss into the probability that its label is noisy; see `fit_losses`.

  Attributes:
    low: scalar, the loss that is scaled to 0, in nats.
    high: scalar, the loss that is scaled to 1, in nats.
    mixture: of the scaled losses.
    table: [100], the posterior of component 1 on an even grid.
  """

  low: Array
  high: Array
  mixture: BetaMixture
  table: Array


def beta_mixture(
  values: Array,
  *,
  mask: Array | None = None,
  iterations: int = 10,
  alphas: Sequence[float] = (1.0, 2.0),
  betas: Sequence[float] = (2.0, 1.0),
  weights: Sequence[float] = (0.5, 0.5),
) -> BetaMixture:
  """Fits a mixture of two Beta distributions by EM with a moment-matching M step.

  E: r_ik = max(pi_k Beta(u_i; a_k, b_k), 1e-12), divided by its sum over k.
  M: with the mean m_k and the variance s_k of u under the weights r_ik,
     a_k = m_k (m_k (1 - m_k) / s_k - 1), b_k = a_k (1 - m_k) / m_k, pi_k = mean_i r_ik.

  Values are first clipped to [1e-4, 1 - 1e-4]. The number of rounds is fixed; there is no test of
  convergence. The authors divide by a variance of 0 where all values agree; here s_k >= 1e-8, and
  a_k, b_k >= 1e-4.

  Args:
    values: [N] in [0, 1].
    mask: [N], 0 for values to leave out; None for none.
    iterations: EM rounds; 10 in the authors' code.
    alphas: [2], the start.
    betas: [2], the start.
    weights: [2], the start, on the simplex.

  Returns:
    The mixture, its components in the order of the start.

  Raises:
    InputError: for values that are not a vector, a start of other than two positive numbers each,
      or weights off the simplex.

  Source: Arazo et al. (2019), section 3.1, and the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> fit = stats.beta_mixture(jnp.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]))
    >>> bool(fit.alphas[0] < fit.betas[0]), bool(fit.alphas[1] > fit.betas[1])
    (True, True)
  """
  u = promote(jnp.asarray(values))
  if u.ndim != 1:
    raise InputError(f"beta_mixture was given values of shape {u.shape}; it takes a vector")
  _check_start(alphas, betas, weights)
  u = jnp.clip(u, _EDGE, 1 - _EDGE)
  kept = jnp.ones_like(u) if mask is None else mask.astype(u.dtype)
  floor = jnp.log(jnp.asarray(_FLOOR, u.dtype))

  def round_of_em(_, mixture: BetaMixture) -> BetaMixture:
    log_r = jnp.maximum(_log_joint(mixture, u), floor)
    r = jax.nn.softmax(log_r, axis=-1) * kept[:, None]
    n = jnp.sum(r, axis=0)
    mean = jnp.sum(r * u[:, None], axis=0) / n
    variance = jnp.sum(r * (u[:, None] - mean[None]) ** 2, axis=0) / n
    alpha = mean * (mean * (1 - mean) / jnp.maximum(variance, 1e-8) - 1)
    beta = alpha * (1 - mean) / mean
    return BetaMixture(jnp.maximum(alpha, 1e-4), jnp.maximum(beta, 1e-4), n / jnp.sum(n))

  start = BetaMixture(*(jnp.asarray(v, u.dtype) for v in (alphas, betas, weights)))
  return jax.lax.fori_loop(0, iterations, round_of_em, start)


def beta_density(mixture: BetaMixture, values: Array) -> Array:
  """Computes Beta(u; a_k, b_k) of both components, their weights left out.

  Args:
    mixture: from `beta_mixture`.
    values: [...] in [0, 1]; 0 and 1 count as 1e-12 away from themselves.

  Returns:
    [..., 2] densities.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> mixture = stats.BetaMixture(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0]), jnp.ones(2) / 2)
    >>> stats.beta_density(mixture, jnp.array(0.25)).tolist()
    [1.5, 0.5]
  """
  return jnp.exp(_log_density(mixture, promote(jnp.asarray(values))))


def beta_posterior(mixture: BetaMixture, values: Array) -> Array:
  """Computes pi_1 Beta_1(u) / (pi_0 Beta_0(u) + pi_1 Beta_1(u) + 1e-12), in log space.

  Args:
    mixture: from `beta_mixture`.
    values: [...] in [0, 1].

  Returns:
    [...], the probability of component 1. It need not grow with u: see `posterior_table`.

  Source: Arazo et al. (2019), section 3.1; the 1e-12 is the authors' code's.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> mixture = stats.BetaMixture(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0]), jnp.ones(2) / 2)
    >>> float(jax.jit(stats.beta_posterior)(mixture, 0.25))
    0.25
  """
  joint = _log_joint(mixture, promote(jnp.asarray(values)))
  floor = jnp.full((*joint.shape[:-1], 1), np.log(_FLOOR), joint.dtype)
  evidence = jax.nn.logsumexp(jnp.concatenate([joint, floor], axis=-1), axis=-1)
  return jnp.exp(joint[..., 1] - evidence)


def posterior_table(mixture: BetaMixture, size: int = 100) -> Array:
  """Tabulates `beta_posterior` on an even grid from 1e-12 to 1 - 1e-12, made monotone at its end.

  From its largest entry on, the table keeps that value: the posterior may fall again for the
  largest losses, where both densities vanish. Where alphas[1] < alphas[0], the posterior is largest
  at 0 too, and the whole table may be constant: the fit has not found two groups.

  Args:
    mixture: from `beta_mixture`.
    size: entries of the table.

  Returns:
    [size], to be read by `look_up`.

  Source: the code of Arazo et al. (2019).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> mixture = stats.BetaMixture(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0]), jnp.ones(2) / 2)
    >>> jax.jit(stats.posterior_table, static_argnums=1)(mixture, 5).round(2).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
  """
  grid = jnp.asarray(np.linspace(_FLOOR, 1 - _FLOOR, size), promote(mixture.alphas).dtype)
  table = beta_posterior(mixture, grid)
  return jnp.where(jnp.arange(size) >= jnp.argmax(table), jnp.max(table), table)


def look_up(table: Array, values: Array) -> Array:
  """Reads the table at floor(size u), capped at its last entry; no interpolation.

  Args:
    table: [size], from `posterior_table`.
    values: [...] in [0, 1].

  Returns:
    [...].

  Source: the code of Arazo et al. (2019).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> table = jnp.array([0.0, 0.25, 0.5, 1.0])
    >>> jax.jit(stats.look_up)(table, jnp.array([0.3, 0.99, 1.0])).tolist()
    [0.25, 1.0, 1.0]
  """
  size = table.shape[0]
  index = (size * promote(jnp.asarray(values))).astype(jnp.int32)
  return table[jnp.clip(index, 0, size - 1)]


def normalise_losses(losses: Array, low: Array, high: Array) -> Array:
  """Scales losses to (0, 1): u = (l - low) / (high - low + 1e-6), kept in [1e-3, 1 - 1e-3].

  Only values outside (0, 1) are moved, to 1e-3 and 1 - 1e-3.

  Args:
    losses: [...], in nats.
    low: scalar, the loss that becomes 0.
    high: scalar, the loss that becomes 1.

  Returns:
    [...].

  Source: the code of Arazo et al. (2019).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> stats.normalise_losses(jnp.array([0.0, 1.0, 2.0, 9.0]), 1.0, 3.0).round(4).tolist()
    [0.001, 0.001, 0.5, 0.999]
  """
  losses = promote(jnp.asarray(losses))
  width = high - low + 1e-6
  # Where the losses are all but equal the width may vanish: `low` has been raised by 1e-5.
  u = (losses - low) / jnp.where(width == 0, 1e-6, width)
  return jnp.where(u >= 1, 1 - 1e-3, jnp.where(u <= 0, 1e-3, u)).astype(losses.dtype)


def fit_losses(
  losses: Array, *, percentiles: tuple[float, float] = (5.0, 95.0), iterations: int = 10
) -> LossModel:
  """Fits the Beta mixture to the losses of a training set, its extremes left out.

  low and high are the two percentiles of the losses. Losses outside [low, high] are left out, low
  is raised by 1e-5, the rest scaled by `normalise_losses` and given to `beta_mixture`.

  Args:
    losses: [N], one per training example, in nats.
    percentiles: of low and high, in percent; interpolated between neighbours.
    iterations: EM rounds.

  Returns:
    The model; `noise_posterior` reads it.

  Raises:
    InputError: for losses that are not a vector, or percentiles that are not in order.

  Source: Arazo et al. (2019), section 3.1, and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> losses = jnp.array([0.1, 0.2, 0.2, 0.3, 0.4, 3.0, 3.5, 4.0, 4.1])
    >>> model = jax.jit(stats.fit_losses)(losses)
    >>> (jax.jit(stats.noise_posterior)(model, losses) > 0.5).tolist()
    [False, False, False, False, False, True, True, True, True]
  """
  losses = promote(jnp.asarray(losses))
  below, above = percentiles
  if losses.ndim != 1 or not 0 <= below < above <= 100:
    raise InputError(
      f"fit_losses was given losses of shape {losses.shape} and percentiles {percentiles}; it "
      "takes a vector and two percentiles, the lower first"
    )
  low, high = jnp.percentile(losses, below), jnp.percentile(losses, above)
  kept = (losses >= low) & (losses <= high)
  low = low + 1e-5
  mixture = beta_mixture(normalise_losses(losses, low, high), mask=kept, iterations=iterations)
  return LossModel(low, high, mixture, posterior_table(mixture))


def noise_posterior(model: LossModel, losses: Array) -> Array:
  """Looks up the probability that labels with these losses are noisy.

  Args:
    model: from `fit_losses`.
    losses: [...], in nats, of the network the model was fitted to.

  Returns:
    [...] in [0, 1], steps of the table.

  Source: the code of Arazo et al. (2019).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import stats
    >>> mixture = stats.BetaMixture(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0]), jnp.ones(2) / 2)
    >>> model = stats.LossModel(0.0, 2.0, mixture, jax.jit(stats.posterior_table)(mixture))
    >>> stats.noise_posterior(model, jnp.array([0.0, 1.0, 5.0])).round(2).tolist()
    [0.0, 0.49, 1.0]
  """
  return look_up(model.table, normalise_losses(losses, model.low, model.high))


def _log_density(mixture: BetaMixture, u: Array) -> Array:
  """log Beta(u; a_k, b_k): [..., 2]."""
  lead = (1,) * u.ndim
  a, b = (promote(v).reshape((*lead, 2)) for v in (mixture.alphas, mixture.betas))
  log_u, log_v = (jnp.log(jnp.maximum(x, _FLOOR))[..., None] for x in (u, 1 - u))
  # Not `betaln`: its double precision ends at seven digits for some arguments.
  log_beta = gammaln(a) + gammaln(b) - gammaln(a + b)
  return (a - 1) * log_u + (b - 1) * log_v - log_beta


def _log_joint(mixture: BetaMixture, u: Array) -> Array:
  """log pi_k + log Beta(u; a_k, b_k): [..., 2]."""
  log_weights = jnp.log(promote(mixture.weights)).reshape((1,) * u.ndim + (2,))
  return log_weights + _log_density(mixture, u)


def _check_start(alphas: Sequence[float], betas: Sequence[float], weights: Sequence[float]) -> None:
  for name, start in (("alphas", alphas), ("betas", betas), ("weights", weights)):
    traced = isinstance(start, jax.core.Tracer)  # its numbers are not known yet
    if np.shape(start) != (2,) or not (traced or np.all(np.asarray(start) > 0)):
      raise InputError(f"{name} is {start}; a start takes two positive numbers")
    if name == "weights" and not traced and abs(float(np.sum(start)) - 1) > 1e-6:
      raise InputError(f"weights is {start}; the two must sum to 1")

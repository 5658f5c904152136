"""What mixing and noise do to the Jensen-Shannon stability term: NoisyMix, Theorem 2.

The equations' bodies are missing from the copy of the paper that this was written from. What is
here follows from the stated structure by a second-order expansion, for any number of classes and
views, and is tested against the exact term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxnoise import losses
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array
from jaxnoise.theory._regularizers import (
  Expansion,
  PerturbationMoments,
  Perturbations,
  directional,
  perturb,
)


def jensen_shannon_expansion(
  predict: Callable[[Array], Array],
  points: Array,
  displacements: Array,
  weights: Sequence[float] | None = None,
) -> tuple[Array, Array, Array]:
  """Expands JSD_pi of V displaced predictions: T_0 + epsilon T_1 + epsilon^2 T_2 + o(epsilon^2).

  The predictions are p(x^v + epsilon u^v). With P^v = p(x^v), M = sum_v pi_v P^v, and P^v_u,
  P^v_uu the derivatives of p at x^v along u^v,

    T_0 = sum_v pi_v sum_c P^v log(P^v / M)
    T_1 = sum_v pi_v sum_c log(P^v / M) P^v_u
    T_2 = (1/2) sum_c [ sum_v pi_v (log(P^v / M) P^v_uu + (P^v_u)^2 / P^v)
                        - (sum_v pi_v P^v_u)^2 / M ]

  computed from log p, so that vanishing probabilities do no harm.

  Args:
    predict: [d] -> logits [K]; log-probabilities are logits too, and for one sigmoid output f the
      logits are (f, 0).
    points: [V, d], the views of one example: x, A(x), ...
    displacements: [V, d], u.
    weights: V numbers pi, a distribution; None means 1/V each.

  Returns:
    (T_0, T_1, T_2), scalars; the rest is of order 3 for a smooth p.

  Raises:
    InputError: for arrays whose shapes do not fit, or another number of weights.

  Source: NoisyMix, Lemma 2 and Proposition 1, whose equations are reconstructed here.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> predict = lambda x: jnp.array([x[0], 0.0])
    >>> same = jnp.zeros((2, 1))
    >>> u = jnp.array([[1.0], [-1.0]])
    >>> [round(float(t), 4) for t in theory.jensen_shannon_expansion(predict, same, u)]
    [0.0, 0.0, 0.125]
  """
  points, pi = _checked(points, weights, 2)
  if displacements.shape != points.shape:
    raise InputError(
      f"displacements are {list(displacements.shape)} for points {list(points.shape)}; give one "
      "to each point"
    )
  pi = pi[:, None]
  log_p, slope, bend = jax.vmap(lambda x, u: directional(_log_p(predict), x, u))(
    points, jnp.asarray(displacements, points.dtype)
  )
  p = jnp.exp(log_p)
  log_mixture = jax.nn.logsumexp(log_p, axis=0, b=jnp.broadcast_to(pi, log_p.shape))[None]
  gap = log_p - log_mixture
  share = pi * jnp.exp(gap)  # of each view in the mixture, by class: adds up to 1
  mean_slope = jnp.sum(share * slope, axis=0)
  spread = jnp.sum(pi * p * slope**2) - jnp.sum(jnp.exp(log_mixture[0]) * mean_slope**2)
  return (
    jnp.sum(pi * p * gap),
    jnp.sum(pi * gap * p * slope),
    (jnp.sum(pi * gap * p * (bend + slope**2)) + spread) / 2,
  )


def fisher_penalty(
  predict: Callable[[Array], Array],
  x: Array,
  displacements: Array,
  weights: Sequence[float] | None = None,
) -> Array:
  """T_2 where all views are one point: the variance of their displacements in the Fisher metric.

  (1/2) sum_c Var_pi[(J_p u^v)_c] / p_c; for two views

    pi (1 - pi) / 2 sum_c (J_p (u - v))_c^2 / p_c = pi (1 - pi) / 2 (u - v).F(x) (u - v),

  F the Fisher information of p in x. There T_0 = T_1 = 0: a stability term between noisy copies
  penalises the Jacobian and nothing else.

  Args:
    predict: [d] -> logits [K].
    x: [d].
    displacements: [V, d].
    weights: V numbers pi, a distribution; None means 1/V each.

  Returns:
    A scalar >= 0.

  Raises:
    InputError: for arrays whose shapes do not fit, or another number of weights.

  Source: NoisyMix, Theorem 2 with A the identity; reconstructed.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> predict = lambda x: jnp.array([x[0], 0.0])  # p (1 - p) = 1/4 at 0
    >>> float(theory.fisher_penalty(predict, jnp.zeros(1), jnp.array([[1.0], [-1.0]])))
    0.125
  """
  displacements, pi = _checked(displacements, weights, 2)
  if jnp.shape(x) != displacements.shape[1:]:
    raise InputError(
      f"x is {list(jnp.shape(x))} for displacements {list(displacements.shape)}; it must be [d]"
    )
  x = jnp.asarray(x, displacements.dtype)
  log_p, push = jax.linearize(_log_p(predict), x)
  slope = jax.vmap(push)(displacements)
  off = slope - jnp.sum(pi[:, None] * slope, axis=0)[None]
  return jnp.sum(pi[:, None] * off**2 * jnp.exp(log_p)[None]) / 2


def stability_loss(
  predict: Callable[[Array], Array],
  views: Array,
  epsilon: float | Array,
  perturbations: Perturbations,
  *,
  add_noise: float | Array = 0.5,
  mult_noise: float | Array = 0.5,
  view_factors: Sequence[float] | None = None,
  weights: Sequence[float] | None = None,
) -> Array:
  """Computes the stability term of NoisyMix at the input, its expectation over every partner.

  (1/n) sum_i (1/n) sum_r E[JSD_pi(p(z^1), ..., p(z^V))], where
  z^v = (1 + epsilon s_m xi_mult^v) * (x_i^v + epsilon (1 - lam) (x_r^v - x_i^v))
        + epsilon s_a f_v xi_add^v:
  the views of an example share lam and the partner, and each has noise of its own.

  Args:
    predict: [d] -> logits [K].
    views: [n, V, d]: x, A(x), ... of every example.
    epsilon: scalar >= 0.
    perturbations: what the expectation is over, with `add` and `mult` [m, V, d].
    add_noise: s_a >= 0, in the units of the views.
    mult_noise: s_m >= 0.
    view_factors: V numbers f_v; None for 1 each (the authors' code: 1, 2, 3).
    weights: V numbers pi, a distribution; None means 1/V each.

  Returns:
    A scalar in [0, log V].

  Raises:
    InputError: for arrays whose shapes do not fit, or another number of factors or weights.

  Source: NoisyMix, eq. (3), with lam re-weighted as in Lemma 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> grid = theory.perturbation_grid((2, 1), mix=([0.5], [1.0]))
    >>> views = jnp.zeros((1, 2, 1))
    >>> float(theory.stability_loss(lambda x: jnp.array([x[0], 0.0]), views, 0.0, grid))
    0.0
  """
  views, _ = _checked(views, weights, 3)
  factors = _factors(view_factors, views)
  if perturbations.add.shape[1:] != views.shape[1:]:
    raise InputError(
      f"perturbations.add is {list(perturbations.add.shape)} for views {list(views.shape)}; it "
      "must be [m, V, d]"
    )
  mix, add, mult, weight = (jnp.asarray(a, views.dtype) for a in perturbations)

  # The smallest normal number: no mixture of the views is raised to a floor.
  floor = float(jnp.finfo(views.dtype).tiny)

  def example(own: Array) -> Array:
    def one(mix: Array, add: Array, mult: Array, partner: Array) -> Array:
      noise = add_noise * factors[:, None] * add
      moved = perturb(own, partner, epsilon, mix, noise, mult_noise * mult)
      return losses.jensen_shannon(jax.vmap(predict)(moved), weights=weights, floor=floor)

    partners = jax.vmap(one, (None, None, None, 0))
    return weight @ jnp.mean(jax.vmap(partners, (0, 0, 0, None))(mix, add, mult, views), axis=1)

  return jnp.mean(jax.lax.map(example, views))


def stability_expansion(
  predict: Callable[[Array], Array],
  views: Array,
  moments: PerturbationMoments,
  *,
  add_noise: float | Array = 0.5,
  mult_noise: float | Array = 0.5,
  view_factors: Sequence[float] | None = None,
  weights: Sequence[float] | None = None,
) -> Expansion:
  """Expands `stability_loss` to second order in epsilon, by moments of mixing and noise.

  With T_1, T_2 of `jensen_shannon_expansion`, D^v = x_r^v - x_i^v, and e_vk the displacement of
  coordinate k of view v alone, each the mean over i of

    standard        T_0
    first           E[1 - lam] E_r[T_1(D)]
    mixing          E[(1 - lam)^2] E_r[T_2(D)]
    additive        s_a^2 E[xi_add^2] sum_vk f_v^2 T_2(e_vk)
    multiplicative  s_m^2 E[xi_mult^2] sum_vk (x_ik^v)^2 T_2(e_vk)

  T_2 is a quadratic form, so that independent noise of mean 0 adds up by coordinate.

  Args:
    predict: [d] -> logits [K], twice differentiable at the views.
    views: [n, V, d].
    moments: of the coefficient and the noise.
    add_noise: s_a >= 0, in the units of the views.
    mult_noise: s_m >= 0.
    view_factors: V numbers f_v; None for 1 each.
    weights: V numbers pi, a distribution; None means 1/V each.

  Returns:
    Expansion of scalars; the rest is of order 3 for a smooth p, 4 with symmetric noise alone.

  Raises:
    InputError: for arrays whose shapes do not fit, or another number of factors or weights.

  Source: NoisyMix, Theorem 2, whose equations are reconstructed here.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> moments = theory.PerturbationMoments(*theory.coefficient_moments(1.0))
    >>> views = jnp.zeros((1, 2, 1))  # additive: s_a^2 / 2 (1 - 1/2) p (1 - p), for two views
    >>> predict = lambda x: jnp.array([x[0], 0.0])
    >>> float(theory.stability_expansion(predict, views, moments).additive)
    0.015625
  """
  views, _ = _checked(views, weights, 3)
  factors = _factors(view_factors, views)
  count = views.shape[1] * views.shape[2]
  each = jnp.eye(count, dtype=views.dtype).reshape(count, *views.shape[1:])

  def example(own: Array) -> Expansion:
    terms = jax.vmap(lambda u: jensen_shannon_expansion(predict, own, u, weights))
    zeroth, first, second = terms(views - own[None])
    noise = terms(each)[2].reshape(own.shape)
    return Expansion(
      jnp.mean(zeroth),
      moments.mix * jnp.mean(first),
      moments.mix_square * jnp.mean(second),
      moments.add_square * add_noise**2 * jnp.sum(factors[:, None] ** 2 * noise),
      moments.mult_square * mult_noise**2 * jnp.sum(own**2 * noise),
    )

  return jax.tree.map(jnp.mean, jax.lax.map(example, views))


def _log_p(predict: Callable[[Array], Array]) -> Callable[[Array], Array]:
  return lambda x: jax.nn.log_softmax(predict(x))


def _checked(x: Array, weights: Sequence[float] | None, axes: int) -> tuple[Array, Array]:
  """The points or views as floats, and the weights [V] in their precision."""
  x = jnp.asarray(x)
  if x.ndim != axes:
    layout = "[n, V, d]" if axes == 3 else "[V, d]"
    raise InputError(f"found an array {list(x.shape)} where {layout} is expected")
  views = x.shape[-2]
  if weights is not None and len(weights) != views:
    raise InputError(f"weights has {len(weights)} entries for {views} views; give one to each")
  dtype = jnp.promote_types(x.dtype, jnp.float32)
  pi = (1.0 / views,) * views if weights is None else weights
  return x.astype(dtype), jnp.asarray(pi, dtype)


def _factors(view_factors: Sequence[float] | None, views: Array) -> Array:
  count = views.shape[1]
  factors = (1.0,) * count if view_factors is None else view_factors
  if len(factors) != count:
    raise InputError(
      f"view_factors has {len(factors)} entries for {count} views; give one to each"
    )
  return jnp.asarray(factors, views.dtype)

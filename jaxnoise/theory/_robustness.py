"""How far noisy feature mixup protects an input: NoisyMix, Theorem 3.

The equations' bodies are missing from the copy of the paper that this was written from. What is
here has the shape of Theorem 2 of noisy feature mixup, derived anew; constants may differ from
those printed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.core.types import Array
from jaxnoise.theory._regularizers import PerturbationMoments, checked, nfm_expansion


class RobustBound(NamedTuple):
  """loss >= adversarial + regularizer + o(epsilon^2), under the assumptions of Theorem 3.

  Attributes:
    loss: that of noisy feature mixup, to second order.
    adversarial: the mean worst loss within the ball of `robust_radius` around each example.
    regularizer: (1/2n) sum_i h''(f(x_i)) (`regularization_radius`_i)^2.
  """

  loss: Array
  adversarial: Array
  regularizer: Array


def robust_radius(
  f: Callable[[Array], Array],
  x: Array,
  epsilon: float | Array,
  moments: PerturbationMoments,
  *,
  norm: float | Array | None = None,
) -> Array:
  """Computes epsilon E[1 - lam] |cos(g_i, x_i)| c, the l_2 radius that mixing protects.

  Args:
    f: [d] -> scalar; g_i is its gradient at x_i.
    x: [n, d], no row zero.
    epsilon: scalar >= 0.
    moments: of the coefficient.
    norm: c, a lower bound of every |x_i| (the paper's c_x sqrt(d)); None for the largest, the
      minimum of the norms.

  Returns:
    [n] radii >= 0, in the units of x; 0 where g_i is 0.

  Raises:
    InputError: where x is not [n, d].

  Source: NoisyMix, Theorem 3 (epsilon_i^mix); Lim et al. (2022), Theorem 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> moments = theory.PerturbationMoments(0.5, 0.25)
    >>> x = jnp.array([[3.0, 4.0], [0.0, -5.0]])
    >>> theory.robust_radius(lambda x: x[0], x, 0.1, moments).tolist()  # cosines 0.6 and 0
    [0.15, 0.0]
  """
  x, gradients, lengths = _geometry(f, x)
  sizes = _norm(x)
  dots = jnp.abs(jnp.sum(gradients * x, axis=1))
  cosine = dots / jnp.where(lengths > 0, lengths * sizes, 1.0)
  return epsilon * moments.mix * cosine * (jnp.min(sizes) if norm is None else norm)


def regularization_radius(
  f: Callable[[Array], Array],
  x: Array,
  epsilon: float | Array,
  moments: PerturbationMoments,
  *,
  add_noise: float | Array = 0.5,
  mult_noise: float | Array = 0.5,
) -> Array:
  """Computes epsilon_i^reg, the root-mean-square change of f that other inputs and noise make.

  (epsilon_i^reg)^2 = epsilon^2 (E[(1 - lam)^2] E_r[(g_i.x_r)^2] + s_a^2 E[(g_i.xi_add)^2]
                                 + s_m^2 E[(g_i.(xi_mult * x_i))^2]).

  Args:
    f: [d] -> scalar; g_i is its gradient at x_i.
    x: [n, d], with mean 0 where the bound is to hold.
    epsilon: scalar >= 0.
    moments: of the coefficient and the noise.
    add_noise: s_a >= 0, in the units of x.
    mult_noise: s_m >= 0.

  Returns:
    [n], >= 0, in the units of f.

  Raises:
    InputError: where x is not [n, d].

  Source: NoisyMix, Theorem 3, with E[(1 - lam)^2] where E[1 - lam]^2 would be valid and weaker.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> moments = theory.PerturbationMoments(0.0, 0.0)
    >>> x = jnp.array([[3.0, 4.0], [-3.0, -4.0]])
    >>> theory.regularization_radius(lambda x: 2 * x[0], x, 0.1, moments, mult_noise=0.0).tolist()
    [0.1, 0.1]
  """
  x, gradients, lengths = _geometry(f, x)
  mixing = moments.mix_square * jnp.mean((gradients @ x.T) ** 2, axis=1)
  additive = moments.add_square * add_noise**2 * lengths**2
  multiplicative = moments.mult_square * mult_noise**2 * jnp.sum((gradients * x) ** 2, axis=1)
  return epsilon * _root(mixing + additive + multiplicative)


def robust_bound(
  f: Callable[[Array], Array],
  x: Array,
  y: Array,
  epsilon: float | Array,
  moments: PerturbationMoments,
  *,
  add_noise: float | Array = 0.5,
  mult_noise: float | Array = 0.5,
  norm: float | Array | None = None,
  h: Callable[[Array], Array] = jax.nn.softplus,
) -> RobustBound:
  """Computes both sides of Theorem 3: noisy feature mixup bounds an adversarial loss from above.

  L(epsilon) >= (1/n) sum_i max_{|delta| <= epsilon_i^mix} l(f(x_i + delta), y_i)
                + (1/2n) sum_i h''(f(x_i)) (epsilon_i^reg)^2 + o(epsilon^2).

  NoisyMix adds gamma times `stability_expansion` to either side. The statement assumes what
  `robust_assumptions` measures. The maximum is that of f linearised at x_i: exact where f is linear
  in the ball, which a ReLU network is for small radii.

  Args:
    f: [d] -> scalar, the logit of class 1.
    x: [n, d].
    y: [n], 0 or 1.
    epsilon: scalar >= 0.
    moments: of the coefficient and the noise.
    add_noise: s_a >= 0, in the units of x.
    mult_noise: s_m >= 0.
    norm: as in `robust_radius`.
    h: convex, scalar -> scalar, twice differentiable.

  Returns:
    RobustBound of scalars.

  Raises:
    InputError: for arrays whose shapes do not fit.

  Source: NoisyMix, Theorem 3; Lim et al. (2022), Theorem 2. Derived anew.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x, y = jnp.array([[-1.0], [1.0]]), jnp.array([0, 1])
    >>> moments = theory.PerturbationMoments(*theory.coefficient_moments(1.0))
    >>> bound = theory.robust_bound(lambda x: 2 * x[0], x, y, 0.1, moments)
    >>> bool(bound.loss > bound.adversarial + bound.regularizer)
    True
  """
  x, y = checked(x, y)
  noise = {"add_noise": add_noise, "mult_noise": mult_noise}
  values = jax.vmap(f)(x)
  lengths = _geometry(f, x)[2]
  radius = robust_radius(f, x, epsilon, moments, norm=norm)
  spread = regularization_radius(f, x, epsilon, moments, **noise)
  change = radius * lengths
  # h is convex, so the worst value of a linear f lies at one of the two ends.
  ends = [jax.vmap(h)(v) - y * v for v in (values - change, values + change)]
  curvature = jax.vmap(jax.grad(jax.grad(h)))(values)
  loss = nfm_expansion(f, x, y, moments, h=h, **noise).at(epsilon)
  return RobustBound(loss, jnp.mean(jnp.maximum(*ends)), jnp.mean(curvature * spread**2) / 2)


def robust_assumptions(f: Callable[[Array], Array], x: Array, y: Array) -> dict[str, Array]:
  """Measures how far f and the data are from what Theorem 3 assumes.

  Args:
    f: [d] -> scalar.
    x: [n, d].
    y: [n], 0 or 1.

  Returns:
    Scalars: "homogeneity" max_i |f(x_i) - g_i.x_i| and "centring" |mean x|, both to be 0;
    "margin" min_i (2 y_i - 1) f(x_i), "gradient" min_i |g_i| and "norm" min_i |x_i|, all to be
    positive (a margin of 0 will do). That f has no curvature at x_i is not measured.

  Raises:
    InputError: for arrays whose shapes do not fit.

  Source: NoisyMix, Theorem 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x, y = jnp.array([[-1.0], [1.0]]), jnp.array([0, 1])
    >>> theory.robust_assumptions(lambda x: 2 * x[0] + 0.5, x, y)["homogeneity"].tolist()
    0.5
  """
  x, y = checked(x, y)
  values = jax.vmap(f)(x)
  x, gradients, lengths = _geometry(f, x)
  return {
    "homogeneity": jnp.max(jnp.abs(values - jnp.sum(gradients * x, axis=1))),
    "centring": _norm(jnp.mean(x, axis=0)),
    "margin": jnp.min((2 * y - 1) * values),
    "gradient": jnp.min(lengths),
    "norm": jnp.min(_norm(x)),
  }


def _geometry(f: Callable[[Array], Array], x: Array) -> tuple[Array, Array, Array]:
  """x [n, d] as floats, the gradients [n, d] of f there, and their norms [n]."""
  x = checked(x, jnp.zeros(jnp.shape(x)[:1]))[0]
  gradients = jax.vmap(jax.grad(f))(x)
  return x, gradients, _norm(gradients)


def _norm(x: Array) -> Array:
  return _root(jnp.sum(x**2, axis=-1))


def _root(x: Array) -> Array:
  """The square root, with gradient 0 at 0."""
  return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)

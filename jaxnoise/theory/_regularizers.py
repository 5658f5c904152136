"""What noisy feature mixup adds to a loss, to second order in its strength: NoisyMix, Theorem 1.

The loss is h(f(x)) - y f(x), f a scalar model; h(u) = log(1 + e^u) makes it the logistic loss. An
input is mixed with a partner and gets noise, all scaled by a small epsilon.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array

_LARGEST_GRID = 10**6


class PerturbationMoments(NamedTuple):
  """All that the expansions know of the coefficient lam and the noise xi.

  The noise has mean 0 and independent coordinates of equal variance.

  Attributes:
    mix: E[1 - lam], in [0, 1].
    mix_square: E[(1 - lam)^2], in [mix^2, mix].
    add_square: E[xi_add,k^2], of one coordinate.
    mult_square: E[xi_mult,k^2].
  """

  mix: float | Array
  mix_square: float | Array
  add_square: float | Array = 1.0
  mult_square: float | Array = 1.0


class Perturbations(NamedTuple):
  """A finite distribution of (lam, xi_add, xi_mult): a grid, or draws with weights 1 / m.

  Attributes:
    mix: [m], 1 - lam.
    add: [m, d], or [m, V, d] for V views, each with noise of its own.
    mult: like `add`.
    weight: [m], probabilities.
  """

  mix: Array
  add: Array
  mult: Array
  weight: Array


class Expansion(NamedTuple):
  """standard + epsilon first + epsilon^2 (mixing + additive + multiplicative) + o(epsilon^2).

  Attributes:
    standard: the loss at epsilon = 0.
    first: of the mixing; noise has mean 0 and adds nothing.
    mixing: second order, of the mixing.
    additive: second order, of the additive noise, its squared level included.
    multiplicative: the same of the multiplicative noise.
  """

  standard: Array
  first: Array
  mixing: Array
  additive: Array
  multiplicative: Array

  def at(self, epsilon: float | Array) -> Array:
    """The sum of all terms at one epsilon."""
    second = self.mixing + self.additive + self.multiplicative
    return self.standard + epsilon * self.first + epsilon**2 * second


def coefficient_moments(alpha: float = 1.0, beta: float | None = None) -> tuple[float, float]:
  """Computes E[1 - lam] and E[(1 - lam)^2] of the coefficient that keeps the label.

  Mixing two labels with lam ~ Beta(a, b) has the expected loss of keeping the first with
  lam ~ D = a / (a + b) Beta(a + 1, b) + b / (a + b) Beta(b + 1, a), and under D

    E[1 - lam] = 2 a b / ((a + b) (a + b + 1)),   E[(1 - lam)^2] = E[1 - lam] / 2.

  Args:
    alpha: a > 0; or 0 for lam = 1, where nothing is mixed.
    beta: b; None for the same as alpha, as every method here has it.

  Returns:
    (E[1 - lam], E[(1 - lam)^2]).

  Raises:
    InputError: for a parameter that is not positive, unless both are 0.

  Source: Lim et al. (2022), Lemma 2; NoisyMix, Lemma 1.

  Example:
    >>> from jaxnoise import theory
    >>> theory.coefficient_moments(1.0)
    (0.3333333333333333, 0.16666666666666666)
  """
  beta = alpha if beta is None else beta
  if alpha == beta == 0:
    return 0.0, 0.0
  if not (alpha > 0 and beta > 0):
    raise InputError(
      f"alpha and beta are {alpha} and {beta}; a Beta distribution needs both positive (both 0 "
      "for no mixing)"
    )
  total = alpha + beta
  first = 2 * alpha * beta / (total * (total + 1))
  return first, first / 2


def released_moments(
  *, alpha: float = 1.0, sparsity: float = 0.65, random_level: bool = True
) -> PerturbationMoments:
  """The moments of what `methods.noisymix` injects: normal and uniform noise, sparse, levelled.

  E[xi_add^2] = (1 - sparsity) E[s^2] and E[xi_mult^2] = (1 - sparsity) E[s^2] / 3, where
  E[s^2] = 3 / 28 for s ~ Beta(2, 5), or 1 without random levels.

  Args:
    alpha: of the mixing coefficient's Beta distribution, >= 0.
    sparsity: share of coordinates without noise, in [0, 1).
    random_level: whether a Beta(2, 5) draw scales the noise.

  Returns:
    PerturbationMoments; noise levels and view factors are not part of them.

  Raises:
    InputError: for a sparsity outside [0, 1) or a negative alpha.

  Source: the authors' code (see `augment.noisy_mix`).

  Example:
    >>> from jaxnoise import theory
    >>> round(theory.released_moments(sparsity=0.0).add_square, 5)
    0.10714
  """
  if not 0 <= sparsity < 1:
    raise InputError(f"sparsity is {sparsity}; it must lie in [0, 1)")
  kept = (1 - sparsity) * (3 / 28 if random_level else 1.0)
  return PerturbationMoments(*coefficient_moments(alpha), kept, kept / 3)


def perturbation_grid(
  shape: Sequence[int],
  *,
  mix: tuple[Sequence[float], Sequence[float]],
  noise: tuple[Sequence[float], Sequence[float]] = ((-1.0, 1.0), (0.5, 0.5)),
) -> Perturbations:
  """Lists every outcome of independent discrete draws, for expectations without sampling error.

  Args:
    shape: (d,), or (V, d) for V views.
    mix: values of 1 - lam and their probabilities; quadrature nodes and weights will do.
    noise: values and probabilities of one coordinate of either noise; a fair sign by default.

  Returns:
    Perturbations with m = len(mix) len(noise)^(2 d), numpy float64.

  Raises:
    InputError: where values and probabilities differ in number, or m is over a million.

  Example:
    >>> from jaxnoise import theory
    >>> theory.perturbation_grid((2,), mix=([0.0, 0.5], [0.8, 0.2])).add.shape
    (32, 2)
  """
  for field, (values, weights) in (("mix", mix), ("noise", noise)):
    if len(values) != len(weights):
      raise InputError(
        f"{field} has {len(values)} values and {len(weights)} probabilities; give one for each"
      )
  size = math.prod(shape)
  count = len(mix[0]) * len(noise[0]) ** (2 * size)
  if count > _LARGEST_GRID:
    raise InputError(
      f"the grid would have {count} points for shape {tuple(shape)}; the most is {_LARGEST_GRID}: "
      "take fewer values, or draw Perturbations at random"
    )
  factors = [range(len(mix[0])), *[range(len(noise[0]))] * (2 * size)]
  at = np.array(list(itertools.product(*factors)))
  value, weight = (np.asarray(x, np.float64)[at[:, 1:]] for x in noise)
  both = value.reshape(-1, 2, *shape)
  chance = np.asarray(mix[1], np.float64)[at[:, 0]] * weight.prod(-1)
  return Perturbations(np.asarray(mix[0], np.float64)[at[:, 0]], both[:, 0], both[:, 1], chance)


def perturb(
  x: Array, partner: Array, epsilon: float | Array, mix: Array, add: Array, mult: Array
) -> Array:
  """(1 + epsilon mult) * (x + epsilon mix (partner - x)) + epsilon add; mix is a scalar."""
  return (1 + epsilon * mult) * (x + epsilon * mix * (partner - x)) + epsilon * add


def directional(f: Callable[[Array], Array], x: Array, u: Array) -> tuple[Array, Array, Array]:
  """f, and its first and second derivative along u, at x: two nested tangents, no Hessian."""

  def slope(t: Array) -> tuple[Array, Array]:
    return jax.jvp(lambda s: f(x + s * u), (t,), (jnp.ones_like(t),))

  zero = jnp.zeros((), x.dtype)
  (value, first), (_, second) = jax.jvp(slope, (zero,), (jnp.ones_like(zero),))
  return value, first, second


def nfm_loss(
  f: Callable[[Array], Array],
  x: Array,
  y: Array,
  epsilon: float | Array,
  perturbations: Perturbations,
  *,
  add_noise: float | Array = 0.5,
  mult_noise: float | Array = 0.5,
  h: Callable[[Array], Array] = jax.nn.softplus,
) -> Array:
  """Computes the loss of noisy feature mixup at the input, its expectation over every partner.

  L(epsilon) = (1/n) sum_i (1/n) sum_r E[h(f(z)) - y_i f(z)],
  z = (1 + epsilon s_m xi_mult) * (x_i + epsilon (1 - lam) (x_r - x_i)) + epsilon s_a xi_add.

  At epsilon = 1 and with lam from the distribution D of `coefficient_moments` it is the loss with
  mixed labels.

  Args:
    f: [d] -> scalar, the logit of class 1.
    x: [n, d].
    y: [n] labels, 0 or 1 (any targets in [0, 1]).
    epsilon: scalar >= 0.
    perturbations: what the expectation is over, the same for every example.
    add_noise: s_a >= 0, in the units of x.
    mult_noise: s_m >= 0.
    h: convex, scalar -> scalar, twice differentiable.

  Returns:
    A scalar.

  Raises:
    InputError: for arrays whose shapes do not fit.

  Source: NoisyMix, eq. (5) and Lemma 1; Lim et al. (2022), Lemma 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> grid = theory.perturbation_grid((1,), mix=([0.5], [1.0]))
    >>> x, y = jnp.array([[-1.0], [1.0]]), jnp.array([0, 1])
    >>> float(theory.nfm_loss(lambda x: 2 * x[0], x, y, 0.0, grid))  # log(1 + exp(-2))
    0.127
  """
  x, y = checked(x, y)
  if perturbations.add.shape[1:] != x.shape[1:]:
    raise InputError(
      f"perturbations.add is {list(perturbations.add.shape)} for x {list(x.shape)}; it must be "
      "[m, d]"
    )
  mix, add, mult, weight = (jnp.asarray(a, x.dtype) for a in perturbations)

  def example(row: tuple[Array, Array]) -> Array:
    x_i, y_i = row

    def one(mix: Array, add: Array, mult: Array, partner: Array) -> Array:
      value = f(perturb(x_i, partner, epsilon, mix, add_noise * add, mult_noise * mult))
      return h(value) - y_i * value

    partners = jax.vmap(one, (None, None, None, 0))
    return weight @ jnp.mean(jax.vmap(partners, (0, 0, 0, None))(mix, add, mult, x), axis=1)

  return jnp.mean(jax.lax.map(example, (x, y)))


def nfm_expansion(
  f: Callable[[Array], Array],
  x: Array,
  y: Array,
  moments: PerturbationMoments,
  *,
  add_noise: float | Array = 0.5,
  mult_noise: float | Array = 0.5,
  h: Callable[[Array], Array] = jax.nn.softplus,
) -> Expansion:
  """Expands `nfm_loss` to second order: the standard loss and four implicit regularisers.

  With r = h'(f(x_i)) - y_i, c = h''(f(x_i)), g and H the gradient and Hessian of f at x_i, and
  D = x_r - x_i for a partner drawn from all n examples, each the mean over i of

    first           E[1 - lam] r g.E[D]
    mixing          E[(1 - lam)^2] / 2 (r E[D.H D] + c E[(g.D)^2])
    additive        s_a^2 E[xi_add^2] / 2 (r tr H + c |g|^2)
    multiplicative  s_m^2 E[xi_mult^2] / 2 sum_k (r H_kk + c g_k^2) x_ik^2

  The rest is o(epsilon^2); for a smooth f it is of order 3, and of order 4 if the noise is
  symmetric and nothing is mixed. Costs n + d second derivatives along a line for each example; no
  Hessian is formed.

  Args:
    f: [d] -> scalar, twice differentiable at the examples.
    x: [n, d].
    y: [n], in [0, 1].
    moments: of the coefficient and the noise.
    add_noise: s_a >= 0, in the units of x.
    mult_noise: s_m >= 0.
    h: convex, scalar -> scalar, twice differentiable.

  Returns:
    Expansion of scalars.

  Raises:
    InputError: for arrays whose shapes do not fit.

  Source: NoisyMix, Theorem 1, eqs. (9)-(13). R_1 and R_2 are as there; its s_a^2 R_add and
    s_m^2 R_mult are `additive` and `multiplicative`. The last two are written for noise whose
    coordinates are uncorrelated and of equal variance.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x, y = jnp.array([[-1.0], [1.0]]), jnp.array([0, 1])
    >>> moments = theory.PerturbationMoments(*theory.coefficient_moments(1.0))
    >>> terms = theory.nfm_expansion(lambda x: 2 * x[0], x, y, moments)
    >>> round(float(terms.first), 4)  # (1/3) (sigmoid(2) - 1) 2 (-1)
    0.0795
  """
  x, y = checked(x, y)
  h_first = jax.grad(h)
  h_second = jax.grad(h_first)

  def example(row: tuple[Array, Array]) -> Expansion:
    x_i, y_i = row
    value, g = jax.value_and_grad(f)(x_i)
    r, c = h_first(value) - y_i, h_second(value)
    along = jax.vmap(lambda u: directional(f, x_i, u)[2])
    apart = x - x_i[None]
    slopes, bends = apart @ g, along(apart)
    diagonal = r * along(jnp.eye(x.shape[1], dtype=x.dtype)) + c * g**2
    return Expansion(
      h(value) - y_i * value,
      moments.mix * r * jnp.mean(slopes),
      moments.mix_square / 2 * (r * jnp.mean(bends) + c * jnp.mean(slopes**2)),
      moments.add_square * add_noise**2 / 2 * jnp.sum(diagonal),
      moments.mult_square * mult_noise**2 / 2 * jnp.sum(diagonal * x_i**2),
    )

  return jax.tree.map(jnp.mean, jax.lax.map(example, (x, y)))


def checked(x: Array, y: Array) -> tuple[Array, Array]:
  """x [n, d] and y [n] as floats of one precision."""
  x, y = jnp.asarray(x), jnp.asarray(y)
  if x.ndim != 2 or y.shape != x.shape[:1]:
    raise InputError(f"x is {list(x.shape)} and y {list(y.shape)}; they must be [n, d] and [n]")
  dtype = jnp.promote_types(x.dtype, jnp.float32)
  return x.astype(dtype), y.astype(dtype)

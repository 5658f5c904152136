"""Multiplicative reweighting (MR) in gradient descent: Algorithm 2, Lemma 1, Theorems 2 and 4.

Example i of N has the loss l_i(theta) and the weight p_t,i, a distribution that falls with the sum
of the losses so far. The objective of step t is F_t(theta) = sum_i p_t,i l_i(theta). Statements
are in their corrected forms; where the print differs, the docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, Params, PRNGKey


class ReweightedDescent(NamedTuple):
  """What gradient descent with MR went through, for t = 0 .. T.

  Attributes:
    params: theta_t, every leaf with a leading axis [T+1].
    losses: [T+1, N], l_i(theta_t).
    weights: [T+1, N], p_t, each row a distribution.
    objective: [T+1], F_t(theta_t).
    gradient_square: [T+1], |grad F_t(theta_t)|^2 with p_t constant.
  """

  params: Params
  losses: Array
  weights: Array
  objective: Array
  gradient_square: Array


def reweighted_gradient_descent(
  losses: Callable[[Params], Array],
  params: Params,
  *,
  steps: int,
  learning_rate: float | Array,
  step_size: float | Array,
  rng: PRNGKey | None = None,
) -> ReweightedDescent:
  """Runs Algorithm 2: gradient descent on all examples, their weights updated after every step.

    theta_{t+1} = theta_t - alpha sum_i p_t,i grad l_i(theta_t)
    p_{t+1,i} ~ exp(-eta sum_{s=1}^{t+1} l_i(theta_s)),    p_0,i = 1 / N

  so the losses at theta_0 are not counted. With `rng`, the setting of Theorem 4: each step follows
  grad l_i of one example, i ~ p_t. One compiled program a call.

  Args:
    losses: params -> [N], differentiable.
    params: theta_0, any pytree of floats.
    steps: T >= 1.
    learning_rate: alpha > 0.
    step_size: eta >= 0, that of MR; 0 keeps p uniform.
    rng: None for the gradient over all examples.

  Returns:
    ReweightedDescent.

  Raises:
    InputError: for numbers out of range, or losses that are not a vector.

  Source: MR, Algorithm 2. In print the loop starts at t = 1 with w_1 undefined; this reading fits
  every lemma.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> losses = lambda theta: (theta - jnp.array([0.0, 0.0, 3.0])) ** 2 / 2
    >>> run = theory.reweighted_gradient_descent(
    ...   losses, 0.0, steps=2, learning_rate=1.0, step_size=1.0)
    >>> run.params.tolist(), run.weights[1].tolist()  # losses 1/2, 1/2, 2 at theta_1
    ([0.0, 1.0, 0.3011], [0.4498, 0.4498, 0.1004])
  """
  check_positive("learning_rate", learning_rate)
  check_step_size(step_size)
  check_steps(steps)
  params = jax.tree.map(lambda v: jnp.asarray(v, _dtype(v)), params)
  shape = jax.eval_shape(losses, params)
  if len(shape.shape) != 1:
    raise InputError(f"losses gave an array {list(shape.shape)}; it must give [N], one per example")
  (count,) = shape.shape
  dtype = _dtype(shape)

  def run(params: Params, learning_rate: Array, step_size: Array, rng: PRNGKey | None):
    def body(carry: tuple[Params, Array], t: Array):
      theta, total = carry
      values, pull = jax.vjp(lambda v: losses(v).astype(dtype), theta)
      total = total + jnp.where(t > 0, values, 0)
      log_p = jax.nn.log_softmax(-step_size * total)
      p = jnp.exp(log_p)
      (gradient,) = pull(p)
      square = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))
      if rng is not None:
        index = jax.random.categorical(jax.random.fold_in(rng, t), log_p)
        (gradient,) = pull(jax.nn.one_hot(index, count, dtype=dtype))
      moved = jax.tree.map(lambda v, g: (v - learning_rate * g).astype(v.dtype), theta, gradient)
      return (moved, total), ReweightedDescent(theta, values, p, p @ values, square)

    start = (params, jnp.zeros(count, dtype))
    return jax.lax.scan(body, start, jnp.arange(steps + 1))[1]

  rates = (jnp.asarray(v, dtype) for v in (learning_rate, step_size))
  return jax.jit(run)(params, *rates, rng)


def reweighting_drop(run: ReweightedDescent) -> Array:
  """Computes by how much each update of the weights lowers the objective: never below 0.

  F_t(theta_{t+1}) - F_{t+1}(theta_{t+1}) = sum_i (p_t,i - p_{t+1,i}) l_i(theta_{t+1}) >= 0, since
  p_{t+1,i} ~ p_t,i exp(-eta l_i(theta_{t+1})) moves weight to the smaller losses.

  Args:
    run: T steps of `reweighted_gradient_descent`, with or without sampling.

  Returns:
    [T], >= 0 up to rounding.

  Source: MR, the step that proves Lemma 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> losses, p = jnp.array([[1.0, 1.0], [0.0, 2.0]]), jnp.array([[0.5, 0.5], [0.75, 0.25]])
    >>> theory.reweighting_drop(theory.ReweightedDescent(None, losses, p, None, None)).tolist()
    [0.5]
  """
  return jnp.sum((run.weights[:-1] - run.weights[1:]) * run.losses[1:], axis=1)


def mr_lemma1_gap(run: ReweightedDescent, smoothness: float | Array) -> Array:
  """Computes the slack of MR's Lemma 1: every step lowers the objective. Never below 0.

  With alpha = 1 / beta and any eta > 0,

    F_{t+1}(theta_{t+1}) - F_t(theta_t) <= -(1 / (2 beta)) |sum_i p_t,i grad l_i(theta_t)|^2;

  this is the right side less the left.

  Args:
    run: T steps of `reweighted_gradient_descent` with learning rate 1 / beta, without sampling.
    smoothness: beta > 0, a Lipschitz constant of every grad l_i.

  Returns:
    [T], >= 0 up to rounding.

  Raises:
    InputError: for a smoothness that is not positive.

  Source: MR, Lemma 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> run = theory.reweighted_gradient_descent(
    ...   lambda v: 2 * v**2, jnp.ones(1), steps=1, learning_rate=0.25, step_size=1.0)
    >>> theory.mr_lemma1_gap(run, 4.0).tolist()  # one parabola: 2 - 0 = 4^2 / (2 * 4)
    [0.0]
  """
  check_positive("smoothness", smoothness)
  drop = run.objective[:-1] - run.objective[1:]
  return drop - run.gradient_square[:-1] / (2 * smoothness)


def mean_gradient_square(run: ReweightedDescent) -> Array:
  """Computes (1/T) sum_{t=0}^{T-1} |grad F_t(theta_t)|^2 for T = 1, 2, ...

  Args:
    run: T steps of `reweighted_gradient_descent`.

  Returns:
    [T], >= 0: what Theorems 2 and 4 bound.

  Source: MR, the left sides of Theorems 2 and 4; the print leaves the range of t open.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> run = theory.ReweightedDescent(None, None, None, None, jnp.array([4.0, 2.0, 1.0]))
    >>> theory.mean_gradient_square(run).tolist()
    [4.0, 3.0]
  """
  squares = run.gradient_square[:-1]
  return jnp.cumsum(squares) / jnp.arange(1, len(squares) + 1)


def mr_theorem2_bound(
  initial_losses: Array,
  smoothness: float | Array,
  steps: int | Array,
  minimum: float | Array = 0.0,
) -> Array:
  """Computes the bound of MR's Theorem 2 on the mean squared gradient of Algorithm 2.

    (1/T) sum_{t<T} |grad F_t(theta_t)|^2 <= (2 beta / T) (mean_i l_i(theta_0) - min_{i,theta} l_i)

  for alpha = 1 / beta and any eta > 0. The paper's last term is sum_i p*_i l_i(theta*), (p*,
  theta*) minimising sum_i p_i l_i(theta): the minimum over the simplex lies at a vertex.

  Args:
    initial_losses: [N], l_i(theta_0).
    smoothness: beta > 0, a Lipschitz constant of every grad l_i.
    steps: T >= 1, of any shape.
    minimum: the least value of any l_i, or less; 0 for losses that can be interpolated.

  Returns:
    An array of the shape of `steps`.

  Raises:
    InputError: for a smoothness that is not positive.

  Source: MR, Theorem 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> float(theory.mr_theorem2_bound(jnp.array([1.0, 3.0]), 4.0, 8))
    2.0
  """
  check_positive("smoothness", smoothness)
  return 2 * smoothness * (jnp.mean(initial_losses) - minimum) / steps


def mr_corollary3_steps(
  initial_losses: Array,
  smoothness: float | Array,
  epsilon: float | Array,
  minimum: float | Array = 0.0,
) -> Array:
  """Computes T such that |grad F_t(theta_t)|^2 <= epsilon for some t < T, by Theorem 2.

  T = (2 beta / epsilon) (mean_i l_i(theta_0) - min_{i,theta} l_i), to be rounded up. The paper says
  "for all t >= T"; a bound on the mean says only that one such t exists.

  Args:
    initial_losses: [N], l_i(theta_0).
    smoothness: beta > 0.
    epsilon: > 0, of the squared norm.
    minimum: as in `mr_theorem2_bound`.

  Returns:
    A number of steps, not rounded.

  Raises:
    InputError: for a smoothness or epsilon that is not positive.

  Source: MR, Corollary 3, weakened to what follows.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> float(theory.mr_corollary3_steps(jnp.array([1.0, 3.0]), 4.0, 0.5))
    32.0
  """
  check_positive("epsilon", epsilon)
  return mr_theorem2_bound(initial_losses, smoothness, epsilon, minimum)


def mr_theorem4_learning_rate(
  lipschitz: float | Array, smoothness: float | Array, largest: float | Array, steps: int | Array
) -> Array:
  """Computes alpha = sqrt(2 B / (G^2 beta T)), with which `mr_theorem4_bound` holds.

  It minimises B / (alpha T) + (beta / 2) alpha G^2, whose least value the bound is.

  Args:
    lipschitz: G > 0, a bound of every |grad l_i|.
    smoothness: beta > 0.
    largest: B > 0, the losses being in [0, B].
    steps: T >= 1.

  Returns:
    alpha > 0.

  Raises:
    InputError: for a constant that is not positive.

  Source: MR, Theorem 4.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_theorem4_learning_rate(2.0, 1.0, 2.0, 4))
    0.5
  """
  _check_constants(lipschitz, smoothness, largest)
  return jnp.sqrt(2 * largest / (smoothness * steps)) / lipschitz


def mr_theorem4_bound(
  lipschitz: float | Array, smoothness: float | Array, largest: float | Array, steps: int | Array
) -> Array:
  """Computes the bound of MR's Theorem 4 on the mean squared gradient with sampled examples.

    (1/T) sum_{t<T} E|grad F_t(theta_t)|^2 <= G sqrt(2 beta B / T)

  for steps along grad l_i, i ~ p_t, with alpha of `mr_theorem4_learning_rate`. A line of the proof
  drops the 1/2 of (beta / 2) alpha G^2; the constant is right with it.

  Args:
    lipschitz: G > 0, a bound of every |grad l_i|.
    smoothness: beta > 0, a Lipschitz constant of every grad l_i.
    largest: B > 0, the losses being in [0, B].
    steps: T >= 1.

  Returns:
    The bound, of the squared norm.

  Raises:
    InputError: for a constant that is not positive.

  Source: MR, Theorem 4.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_theorem4_bound(2.0, 1.0, 2.0, 4))
    2.0
  """
  _check_constants(lipschitz, smoothness, largest)
  return lipschitz * jnp.sqrt(2 * smoothness * largest / jnp.asarray(steps))


def check_positive(name: str, value: float | Array) -> None:
  """Raises InputError where a number that is known is not above 0."""
  if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
    raise InputError(f"{name} is {value}; it must be positive")


def check_step_size(value: float | Array) -> None:
  """Raises InputError where MR's step size is known and negative or not a number."""
  if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) >= 0):
    raise InputError(f"step_size is {value}; it must be at least 0, where 0 keeps weights uniform")


def check_steps(steps: int) -> None:
  """Raises InputError where the length of a trajectory is not a positive whole number."""
  if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
    raise InputError(f"steps is {steps}; it must be a whole number of at least 1")


def _check_constants(
  lipschitz: float | Array, smoothness: float | Array, largest: float | Array
) -> None:
  check_positive("lipschitz", lipschitz)
  check_positive("smoothness", smoothness)
  check_positive("largest", largest)


def _dtype(value: float | Array | jax.ShapeDtypeStruct) -> jnp.dtype:
  """That of `value` where it is a float of at least 32 bits."""
  return jnp.promote_types(jnp.result_type(value, float), jnp.float32)

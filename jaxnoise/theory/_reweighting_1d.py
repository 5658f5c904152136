"""Multiplicative reweighting (MR) with one parameter: the logistic and the least-squares toy.

N examples with x_i = y_i in {-1, 1}, so that theta = 1 (least squares) or theta -> infinity
(logistic) is right for all. A share sigma = 1/2 - Delta of them is corrupted: labels are flipped,
or get an error e_i of size epsilon. Statements are in their corrected forms; where the print
differs, the docstring says so. `_reweighting_bounds` has what is proved of these trajectories.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.theory._reweighting import (
  check_positive,
  check_step_size,
  check_steps,
  reweighted_gradient_descent,
)


class LogisticTrajectory(NamedTuple):
  """Gradient descent on the logistic toy, for t = 0 .. T.

  Attributes:
    theta: [T+1, ...], from theta_0 = 0.
    noisy_weight: [T+1, ...], sum of p_t,i over the flipped examples; sigma at t = 0.
  """

  theta: Array
  noisy_weight: Array


class LeastSquaresTrajectory(NamedTuple):
  """Reweighted least squares with one parameter, for t = 0 .. T updates of the weights.

  Attributes:
    theta: [T+1], the weighted solution under p_t.
    losses: [T+1, N], (theta_t x_i - y~_i)^2 / 2.
    weights: [T+1, N], p_t.
  """

  theta: Array
  losses: Array
  weights: Array


class Figure1(NamedTuple):
  """The curves of MR's Figure 1: the clean loss L(theta_t), [T+1] each.

  Attributes:
    x: [N], the inputs, -1 or 1, which are the true labels.
    corruption: [N], x_i e_i of the linear toy, 0 where the label is right.
    logistic: "clean_gd", "noisy_gd", "mr_gd".
    linear: "ls", "mr_ls", "mr_gd".
  """

  x: Array
  corruption: Array
  logistic: dict[str, Array]
  linear: dict[str, Array]


def logistic_losses(theta: Array, x: Array, labels: Array) -> Array:
  """Computes log(1 + exp(-y~_i x_i theta)), the losses of the logistic toy.

  Args:
    theta: scalar.
    x: [N].
    labels: [N], y~, -1 or 1.

  Returns:
    [N], >= 0, smooth with constant x_i^2 / 4.

  Source: MR, section on the logistic toy.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x = jnp.array([1.0, -1.0])
    >>> theory.logistic_losses(1.0, x, jnp.array([1.0, 1.0])).tolist()
    [0.3133, 1.3133]
  """
  return jax.nn.softplus(-labels * x * theta)


def least_squares_losses(theta: Array, x: Array, labels: Array) -> Array:
  """Computes (theta x_i - y~_i)^2 / 2, the losses of the least-squares toy.

  Args:
    theta: scalar.
    x: [N].
    labels: [N], y~.

  Returns:
    [N], >= 0, smooth with constant x_i^2.

  Source: MR, Algorithm 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> theory.least_squares_losses(1.0, jnp.array([1.0, -1.0]), jnp.array([1.0, 1.0])).tolist()
    [0.0, 2.0]
  """
  return (theta * x - labels) ** 2 / 2


def logistic_trajectory(
  noise: float | Array,
  *,
  steps: int,
  learning_rate: float | Array = 1.0,
  step_size: float | Array = 0.0,
) -> LogisticTrajectory:
  """Runs gradient descent on the logistic toy by its exact recursion, for any N.

    theta_{t+1} = theta_t + alpha [(1 - q_t) / (1 + e^theta_t) - q_t / (1 + e^-theta_t)],
    q_t = sigma r_t / ((1 - sigma) + sigma r_t),    r_t = exp(-eta sum_{s=1}^t theta_s),

  q_t being the weight of all flipped examples. This is Algorithm 2 (step size 1 in the paper's
  toy); eta = 0 is plain gradient descent, and sigma = 0 with it that on clean labels.

  The paper's delta_t leaves out the factor N of its weights p_cl and p_cr: with p = 1/N the printed
  theta_1 would be Delta / N; it is alpha Delta.

  Args:
    noise: sigma, in [0, 1/2), of any shape.
    steps: T >= 1.
    learning_rate: alpha > 0, of a shape that broadcasts with `noise`.
    step_size: eta >= 0, likewise.

  Returns:
    LogisticTrajectory, [T+1, ...].

  Raises:
    InputError: for numbers out of range.

  Source: MR, Lemmas 5 to 7 and Theorem 8.

  Example:
    >>> from jaxnoise import theory
    >>> theory.logistic_trajectory(1 / 3, steps=3, step_size=1.0).theta.tolist()
    [0.0, 0.1667, 0.3277, 0.5128]
  """
  check_noise(noise)
  check_positive("learning_rate", learning_rate)
  check_step_size(step_size)
  check_steps(steps)
  return _logistic(noise, learning_rate, step_size, steps)


@functools.partial(jax.jit, static_argnames="steps")
def _logistic(noise: Array, learning_rate: Array, step_size: Array, steps: int):
  dtype = jnp.promote_types(jnp.result_type(noise, learning_rate, step_size, float), jnp.float32)
  sigma, alpha, eta = (jnp.asarray(v, dtype) for v in (noise, learning_rate, step_size))
  odds = jnp.log(sigma) - jnp.log1p(-sigma)

  def body(carry: tuple[Array, Array], _):
    theta, total = carry
    total = total + theta  # theta_0 = 0 adds nothing, as it should
    noisy = jax.nn.sigmoid(odds - eta * total)
    clean = jax.nn.sigmoid(eta * total - odds)
    move = clean * jax.nn.sigmoid(-theta) - noisy * jax.nn.sigmoid(theta)
    return (theta + alpha * move, total), LogisticTrajectory(theta, noisy)

  start = jnp.zeros(jnp.broadcast_shapes(sigma.shape, alpha.shape, eta.shape), dtype)
  return jax.lax.scan(body, (start, start), length=steps + 1)[1]


def reweighted_least_squares(
  x: Array, labels: Array, *, steps: int, step_size: float | Array
) -> LeastSquaresTrajectory:
  """Runs Algorithm 3: least squares with one parameter, solved anew under each p_t.

    theta_t = sum_j p_t,j x_j y~_j / sum_j p_t,j x_j^2,
    p_{t+1,i} ~ exp(-eta sum_{s=0}^t (theta_s x_i - y~_i)^2 / 2),    p_0,i = 1 / N

  so that p_t has seen t losses. The paper's pseudo-inverse with an element-wise root is the same.

  Args:
    x: [N], not all 0.
    labels: [N], y~.
    steps: T >= 1.
    step_size: eta >= 0; 0 is ordinary least squares at every t.

  Returns:
    LeastSquaresTrajectory.

  Raises:
    InputError: for arrays that are not two vectors of equal length, or numbers out of range.

  Source: MR, Algorithm 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x = jnp.ones(3)
    >>> run = theory.reweighted_least_squares(x, jnp.array([1.0, 1.0, 2.0]), steps=2, step_size=1.0)
    >>> run.theta.tolist()
    [1.3333, 1.2974, 1.2568]
  """
  if jnp.ndim(x) != 1 or jnp.shape(x) != jnp.shape(labels):
    raise InputError(
      f"x is {list(jnp.shape(x))} and labels are {list(jnp.shape(labels))}; both must be [N]"
    )
  check_step_size(step_size)
  check_steps(steps)
  return _least_squares(x, labels, step_size, steps)


@functools.partial(jax.jit, static_argnames="steps")
def _least_squares(x: Array, labels: Array, step_size: Array, steps: int):
  dtype = jnp.promote_types(jnp.result_type(x, labels, float), jnp.float32)
  x, labels, eta = (jnp.asarray(v, dtype) for v in (x, labels, step_size))

  def body(total: Array, _):
    p = jax.nn.softmax(-eta * total)
    theta = jnp.sum(p * x * labels) / jnp.sum(p * x**2)
    losses = least_squares_losses(theta, x, labels)
    return total + losses, LeastSquaresTrajectory(theta, losses, p)

  return jax.lax.scan(body, jnp.zeros_like(x), length=steps + 1)[1]


def figure1_simulation(
  rng: PRNGKey,
  *,
  steps: int = 100,
  num_examples: int = 15,
  num_corrupted: int = 5,
  epsilon: float = 1.0,
  learning_rate: float = 1.0,
  step_size: float = 1.0,
) -> Figure1:
  """Simulates MR's Figure 1: noisy labels stop gradient descent and least squares, but not MR.

  x is uniform in {-1, 1}; the first `num_corrupted` labels are flipped (logistic) or get an error
  of +-epsilon (linear). Clean losses: log(1 + exp(-theta)) and (theta - 1)^2 / 2. Plain gradient
  descent levels off at log(1 / (1 - sigma)), plain least squares at (mean_j x_j e_j)^2 / 2, for
  which the text leaves out the 1 / N^2.

  Args:
    rng: key of x and the signs of the errors.
    steps: T >= 1.
    num_examples: N.
    num_corrupted: sigma N, below N / 2.
    epsilon: size of an error of the linear toy, > 0.
    learning_rate: alpha > 0. With 1 = 1 / beta a linear step solves the least squares, so that
      "mr_gd" is "mr_ls" one step later.
    step_size: eta >= 0 of MR. The paper has 1 for the logistic toy and does not give that of least
      squares.

  Returns:
    Figure1.

  Raises:
    InputError: for numbers out of range.

  Source: MR, Figure 1.

  Example:
    >>> import jax
    >>> from jaxnoise import theory
    >>> curves = theory.figure1_simulation(jax.random.key(0), steps=50)
    >>> {name: round(float(curve[-1]), 3) for name, curve in curves.logistic.items()}
    {'clean_gd': 0.02, 'mr_gd': 0.022, 'noisy_gd': 0.405}
  """
  if not 0 < 2 * num_corrupted < num_examples:
    raise InputError(
      f"num_corrupted is {num_corrupted} of {num_examples} examples; it must be at least 1 and "
      "below half"
    )
  check_positive("epsilon", epsilon)
  check_positive("learning_rate", learning_rate)
  check_step_size(step_size)
  check_steps(steps)
  return _figure1(rng, epsilon, learning_rate, step_size, steps, num_examples, num_corrupted)


@functools.partial(jax.jit, static_argnames=("steps", "num_examples", "num_corrupted"))
def _figure1(
  rng: PRNGKey,
  epsilon: Array,
  learning_rate: Array,
  step_size: Array,
  steps: int,
  num_examples: int,
  num_corrupted: int,
) -> Figure1:
  signs = jax.random.rademacher(rng, (2, num_examples), jnp.result_type(float))
  x = signs[0]
  corruption = jnp.where(jnp.arange(num_examples) < num_corrupted, epsilon * signs[1], 0.0)
  labels = x + x * corruption  # x e = corruption, and x^2 = 1
  sigma = num_corrupted / num_examples
  etas = jnp.array([0.0, 0.0, step_size])
  logistic = logistic_trajectory(
    np.array([0.0, sigma, sigma]), steps=steps, learning_rate=learning_rate, step_size=etas
  )
  descent = reweighted_gradient_descent(
    lambda theta: least_squares_losses(theta, x, labels),
    0.0,
    steps=steps,
    learning_rate=learning_rate,
    step_size=step_size,
  )
  solved = jax.vmap(lambda eta: _least_squares(x, labels, eta, steps).theta)(etas[1:])
  clean = jax.nn.softplus(-logistic.theta)
  linear = [(theta - 1) ** 2 / 2 for theta in (*solved, descent.params)]
  return Figure1(
    x,
    corruption,
    dict(zip(("clean_gd", "noisy_gd", "mr_gd"), clean.T)),
    dict(zip(("ls", "mr_ls", "mr_gd"), linear)),
  )


def check_noise(noise: float | Array, above: bool = False) -> None:
  """Raises InputError where a share of corrupted examples is known and out of range."""
  if isinstance(noise, jax.core.Tracer):
    return
  value = np.asarray(noise)
  if not np.all((value > 0 if above else value >= 0) & (value < 0.5)):
    raise InputError(
      f"noise is {noise}; it is the share of corrupted examples and must be "
      f"{'above' if above else 'at least'} 0 and below 1/2"
    )

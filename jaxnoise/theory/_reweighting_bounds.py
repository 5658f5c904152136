"""What is proved of multiplicative reweighting (MR) on the toys with one parameter.

The logistic toy: Lemmas 5 to 7, Theorem 8. The least-squares toy: Lemmas 10 and 11, Theorem 9. N
examples, a share sigma = 1/2 - Delta of them corrupted. Statements are in their corrected forms;
where the print differs, the docstring says so.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxnoise.core.types import Array
from jaxnoise.theory._reweighting import check_positive, check_step_size
from jaxnoise.theory._reweighting_1d import check_noise


class NoisyLimit(NamedTuple):
  """Where gradient descent on the noisy logistic toy ends: MR's Lemma 6.

  Attributes:
    theta: log((1 - sigma) / sigma).
    clean_loss: log(1 + exp(-theta)) = log(1 / (1 - sigma)).
    rate: 1 - sigma (1 - sigma), the factor by which the error falls at each late step.
  """

  theta: Array
  clean_loss: Array
  rate: Array


def mr_lemma5_steps(epsilon: float | Array, learning_rate: float | Array = 1.0) -> Array:
  """Computes after how many steps on clean labels the loss is below epsilon: MR's Lemma 5.

  L(theta_t) = log(1 + exp(-theta_t)) < epsilon for every integer

    t > -log(e^epsilon - 1) / (alpha e^-epsilon (e^epsilon - 1)),

  from theta_0 = 0; e^-epsilon (e^epsilon - 1) = 1 - e^-epsilon.

  Args:
    epsilon: > 0; the bound is at most 0 from log 2 on, where nothing has to be learnt.
    learning_rate: alpha > 0.

  Returns:
    A number of steps, not rounded.

  Raises:
    InputError: for an epsilon or learning rate that is not positive.

  Source: MR, Lemma 5.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_lemma5_steps(0.1))
    23.667
  """
  check_positive("epsilon", epsilon)
  check_positive("learning_rate", learning_rate)
  return jnp.log(jnp.expm1(epsilon)) / (learning_rate * jnp.expm1(-jnp.asarray(epsilon)))


def mr_lemma6_limit(noise: float | Array) -> NoisyLimit:
  """Computes where plain gradient descent on the noisy toy ends: MR's Lemma 6, alpha = 1.

  theta_t -> log((1 - sigma) / sigma), and the clean loss to log(1 / (1 - sigma)) > 0. The proof
  misprints the second derivative, which is e^theta / (1 + e^theta)^2 <= 1/4, and states
  O(1 / epsilon); the convergence is linear.

  Args:
    noise: sigma, in (0, 1/2).

  Returns:
    NoisyLimit.

  Raises:
    InputError: for a noise out of range.

  Source: MR, Lemma 6; the rate is derived here.

  Example:
    >>> from jaxnoise import theory
    >>> limit = theory.mr_lemma6_limit(1 / 3)  # log 2, log 1.5, 7 / 9
    >>> float(limit.theta), float(limit.clean_loss), float(limit.rate)
    (0.6931, 0.4055, 0.7778)
  """
  check_noise(noise, above=True)
  sigma = jnp.asarray(noise)
  return NoisyLimit(jnp.log1p(-sigma) - jnp.log(sigma), -jnp.log1p(-sigma), 1 - sigma * (1 - sigma))


def mr_lemma6_bound(noise: float | Array, steps: int | Array) -> Array:
  """Bounds |theta_t - log((1 - sigma) / sigma)| of plain gradient descent on the noisy toy.

  The bound is log((1 - sigma) / sigma) (1 - sigma (1 - sigma))^t: on the way from 0 the curvature
  falls from 1/4 to sigma (1 - sigma), so that a step of alpha = 1 shrinks the error by that factor
  or more.

  Args:
    noise: sigma, in (0, 1/2).
    steps: t >= 0, of a shape that broadcasts with `noise`.

  Returns:
    The bound, > 0.

  Raises:
    InputError: for a noise out of range.

  Source: derived here; MR's Lemma 6 has the limit.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_lemma6_bound(1 / 3, 10))  # the error is 0.0503
    0.0562
  """
  limit = mr_lemma6_limit(noise)
  return limit.theta * limit.rate**steps


def mr_lemma7_gap(theta: Array) -> Array:
  """Computes theta_{t+1} - theta_t, which MR's Lemma 7 says is above 0 for all t >= 0.

  Args:
    theta: [T+1, ...], of `logistic_trajectory` with alpha = eta = 1.

  Returns:
    [T, ...].

  Source: MR, Lemma 7.

  Example:
    >>> from jaxnoise import theory
    >>> run = theory.logistic_trajectory(1 / 3, steps=3, step_size=1.0)
    >>> theory.mr_lemma7_gap(run.theta).tolist()
    [0.1667, 0.1611, 0.1851]
  """
  return jnp.diff(theta, axis=0)


def mr_theorem8_steps(
  epsilon: float | Array, noise: float | Array, num_examples: int | None = None
) -> Array:
  """Computes after how many steps of MR on noisy labels the clean loss is at most epsilon.

  L(theta_t) <= epsilon, with alpha = eta = 1, for every integer

    t >= max(log(2) / Delta + 2, `mr_lemma5_steps`(epsilon) 2 / sigma).

  In print 2 / sigma is 2 N / sigma, valid and loose: the N that delta_t lacks. The appendix prints
  log(-1/2) / Delta for the theorem's -log(1/2) / Delta.

  Args:
    epsilon: > 0.
    noise: sigma, in (0, 1/2).
    num_examples: N, for the bound as printed; None for the tight one.

  Returns:
    A number of steps, not rounded.

  Raises:
    InputError: for numbers out of range.

  Source: MR, Theorem 8.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_theorem8_steps(0.5, 1 / 3)), float(theory.mr_theorem8_steps(0.5, 1 / 3, 15))
    (6.599, 98.985)
  """
  check_noise(noise, above=True)
  factor = 2.0 if num_examples is None else 2.0 * num_examples
  first = jnp.log(2.0) / (0.5 - jnp.asarray(noise)) + 2
  return jnp.maximum(first, mr_lemma5_steps(epsilon) * factor / noise)


def mr_lemma10_bound(
  steps: int | Array,
  noise: float | Array,
  epsilon: float | Array,
  step_size: float | Array,
  num_examples: int,
) -> Array:
  """Bounds the weight of an example with the right label from below: MR's Lemma 10.

    p_t,i >= 1 / ((1 - sigma) N + sigma N exp(-eta epsilon^2 Delta t)),    i clean, t >= 0,

  on the least-squares toy. Equality at t = 0, and at t = 1 where all x_j e_j have one sign.

  Args:
    steps: t >= 0, updates of the weights.
    noise: sigma, in [0, 1/2).
    epsilon: |e_j| of the corrupted labels, > 0.
    step_size: eta >= 0.
    num_examples: N.

  Returns:
    The bound, in (0, 1]; the arguments broadcast.

  Raises:
    InputError: for numbers out of range.

  Source: MR, Lemma 10.

  Example:
    >>> from jaxnoise import theory
    >>> [float(theory.mr_lemma10_bound(t, 1 / 3, 1.0, 1.0, 15)) for t in (0, 10)]
    [0.0667, 0.0914]
  """
  decay = _decay(steps, noise, epsilon, step_size)
  return 1 / (num_examples * ((1 - noise) + noise * decay))


def mr_lemma11_bound(
  noise: float | Array,
  epsilon: float | Array,
  step_size: float | Array,
  num_examples: int,
  *,
  printed: bool = False,
) -> Array:
  """Bounds the weight of a clean example after one update from below: MR's Lemma 11.

  `mr_lemma10_bound` at t = 1: the exponent is -eta epsilon^2 Delta, with which the paper's own
  proof ends. The lemma prints -2 eta epsilon^2 Delta, which drops the 1/2 of the corrupted loss and
  is wrong: violated whenever all x_j e_j have one sign.

  Args:
    noise: sigma, in [0, 1/2).
    epsilon: |e_j| of the corrupted labels, > 0.
    step_size: eta >= 0.
    num_examples: N.
    printed: with the wrong exponent, to show that it fails.

  Returns:
    The bound, in (0, 1].

  Raises:
    InputError: for numbers out of range.

  Source: MR, Lemma 11, corrected.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_lemma11_bound(1 / 3, 1.0, 1.0, 15))
    0.0703
  """
  return mr_lemma10_bound(2 if printed else 1, noise, epsilon, step_size, num_examples)


def mr_lemma11_gap(corruption: Array) -> Array:
  """Computes by how much the loss of each example is above that of a clean one at p_0.

  l_k - l_i = e_k^2 / 2 - x_k e_k (1/N) sum_j x_j e_j, i clean; at least epsilon^2 Delta for every
  corrupted k where all |e_k| are epsilon, 0 for a clean one.

  Args:
    corruption: [N], x_j e_j, 0 where the label is right.

  Returns:
    [N].

  Source: MR, Lemma 11; the print drops the 1/2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> theory.mr_lemma11_gap(jnp.array([0.0, 0.0, 1.0])).tolist()  # Delta = 1/6
    [0.0, 0.0, 0.1667]
  """
  return corruption**2 / 2 - corruption * jnp.mean(corruption)


def mr_theorem9_bound(
  steps: int | Array,
  noise: float | Array,
  epsilon: float | Array,
  step_size: float | Array,
  *,
  tight: bool = False,
) -> Array:
  """Bounds |theta_t - 1| of Algorithm 3 on the least-squares toy: MR's Theorem 9.

  |theta_t - 1| <= epsilon E / (1 + Delta), E = exp(-eta epsilon^2 Delta t). Tighter, by Lemma 10:
  epsilon sigma E / ((1 - sigma) + sigma E), which is reached at t = 0 and 1 where all x_j e_j
  have one sign.

  Args:
    steps: t >= 0, updates of the weights.
    noise: sigma, in [0, 1/2).
    epsilon: |e_j| of the corrupted labels, > 0.
    step_size: eta >= 0.
    tight: the second form.

  Returns:
    The bound; the arguments broadcast.

  Raises:
    InputError: for numbers out of range.

  Source: MR, Theorem 9; the tighter form is derived from Lemma 10.

  Example:
    >>> from jaxnoise import theory
    >>> [float(theory.mr_theorem9_bound(6, 1 / 3, 1.0, 1.0, tight=t)) for t in (False, True)]
    [0.3153, 0.1554]
  """
  decay = _decay(steps, noise, epsilon, step_size)
  if tight:
    return epsilon * noise * decay / ((1 - noise) + noise * decay)
  return epsilon * decay / (1.5 - noise)


def mr_theorem9_steps(
  error: float | Array, noise: float | Array, epsilon: float | Array, step_size: float | Array
) -> Array:
  """Computes after how many updates |theta_t - 1| <= error: MR's Theorem 9.

  t >= log(epsilon / (c (1 + Delta))) / (eta epsilon^2 Delta) for an error of c. In print c (1 +
  Delta) is c + 1 + Delta, a misprint.

  Args:
    error: c > 0.
    noise: sigma, in [0, 1/2).
    epsilon: |e_j| of the corrupted labels, > 0.
    step_size: eta > 0.

  Returns:
    A number of updates, not rounded; at most 0 for an error that holds from the start.

  Raises:
    InputError: for numbers out of range.

  Source: MR, Theorem 9.

  Example:
    >>> from jaxnoise import theory
    >>> float(theory.mr_theorem9_steps(0.3153, 1 / 3, 1.0, 1.0))
    6.0
  """
  check_positive("error", error)
  check_positive("step_size", step_size)
  _decay(0, noise, epsilon, step_size)
  delta = 0.5 - noise
  return jnp.log(epsilon / (jnp.asarray(error) * (1 + delta))) / (step_size * epsilon**2 * delta)


def _decay(
  steps: int | Array, noise: float | Array, epsilon: float | Array, step_size: float | Array
) -> Array:
  """exp(-eta epsilon^2 Delta t)."""
  check_noise(noise)
  check_positive("epsilon", epsilon)
  check_step_size(step_size)
  return jnp.exp(-step_size * epsilon**2 * (0.5 - jnp.asarray(noise)) * steps)

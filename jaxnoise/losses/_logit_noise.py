"""Logits as targets: unbiased noise that is redrawn in every iteration, and the loss on them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.losses import _checks

SWAP_READINGS = ("independent", "transposition", "shift")
"""What "every logit is swapped with another one with probability p" may mean."""


def half_squared_error(logits: Array, targets: Array) -> Array:
  """Computes 0.5 sum_c (z_c - t_c)^2, the quadratic loss on the outputs themselves.

  The gradient is z - t, so that noise of covariance sigma^2 I in t gives each example a gradient
  noise of covariance sigma^2 J^T J, J the Jacobian of its outputs. The paper prints the square
  without the half, but every gradient that it uses is that of the half.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] t, any real numbers; gradients flow to them if they carry any.

  Returns:
    [...] one value per example, >= 0. The sum is over outputs, unlike `squared_error`'s mean, and
    no softmax is taken.

  Source: "Implicit Regularization Effects of Unbiased Random Label Noises with SGD", eqs. (10) and
    (16).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.half_squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])))
    2.5
  """
  return 0.5 * jnp.sum((promote(logits) - targets) ** 2, axis=-1)


def gaussian_logit_noise(rng: PRNGKey, logits: Array, *, variance: float = 1.0) -> Array:
  """Adds Gaussian noise to logits: y + e, e ~ N(0, sigma^2 I), of each example and class its own.

  Args:
    rng: a key of this step; the same key draws the same noise.
    logits: [..., K] y; half precision is promoted to float32.
    variance: sigma^2 >= 0, in squared units of the logits; 0 returns y.

  Returns:
    [..., K], of mean y.

  Raises:
    InputError: for a negative variance.

  Source: "Implicit Regularization Effects of Unbiased Random Label Noises with SGD", section 5,
    whose Figure 2 has sigma^2 on its axis.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> y = jnp.zeros((1000, 10))
    >>> noisy = losses.gaussian_logit_noise(jax.random.key(0), y, variance=4.0)
    >>> bool(abs(noisy.std() - 2) < 0.05)
    True
  """
  _checks.within("variance", variance, 0)
  logits = promote(logits)
  return logits + jnp.sqrt(variance) * jax.random.normal(rng, logits.shape, logits.dtype)


def swap_logits(
  rng: PRNGKey, logits: Array, *, probability: float = 0.1, reading: str = "independent"
) -> Array:
  """Swaps logits of an example at random ("symmetric noise"), each with probability p.

  The paper says that every logit is swapped, with probability p, with one of the K - 1 others, each
  as likely, and gives the mean of `expected_swap`. That is three different noises:

    independent: y~_l = y_m with probability p, m != l uniform, else y_l; all l independent. Values
      may repeat. Has the paper's mean, and Var y~_l = (1 - p) y_l^2 + p / (K - 1) sum_(m != l)
      y_m^2 - (E y~_l)^2.
    transposition: for l = 1, ..., K in turn, the values at l and at such an m change places. A
      permutation of y, whose mean is T_K ... T_1 y with T_l the mean of one turn, which is not the
      paper's.
    shift: with probability p all logits of an example move by the same k ~ {1, ..., K - 1} places
      around. A permutation with the paper's mean; the coordinates depend on each other.

  Args:
    rng: a key of this step; the same key draws the same swaps.
    logits: [..., K] y with K >= 2; half precision is promoted to float32.
    probability: p in [0, 1]; 0 returns y.
    reading: "independent", "transposition" or "shift".

  Returns:
    [..., K], every value one of the example's own logits.

  Raises:
    InputError: for p outside [0, 1], an unknown reading or a single logit.

  Source: "Implicit Regularization Effects of Unbiased Random Label Noises with SGD", section 5,
    the text around eq. (21).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> y = jnp.array([[2.0, -1.0, 0.5, 3.0]])
    >>> noisy = losses.swap_logits(jax.random.key(0), y, probability=1.0, reading="shift")
    >>> sorted(noisy[0].tolist()), bool(jnp.any(noisy == y))
    ([-1.0, 0.5, 2.0, 3.0], False)
  """
  if reading not in SWAP_READINGS:
    known = closest(str(reading), SWAP_READINGS)
    raise InputError(f"reading is {reading!r}, no such choice: {known}")
  _check_swap(logits, probability)
  logits = promote(logits)
  *rows, k = logits.shape
  # One number says whether there is a swap, and where it lies below p, how far the partner is.
  u = jax.random.uniform(rng, (*rows, 1 if reading == "shift" else k))
  steps = jnp.floor((k - 1) * u / jnp.maximum(probability, jnp.finfo(u.dtype).tiny))
  away = jnp.where(u < probability, 1 + jnp.minimum(steps, k - 2).astype(jnp.int32), 0)
  place = jnp.arange(k).reshape((1,) * len(rows) + (k,))
  partner = (place + away) % k
  if reading != "transposition":
    return jnp.take_along_axis(logits, partner, axis=-1)

  def turn(l: Array, now: Array) -> Array:
    m = jax.lax.dynamic_slice_in_dim(partner, l, 1, axis=-1)
    at_l = jax.lax.dynamic_slice_in_dim(now, l, 1, axis=-1)
    at_m = jnp.take_along_axis(now, m, axis=-1)
    return jnp.where(place == m, at_l, jnp.where(place == l, at_m, now))

  return jax.lax.fori_loop(0, k, turn, logits)


def expected_swap(logits: Array, probability: float) -> Array:
  """Computes E y~_l = (1 - p) y_l + p / (K - 1) sum_(m != l) y_m.

  With a = p K / (K - 1) that is (1 - a) y_l + a mean(y): p = (K - 1) / K leaves nothing but the
  mean, and beyond it the ranking turns round. What a student of the swapped logits is taught, its
  noise being y~ - E y~; exact for the readings "independent" and "shift" of `swap_logits`.

  Args:
    logits: [..., K] y with K >= 2; half precision is promoted to float32.
    probability: p in [0, 1].

  Returns:
    [..., K].

  Raises:
    InputError: for p outside [0, 1] or a single logit.

  Source: "Implicit Regularization Effects of Unbiased Random Label Noises with SGD", eq. (21).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> y = jnp.array([2.0, -1.0, 0.5, 3.0])
    >>> [round(v, 4) for v in losses.expected_swap(y, 0.3).tolist()]
    [1.65, -0.15, 0.75, 2.25]
  """
  _check_swap(logits, probability)
  logits = promote(logits)
  others = jnp.sum(logits, axis=-1, keepdims=True) - logits
  return (1 - probability) * logits + probability / (logits.shape[-1] - 1) * others


def _check_swap(logits: Array, probability: float) -> None:
  _checks.within("probability", probability, 0, 1)
  if logits.shape[-1] < 2:
    raise InputError(
      f"logits have shape {logits.shape}, one logit for each example; a swap needs at least 2"
    )

"""Temperature scaling: one number, fitted on held-out examples, that repairs confidence."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.metrics._accuracy import check_labels

TEMPERATURE_BOUNDS: tuple[float, float] = (1e-3, 1e3)
"""Where `temperature_scale` looks. A fit at the lower end means that every held-out example is
classified correctly, one at the upper end that the logits are worse than none."""

_MAX_STEPS = 100  # 7 are usual; bisection alone needs 60 in float64


class _Search(NamedTuple):
  x: Array  # log(1 / T)
  low: Array
  high: Array
  step: Array
  count: Array


def temperature_scale(logits: Array, labels: Array, mask: Array | None = None) -> Array:
  """Finds T = argmin_T sum_i -log softmax(z_i / T)_(y_i) on held-out examples.

  The NLL is convex in b = 1 / T. Its derivative sum_i E_(k ~ softmax(b z_i))[z_ik - z_i,y_i] is
  brought to zero by Newton's method in log b, with bisection wherever a step is not half the one
  before or less. Differentiating through it is not supported.

  Args:
    logits: [N, K], finite, of examples that were not trained on.
    labels: [N] integers in 0..K-1.
    mask: [N], 1 for real rows and 0 for padding; None means all are real.

  Returns:
    A scalar, at least float32, within `TEMPERATURE_BOUNDS` = (0.001, 1000): an end of it where the
    minimum lies at or beyond it, as with every example classified correctly (T -> 0) or an accuracy
    below what the confidence of any T calls for (T -> infinity). 1 where the NLL is flat there:
    constant logits, no example, or an NLL that is 0 already.

  Raises:
    InputError: where the labels are not one integer per row.

  Source:
    Guo, Pleiss, Sun and Weinberger, *On Calibration of Modern Neural Networks*, 2017, section 4.2.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> logits = jnp.broadcast_to(jnp.array([4.0, 0.0]), (4, 2))  # 98 % sure, right in 75 %
    >>> temperature = metrics.temperature_scale(logits, jnp.array([0, 0, 0, 1]))
    >>> round(float(temperature), 3)
    3.641
    >>> round(float(jax.nn.softmax(metrics.apply_temperature(logits, temperature))[0, 0]), 3)
    0.75
  """
  logits, labels = promote(jnp.asarray(logits)), jnp.asarray(labels)
  check_labels(logits, labels)
  real = jnp.ones(len(labels), bool) if mask is None else jnp.asarray(mask) > 0
  # Zero at the label: where one class has all the mass, the sum has no rounding to hide its sign.
  margin = logits - jnp.take_along_axis(logits, labels[:, None], axis=-1)
  margin = jnp.where(real[:, None], margin, 0.0)

  def slopes(x: Array) -> tuple[Array, Array]:
    """First derivative in b, and b times the second."""
    b = jnp.exp(x)
    p = jax.nn.softmax(b * margin, axis=-1)
    mean = jnp.sum(p * margin, axis=-1)
    variance = jnp.sum(p * (margin - mean[:, None]) ** 2, axis=-1)
    return jnp.sum(mean), b * jnp.sum(variance)

  def advance(s: _Search) -> _Search:
    slope, curvature = slopes(s.x)
    # A slope of exactly 0 is one that underflowed: separable examples, which want T -> 0.
    low, high = jnp.where(slope > 0, s.low, s.x), jnp.where(slope > 0, s.x, s.high)
    step = -slope / jnp.where(curvature > 0, curvature, 1.0)
    newton = (curvature > 0) & (jnp.abs(step) <= 0.5 * jnp.abs(s.step))
    x = jnp.where(newton, s.x + step, low + 0.5 * (high - low))
    return _Search(x, low, high, x - s.x, s.count + 1)

  tolerance = 16 * jnp.finfo(logits.dtype).eps  # Newton then ends far below it
  low, high = (jnp.asarray(-np.log(bound), logits.dtype) for bound in TEMPERATURE_BOUNDS[::-1])
  start = _Search(jnp.zeros_like(low), low, high, high - low, jnp.zeros((), jnp.int32))
  end = jax.lax.while_loop(
    lambda s: (jnp.abs(s.step) > tolerance) & (s.count < _MAX_STEPS), advance, start
  )
  least, most = TEMPERATURE_BOUNDS
  fitted = jnp.where(slopes(low)[0] >= 0, most, jnp.exp(-end.x))
  fitted = jnp.where(slopes(high)[0] <= 0, least, fitted)
  return jnp.where(slopes(start.x)[0] == 0, 1.0, fitted)


def apply_temperature(logits: Array, temperature: Array | float) -> Array:
  """Returns z / T: confidences change, the arg-max and with it the accuracy do not.

  Args:
    logits: [..., K].
    temperature: a scalar, from `temperature_scale`.

  Returns:
    [..., K], at least float32.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> metrics.apply_temperature(jnp.array([[3.0, 1.0]]), 2.0).tolist()
    [[1.5, 0.5]]
  """
  return promote(jnp.asarray(logits)) / temperature

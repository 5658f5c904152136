"""Losses of one prediction against a label that may be wrong.

Below z are logits [..., K], p = softmax(z), t a target distribution and y the class of a one-hot t.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.losses import _checks
from jaxnoise.losses._classification import cross_entropy

_SMOOTHING_VARIANTS = ("kl", "cross_entropy", "off_target")


def label_smoothing(
  logits: Array, targets: Array, *, smoothing: float | Array = 0.1, variant: str = "kl"
) -> Array:
  """Computes the loss against a smoothed target q.

  Variants, with s the smoothing:
    "kl": KL(q || p) with q = (1 - s) t + s / K;
    "cross_entropy": -sum_c q_c log p_c with the same q, which is larger by the entropy of q, a
      number that no gradient with respect to z sees;
    "off_target": cross-entropy with q = (1 - s) t + s (1 - t) / (K - 1), so that a label keeps
      1 - s and each other class has s / (K - 1).

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    smoothing: s in [0, 1]; 0 is cross-entropy for one-hot targets.
    variant: which of the three.

  Returns:
    [...] one value per example, in [0, inf).

  Raises:
    InputError: for a smoothing outside [0, 1] or an unknown variant.

  Source: Szegedy et al. (2016), section 7; "kl" is the authors' code of GJS, whose numbers NRD
    quotes, "off_target" that of multiplicative reweighting.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> z, t = jnp.zeros(2), jnp.array([1.0, 0.0])
    >>> round(float(losses.label_smoothing(z, t, smoothing=1.0)), 6)  # q is uniform, as p
    0.0
    >>> round(float(losses.label_smoothing(z, t, variant="cross_entropy")), 6)
    0.693147
  """
  _checks.within("smoothing", smoothing, 0, 1)
  if variant not in _SMOOTHING_VARIANTS:
    raise InputError(
      f"variant is {variant!r}, no such form of label smoothing: "
      + closest(str(variant), _SMOOTHING_VARIANTS)
    )
  targets = promote(targets)
  num_classes = targets.shape[-1]
  if variant == "off_target":
    q = (1 - smoothing) * targets + smoothing * (1 - targets) / (num_classes - 1)
  else:
    q = (1 - smoothing) * targets + smoothing / num_classes
  value = cross_entropy(logits, q)
  if variant == "kl":
    # 0 log 0 is 0, with a finite slope for targets that carry a gradient.
    value = value + jnp.sum(q * jnp.log(jnp.maximum(q, jnp.finfo(q.dtype).tiny)), axis=-1)
  return value


def mean_absolute_error(
  logits: Array, targets: Array, *, scale: float | Array = 1.0
) -> Array:
  """Computes scale sum_c t_c (1 - p_c), for a label y scale (1 - p_y).

  For one-hot targets sum_c |t_c - p_c| is 2 (1 - p_y): scale 2 is that distance. Linear in the
  target, so that mixing losses and mixing targets are the same.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    scale: a number >= 0.

  Returns:
    [...] one value per example, in [0, scale].

  Raises:
    InputError: for a negative scale.

  Source: Ghosh et al. (2017); scale 1 as in the authors' code of GJS, 2 as in NRD's.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.mean_absolute_error(jnp.zeros(2), jnp.array([1.0, 0.0])))
    0.5
  """
  _checks.within("scale", scale, 0)
  return scale * jnp.sum(promote(targets) * _complement(jax.nn.softmax(promote(logits))), axis=-1)


def soft_bootstrap(
  logits: Array,
  targets: Array,
  *,
  prediction_weight: float | Array = 0.05,
  stop_gradient: bool = False,
  floor: float = 1e-7,
) -> Array:
  """Computes -sum_c [(1 - w) t + w p]_c log max(p_c, floor): part of the target is the prediction.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    prediction_weight: w in [0, 1], a number or [...] one for each example. Reed et al. count the
      label's weight, 1 - w.
    stop_gradient: takes p inside the target as a constant. By default gradients flow through it.
    floor: the smallest probability inside the logarithm; below it the logarithm has no gradient.
      0 is no floor.

  Returns:
    [...] one value per example, in [0, inf); for a floor f in [0, -log f].

  Raises:
    InputError: for a weight outside [0, 1].

  Source: Reed et al. (2015), with w = 0.05; gradient and floor as in the authors' code of
    GJS.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> z, t = jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])
    >>> round(float(losses.soft_bootstrap(z, t, prediction_weight=0.0)), 4)
    2.1269
    >>> round(float(losses.soft_bootstrap(z, t, prediction_weight=1.0)), 4)
    0.3653
  """
  log_p = jax.nn.log_softmax(promote(logits))
  p = jnp.exp(log_p)
  predicted = jax.lax.stop_gradient(p) if stop_gradient else p
  target = _bootstrapped(targets, predicted, prediction_weight)
  return -jnp.sum(target * _floored(log_p, floor), axis=-1)


def hard_bootstrap(
  logits: Array, targets: Array, *, prediction_weight: float | Array = 0.2
) -> Array:
  """Computes -sum_c [(1 - w) t + w e]_c log p_c with e the one-hot class of the largest p_c.

  Args:
    logits: [..., K] z; half precision is promoted to float32. Of equal ones the first is largest.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    prediction_weight: w in [0, 1], a number or [...] one for each example. Reed et al. count the
      label's weight, 1 - w.

  Returns:
    [...] one value per example, in [0, inf).

  Raises:
    InputError: for a weight outside [0, 1].

  Source: Reed et al. (2015), with w = 0.2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> z, t = jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])
    >>> round(float(losses.hard_bootstrap(z, t, prediction_weight=1.0)), 4)
    0.1269
  """
  log_p = jax.nn.log_softmax(promote(logits))
  best = _largest(log_p).astype(log_p.dtype)  # without a gradient: an arg-max has none
  return -jnp.sum(_bootstrapped(targets, best, prediction_weight) * log_p, axis=-1)


def generalized_cross_entropy(
  logits: Array, targets: Array, *, q: float | Array = 0.7, floor: float = 1e-7
) -> Array:
  """Computes sum_c t_c (1 - max(p_c, floor)^q) / q, for a label y (1 - p_y^q) / q.

  It goes to cross-entropy as q goes to 0 and is 1 - p_y for q = 1. Linear in the target, so that
  mixing losses and mixing targets are the same.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    q: in (0, 1].
    floor: the smallest probability that is raised to q; an example below it has no gradient. 0 is
      no floor.

  Returns:
    [...] one value per example, in [0, 1 / q).

  Raises:
    InputError: for q outside (0, 1].

  Source: Zhang and Sabuncu (2018); the floor is the authors' code of GJS.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.generalized_cross_entropy(jnp.zeros(4), jnp.eye(4)[0], q=0.5))
    1.0
  """
  _checks.within("q", q, 0, 1, open_low=True)
  log_p = _floored(jax.nn.log_softmax(promote(logits)), floor)
  exponent = q * log_p
  # For small q, 1 - p^q has no digits and expm1 has; for small p^q it is the other way round for
  # the slope, which JAX computes as expm1 + 1.
  rest = jnp.where(exponent > -0.5, -jnp.expm1(exponent), 1 - jnp.exp(exponent))
  return jnp.sum(promote(targets) * rest, axis=-1) / q


def reverse_cross_entropy(
  logits: Array, targets: Array, *, floor: float = 1e-7, label_floor: float = 1e-4
) -> Array:
  """Computes -sum_c max(p_c, floor) log max(t_c, label_floor).

  For a label y and the default floors this is 9.2103 (1 - p_y), up to K floor.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    floor: the smallest prediction; below it there is no gradient.
    label_floor: the smallest target inside the logarithm, in (0, 1].

  Returns:
    [...] one value per example, in [0, -log(label_floor) (1 + K floor)].

  Raises:
    InputError: for a floor outside [0, 1] or a label_floor outside (0, 1].

  Source: Wang et al. (2019), who put a constant for log 0; the floors are the authors' code of GJS.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> round(float(losses.reverse_cross_entropy(jnp.zeros(2), jnp.array([1.0, 0.0]))), 4)
    4.6052
  """
  _checks.within("floor", floor, 0, 1)
  _checks.within("label_floor", label_floor, 0, 1, open_low=True)
  p = jax.nn.softmax(promote(logits))
  cost = -jnp.log(jnp.maximum(promote(targets), label_floor))
  # Around the cost of the largest p, because sum_c p_c = 1: otherwise the gradient of a certain
  # prediction is the difference of two numbers near 9.2.
  own = jnp.sum(jnp.where(_largest(p), cost, 0), axis=-1, keepdims=True)
  raised = jnp.maximum(floor - p, 0)
  return own[..., 0] + jnp.sum(p * (cost - own) + raised * cost, axis=-1)


def symmetric_cross_entropy(
  logits: Array, targets: Array, *, alpha: float | Array = 0.1, beta: float | Array = 1.0
) -> Array:
  """Computes alpha CE + beta RCE: `cross_entropy` and `reverse_cross_entropy`.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    alpha: weight of cross-entropy, >= 0.
    beta: weight of reverse cross-entropy, >= 0.

  Returns:
    [...] one value per example, in [0, inf).

  Raises:
    InputError: for a negative weight.

  Source: Wang et al. (2019).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> round(float(losses.symmetric_cross_entropy(jnp.zeros(2), jnp.array([1.0, 0.0]))), 4)
    4.6745
  """
  _checks.within("alpha", alpha, 0)
  _checks.within("beta", beta, 0)
  reverse = reverse_cross_entropy(logits, targets)
  return alpha * cross_entropy(logits, promote(targets)) + beta * reverse


def normalized_cross_entropy(logits: Array, targets: Array) -> Array:
  """Computes sum_c t_c log p_c / sum_c log p_c: cross-entropy over its sum for all K labels.

  Linear in the target, so that mixing losses and mixing targets are the same.

  Args:
    logits: [..., K] z, K at least 2; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.

  Returns:
    [...] one value per example, in [0, 1]; 1 / K where the prediction is uniform.

  Source: Ma et al. (2020).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.normalized_cross_entropy(jnp.zeros(4), jnp.eye(4)[0]))
    0.25
  """
  log_p = jax.nn.log_softmax(promote(logits))
  return jnp.sum(promote(targets) * log_p, axis=-1) / jnp.sum(log_p, axis=-1)


def nce_rce(
  logits: Array, targets: Array, *, alpha: float | Array = 1.0, beta: float | Array = 1.0
) -> Array:
  """Computes alpha NCE + beta RCE: `normalized_cross_entropy` and `reverse_cross_entropy`.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    alpha: weight of normalised cross-entropy, the active term, >= 0.
    beta: weight of reverse cross-entropy, the passive term, >= 0.

  Returns:
    [...] one value per example, in [0, alpha + 9.22 beta].

  Raises:
    InputError: for a negative weight.

  Source: Ma et al. (2020).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> round(float(losses.nce_rce(jnp.zeros(2), jnp.array([1.0, 0.0]))), 4)
    5.1052
  """
  _checks.within("alpha", alpha, 0)
  _checks.within("beta", beta, 0)
  reverse = reverse_cross_entropy(logits, targets)
  return alpha * normalized_cross_entropy(logits, targets) + beta * reverse


def _largest(p: Array) -> Array:
  """Where the largest entry of the last axis is, the first of equal ones."""
  return jax.nn.one_hot(jnp.argmax(p, axis=-1), p.shape[-1], dtype=bool)


def _complement(p: Array) -> Array:
  """1 - p [..., K]; for the largest, the sum of the others, which keeps its digits near p = 1."""
  largest = _largest(p)
  others = jnp.sum(jnp.where(largest, 0, p), axis=-1, keepdims=True)
  return jnp.where(largest, others, 1 - p)


def _floored(log_p: Array, floor: float) -> Array:
  """log max(p, floor), without a gradient below the floor; 0 is no floor."""
  _checks.within("floor", floor, 0, 1)
  return jnp.maximum(log_p, math.log(floor)) if floor else log_p


def _bootstrapped(targets: Array, prediction: Array, weight: float | Array) -> Array:
  """(1 - w) t + w p [..., K], the weight a number or [...]."""
  _checks.within("prediction_weight", weight, 0, 1)
  if jnp.ndim(weight):
    weight = jnp.asarray(weight)[..., None]
  return (1 - weight) * promote(targets) + weight * prediction

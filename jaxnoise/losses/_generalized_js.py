"""Jensen-Shannon divergences between a label and predictions: JS, GJS and NRD's.

For distributions d^0 = t (the label), d^1, ..., d^V (predictions) and weights pi that sum to 1

  m = sum_j pi_j d^j,   D_pi = sum_j pi_j sum_c d^j_c (log d^j_c - log m_c),   0 log 0 = 0,

in [0, H(pi)], 0 where all agree. Inside logarithms every number is raised to `floor`, below which
the logarithm has no gradient (1e-7 in the authors' code). The scaled divergence is D_pi / Z with
Z = -(1 - pi_0) log(1 - pi_0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.losses import _checks

Weights = Sequence[float] | Array


def js(
  logits: Array,
  targets: Array,
  *,
  label_weight: float | Array = 0.5,
  scaled: bool = True,
  floor: float = 1e-7,
) -> Array:
  """Computes D_pi(t, p) with weights (pi_0, 1 - pi_0), p = softmax(z).

  Scaled, it goes to cross-entropy as pi_0 goes to 0 and, but for the floor, to 1 - p_y as pi_0 goes
  to 1.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    label_weight: pi_0 in [0, 1]; scaled, in (0, 1).
    scaled: divides by Z = -(1 - pi_0) log(1 - pi_0).
    floor: the smallest probability inside a logarithm, in (0, 1).

  Returns:
    [...] one value per example, in [0, H(pi)] or, scaled, [0, H(pi) / Z].

  Raises:
    InputError: for a label_weight out of range.

  Source: Englesson and Azizpour (2021); NRD, Table 5 has its pi_0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> wrong = jnp.array([0.0, 50.0])
    >>> round(float(losses.js(wrong, jnp.array([1.0, 0.0]))), 4)  # log 2 / Z
    2.0
  """
  _checks.within("label_weight", label_weight, 0, 1)
  weights = (label_weight, 1 - label_weight)
  limits = "the limits are losses.cross_entropy and losses.mean_absolute_error"
  _require_scale("label_weight", label_weight, scaled, limits)
  return _divergence(targets, logits[..., None, :], _numbers(weights), scaled, floor)


def gjs(
  view_logits: Array,
  targets: Array,
  *,
  weights: Weights | None = None,
  label_weight: float | Array | None = None,
  scaled: bool = True,
  floor: float = 1e-7,
) -> Array:
  """Computes D_pi(t, p^1, ..., p^V), the label against the predictions for V views.

  It is a label term and a consistency term,
  D_pi = JS_(pi_0, 1 - pi_0)(t, mean prediction) + (1 - pi_0) D(p^1, ..., p^V), the mean and the
  second divergence with weights pi_v / (1 - pi_0). Gradients flow to every view and through the
  mixture; with respect to p^v they are pi_v log(p^v / m).

  Args:
    view_logits: [..., V, K] one row of logits per view; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    weights: V + 1 numbers pi, the label first, a distribution; or
    label_weight: pi_0, the rest split equally over the views; neither is 0.3.
    scaled: divides by Z = -(1 - pi_0) log(1 - pi_0), as the authors do on CIFAR; on WebVision they
      do not.
    floor: the smallest probability inside a logarithm, in (0, 1).

  Returns:
    [...] one value per example, in [0, H(pi)] or, scaled, [0, H(pi) / Z].

  Raises:
    InputError: for weights that are no distribution over V + 1, for both kinds of weights, and for
      a scaled divergence with pi_0 of 0 or 1.

  Source: Englesson and Azizpour (2021), and their code for floors and scale.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> views, target = jnp.zeros((2, 3)), jnp.full((3,), 1 / 3)
    >>> round(abs(float(losses.gjs(views, target, weights=(0.3, 0.35, 0.35)))), 6)
    0.0
  """
  weights = _gjs_weights(view_logits, weights, label_weight, scaled)
  return _divergence(targets, view_logits, weights, scaled, floor)


def gjs_no_consistency(
  view_logits: Array,
  targets: Array,
  *,
  weights: Weights | None = None,
  label_weight: float | Array | None = None,
  scaled: bool = True,
  renormalise: bool = False,
  floor: float = 1e-7,
) -> Array:
  """Computes GJS' label term alone: D_(pi_0, 1 - pi_0)(t, a) with a = sum_v pi_v p^v.

  The authors' code leaves a as it is, with sum 1 - pi_0, so that the value is no divergence and can
  be negative; renormalised by 1 - pi_0 it is the first term of the decomposition in `gjs`.

  Args:
    view_logits: [..., V, K] one row of logits per view; half precision is promoted to float32.
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    weights: V + 1 numbers pi, the label first, a distribution; or
    label_weight: pi_0, the rest split equally over the views; neither is 0.3.
    scaled: divides by Z = -(1 - pi_0) log(1 - pi_0).
    renormalise: divides a by 1 - pi_0.
    floor: the smallest probability inside a logarithm, in (0, 1).

  Returns:
    [...] one value per example.

  Raises:
    InputError: as `gjs`, and for a renormalised mean of views that have no weight.

  Source: Englesson and Azizpour (2021), and their code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> views = jnp.array([[9.0, 0.0], [0.0, 9.0]])  # the views differ, their mean is uniform
    >>> apart = losses.gjs_no_consistency(views, jnp.full((2,), 0.5), renormalise=True)
    >>> round(abs(float(apart)), 6)
    0.0
  """
  weights = _gjs_weights(view_logits, weights, label_weight, scaled)
  label = weights[0]
  if renormalise and not _checks.is_traced(label) and not label < 1:
    raise InputError(
      f"weights[0], the label's, is {label:g}: the views have no weight to renormalise; take less"
    )
  p = jax.nn.softmax(promote(view_logits))
  mean = sum(weights[1 + v] * p[..., v, :] for v in range(p.shape[-2]))
  mean = mean / (1 - label) if renormalise else mean
  log_mean = jnp.log(jnp.maximum(mean, _valid(floor)))
  parts = [(targets, _log(targets, floor)), (mean, log_mean)]
  return _weigh(parts, (label, 1 - label), scaled, floor)


def nrd(
  student_logits: Array,
  teacher_logits: Array,
  targets: Array,
  *,
  weights: Weights = (0.2, 0.6, 0.2),
  scaled: bool = True,
  floor: float = 1e-7,
) -> Array:
  """Computes D_pi(t, p_s, p_t): the label, the student's predictions and the teacher's, tied.

  With several student views p_s^1, ..., p_s^V it is D_pi(t, p_s^1, ..., p_s^V, p_t), each student
  view with an equal share of the student's weight. No gradient is cut here, neither to the teacher
  nor through the mixture: a method stops the one to the teacher's logits. With a constant teacher,
  the gradient with respect to p_s is pi_s log(p_s / m); with no weight for the teacher it is JS;
  with a teacher that has a gradient, GJS.

  Args:
    student_logits: [..., K], or [..., V, K] for V views: one axis more than the targets; half
      precision is promoted to float32.
    teacher_logits: [..., K].
    targets: [..., K] distributions t; gradients flow to them if they carry any.
    weights: the label's, the student's (over all its views) and the teacher's, a distribution; or
      V + 2 numbers, the label's first, one for each student view, the teacher's last.
    scaled: divides by Z = -(1 - pi_0) log(1 - pi_0), as the author's code does on CIFAR; on
      WebVision, and in the paper's equations, there is no scale.
    floor: the smallest probability inside a logarithm, in (0, 1).

  Returns:
    [...] one value per example, in [0, H(pi)] or, scaled, [0, H(pi) / Z].

  Raises:
    InputError: for weights that are no distribution, for a scaled divergence with a label weight of
      0 or 1, and for student logits of another rank.

  Source: NRD, eqs. (19) and (25), Table 5 for pi; scale, floors and two student views: the author's
    code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> student, teacher = jnp.array([2.0, 0.0]), jnp.array([0.0, 2.0])
    >>> round(float(losses.nrd(student, teacher, jnp.array([1.0, 0.0]), scaled=False)), 4)
    0.2675
  """
  if student_logits.ndim == targets.ndim:
    student_logits = student_logits[..., None, :]
  elif student_logits.ndim != targets.ndim + 1:
    raise InputError(
      f"student_logits has shape {student_logits.shape} for targets {targets.shape}; it must have "
      "the targets' shape, or one axis of views more, before the last"
    )
  views = student_logits.shape[-2]
  if len(weights) == 3:
    _checks.simplex("weights", weights, ("label", "student", "teacher"))
    weights = (weights[0], *(weights[1] / views,) * views, weights[2])
  students = tuple(f"student view {v}" for v in range(views))
  _checks.simplex("weights", weights, ("label", *students, "teacher"))
  _require_scale("weights[0], the label's,", weights[0], scaled)
  weights = _numbers(weights)
  logits = jnp.concatenate(
    [promote(student_logits), promote(teacher_logits)[..., None, :]], axis=-2
  )
  return _divergence(targets, logits, weights, scaled, floor)


def _gjs_weights(
  view_logits: Array,
  weights: Weights | None,
  label_weight: float | Array | None,
  scaled: bool,
) -> Weights:
  """V + 1 checked weights from the two ways to give them."""
  views = view_logits.shape[-2]
  if weights is not None and label_weight is not None:
    raise InputError(
      f"weights is {weights} and label_weight is {label_weight}; they say the same thing, give one"
    )
  if weights is None:
    label_weight = 0.3 if label_weight is None else label_weight
    _checks.within("label_weight", label_weight, 0, 1)
    weights = (label_weight, *((1 - label_weight) / views,) * views)
  _checks.simplex("weights", weights, ("label", *(f"view {v}" for v in range(views))))
  _require_scale("weights[0], the label's,", weights[0], scaled)
  return _numbers(weights)


def _numbers(weights: Weights) -> Weights:
  """Weights that lift no loss to their own precision: NumPy's numbers would."""
  return weights if _checks.is_traced(weights) else tuple(float(w) for w in weights)


def _require_scale(name: str, label_weight: float | Array, scaled: bool, more: str = "") -> None:
  """Refuses a scale of 1 / 0."""
  if scaled and not _checks.is_traced(label_weight) and not 0 < label_weight < 1:
    raise InputError(
      f"{name} is {label_weight:g}, where the scale -(1 - w) log(1 - w) is 0; take a number "
      f"between 0 and 1 or scaled=False{'; ' if more else ''}{more}"
    )


def _valid(floor: float) -> float:
  _checks.within("floor", floor, 0, 1, open_low=True)
  return floor


def _log(targets: Array, floor: float) -> Array:
  return jnp.log(jnp.maximum(promote(targets), _valid(floor)))


def _divergence(
  targets: Array, logits: Array, weights: Weights, scaled: bool, floor: float
) -> Array:
  """D_pi of targets [..., K] and softmax(logits [..., V, K]), weights [V + 1]."""
  log_p = jax.nn.log_softmax(promote(logits))
  floored = jnp.maximum(log_p, math.log(_valid(floor)))
  parts = [(targets, _log(targets, floor))]
  parts += [(jnp.exp(log_p[..., v, :]), floored[..., v, :]) for v in range(logits.shape[-2])]
  return _weigh(parts, weights, scaled, floor)


def _weigh(
  parts: Sequence[tuple[Array, Array]], weights: Weights, scaled: bool, floor: float
) -> Array:
  """sum_j pi_j sum_c d^j_c (log d^j_c - log m_c), over Z if scaled, for parts (d^j, log d^j)."""
  # No upper clip of m at 1: beyond it there are only rounding errors, and a tie halves gradients.
  mixture = sum(weights[j] * d for j, (d, _) in enumerate(parts))
  log_mixture = jnp.log(jnp.maximum(mixture, floor))
  value = sum(
    weights[j] * jnp.sum(d * (log_d - log_mixture), axis=-1)
    for j, (d, log_d) in enumerate(parts)
  )
  if not scaled:
    return value
  label = weights[0]
  log_rest = jnp.log1p(-label) if _checks.is_traced(label) else math.log1p(-label)
  return value / (-(1 - label) * log_rest)

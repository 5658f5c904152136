"""Losses of a student's prediction against a teacher's."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.losses import _checks


def hinton(
  logits: Array, teacher_logits: Array, *, temperature: float = 4.0, reverse: bool = False
) -> Array:
  """Computes tau^2 KL(p_t || p_s) at temperature tau, p = softmax(z / tau).

  The gradient with respect to the student's logits is tau (p_s - p_t). No gradient is cut here: a
  method stops the one to the teacher.

  Args:
    logits: [..., K] the student's; half precision is promoted to float32.
    teacher_logits: [..., K]. A class that both rule out with a logit of -inf counts for nothing.
    temperature: tau > 0.
    reverse: KL(p_s || p_t) instead, the order that eq. (1) of the paper prints.

  Returns:
    [...] one value per example, >= 0; 0 when the two agree up to a shift.

  Raises:
    InputError: for a temperature that is not larger than 0, or logits of other classes.

  Source: Hinton et al. (2015), section 2; "Noise as a Resource for Learning in Knowledge
  Distillation", eq. (1).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.hinton(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))
    0.0
  """
  _checks.within("temperature", temperature, 0, open_low=True)
  if logits.shape[-1:] != teacher_logits.shape[-1:]:
    raise InputError(
      f"logits have shape {tuple(logits.shape)} and teacher_logits {tuple(teacher_logits.shape)}; "
      "both must be [..., K] of the same K classes"
    )
  log_s = jax.nn.log_softmax(promote(logits) / temperature)
  log_t = jax.nn.log_softmax(promote(teacher_logits) / temperature)
  if reverse:
    log_s, log_t = log_t, log_s
  p = jnp.exp(log_t)
  # 0 log 0 is 0: a class without probability has a difference of infinities.
  return temperature**2 * jnp.sum(p * jnp.where(p > 0, log_t - log_s, 0.0), axis=-1)

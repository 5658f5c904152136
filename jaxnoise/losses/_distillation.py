"""Losses of a student's prediction against a teacher's."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def hinton(
  logits: Array, teacher_logits: Array, *, temperature: float = 4.0, reverse: bool = False
) -> Array:
  """Computes tau^2 KL(p_t || p_s) at temperature tau, p = softmax(z / tau).

  The gradient with respect to the student's logits is tau (p_s - p_t). No gradient is cut here: a
  method stops the one to the teacher.

  Args:
    logits: [..., K] the student's.
    teacher_logits: [..., K].
    temperature: tau > 0.
    reverse: KL(p_s || p_t) instead, the order that eq. (1) of the paper prints.

  Returns:
    [...] one value per example, >= 0; 0 when the two agree up to a shift.

  Source: Hinton et al. (2015), section 2; "Noise as a Resource for Learning in Knowledge
  Distillation", eq. (1).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> float(losses.hinton(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))
    0.0
  """
  if not temperature > 0:
    raise ValueError(f"temperature must be > 0, found {temperature}")
  log_s = jax.nn.log_softmax(promote(logits) / temperature)
  log_t = jax.nn.log_softmax(promote(teacher_logits) / temperature)
  if reverse:
    log_s, log_t = log_t, log_s
  return temperature**2 * jnp.sum(jnp.exp(log_t) * (log_t - log_s), axis=-1)

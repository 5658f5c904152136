"""DivideMix' steps as functions of logits and losses: guesses, targets, objective, tables."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise import losses, stats
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array


def co_refine(
  logits: Array, targets: Array, clean: Array, *, temperature: float = 0.5
) -> Array:
  """Computes sharpen(w y + (1 - w) p, T), p the mean prediction of one network over the views.

  Args:
    logits: [B, V, K], of V views of each labelled example.
    targets: [B, K] y, the given labels.
    clean: [B] w in [0, 1], the probability that the label is right.
    temperature: T of `losses.sharpen`.

  Returns:
    [B, K] distributions, without gradient.

  Source: J. Li, R. Socher, S. C. H. Hoi, "DivideMix" (2020), eqs. (3)-(4) of Algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import co_refine
    >>> target = co_refine(jnp.zeros((1, 2, 2)), jnp.eye(2)[:1], jnp.array([0.5]))
    >>> [round(v, 4) for v in target[0].tolist()]  # (3/4, 1/4), squared and normalised
    [0.9, 0.1]
  """
  p = jnp.mean(jax.nn.softmax(promote(logits)), axis=-2)
  w = clean[:, None].astype(p.dtype)
  return jax.lax.stop_gradient(
    losses.sharpen(w * targets + (1 - w) * p, temperature=temperature)
  )


def co_guess(logits: Array, other_logits: Array, *, temperature: float = 0.5) -> Array:
  """Computes sharpen(p, T), p the mean prediction of both networks over the views.

  Args:
    logits: [B, V, K], of V views of each unlabelled example.
    other_logits: [B, V, K], the other network's, of the same views.
    temperature: T of `losses.sharpen`.

  Returns:
    [B, K] distributions, without gradient.

  Source: J. Li, R. Socher, S. C. H. Hoi, "DivideMix" (2020), Algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import co_guess
    >>> guess = co_guess(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)))
    >>> [round(v, 4) for v in guess[0].tolist()]
    [0.5, 0.5]
  """
  p = jax.nn.softmax(promote(jnp.concatenate([logits, other_logits], axis=-2)))
  return jax.lax.stop_gradient(
    losses.sharpen(jnp.mean(p, axis=-2), temperature=temperature)
  )


def dividemix_objective(
  logits: Array,
  targets: Array,
  unlabelled_logits: Array,
  unlabelled_targets: Array,
  *,
  lambda_u: Array | float = 25.0,
) -> tuple[Array, dict[str, Array]]:
  """Computes mean CE + lambda_u mean (p - t)^2 + KL(uniform || mean p over all rows).

  The second mean is over rows and classes. All rows are mixed examples with mixed targets.

  Args:
    logits: [..., R, K], of the labelled rows.
    targets: [..., R, K], theirs.
    unlabelled_logits: [..., R', K], of the unlabelled rows, with the same leading axes.
    unlabelled_targets: [..., R', K], theirs.
    lambda_u: weight of the second term, with its ramp.

  Returns:
    (scalar loss, its three terms by name, scalars, unweighted: "label_loss", "unlabelled_loss",
    "prior").

  Source: J. Li, R. Socher, S. C. H. Hoi, "DivideMix" (2020), eqs. (9)-(12).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import dividemix_objective
    >>> z, t = jnp.zeros((2, 2)), jnp.eye(2)
    >>> loss, _ = dividemix_objective(z, t, z, t, lambda_u=4.0)
    >>> round(float(loss), 4)  # log 2 + 4 / 4 + 0
    1.6931
  """
  # Views are joined, not batches: the rows of a split batch then stay on their devices.
  rows = jnp.concatenate([logits, unlabelled_logits], axis=-2)
  terms = {
    "label_loss": jnp.mean(losses.cross_entropy(logits, targets)),
    "unlabelled_loss": jnp.mean(losses.squared_error(unlabelled_logits, unlabelled_targets)),
    "prior": losses.uniform_prior(rows),
  }
  loss = terms["label_loss"] + lambda_u * terms["unlabelled_loss"] + terms["prior"]
  return loss, terms


def linear_ramp(epoch: Array, start: int, length: float) -> Array:
  """Computes clip((epoch - start) / length, 0, 1); 1 for length 0 from the start on."""
  epoch = jnp.asarray(epoch, float)
  if not length:
    return (epoch >= start).astype(epoch.dtype)
  return jnp.clip((epoch - start) / length, 0.0, 1.0)


def min_max(values: Array) -> Array:
  """Rescales [N] to (v - min v) / (max v - min v), in [0, 1]; zeros where all are equal."""
  low, high = jnp.min(values), jnp.max(values)
  span = high - low
  return (values - low) / jnp.where(span > 0, span, 1.0)


def clean_probability(values: Array, responsibilities: Array | None = None) -> Array:
  """The posterior [N] of the lower mean in a mixture of two normals fitted to losses [N].

  Args:
    values: [N], normalised losses.
    responsibilities: [N, 2] to start from; None for the start of `stats.gaussian_mixture`.
  """
  mixture = stats.gaussian_mixture(values, responsibilities=responsibilities)
  return stats.gaussian_posterior(mixture, values)[:, 0]

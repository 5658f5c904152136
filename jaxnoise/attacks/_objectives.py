"""Losses for an attack to ascend, made from a predictor and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxnoise import losses
from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array, PredictFn

ImageLoss: TypeAlias = Callable[[Array], Array]
"""image [B, H, W, C] -> [B], a loss of each example that depends on its own image alone."""


def cross_entropy_ascent(predict: PredictFn, label: Array) -> ImageLoss:
  """Returns the loss -log p_y(x) of a network: what FGSM and PGD ascend in the papers.

  Where a network is so sure that p_y rounds to 1 and the others to 0 (logit gaps above about 100
  in float32) its gradient is 0 and the attack does not move; `margin_ascent` has no such limit.

  Args:
    predict: image [B, H, W, C] -> logits [B, K].
    label: [B] integers in 0..K-1: the true ones; negate the loss at others for a targeted attack.

  Returns:
    image -> [B], in [0, inf).

  Raises:
    InputError: when the loss is called, for labels that are not one integer per example.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> predict = lambda image: jnp.mean(image, axis=(1, 2))
    >>> loss_fn = attacks.cross_entropy_ascent(predict, jnp.array([0]))
    >>> loss_fn(jnp.zeros((1, 8, 8, 2))).tolist()
    [0.693]
  """

  def loss_fn(image: Array) -> Array:
    logits = _logits(predict, image, label)
    return losses.cross_entropy(
      logits, jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
    )

  return loss_fn


def margin_ascent(predict: PredictFn, label: Array) -> ImageLoss:
  """Returns the loss max_{k != y} z_k(x) - z_y(x), the negative of the classification margin.

  Positive exactly where the example is misclassified (0 on a tie), and its gradient does not fade
  as a network grows sure of itself.

  Args:
    predict: image [B, H, W, C] -> logits [B, K], K >= 2.
    label: [B] integers in 0..K-1.

  Returns:
    image -> [B], any real number.

  Raises:
    InputError: when the loss is called, for labels that are not one integer per example.

  Source: Carlini and Wagner (2017), section V-A, f_6 without its threshold, turned to be ascended.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> predict = lambda image: jnp.mean(image, axis=(1, 2))
    >>> image = jnp.array([0.25, 0.75]).reshape(1, 1, 1, 2)
    >>> attacks.margin_ascent(predict, jnp.array([0]))(image).tolist()
    [0.5]
  """

  def loss_fn(image: Array) -> Array:
    logits = _logits(predict, image, label)
    own = jax.nn.one_hot(label, logits.shape[-1], dtype=bool)
    other = jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1)
    return other - jnp.sum(jnp.where(own, logits, 0.0), axis=-1)

  return loss_fn


def _logits(predict: PredictFn, image: Array, label: Array) -> Array:
  logits, label = promote(predict(image)), jnp.asarray(label)
  if label.shape != logits.shape[:1] or not jnp.issubdtype(label.dtype, jnp.integer):
    raise InputError(
      f"label is {label.dtype}{list(label.shape)} for logits {list(logits.shape)}; an attack takes "
      "one integer label [B] per image"
    )
  return logits

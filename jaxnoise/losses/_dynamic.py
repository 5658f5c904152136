"""The loss of dynamic bootstrapping: how far a label is trusted is a number per example."""

from __future__ import annotations

from jaxnoise.core.types import Array
from jaxnoise.losses._classification import cross_entropy


def dynamic_bootstrap(logits: Array, given: Array, guessed: Array, noise: Array) -> Array:
  """Computes (1 - B) CE(z, y) + B CE(z, g): the label as far as it is trusted, else the guess.

  Args:
    logits: [..., K] z; half precision is promoted to float32.
    given: [..., K] distributions y, the labels.
    guessed: [..., K] distributions g, the model's own predictions: one-hot (hard) or softmax
      (soft), without gradient.
    noise: [...] B in [0, 1], the probability that the label is wrong.

  Returns:
    [...] one value per example, in [0, inf).

  Source: Arazo et al. (2019), section 3.2, dynamic bootstrapping.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import losses
    >>> y, g = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    >>> round(float(losses.dynamic_bootstrap(jnp.array([0.0, 2.0]), y, g, jnp.array(0.25))), 4)
    1.6269
  """
  return (1 - noise) * cross_entropy(logits, given) + noise * cross_entropy(logits, guessed)

"""What NRD's figures show of predictions: where in a polygon they lie, and their bins' accuracy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array
from jaxnoise.metrics._accuracy import check_labels, correct


def equiradial_projection(probabilities: Array) -> Array:
  """Puts distributions over K classes into a regular polygon: sum_c p_c v_c.

  The corner of class c is v_c = (sin t_c, cos t_c), t_c = 2 pi (c + 1/2) / K, in a unit circle:
  clockwise from the top, half a step off, so that classes 0 and K - 1 flank the top. A certain
  prediction lies on its corner, the uniform one in the middle. The corners themselves are
  `equiradial_projection(jnp.eye(K))`. From three classes on, different distributions may share a
  point.

  Args:
    probabilities: [..., K], each row a distribution, K at least 2; of logits take the softmax.

  Returns:
    [..., 2], x to the right and y upwards, at least float32.

  Raises:
    InputError: for fewer than two classes.

  Source:
    Figure 2a and Appendix B of "Neural Vicinal Risk Minimization", with the corners of its
    authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> p = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]])
    >>> points = metrics.equiradial_projection(p)
    >>> [[round(float(x), 3) for x in point] for point in points]
    [[0.707, 0.707], [0.0, 0.0]]
  """
  probabilities = promote(jnp.asarray(probabilities))
  classes = probabilities.shape[-1] if probabilities.ndim else 0
  if classes < 2:
    raise InputError(
      f"probabilities have shape {list(probabilities.shape)}; give distributions over two classes "
      "or more along the last axis"
    )
  angle = 2 * np.pi * (np.arange(classes) + 0.5) / classes
  corners = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
  # In full precision: accelerators round the factors of a product.
  corners = jnp.asarray(corners, probabilities.dtype)
  return jnp.matmul(probabilities, corners, precision=jax.lax.Precision.HIGHEST)


def bin_centre_calibration_error(
  probabilities: Array, labels: Array, num_bins: int = 10
) -> tuple[Array, Array]:
  """Computes sum_b (n_b / n) |accuracy_b - centre_b| over bins [i / m, (i + 1) / m).

  Not the standard calibration error (`expected_calibration_error`): an accuracy is held against
  the middle of its bin instead of the mean confidence there, and a confidence of exactly 1 is in
  no bin, yet counts in n. A network that has fitted its labels is therefore shown too well.

  Args:
    probabilities: [N, K], rows sum to 1.
    labels: [N] integers in 0..K-1.
    num_bins: m.

  Returns:
    The error, a scalar in [0, 1], and accuracy_b, [num_bins], 0 for an empty bin; at least float32.

  Raises:
    InputError: where the labels are not one integer per row.

  Source:
    The code of the reliability diagram (Figure 2b) by the authors of "Neural Vicinal Risk
    Minimization".

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> p = jnp.array([[0.25, 0.75], [0.25, 0.75], [1.0, 0.0]])
    >>> error, accuracy = metrics.bin_centre_calibration_error(p, jnp.array([1, 0, 0]), num_bins=4)
    >>> round(float(error), 4), accuracy.tolist()
    (0.25, [0.0, 0.0, 0.0, 0.5])
  """
  probabilities, labels = promote(jnp.asarray(probabilities)), jnp.asarray(labels)
  check_labels(probabilities, labels)
  dtype = probabilities.dtype
  edges = np.arange(num_bins + 1) / num_bins
  low, high = (jnp.asarray(e, dtype)[None, :] for e in (edges[:-1], edges[1:]))
  confidence = jnp.max(probabilities, axis=-1)[:, None]
  member = (confidence >= low) & (confidence < high)
  count = jnp.sum(member, axis=0, dtype=dtype)
  hit = correct(probabilities, labels).astype(dtype)[:, None]
  right = jnp.sum(jnp.where(member, hit, 0.0), axis=0)
  accuracy = right / jnp.maximum(count, 1)
  centre = jnp.asarray((edges[:-1] + edges[1:]) / 2, dtype)
  return jnp.sum(count * jnp.abs(accuracy - centre)) / len(labels), accuracy

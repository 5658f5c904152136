"""Special cases of what SGD on least squares settles to: additive noise, small steps, normal x.

`_label_noise_sgd_exact` has the general one.
"""

from __future__ import annotations

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array
from jaxnoise.theory._label_noise_sgd import check_variance
from jaxnoise.theory._reweighting import check_positive


def uln_additive_covariance(
  second_moment: Array, noise_variance: float, *, learning_rate: float, batch_size: int
) -> np.ndarray:
  """Computes the stationary covariance under the paper's noise, which does not depend on beta.

    beta' = beta - eta S_N (beta - beta*) + eta sqrt(sigma^2 / B) S_N^(1/2) z
    S = (eta sigma^2 / B) (2 I - eta S_N)^(-1),   (eta sigma^2 / B) / (2 - eta lambda_i) per axis

  It leaves out that SGD also samples x x^T, and so lies below the exact covariance.

  Args:
    second_moment: [d, d], S_N = x^T x / N, of full rank.
    noise_variance: sigma^2 >= 0.
    learning_rate: eta > 0, with eta lambda_max < 2.
    batch_size: B >= 1.

  Returns:
    [d, d], float64.

  Raises:
    InputError: for a learning rate of 2 / lambda_max or more, a matrix that is no second moment of
      full rank, or numbers out of range.

  Source: ULN, Proposition 2 and eq. (20), as the increment of a step.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import theory
    >>> theory.uln_additive_covariance(
    ...   np.diag([10.0, 100.0]), 0.5, learning_rate=0.01, batch_size=5).diagonal().tolist()
    [0.0005263, 0.001]
  """
  matrix = np.asarray(second_moment, np.float64)
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
    raise InputError(f"second_moment is {list(matrix.shape)}; it must be [d, d], x^T x / N")
  off = np.abs(matrix - matrix.T).max(initial=0)
  if not matrix.size or not off <= 1e-6 * np.abs(matrix).max():  # nan is neither
    raise InputError("second_moment is not a finite symmetric matrix; give x^T x / N")
  values = np.linalg.eigvalsh(matrix)
  smallest, largest = values[0], values[-1]
  if smallest <= largest * len(matrix) * np.finfo(np.float64).eps:
    raise InputError(
      f"second_moment has the eigenvalues {smallest:.4g} to {largest:.4g}; all must be above 0, as "
      "the noise does not move SGD along the others: drop or combine columns of x"
    )
  variance = 2 * uln_diffusion_variance(
    noise_variance, learning_rate=learning_rate, batch_size=batch_size
  )
  if learning_rate * largest >= 2:
    raise InputError(
      f"learning_rate is {learning_rate}, at which gradient descent diverges; it must be below "
      f"2 / lambda_max = {2 / largest:.4g}"
    )
  return variance * np.linalg.inv(2 * np.eye(len(matrix)) - learning_rate * matrix)


def uln_diffusion_variance(
  noise_variance: float, *, learning_rate: float, batch_size: int
) -> float:
  """Computes eta sigma^2 / (2 B), the variance of every axis in the limit of small eta.

  The diffusion's noise sqrt(eta sigma^2 / B) S_N^(1/2) dW and its pull -S_N delta dt balance at
  S = (eta sigma^2 / (2 B)) I for any S_N: round, and not shaped by the data. What is long and thin
  in the paper's Figure 1 is of finite eta lambda.

  Args:
    noise_variance: sigma^2 >= 0.
    learning_rate: eta > 0.
    batch_size: B >= 1.

  Returns:
    A variance.

  Raises:
    InputError: for numbers out of range.

  Source: ULN, eq. (18) solved for its stationary covariance, to first order in eta.

  Example:
    >>> from jaxnoise import theory
    >>> theory.uln_diffusion_variance(0.5, learning_rate=0.01, batch_size=5)
    0.0005
  """
  check_variance(noise_variance)
  check_positive("learning_rate", learning_rate)
  check_positive("batch_size", batch_size)
  return learning_rate * noise_variance / (2 * batch_size)


def gaussian_design_variances(
  eigenvalues: Array, noise_variance: float, *, learning_rate: float, batch_size: int
) -> np.ndarray:
  """Computes the stationary variances of SGD on endless normal inputs, x ~ N(0, diag(lambda)).

    s_i = (eta sigma^2 / B) / ((1 - q / B) (2 - eta (1 + 1/B) lambda_i)),
    q = sum_j eta lambda_j / (2 - eta (1 + 1/B) lambda_j)

  Args:
    eigenvalues: [d], lambda > 0.
    noise_variance: sigma^2 >= 0, of fresh noise.
    learning_rate: eta > 0, with eta (1 + 1/B) lambda_i < 2 and q < B.
    batch_size: B >= 1.

  Returns:
    [d], float64. A design of N rows scatters about it by an order of sqrt(1 / N).

  Raises:
    InputError: for a learning rate at which SGD diverges, or numbers out of range.

  Source: the exact equation with E[(x^T S x) x x^T] = tr(S L) L + 2 L S L, L = diag(lambda).

  Example:
    >>> from jaxnoise import theory
    >>> theory.gaussian_design_variances(
    ...   [10.0, 100.0], 0.5, learning_rate=0.01, batch_size=5).tolist()
    [0.0007194, 0.0016906]
  """
  eigenvalues = np.asarray(eigenvalues, np.float64)
  check_positive("eigenvalues", eigenvalues)
  variance = 2 * uln_diffusion_variance(
    noise_variance, learning_rate=learning_rate, batch_size=batch_size
  )
  gap = 2 - learning_rate * (1 + 1 / batch_size) * eigenvalues
  if np.any(gap <= 0) or (load := np.sum(learning_rate * eigenvalues / gap)) >= batch_size:
    raise InputError(
      f"learning_rate is {learning_rate}, at which SGD on these inputs diverges; it needs "
      "eta (1 + 1/B) lambda < 2 and sum_j eta lambda_j / (2 - eta (1 + 1/B) lambda_j) < B, so take "
      "a smaller one or a larger batch"
    )
  return variance / ((1 - load / batch_size) * gap)

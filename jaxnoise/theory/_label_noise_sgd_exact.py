"""What SGD on least squares settles to: its exact mean and covariance, and when there is one.

Losses (x_i.beta - y_i)^2 / 2, batches of B of N examples, learning rate eta. With H the batch's
mean of x x^T, S_N that of all examples, r_i the residuals at the least-squares solution beta_hat
and delta = beta - beta_hat, one step is

  delta' = (I - eta H) delta + eta (1/B) sum_{i in batch} (r_i + eps_i) x_i,

eps fresh noise, if any. Its second moments close: E[H S H] = (1 - c) S_N S S_N + c M(S) with
M(S) = (1/N) sum_i (x_i^T S x_i) x_i x_i^T, and c = 1/B with replacement, (1/B) (N - B) / (N - 1)
for subsets. All is computed in NumPy's float64, on symmetric matrices in the eigenbasis of S_N.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array
from jaxnoise.theory._label_noise_sgd import check_variance
from jaxnoise.theory._label_noise_sgd_batches import check_batch
from jaxnoise.theory._reweighting import check_positive

LARGEST_WIDTH = 64
_LOSSES = {"half": 1.0, "full": 2.0}


class StationarySGD(NamedTuple):
  """Where the iterates of SGD end up, in mean and covariance.

  Attributes:
    centre: [d], beta_hat, the least-squares solution of the labels that were given.
    covariance: [d, d], E[delta delta^T].
    radius: spectral radius of the map of second moments, below 1: their error falls by it per step.
  """

  centre: np.ndarray
  covariance: np.ndarray
  radius: float


class _Moments(NamedTuple):
  """The map S -> S - eta (linear S) + eta^2 (square S), in coordinates of symmetric matrices."""

  basis: np.ndarray  # [d, rank], eigenvectors of S_N
  share: float  # c
  linear: np.ndarray  # [p], the diagonal lambda_i + lambda_j, i <= j
  square: np.ndarray  # [p, p]


def least_squares_sgd_radius(
  x: Array,
  *,
  learning_rate: float,
  batch_size: int,
  sampling: str = "with_replacement",
  loss: str = "half",
) -> float:
  """Computes the spectral radius of SGD's second moments: below 1 they settle, above they grow.

  It is that of S -> E[(I - eta H) S (I - eta H)], within the span of the rows of x, outside of
  which SGD never moves. The map keeps matrices positive, so the radius is its largest eigenvalue.

  Args:
    x: [N, d], d <= 64.
    learning_rate: eta > 0.
    batch_size: B.
    sampling: "with_replacement", or "without_replacement" for a new subset every step.
    loss: "half" for (f - y)^2 / 2, "full" for (f - y)^2, which doubles every gradient.

  Returns:
    The radius. A radius above 1 means that E|delta|^2 grows, though single runs may still settle.

  Raises:
    InputError: for a design matrix that is not one, unknown names, or numbers out of range.

  Source: the second moments of the update; the paper has no condition.

  Example:
    >>> from jaxnoise import theory
    >>> theory.least_squares_sgd_radius([[1.0], [3.0]], learning_rate=0.1, batch_size=1)
    0.41
  """
  rate = _rate(learning_rate, loss)
  return _radius(_moments(x, batch_size, sampling), rate)


def least_squares_sgd_limit(
  x: Array, *, batch_size: int, sampling: str = "with_replacement", loss: str = "half"
) -> float:
  """Computes the learning rate below which SGD on least squares has a stationary covariance.

    eta_max = 1 / lambda_max(A^(-1/2) C A^(-1/2)),  A S = S_N S + S S_N,
    C S = (1 - c) S_N S S_N + c M(S)

  Every 0 < eta < eta_max is stable and no other. Without the noise of the batches (c = 0) it is
  2 / lambda_max(S_N).

  Args:
    x: [N, d], d <= 64.
    batch_size: B.
    sampling: "with_replacement" or "without_replacement".
    loss: "half" or "full", as in `least_squares_sgd_radius`; the limit of "full" is half as large.

  Returns:
    eta_max > 0.

  Raises:
    InputError: as `least_squares_sgd_radius`.

  Source: as there.

  Example:
    >>> from jaxnoise import theory
    >>> theory.least_squares_sgd_limit([[1.0], [3.0]], batch_size=1)  # 2 E[x^2] / E[x^4] = 10 / 41
    0.2439
    >>> theory.least_squares_sgd_limit(  # 2 / 5
    ...   [[1.0], [3.0]], batch_size=2, sampling="without_replacement")
    0.4
  """
  check_loss(loss)
  return _limit(_moments(x, batch_size, sampling)) / _LOSSES[loss]


def least_squares_sgd_stationary(
  x: Array,
  labels: Array,
  *,
  learning_rate: float,
  batch_size: int,
  noise_variance: float = 0.0,
  sampling: str = "with_replacement",
  loss: str = "half",
) -> StationarySGD:
  """Solves for the covariance of the iterates of SGD on least squares, exactly.

    S_N S + S S_N - eta [(1 - c) S_N S S_N + c M(S)] = eta c V + (eta sigma^2 / B) S_N,
    V = (1/N) sum_i r_i^2 x_i x_i^T

  Noise that is fixed in the data is in the labels: it moves the centre, to their least-squares
  solution, and makes the residuals r_i. Fresh noise of every step is `noise_variance`: it leaves
  the centre. For fresh noise alone give the noiseless labels, whose residuals are 0.

  Args:
    x: [N, d], of rank d <= 64.
    labels: [N], as SGD sees them.
    learning_rate: eta > 0, below `least_squares_sgd_limit`.
    batch_size: B.
    noise_variance: sigma^2 >= 0 of noise that is drawn anew at every step, for every example of
      the batch.
    sampling: "with_replacement" or "without_replacement". The batches of a shuffled epoch depend
      on each other and have no such equation.
    loss: "half" or "full", which is "half" with twice the learning rate.

  Returns:
    StationarySGD, float64.

  Raises:
    InputError: for a learning rate at which SGD diverges (with the largest stable one), a matrix
      without full column rank, unknown names, or numbers out of range.

  Source: the stationary second moments of the update. ULN says of them that the centre is beta*,
    and that S_N gives the shape; neither holds in general (see `uln_diffusion_variance`).

  Example:
    >>> from jaxnoise import theory
    >>> x = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]
    >>> found = theory.least_squares_sgd_stationary(
    ...   x, [1.0, 2.0, 2.0], learning_rate=0.1, batch_size=2, noise_variance=0.5)
    >>> found.centre.round(6).tolist(), found.covariance.round(4).tolist()
    ([1.0, 1.0], [[0.0133, 0.0001], [0.0001, 0.0144]])
  """
  x, labels = checked(x, labels)
  check_variance(noise_variance)
  rate = _rate(learning_rate, loss)
  moments = _moments(x, batch_size, sampling)
  width, rank = moments.basis.shape
  if rank < width:
    raise InputError(
      f"x {list(x.shape)} has rank {rank}; SGD keeps its start in {width - rank} directions, so "
      f"drop or combine columns until they are independent"
    )
  check_stable(x, moments, learning_rate, loss)
  centre = np.linalg.lstsq(x, labels)[0]
  residual = labels - x @ centre
  rotated = x @ moments.basis
  source = rotated.T @ (rotated * residual[:, None] ** 2) * moments.share
  source = rate * (source + noise_variance / batch_size * (rotated.T @ rotated)) / len(x)
  rows, columns, root = _coordinates(width)
  solved = np.linalg.solve(
    np.diag(moments.linear) - rate * moments.square, root * source[rows, columns]
  )
  inner = np.zeros((width, width))
  inner[rows, columns] = inner[columns, rows] = solved / root
  return StationarySGD(centre, moments.basis @ inner @ moments.basis.T, _radius(moments, rate))


def check_loss(loss: str) -> None:
  """Raises InputError for an unknown convention of the squared loss."""
  if loss not in _LOSSES:
    raise InputError(f"loss is {loss!r}; {closest(loss, _LOSSES)}")


def loss_factor(loss: str) -> float:
  """By how much the gradient exceeds (f - y) grad f."""
  check_loss(loss)
  return _LOSSES[loss]


def check_learning_rate(
  x: Array, *, learning_rate: float, batch_size: int, sampling: str, loss: str
) -> None:
  """Raises InputError where SGD on x diverges; for more than 64 columns, where `_bound` says so."""
  # An epoch's batches are nearer to the full gradient than independent subsets are.
  sampling = "without_replacement" if sampling == "epoch" else sampling
  if np.shape(x)[1] <= LARGEST_WIDTH:
    check_stable(x, _moments(x, batch_size, sampling), learning_rate, loss)
    return
  bound = _bound(x, batch_size, sampling) / _LOSSES[loss]
  if learning_rate >= bound:
    raise InputError(
      f"learning_rate is {learning_rate}, at which SGD on x {list(np.shape(x))} with the {loss} "
      f"squared loss diverges, as it does from learning_rate={bound:.4g} on at the latest; take a "
      "smaller one, a larger batch, or scale the columns of x down"
    )


def check_stable(x: Array, moments: _Moments, learning_rate: float, loss: str) -> None:
  """Raises InputError for a learning rate at which the second moments grow, with the limit."""
  limit = _limit(moments) / _LOSSES[loss]
  if learning_rate < limit:
    return
  radius = _radius(moments, _LOSSES[loss] * learning_rate)
  raise InputError(
    f"learning_rate is {learning_rate}, at which SGD on x {list(np.shape(x))} with the {loss} "
    f"squared loss diverges: the spectral radius of its second moments is {radius:.4g} and must be "
    f"below 1, as it is below learning_rate={limit:.4g}; take a smaller one, a larger batch, or "
    "scale the columns of x down"
  )


def checked(x: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
  """x [N, d] and labels [N] as finite float64."""
  x, labels = np.asarray(x, np.float64), np.asarray(labels, np.float64)
  if x.ndim != 2 or labels.shape != x.shape[:1]:
    raise InputError(f"x is {list(x.shape)}, labels are {list(labels.shape)}; give [N, d] and [N]")
  if not np.all(np.isfinite(labels)):
    raise InputError("labels hold numbers that are not finite; drop those examples")
  return x, labels


def _design(x: Array, batch_size: int, sampling: str) -> tuple[np.ndarray, float]:
  """x as float64 and c, checked."""
  x = np.asarray(x, np.float64)
  if x.ndim != 2 or not x.size:
    raise InputError(f"x is {list(x.shape)}; it must be [N, d], one row an example")
  count = len(x)
  check_batch(batch_size, count, sampling)
  if sampling == "epoch":
    raise InputError(
      "sampling is 'epoch'; its batches depend on each other and have no such equation: simulate "
      "with theory.least_squares_sgd, or take 'without_replacement'"
    )
  if not np.all(np.isfinite(x)):
    raise InputError(f"x {list(x.shape)} holds numbers that are not finite; drop those rows")
  if not np.any(x):
    raise InputError(f"x {list(x.shape)} is 0 throughout; SGD on it never moves")
  share = 1 / batch_size
  if sampling == "without_replacement":
    share *= (count - batch_size) / max(count - 1, 1)
  return x, share


def _bound(x: Array, batch_size: int, sampling: str) -> float:
  """At least `least_squares_sgd_limit`, for any width, by matrices S that are tried.

  The limit is the least <S, A S> / <S, C S>. Tried are v v^T, with v near the first eigenvector of
  S_N, and I, for which tr(S_N^2) is replaced by what it exceeds.
  """
  x, share = _design(x, batch_size, sampling)
  x = x / (scale := np.abs(x).max())
  v = x[np.argmax(np.sum(x**2, axis=1))]
  for _ in range(20):
    v = x.T @ (x @ v)
    v = v / np.linalg.norm(v)
  along, square = (x @ v) ** 2, np.sum(x**2, axis=1)
  first = np.mean(along)
  tried = ((first, along), (np.mean(square), square))
  found = [2 * a / ((1 - share) * first**2 + share * np.mean(b**2)) for a, b in tried]
  return float(min(found) / scale**2)


def _moments(x: Array, batch_size: int, sampling: str) -> _Moments:
  x, share = _design(x, batch_size, sampling)
  count, width = x.shape
  if width > LARGEST_WIDTH:
    raise InputError(
      f"x {list(x.shape)} has {width} columns; second moments are solved for up to {LARGEST_WIDTH}"
      ", so project x or drop columns"
    )
  values, vectors = np.linalg.eigh(x.T @ x / count)
  kept = values > values[-1] * max(x.shape) * np.finfo(np.float64).eps
  values, basis = values[kept], vectors[:, kept]
  rotated = x @ basis
  rows, columns, root = _coordinates(len(values))
  square = np.zeros((len(rows), len(rows)))
  for part in np.array_split(rotated, -(-count // 4096)):  # 68 MB of products at 64 columns
    products = root * part[:, rows] * part[:, columns]
    square += share / count * (products.T @ products)
  square += np.diag((1 - share) * values[rows] * values[columns])
  return _Moments(basis, share, values[rows] + values[columns], square)


def _coordinates(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Rows and columns of the upper triangle, and what makes the coordinates orthonormal."""
  rows, columns = np.triu_indices(width)
  return rows, columns, np.where(rows == columns, 1.0, 2**0.5)


def _limit(moments: _Moments) -> float:
  scale = moments.linear**-0.5
  return float(1 / np.linalg.eigvalsh(moments.square * scale[:, None] * scale)[-1])


def _radius(moments: _Moments, rate: float) -> float:
  identity = np.diag(1 - rate * moments.linear)
  return float(np.linalg.eigvalsh(identity + rate**2 * moments.square)[-1])


def _rate(learning_rate: float, loss: str) -> float:
  check_positive("learning_rate", learning_rate)
  return learning_rate * loss_factor(loss)

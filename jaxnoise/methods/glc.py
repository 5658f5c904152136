"""Gold loss correction: label noise estimated on trusted examples, then corrected for."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  LossFn,
  Method,
  Network,
  Params,
  PRNGKey,
  SideBatch,
  Spec,
)
from jaxnoise.methods import _base

_FLOOR = 1e-12


def glc(
  network: Network,
  *,
  spec: Spec,
  label_matrix: Any = None,
  trusted_size: int | None = None,
  separate: bool = False,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises (N mean_i -log sum_k C[k, y_i] p_k(x_i) + M mean_j CE(f(x_j), y_j)) / (N + M).

  i are the N training examples, whose labels are not trusted, j the M trusted ones, and C is
  `estimate_label_matrix` of a network trained on the former: phase 1 is `erm`, phase 2 this method,
  from the same initialisation if both have the same seed. The authors sum over batches in which the
  trusted examples are mixed with the others and divide by the batch size, which is the same on
  average; here every step has T trusted examples. Train on untrusted examples alone
  (`config.data.trusted_in_train = False`), as they do.

  The matrix is `method_state["glc"]["label_matrix"]`, a constant of the loss. Example weights scale
  the untrusted term, over their sum.

  Args:
    network: the model.
    spec: `num_train`, `num_classes`, `batch_size` and the size of the pool "trusted" are used.
    label_matrix: C, [K, K]: C[k, l] is the probability of the label l where k is true; rows sum to
      1.
    trusted_size: T; None for the share that makes trusted and untrusted examples be met equally
      often, B M / N, at least 1. On several devices it has to be a multiple of their number.
    separate: the two parts pass through the network one after the other, each with batch
      statistics of its own, as in the authors' code, and not as one batch.
    first: (rng, image) -> image, for training and trusted images alike.

  Returns:
    A Method with one predictor, "student"; it draws a side batch from the pool "trusted".

  Raises:
    InputError: for a matrix that is missing, of another shape or not of distributions, or a
      `trusted_size` below 1.

  Source: Hendrycks et al. (2018), Using Trusted Data to Train Deep Networks on Labels Corrupted by
    Severe Noise, section 3.1 and algorithm 1, and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(
    ...   num_train=40, num_classes=3, image_shape=(8, 8, 3), batch_size=20, pools={"trusted": 10})
    >>> matrix = methods.estimate_label_matrix(jnp.eye(3)[jnp.array([0, 1, 1, 2])], [0, 1, 2, 2])
    >>> method = methods.glc(network, spec=spec, label_matrix=matrix)
    >>> method.side_batches[0].size, matrix[2].tolist()
    (5, [0.0, 0.5, 0.5])
  """
  matrix = _checked(label_matrix, spec.num_classes)
  trusted_count = spec.pools.get("trusted", 0)
  size = trusted_size
  if size is None:
    size = max(1, round(spec.batch_size * trusted_count / spec.num_train))
  if size < 1:
    raise InputError(f"config.method.trusted_size is {size}; it must be 1 or larger")
  share = trusted_count / (spec.num_train + trusted_count)
  transform = augment.batched(first)

  def init_state(state: TrainState) -> TrainState:
    return state.with_method_state("glc", {"label_matrix": jnp.asarray(matrix, jnp.float32)})

  def loss_fn(state: TrainState) -> LossFn:
    # A floor: a label that no trusted example makes likely is costly, never impossible.
    noise = jnp.maximum(state.method_state["glc"]["label_matrix"], _FLOOR)

    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams, trusted = Streams(rng), batch["side"]["trusted"]
      image = transform(streams("augment"), batch["image"])
      trusted_image = transform(streams("trusted_augment"), trusted["image"])
      logits, trusted_logits, batch_stats = forward(
        params, state.batch_stats, image, trusted_image, streams
      )
      targets = _base.one_hot(batch["label"], spec.num_classes)
      values = losses.forward_correction(logits, targets, matrix=noise)
      trusted_values = losses.cross_entropy(
        trusted_logits, _base.one_hot(trusted["label"], spec.num_classes)
      )
      untrusted = reduce.weighted_mean(values, batch.get("weight"))
      loss = (1 - share) * untrusted + share * jnp.mean(trusted_values)
      metrics = {
        "loss": (loss, jnp.ones_like(loss)),
        "label_loss": reduce.mean_count(values),
        "trusted_loss": reduce.mean_count(trusted_values),
      }
      return loss, Aux(batch_stats, values, metrics)

    return fn

  def forward(params: Params, batch_stats, image: Array, trusted_image: Array, streams: Streams):
    """Logits [B, K] and [T, K] in train mode, and the running statistics after them."""
    key = streams("dropout")
    if not separate:
      # Side by side in as many groups as both divide into: devices then keep the rows they have.
      groups = math.gcd(len(image), len(trusted_image))
      grouped = lambda x: x.reshape(groups, -1, *x.shape[1:])
      both = jnp.concatenate((grouped(image), grouped(trusted_image)), axis=1)
      rows = both.reshape(-1, *image.shape[1:])
      out = network.apply(params, batch_stats, rows, train=True, rng=key)
      parts = jnp.split(grouped(out.logits), [len(image) // groups], axis=1)
      own, other = (x.reshape(-1, x.shape[-1]) for x in parts)
      return own, other, out.batch_stats
    own = network.apply(params, batch_stats, image, train=True, rng=key)
    # The second pass starts from the statistics of the first.
    other = network.apply(
      params, own.batch_stats, trusted_image, train=True, rng=streams("trusted_dropout")
    )
    return own.logits, other.logits, other.batch_stats

  return Method(
    "glc",
    loss_fn,
    _base.student(network),
    init_state=init_state,
    side_batches=(SideBatch("trusted", "trusted", size),),
  )


def estimate_label_matrix(probabilities: Any, labels: Any) -> np.ndarray:
  """Estimates C[k, l] = p(given label l | true class k) as a mean over trusted examples.

    C[k, :] = mean of softmax f(x_j) over the trusted examples j with y_j = k,

  f a network trained on the given labels, in evaluation mode on untransformed images.

  Args:
    probabilities: [T, K], rows that sum to 1.
    labels: [T] integers in 0..K-1, the true classes.

  Returns:
    C, [K, K] float64 on the host; rows sum to 1.

  Raises:
    InputError: arrays that do not fit each other, or a class without trusted examples.

  Source: Hendrycks et al. (2018), eq. (2).

  Example:
    >>> from jaxnoise import methods
    >>> methods.estimate_label_matrix([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], [0, 0, 1]).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
  """
  probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
  if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
    raise InputError(
      f"labels: found shape {labels.shape} for probabilities of shape {probabilities.shape}, "
      "expected [T] and [T, K]; give one true class for each row"
    )
  num_classes = probabilities.shape[1]
  counts = np.zeros(num_classes, np.int64)
  if labels.size:
    if labels.min() < 0 or labels.max() >= num_classes:
      raise InputError(
        f"labels: found {labels.min()}..{labels.max()}, expected 0..{num_classes - 1}; give class "
        "numbers that start at 0"
      )
    counts = np.bincount(labels, minlength=num_classes)
  if not counts.all():
    raise InputError(
      f"labels: found no trusted example of class {int(np.argmin(counts))}, expected some of every "
      "class; ask for more (config.data.trusted)"
    )
  totals = np.zeros((num_classes, num_classes))
  np.add.at(totals, labels, probabilities)
  return totals / counts[:, None]


def _checked(matrix: Any, num_classes: int) -> np.ndarray:
  """The matrix as float64, if it is one of K distributions over K labels."""
  if matrix is None or (isinstance(matrix, str) and not matrix):
    raise InputError(
      "config.label_matrix is empty, but glc needs the probabilities of given labels; name the run "
      "directory of a network trained on the noisy labels (or an earlier stage)"
    )
  try:
    matrix = np.asarray(matrix, np.float64)
  except (TypeError, ValueError):
    matrix = np.zeros(0)
  if matrix.shape != (num_classes, num_classes):
    raise InputError(
      f"label_matrix: found shape {matrix.shape}, expected ({num_classes}, {num_classes}), a row "
      "of probabilities for each true class; see methods.estimate_label_matrix"
    )
  sums = matrix.sum(axis=1)
  if not np.isfinite(matrix).all() or matrix.min() < 0 or np.abs(sums - 1).max() > 1e-3:
    worst = int(np.argmax(np.where(np.isfinite(sums), np.abs(sums - 1), np.inf)))
    raise InputError(
      f"label_matrix: row {worst} sums to {sums[worst]:.6g} with the least entry "
      f"{matrix[worst].min():.6g}, expected probabilities that sum to 1; rows are true classes"
    )
  return matrix

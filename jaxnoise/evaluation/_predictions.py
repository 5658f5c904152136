"""What a network says of every image of a set, kept image by image, and the mean of several."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnoise import data as data_lib
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method
from jaxnoise.training import sharding

Predict = Callable[[TrainState, Array], Array]
"""(state, images [B, H, W, C] uint8) -> logits [B, K] float32, compiled."""


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
  """The predictions on a set of N images, in its order, on the host.

  Attributes:
    index: [N] int64, positions in the set: 0..N-1.
    id: [N] integers or strings, what the set calls its examples; the positions where it has no
      names.
    logits: [N, K] float32.
    probability: [N, K] float32, softmax of the logits, computed in float64.
    label: [N] int32, the labels that come with the set, noisy ones included; None without any.
    clean_label: [N] int32, the true labels where `label` holds noisy ones, else None.
  """

  index: np.ndarray
  id: np.ndarray
  logits: np.ndarray
  probability: np.ndarray
  label: np.ndarray | None = None
  clean_label: np.ndarray | None = None

  @property
  def prediction(self) -> np.ndarray:
    """[N] int32, the most probable class; -1 where a logit is not a number."""
    known = ~np.isnan(self.logits).any(axis=-1)
    return np.where(known, self.logits.argmax(axis=-1), -1).astype(np.int32)

  def accuracy(self, label: np.ndarray | None = None) -> float | None:
    """The fraction that is predicted right, in [0, 1]; None without labels.

    Args:
      label: [N], None for `self.label`.
    """
    label = self.label if label is None else label
    return None if label is None else float(np.mean(self.prediction == label))


def make_predict(method: Method, mesh: Mesh, predictor: str = "") -> Predict:
  """Returns the jitted (state, images [B, H, W, C] uint8) -> logits [B, K] float32.

  One compilation serves every seed and every set of the same batch size. The batch is split over
  the mesh, the logits are on every device.

  Args:
    method: whose predictors are used.
    mesh: the devices.
    predictor: the name of one of them; "" is the first, the headline.

  Raises:
    InputError: at the first call, for a name that the method does not have.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, evaluation, methods, models
    >>> from jaxnoise.training import sharding
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> method = methods.erm(network, spec=core.Spec(8, 3, (8, 8, 3)))
    >>> images = jnp.zeros((8, 8, 8, 3), jnp.uint8)
    >>> params, batch_stats = jax.eval_shape(network.init, jax.random.key(0), images / 255)
    >>> state = core.TrainState(step=0, rng=None, params=params, batch_stats=batch_stats,
    ...   opt_state=())
    >>> predict = evaluation.make_predict(method, sharding.make_mesh())
    >>> jax.eval_shape(predict, state, images).shape
    (8, 3)
  """

  def predict(state: TrainState, images: Array) -> Array:
    predictors = method.predictors(state)
    name = predictor or next(iter(predictors))
    if name not in predictors:
      raise InputError(
        f"predictor {name!r} is none of {method.name}: {closest(name, predictors)}"
      )
    image = images.astype(jnp.float32) / 255.0
    return reduce.promote(predictors[name](image)).astype(jnp.float32)

  return jax.jit(predict, out_shardings=sharding.replicated(mesh))


def predict_pool(
  predict: Predict, state: TrainState, pool: data_lib.Pool, batch_size: int, mesh: Mesh
) -> Predictions:
  """Predicts a whole set in batches of one size, the last padded; order and names are the set's.

  p_k = exp(z_k) / sum_j exp(z_j). Two batches at most are on the devices at a time, so the set may
  be larger than their memory.

  Args:
    predict: from `make_predict`.
    state: of one seed.
    pool: the set.
    batch_size: images at a time; no more than the set has, rounded up to share evenly.
    mesh: the devices.

  Raises:
    InputError: for a set without images, or a batch size below 1.

  Example:
    >>> import jax
    >>> from jaxnoise import data, evaluation
    >>> from jaxnoise.training import sharding
    >>> mesh = sharding.make_mesh()
    >>> brightness = jax.jit(lambda state, images: images.mean((1, 2)) / 255)
    >>> source = data.generated(num_test=5)
    >>> predictions = evaluation.predict_pool(brightness, None, source.test, 4, mesh)
    >>> predictions.logits.shape, predictions.index.tolist()
    ((5, 3), [0, 1, 2, 3, 4])
  """
  if not pool.size:
    raise InputError("there are no images to predict; give a set of at least one")
  devices = mesh.shape["data"]
  rows, _ = data_lib.padded_batches(pool.size, min(batch_size, pool.size))
  if rows.shape[1] % devices:
    rows, _ = data_lib.padded_batches(pool.size, -(-rows.shape[1] // devices) * devices)
  logits: list[np.ndarray] = []
  waiting: collections.deque[Array] = collections.deque()
  for batch in rows:
    images = jax.device_put(pool.images[batch], sharding.batch(mesh))
    waiting.append(predict(state, images))
    if len(waiting) > 1:
      logits.append(np.asarray(waiting.popleft()))
  logits.append(np.asarray(waiting.popleft()))
  joined = np.concatenate(logits)[: pool.size]
  index = np.arange(pool.size, dtype=np.int64)
  return Predictions(
    index,
    index if pool.ids is None else pool.ids,
    joined,
    np.exp(_log_softmax(joined)).astype(np.float32),
    pool.labels,
    pool.clean_labels,
  )


def mean_predictions(several: Sequence[Predictions]) -> Predictions:
  """Averages the probabilities of several networks on one set: p = 1/S sum_s p_s.

  The logits returned are log p, whose softmax is p.

  Args:
    several: predictions on the same set.

  Raises:
    InputError: when they are not of the same set.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> index = np.arange(1)
    >>> logits = [np.log(np.array([p], np.float32)) for p in ([0.9, 0.1], [0.5, 0.5])]
    >>> each = [evaluation.Predictions(index, index, z, np.exp(z)) for z in logits]
    >>> [round(float(p), 3) for p in evaluation.mean_predictions(each).probability[0]]
    [0.7, 0.3]
  """
  first = several[0]
  for other in several[1:]:
    if first.logits.shape != other.logits.shape or not np.array_equal(first.id, other.id):
      raise InputError("predictions of different sets have no mean; predict the same set with each")
  logs = np.stack([_log_softmax(each.logits) for each in several])
  log_p = np.logaddexp.reduce(logs, axis=0) - np.log(len(several))
  probability = np.exp(log_p).astype(np.float32)
  return dataclasses.replace(first, logits=log_p.astype(np.float32), probability=probability)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  """[N, K] float64: rows of exp sum to 1 within the rounding of what they are stored as."""
  shifted = logits.astype(np.float64)
  shifted -= shifted.max(axis=-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

"""Vicinal predictions: what a network says of images on average over augmented views of each."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnoise import augment
from jaxnoise import data as data_lib
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method, PRNGKey
from jaxnoise.evaluation._predictions import Predictions
from jaxnoise.training import sharding

ViewPredict = Callable[[TrainState, Array, Array, PRNGKey, Array], Array]
"""(state, images [B, H, W, C] uint8, index [B], rng, view) -> probabilities [B, K], compiled."""


def make_view_predict(
  method: Method, mesh: Mesh, transform: augment.Transform, predictor: str = ""
) -> ViewPredict:
  """Returns the jitted prediction on one augmented view of each image.

  View v of example i has the key fold_in(fold_in(rng, i), v): it depends neither on the batch size
  nor on how many views are drawn. The batch is split over the mesh, the result is on every device.

  Args:
    method: whose predictors are used.
    mesh: the devices.
    transform: (rng, image [H, W, C] in [0, 1]) -> image, such as `augment.torchvision_augmix`.
    predictor: the name of one; "" is the first, the headline.

  Raises:
    InputError: at the first call, for a name that the method does not have.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment, core, evaluation, methods, models
    >>> from jaxnoise.training import sharding
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> method = methods.erm(network, spec=core.Spec(8, 3, (8, 8, 3)))
    >>> images, index = jnp.zeros((8, 8, 8, 3), jnp.uint8), jnp.arange(8)
    >>> params, batch_stats = jax.eval_shape(network.init, jax.random.key(0), images / 255)
    >>> state = core.TrainState(step=0, rng=None, params=params, batch_stats=batch_stats,
    ...   opt_state=())
    >>> predict = evaluation.make_view_predict(method, sharding.make_mesh(), augment.random_flip)
    >>> jax.eval_shape(predict, state, images, index, jax.random.key(0), 0).shape
    (8, 3)
  """

  def predict(
    state: TrainState, images: Array, index: Array, rng: PRNGKey, view: Array
  ) -> Array:
    predictors = method.predictors(state)
    name = predictor or next(iter(predictors))
    if name not in predictors:
      raise InputError(
        f"predictor {name!r} is none of {method.name}: {closest(name, predictors)}"
      )

    def one(i: Array, image: Array) -> Array:
      key = jax.random.fold_in(jax.random.fold_in(rng, i), view)
      return transform(key, image)

    views = jax.vmap(one)(index, images.astype(jnp.float32) / 255.0)
    return jax.nn.softmax(reduce.promote(predictors[name](views)), axis=-1)

  return jax.jit(predict, out_shardings=sharding.replicated(mesh))


def predict_views(
  predict: ViewPredict,
  state: TrainState,
  pool: data_lib.Pool,
  batch_size: int,
  mesh: Mesh,
  *,
  views: int,
  rng: PRNGKey,
  on_view: Callable[[int], None] = lambda done: None,
) -> Predictions:
  """Averages the predictions on V augmented views of every image of a set.

    p_i = 1/V sum_v softmax(f(T_v(x_i)))

  Args:
    predict: from `make_view_predict`.
    state: of one seed.
    pool: the set.
    batch_size: images at a time; no more than the set has, rounded up to share evenly.
    mesh: the devices.
    views: V.
    rng: key of the views.
    on_view: called with how many views are done.

  Returns:
    The probabilities p; the logits are log p, whose softmax is p. Order and names are the set's.

  Raises:
    InputError: for a set without images, or a number of views or a batch size below 1.

  Source: "Neural Vicinal Risk Minimization", the vicinal predictions of section 3 (a network that
    has fitted a wrong label does not repeat it on views that it was not trained on).

  Example:
    >>> import jax
    >>> from jaxnoise import data, evaluation
    >>> from jaxnoise.training import sharding
    >>> @jax.jit
    ... def predict(state, images, index, rng, view):
    ...   return jax.nn.one_hot((index + view) % 3, 3)
    >>> test, mesh = data.generated(num_test=5).test, sharding.make_mesh()
    >>> key = jax.random.key(0)
    >>> found = evaluation.predict_views(predict, None, test, 4, mesh, views=2, rng=key)
    >>> found.probability[1].tolist()
    [0.0, 0.5, 0.5]
  """
  if not pool.size:
    raise InputError("there are no images to predict; give a set of at least one")
  for name, value in (("views", views), ("batch_size", batch_size)):
    if value < 1:
      raise InputError(f"{name} is {value}; it must be 1 or larger")
  devices = mesh.shape["data"]
  size = -(-min(batch_size, pool.size) // devices) * devices
  rows, _ = data_lib.padded_batches(pool.size, size)
  total = np.zeros(0)
  for view in range(views):
    found: list[np.ndarray] = []
    waiting: Array | None = None
    for batch in rows:
      images, index = jax.device_put((pool.images[batch], batch), sharding.batch(mesh))
      made = predict(state, images, index, rng, jnp.int32(view))
      if waiting is not None:  # fetched while the next batch is computed
        found.append(np.asarray(waiting, np.float64))
      waiting = made
    found.append(np.asarray(waiting, np.float64))
    joined = np.concatenate(found)[: pool.size]
    total = total + joined if total.size else joined
    on_view(view + 1)
  probability = total / total.sum(axis=-1, keepdims=True)
  with np.errstate(divide="ignore"):
    logits = np.log(probability)
  index = np.arange(pool.size, dtype=np.int64)
  return Predictions(
    index,
    index if pool.ids is None else pool.ids,
    logits.astype(np.float32),
    probability.astype(np.float32),
    pool.labels,
    pool.clean_labels,
  )

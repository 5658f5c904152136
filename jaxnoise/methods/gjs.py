"""JS and GJS: the label and the predictions for one view or more, tied by one divergence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  BatchStats,
  LossFn,
  Method,
  Network,
  Params,
  PRNGKey,
  Spec,
)
from jaxnoise.methods import _base, _mixed
from jaxnoise.methods.erm import erm


def js(
  network: Network,
  *,
  spec: Spec,
  label_weight: float = 0.5,
  scaled: bool = True,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
) -> Method:
  """Minimises JSD_pi(e_y, p) / Z with pi = (pi_1, 1 - pi_1), Z = -(1 - pi_1) log(1 - pi_1).

  It is `erm` with `losses.js`: CE as pi_1 goes to 0, 1 - p_y as it goes to 1.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    label_weight: pi_1, between 0 and 1. NRD's Table 5 has 0.1 to 0.9, by data set and noise rate.
    scaled: False leaves the division by Z out, as the authors do on WebVision.
    first: (rng, image) -> image, drawn afresh for every example and step (crop and flip).
    policy: (rng, image) -> image, applied after `first`; None for no further transform.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a weight that is not between 0 and 1.

  Source: Englesson and Azizpour (2021), the JS loss, and the authors' code; NRD, Table 5.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.js(network, spec=spec, label_weight=0.7).name
    'js'
  """
  _check_label_weight(label_weight)
  loss_args = {"label_weight": label_weight, "scaled": scaled}
  made = erm(network, spec=spec, loss=losses.js, loss_args=loss_args, first=first, policy=policy)
  return dataclasses.replace(made, name="js")


def gjs(
  network: Network,
  *,
  spec: Spec,
  label_weight: float = 0.3,
  views: int = 2,
  weights: Sequence[float] | None = None,
  scaled: bool = True,
  separate: bool = True,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
) -> Method:
  """Minimises JSD_pi(e_y, p^1, ..., p^V) / Z over V views, Z = -(1 - pi_1) log(1 - pi_1).

  The views x^v = policy(first(x)) are drawn independently of one another from the raw image, crop
  and flip included, and gradients flow through all of them. The loss is a label term for the mean
  prediction and a consistency term between the views (the metric "jsd"), which share the weights.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    label_weight: pi_1, between 0 and 1; every view has (1 - pi_1) / V. NRD's Table 5 has 0.1 to
      0.9, by data set and noise rate.
    views: V, at least 1; the authors train with 2.
    weights: V + 1 numbers, a distribution, the label first, in place of `label_weight`.
    scaled: False leaves the division by Z out, as the authors do on WebVision.
    separate: forward the views one after the other, each with the batch statistics of its own, the
      running ones moving view after view, as the authors do. False forwards them together: one
      pass, one set of statistics, the authors' unused flag "onebatch".
    first: (rng, image) -> image, the crop and flip.
    policy: (rng, image) -> image, applied after `first`; None for no further transform. A policy
      that comes before the crop is a chain that ends with it.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for fewer than one view, a label's weight that is not between 0 and 1, or weights
      that are not a distribution over the label and the views.

  Source: Englesson and Azizpour (2021), the GJS loss, and the authors' code; NRD, Table 5.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.gjs(network, spec=spec)
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   state = core.TrainState.create(key, params, stats)
    ...   return method.loss_fn(state)(params, batch, key)
    >>> sorted(jax.eval_shape(loss, jax.random.key(0))[1].metrics)
    ['jsd', 'loss']
  """
  if views < 1:
    raise InputError(f"config.method.views is {views}; it must be at least 1")
  if weights is None:
    _check_label_weight(label_weight)
    weights = (label_weight, *((1 - label_weight) / views,) * views)
  weights = check_weights(weights, views + 1, "the label and of each view (config.method.views)")
  of_views = tuple(weight / (1 - weights[0]) for weight in weights[1:])
  draw = independent_views(first, policy, views)

  def forward(
    params: Params, batch_stats: BatchStats, image: Array, streams: Streams
  ) -> tuple[Array, BatchStats]:
    """Logits [B, V, K] in train mode, and the running statistics after the last pass."""
    if not separate:
      out = network.apply(params, batch_stats, image, train=True, rng=streams("dropout"))
      return out.logits, out.batch_stats
    logits = []
    for v in range(views):
      key = streams(f"dropout{v}" if v else "dropout")
      out = network.apply(params, batch_stats, image[:, v], train=True, rng=key)
      batch_stats = out.batch_stats
      logits.append(out.logits)
    return jnp.stack(logits, axis=1), batch_stats

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = draw(streams, batch["image"])
      logits, batch_stats = forward(params, state.batch_stats, image, streams)
      targets = _base.one_hot(batch["label"], spec.num_classes)
      values = losses.gjs(logits, targets, weights=weights, scaled=scaled)
      consistency = losses.jensen_shannon(logits, weights=of_views)
      metrics = {"loss": reduce.mean_count(values), "jsd": reduce.mean_count(consistency)}
      loss = reduce.weighted_mean(values, batch.get("weight"))
      return loss, Aux(batch_stats, values, metrics)

    return fn

  return Method("gjs", loss_fn, _base.student(network), host_crops=views)


def independent_views(
  first: _base.Transform, policy: _base.Transform | None, count: int
) -> Callable[[Streams, Array], Array]:
  """Makes (streams, image [B, H, W, C]) -> [B, V, H, W, C], each view with a crop of its own.

  Of an image that a stream has cropped, [B, V, H, W, C], view v goes on from crop v.

  One view has the streams of `erm`: with one seed, both train on the same images.
  """
  if count == 1:
    one = _mixed.one_view(first, policy)
    return lambda streams, image: one(streams, image)[:, None]
  whole = first if policy is None else augment.compose(first, policy)
  draw = _base.first_views(whole, count)
  return lambda streams, image: draw(streams("augment"), image)


def check_weights(weights: Sequence[float], count: int, whose: str) -> tuple[float, ...]:
  """Returns the weights as a tuple if they are a distribution that leaves the label a share.

  Args:
    weights: the label's first.
    count: how many there must be.
    whose: of what, for the message.

  Raises:
    InputError: for another number of weights, a negative one, a sum other than 1, or a label's
      weight of 0 or 1.
  """
  weights = tuple(float(weight) for weight in weights)
  if len(weights) != count:
    raise InputError(
      f"config.method.weights is {weights}; it must hold {count} numbers, the weights of {whose}"
    )
  wrong = [f"weights[{k}] is {weight:g}" for k, weight in enumerate(weights) if not weight >= 0]
  if wrong or abs(sum(weights) - 1) > 1e-6:
    must = f"sum to 1, not to {sum(weights):g}"
    if wrong:
      must = f"be 0 or larger, but {' and '.join(wrong)}"
    raise InputError(
      f"config.method.weights is {weights}, which is no distribution; the weights of {whose} must "
      f"{must}"
    )
  if not 0 < weights[0] < 1:
    raise InputError(
      f"config.method.weights is {weights}; the first, the label's, must lie between 0 and 1"
    )
  return weights


def _check_label_weight(weight: float) -> None:
  if not 0 < weight < 1:
    raise InputError(
      f"config.method.label_weight is {weight}; it must lie between 0 and 1, neither included"
    )

"""Empirical risk minimisation: one view, one loss, the baseline of every table."""

from __future__ import annotations

from collections.abc import Mapping

from jaxnoise import augment
from jaxnoise.core import reduce
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base, _mixed


def erm(
  network: Network,
  *,
  spec: Spec,
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  dropout: float | None = None,
) -> Method:
  """Minimises sum_i w_i l(f(x_i), y_i) / sum_i w_i with w_i = 1 unless a wrapper weighs.

  x_i is the image after `first` and then `policy`: AutoAugment, RandAugment, Cutout and the like
  are this method with the policy of that name.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    loss: a name in `jaxnoise.losses`, or any (logits [B, K], targets [B, K]) -> [B].
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, drawn afresh for every example and step (crop and flip).
    policy: (rng, image) -> image, applied after `first`, with draws of its own; None for no further
      transform. The draws of `first` do not depend on it.
    dropout: overrides the network's dropout rate.

  Returns:
    A Method with one predictor, "student".

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> params, stats = jax.jit(network.init)(jax.random.key(0), batch["image"])
    >>> state = core.TrainState.create(jax.random.key(1), params, stats)
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> loss_fn = methods.erm(network, spec=spec).loss_fn(state)
    >>> loss, aux = jax.jit(loss_fn)(params, batch, jax.random.key(2))
    >>> aux.per_example.shape
    (2,)
  """
  value_fn = _base.resolve_loss(loss, loss_args)
  view = _mixed.one_view(first, policy)

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout"), dropout=dropout
      )
      values = value_fn(out.logits, _base.one_hot(batch["label"], spec.num_classes))
      value = reduce.weighted_mean(values, batch.get("weight"))
      metrics = {"loss": reduce.mean_count(values)}
      return value, Aux(out.batch_stats, values, metrics)

    return fn

  return Method("erm", loss_fn, _base.student(network))

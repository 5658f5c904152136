"""What every method shares: predictors, targets, and the pieces that wrappers are made of."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Batch,
  BatchStats,
  GradFn,
  LossFn,
  Method,
  Network,
  Params,
  PredictFn,
  PRNGKey,
  Spec,
)

_LOSS_ARGUMENTS = ["logits", "targets"]
Loss = Callable[[Array, Array], Array]
Transform = Callable[[PRNGKey, Array], Array]


def predictor(network: Network, params: Params, batch_stats: BatchStats) -> PredictFn:
  """Returns image [B, H, W, C] -> logits [B, K] in evaluation mode, differentiable in the image."""
  return lambda image: network.apply(params, batch_stats, image).logits


def student(network: Network) -> Callable[[TrainState], Mapping[str, PredictFn]]:
  """The usual predictors: the trained network alone, named "student"."""
  return lambda state: {"student": predictor(network, state.params, state.batch_stats)}


def one_hot(label: Array, num_classes: int, dtype=jnp.float32) -> Array:
  """Turns labels [B] into distributions [B, K]."""
  return jax.nn.one_hot(label, num_classes, dtype=dtype)


def crops_of(image: Array, start: int, count: int) -> Array:
  """Those of a batch's views that begin with the first crops start, ..., start + count - 1.

  A stream has made them, [B, V, H, W, C]; [B, H, W, C] is the uncropped image, of which every view
  makes its own.
  """
  return image[:, start : start + count] if image.ndim == 5 else image


def first_views(transform: Transform, count: int) -> Callable[[PRNGKey, Array], Array]:
  """`augment.views` of a transform that begins with the first crop.

  Returns:
    (rng, image) -> [B, V, H', W', C]: of [B, H, W, C] every view crops it, and of a stream's crops
    [B, V, H', W', C] view v goes on from crop v. The keys are the same.
  """
  draw = augment.views(transform, count)

  def of_crops(rng: PRNGKey, crops: Array) -> Array:
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, jnp.arange(count))
    # Each with an axis of length 1 still, by which the first crop knows that it is made.
    return jax.vmap(transform)(keys, crops[:, None])

  def views(rng: PRNGKey, image: Array) -> Array:
    return augment.batched(of_crops)(rng, image) if image.ndim == 5 else draw(rng, image)

  return views


def resolve_loss(loss: str | Loss, loss_args: Mapping[str, object] | None = None) -> Loss:
  """Turns a loss's name into the function, its hyper-parameters bound.

  Args:
    loss: the name of a loss of (logits, targets) in `jaxnoise.losses`, or any such function.
    loss_args: keyword hyper-parameters.

  Raises:
    InputError: for a name that `jaxnoise.losses` does not list with these two arguments.
  """
  if isinstance(loss, str):
    public = {
      name: fn
      for name, fn in vars(losses).items()
      if inspect.isfunction(fn) and list(inspect.signature(fn).parameters)[:2] == _LOSS_ARGUMENTS
    }
    if loss not in public:
      raise InputError(f"config.method.loss is {loss!r}, no such loss: {closest(loss, public)}")
    loss = public[loss]
  bound = dict(loss_args or {})
  return lambda logits, targets: loss(logits, targets, **bound)


def require_labelled(inner: Method, wrapper: str) -> None:
  """Refuses to weigh the examples of a method for which weights have no meaning, or twice.

  Raises:
    InputError: naming the wrapper and the method.
  """
  if not inner.labelled:
    raise InputError(
      f"{wrapper} cannot wrap {inner.name}: it has no single labelled term per example to weigh; "
      "wrap a method with one labelled term and one network, or leave it out of config.wrappers"
    )
  if wrapper in inner.wrappers:
    raise InputError(f"{wrapper} wraps {inner.name} twice; name it once in config.wrappers")


def with_batch(
  inner: Method, wrapper: str, change: Callable[[TrainState, Batch, PRNGKey], Batch]
) -> Method:
  """Returns `inner` with `change(state, batch, rng)` applied to every training batch.

  The change reaches the loss and a method's own `value_and_grad` alike.
  """

  def loss_fn(state: TrainState) -> LossFn:
    loss = inner.loss_fn(state)
    return lambda params, batch, rng: loss(params, change(state, batch, rng), rng)

  def value_and_grad(state: TrainState) -> GradFn:
    grad = inner.grad_fn(state)
    return lambda params, batch, rng: grad(params, change(state, batch, rng), rng)

  return dataclasses.replace(
    inner,
    loss_fn=loss_fn,
    value_and_grad=None if inner.value_and_grad is None else value_and_grad,
    wrappers=(*inner.wrappers, wrapper),
  )


def check_groups(spec: Spec, mix_groups: int) -> None:
  """Raises InputError unless `mix_groups` divides every batch, a kept remainder included."""
  # A kept remainder is the one batch that is smaller than the others.
  batches = -(-spec.num_train // spec.batch_size)
  sizes = {min(spec.batch_size, spec.num_train)}
  if spec.steps_per_epoch % batches == 0 and spec.num_train % spec.batch_size:
    sizes.add(spec.num_train % spec.batch_size)
  for size in sizes:
    if mix_groups < 1 or size % mix_groups:
      raise InputError(
        f"config.method.mix_groups is {mix_groups}, which does not divide a batch of {size}; "
        "choose a divisor of every batch, the last partial one included"
      )

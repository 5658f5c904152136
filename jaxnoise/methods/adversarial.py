"""Adversarial training."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise import augment
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  GradFn,
  LossFn,
  Method,
  Network,
  Params,
  PRNGKey,
  Spec,
)
from jaxnoise.methods import _adversarial, _base, _mixed


def free_at(
  network: Network,
  *,
  spec: Spec,
  epsilon: float = 8 / 255,
  step_size: float | None = None,
  replays: int = 4,
  alpha: float = 0.0,
  first: _base.Transform = augment.identity,
  mix_groups: int = 1,
) -> Method:
  """Free adversarial training: each batch is replayed m times, one backward serving both players.

  On x' = clip(x + delta, 0, 1), one joint gradient of the weighted mean CE gives g_theta and
  g_delta; theta takes its optimizer step with g_theta, and
  delta <- clip(delta + step_size sign(g_delta), -epsilon, epsilon). delta [B, H, W, C] is kept by
  position in the batch across replays, batches and epochs; a shorter last batch uses the leading
  rows. The network is in train mode throughout, and all replays of a batch see the same crop (and
  the same mixture).

  Args:
    network: the model.
    spec: `num_classes`, `batch_size` and `image_shape` are used.
    epsilon: radius of the l_inf ball, in [0, 1] pixel units.
    step_size: of the ascent; None means epsilon, as in the paper.
    replays: m; an epoch is m times as many optimizer updates.
    alpha: of mixup's Beta(alpha, alpha); 0 for no mixing. delta is added to the mixed image, and
      the loss is that of `mixup`: weights travel with the labels. Multiplicative reweighting has 1
      with SGD, 0.1 with Adam.
    first: (rng, image) -> image, the crop and flip.
    mix_groups: partners are drawn within so many groups of the batch.

  Raises:
    InputError: for an epsilon outside [0, 1], a negative step or alpha, replays < 1, or groups that
      do not divide every batch.

  Source: Shafahi et al. (2019), Algorithm 1; with mixing, multiplicative reweighting.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3), batch_size=2)
    >>> methods.free_at(network, spec=spec, replays=2).replays
    2
  """
  if not 0 <= epsilon <= 1:
    raise InputError(f"config.method.epsilon is {epsilon}; pixels lie in [0, 1], so must epsilon")
  step_size = epsilon if step_size is None else step_size
  if step_size < 0:
    raise InputError(f"config.method.step_size is {step_size}; it must be 0 or larger")
  if replays < 1:
    raise InputError(f"config.method.replays is {replays}; it must be 1 or larger")
  _mixed.check(alpha, spec, mix_groups)
  name = "free_at"
  transform = augment.batched(first)

  def init_state(state: TrainState) -> TrainState:
    shape = (spec.batch_size, *spec.image_shape)
    return state.with_method_state(name, {"delta": jnp.zeros(shape)})

  def objective(state: TrainState, params: Params, delta: Array, batch: Batch, rng: PRNGKey):
    streams = Streams(rng)
    image = transform(streams("augment"), batch["image"])
    clean = _adversarial.examples(
      streams,
      image,
      batch,
      alpha=alpha,
      mix_groups=mix_groups,
      num_classes=spec.num_classes,
    )
    image = jnp.clip(clean.image + delta, 0.0, 1.0)
    # The key of the step is that of the batch, so that views agree; dropout differs by replay.
    dropout = jax.random.fold_in(streams("dropout"), state.step % replays)
    out = network.apply(params, state.batch_stats, image, train=True, rng=dropout)
    loss, per_example, metrics = _mixed.mixup_objective(
      out.logits,
      clean.targets,
      clean.partner_targets,
      clean.lam,
      weight=clean.weight,
      partner_weight=clean.partner_weight,
    )
    return loss, Aux(out.batch_stats, per_example, metrics)

  def rows(state: TrainState, batch: Batch) -> Array:
    return state.method_state[name]["delta"][: batch["label"].shape[0]]

  def loss_fn(state: TrainState) -> LossFn:
    return lambda params, batch, rng: objective(state, params, rows(state, batch), batch, rng)

  def value_and_grad(state: TrainState) -> GradFn:
    joint = jax.value_and_grad(
      lambda both, batch, rng: objective(state, *both, batch, rng), has_aux=True
    )

    def fn(params: Params, batch: Batch, rng: PRNGKey):
      delta = rows(state, batch)
      (loss, aux), (grads, ascent) = joint((params, delta), batch, rng)
      delta = jnp.clip(delta + step_size * jnp.sign(ascent), -epsilon, epsilon)
      return (loss, aux._replace(extra=delta)), grads

    return fn

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    del batch, rng
    delta = state.method_state[name]["delta"]
    return state.with_method_state(name, {"delta": delta.at[: aux.extra.shape[0]].set(aux.extra)})

  return Method(
    name,
    loss_fn,
    _base.student(network),
    init_state=init_state,
    post_step=post_step,
    value_and_grad=value_and_grad,
    replays=replays,
  )

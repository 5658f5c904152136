"""Adversarial training."""

from __future__ import annotations

import math

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
  unweighted_ascent: bool = False,
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

  Example weights reach the ascent too. Where no statistics tie the images of a batch together, a
  positive weight leaves the signs of an image's gradient as they are, and an image of weight 0,
  such as `random_weighting` draws, is not attacked. Batch norm in train mode ties them: very
  unequal weights then turn a good part of the signs.

  Args:
    network: the model.
    spec: `num_classes`, `batch_size` and `image_shape` are used.
    epsilon: radius of the l_inf ball, in [0, 1] pixel units.
    step_size: of the ascent; None means epsilon, as in the paper.
    replays: m; an epoch is m times as many optimizer updates.
    alpha: of mixup's Beta(alpha, alpha); 0 for no mixing. delta is added to the mixed image, and
      the loss is that of `mixup`: weights travel with the labels. Multiplicative reweighting has 1
      with SGD, 0.1 with Adam.
    unweighted_ascent: take g_delta from the mean CE without weights, at the price of a second
      backward in batches that have them; g_theta stays that of the weighted one. False for the
      joint gradient.
    first: (rng, image) -> image, the crop and flip.
    mix_groups: partners are drawn within so many groups of the batch.

  Raises:
    InputError: for an epsilon outside [0, 1], a negative step or alpha, replays < 1, or groups that
      do not divide every batch.

  Source: Shafahi et al. (2019), Algorithm 1; with mixing, multiplicative reweighting, which does
    not say whose gradient the perturbation follows under weights.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3), batch_size=2)
    >>> methods.free_at(network, spec=spec, replays=2).replays
    2
  """
  step_size = epsilon if step_size is None else step_size
  _adversarial.check_ascent(spec, epsilon=epsilon, step_size=step_size, steps=1)
  if not 1 <= replays < math.inf or replays != int(replays):
    raise InputError(f"config.method.replays is {replays}; it must be a whole number from 1 on")
  _mixed.check(alpha, spec, mix_groups)
  name = "free_at"
  transform = augment.batched(first)

  def init_state(state: TrainState) -> TrainState:
    # Of the images as `first` leaves them, which may be another size.
    image = jax.ShapeDtypeStruct(tuple(spec.image_shape), jnp.float32)
    shape = (spec.batch_size, *jax.eval_shape(first, jax.random.key(0), image).shape)
    return state.with_method_state(name, {"delta": jnp.zeros(shape)})

  def drawn(state: TrainState, batch: Batch, rng: PRNGKey) -> tuple[_adversarial.Examples, PRNGKey]:
    streams = Streams(rng)
    clean = _adversarial.examples(
      streams,
      transform(streams("augment"), batch["image"]),
      batch,
      alpha=alpha,
      mix_groups=mix_groups,
      num_classes=spec.num_classes,
    )
    # The key of the step is that of the batch, so that views agree; dropout differs by replay.
    return clean, jax.random.fold_in(streams("dropout"), state.step % replays)

  def forward(state: TrainState, params: Params, delta: Array, clean, dropout: PRNGKey):
    image = jnp.clip(clean.image + delta, 0.0, 1.0)
    out = network.apply(params, state.batch_stats, image, train=True, rng=dropout)
    return out.logits, out.batch_stats

  def score(logits: Array, clean: _adversarial.Examples):
    loss, per_example, metrics = _mixed.mixup_objective(
      logits,
      clean.targets,
      clean.partner_targets,
      clean.lam,
      weight=clean.weight,
      partner_weight=clean.partner_weight,
    )
    return loss, (per_example, metrics)

  def rows(state: TrainState, batch: Batch) -> Array:
    return state.method_state[name]["delta"][: batch["label"].shape[0]]

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      clean, dropout = drawn(state, batch, rng)
      logits, batch_stats = forward(state, params, rows(state, batch), clean, dropout)
      loss, (per_example, metrics) = score(logits, clean)
      return loss, Aux(batch_stats, per_example, metrics)

    return fn

  def value_and_grad(state: TrainState) -> GradFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey):
      clean, dropout = drawn(state, batch, rng)
      delta = rows(state, batch)
      logits, backward, batch_stats = jax.vjp(
        lambda params, delta: forward(state, params, delta, clean, dropout),
        params,
        delta,
        has_aux=True,
      )
      (loss, (per_example, metrics)), slope = jax.value_and_grad(score, has_aux=True)(logits, clean)
      grads, ascent = backward(slope)
      if unweighted_ascent and clean.weight is not None:
        bare = clean._replace(weight=None, partner_weight=None)
        _, ascent = backward(jax.grad(score, has_aux=True)(logits, bare)[0])
      delta = jnp.clip(delta + step_size * jnp.sign(ascent), -epsilon, epsilon)
      return (loss, Aux(batch_stats, per_example, metrics, delta)), grads

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

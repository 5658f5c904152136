"""What the methods of adversarial training share: checks, mixed examples, the normal start."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise import augment
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.types import Array, Batch, PRNGKey, Spec
from jaxnoise.methods import _base


class Examples(NamedTuple):
  """A batch, mixed or not: what `mixup_objective` is given, and the image.

  Attributes:
    image: [B, H, W, C], lam x + (1 - lam) x[sigma].
    targets: [B, K].
    partner_targets: [B, K], targets[sigma].
    lam: scalar in [0, 1]; 1 where nothing is mixed.
    weight: [B] or None.
    partner_weight: [B], weight[sigma], or None.
  """

  image: Array
  targets: Array
  partner_targets: Array
  lam: Array | float
  weight: Array | None
  partner_weight: Array | None


def examples(
  streams: Streams, image: Array, batch: Batch, *, alpha: float, mix_groups: int, num_classes: int
) -> Examples:
  """Mixes a batch as `mixup` does, from the streams that it draws; alpha = 0 draws nothing."""
  targets, weight = _base.one_hot(batch["label"], num_classes), batch.get("weight")
  if not alpha:
    return Examples(image, targets, targets, 1.0, weight, weight)
  partners = augment.sample_partners(streams("partners"), image.shape[0], mix_groups)
  lam = augment.sample_coefficient(streams("lam"), alpha)
  return Examples(
    augment.mix(image, partners, lam),
    targets,
    augment.take_partners(targets, partners),
    lam,
    weight,
    None if weight is None else augment.take_partners(weight, partners),
  )


def normal_start(rng: PRNGKey, image: Array, scale: float) -> Array:
  """Draws scale times a standard normal perturbation for every pixel, like the image."""
  # With two axes: the generator is slow to compile for CPU at higher ranks.
  flat = jax.random.normal(rng, (image.shape[0], math.prod(image.shape[1:])), image.dtype)
  return jnp.asarray(scale, image.dtype) * flat.reshape(image.shape)


def check_ascent(
  spec: Spec, *, epsilon: float, step_size: float, steps: int, norm: str = "linf"
) -> None:
  """Raises InputError for a radius, step or number of steps that no pixel attack has."""
  diameter = 1.0 if norm == "linf" else math.sqrt(math.prod(spec.image_shape))
  if not 0 <= epsilon <= diameter:
    reason = "pixels lie in [0, 1], so must epsilon (8/255, not 8)"
    if norm != "linf":
      reason = f"images of this size are at most {diameter:.3g} apart in l_2; give 0 to that"
    raise InputError(f"config.method.epsilon is {epsilon}; {reason}")
  if not 0 <= step_size < math.inf:
    raise InputError(f"config.method.step_size is {step_size}; it must be 0 or larger, and finite")
  if not 0 <= steps < math.inf or steps != int(steps):
    raise InputError(f"config.method.steps is {steps}; it must be a whole number, 0 or larger")

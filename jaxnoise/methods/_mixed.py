"""What methods with mixed labels share: the view they train on and the objective."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.types import Array, Aux, Batch, Output, Spec
from jaxnoise.methods import _base


def check(alpha: float, spec: Spec, mix_groups: int) -> None:
  """Refuses a negative alpha, and groups that do not divide every batch."""
  if not 0 <= alpha < math.inf:
    raise InputError(f"config.method.alpha is {alpha}; it must be 0 or larger, and finite")
  _base.check_groups(spec, mix_groups)


def one_view(
  first: _base.Transform, policy: _base.Transform | None
) -> Callable[[Streams, Array], Array]:
  """Makes (streams, image [B, H, W, C]) -> [B, H, W, C]: `first`, then the policy if there is one.

  The stream of `first` is that of `erm`: with one seed, both train on the same crops.
  """

  def view(streams: Streams, image: Array) -> Array:
    image = augment.batched(first)(streams("augment"), image)
    return image if policy is None else augment.batched(policy)(streams("policy"), image)

  return view


def mixed_loss(
  out: Output, batch: Batch, partners: Array, lam: Array, loss: _base.Loss, num_classes: int
) -> tuple[Array, Aux]:
  """Returns what a `LossFn` returns, for labels and weights mixed with their partners'.

  `lam` is the share of the own label, a scalar or [B].
  """
  targets = _base.one_hot(batch["label"], num_classes)
  weight = batch.get("weight")
  value, per_example, metrics = mixup_objective(
    out.logits,
    targets,
    augment.take_partners(targets, partners),
    lam,
    loss=loss,
    weight=weight,
    partner_weight=None if weight is None else augment.take_partners(weight, partners),
  )
  return value, Aux(out.batch_stats, per_example, metrics)


def mixup_objective(
  logits: Array,
  targets: Array,
  partner_targets: Array,
  lam: Array,
  *,
  loss: _base.Loss = losses.cross_entropy,
  weight: Array | None = None,
  partner_weight: Array | None = None,
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
  """Computes the loss of mixed labels, the label term of every mixing method.

  L = sum_i [lam_i w_i l(z_i, t_i) + (1 - lam_i) w_j l(z_i, t_j)] / sum w,   j = sigma(i).

  The loss is mixed, not its target. For one that is linear in the target, cross-entropy among them,
  the two are the same.

  Args:
    logits: [B, K], of the mixed examples.
    targets: [B, K] distributions.
    partner_targets: [B, K], those of the partners, targets[sigma].
    lam: in [0, 1], a scalar for the whole batch or [B] for each example; 1 gives the loss of the
      examples' own labels.
    loss: (logits [B, K], targets [B, K]) -> [B].
    weight: [B] example weights or None for 1.
    partner_weight: [B], weight[sigma]; None for 1.

  Returns:
    (scalar loss, [B] unweighted loss of each example against its own label, metrics).

  Raises:
    ValueError: when only one of the two weights is given.

  Source: Zhang et al. (2018), the authors' code; with weights, multiplicative reweighting's code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import mixup_objective
    >>> value, _, _ = mixup_objective(jnp.zeros((2, 2)), jnp.eye(2), jnp.eye(2)[::-1], 0.3)
    >>> round(float(value), 4)  # log 2: two even classes
    0.6931
  """
  if (weight is None) != (partner_weight is None):
    raise ValueError("weight and partner_weight belong together; give both or neither")
  own, other = loss(logits, targets), loss(logits, partner_targets)
  lam = jnp.asarray(lam, own.dtype)
  mixed = lam * own + (1 - lam) * other
  metrics = {"loss": reduce.mean_count(mixed)}
  if weight is None:
    return jnp.mean(mixed), own, metrics
  w, w_other = (jax.lax.stop_gradient(v).astype(own.dtype) for v in (weight, partner_weight))
  # A permutation leaves the sum of weights as it is. Over the terms' own shares it would differ
  # where lam is one for each example; the batch's sum is the contract of every method.
  value = jnp.sum(lam * w * own + (1 - lam) * w_other * other) / jnp.sum(w)
  return value, own, metrics

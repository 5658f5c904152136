"""NoisyMix: noisy feature mixup of AugMix views, tied by a Jensen-Shannon stability term."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base


def noisymix(
  network: Network,
  *,
  spec: Spec,
  alpha: float = 1.0,
  add_noise: float = 0.5,
  mult_noise: float = 0.5,
  sparsity: float = 0.65,
  jsd_weight: float = 12.0,
  stages: Sequence[int] = (0, 1, 2, 3),
  view_factors: Sequence[float] = (1.0, 2.0, 3.0),
  random_level: bool = True,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = augment.augmix,
  mix_groups: int = 1,
) -> Method:
  """Minimises lam CE(z^0, y) + (1 - lam) CE(z^0, y[sigma]) + jsd_weight JSD(z^0, z^1, z^2).

  x^0 is the image after `first`, x^1 and x^2 are two `policy` draws from x^0. In one forward pass
  of [B, 3] images, one stage k is drawn from `stages`, and there, with one coefficient
  lam ~ Beta(alpha, alpha) and one permutation sigma for all three views,
  h^v = (1 + m^v) * (lam g_k(x^v) + (1 - lam) g_k(x^v)[sigma]) + a^v, with the noise m, a of
  `augment.noisy_mix`. The label term sees the clean-derived branch z^0 only; gradients flow through
  all branches. With example weights w, row i's label terms carry lam w_i and (1 - lam) w_sigma(i),
  its JSD the sum of the two.

  The rows of the ablation table (A = policy, M = mixing, N = noise, J = stability):

    A off: `policy=None`. M off: `alpha=0` (lam is 1). N off: both noise levels 0. J off:
    `jsd_weight=0`, and then one view is trained on: the policy's, or x^0 without one.

  Args:
    network: the model; its tap positions are the stages.
    spec: the run's static facts; `num_classes` is used.
    alpha: of the Beta distribution, >= 0. The authors' code switches the noise off too at 0; here
      the two are separate, as the table needs.
    add_noise: additive noise level, in units of the normalised input (or of the activations).
    mult_noise: multiplicative noise level.
    sparsity: share of elements without noise. Code: 0.65; the paper names no sparsity (0).
    jsd_weight: weight of the stability term. Code: 12; the paper leaves it free.
    stages: where mixing may happen, each with equal probability; 0 is the normalised input.
    view_factors: factor of the additive level for each view. Code: (1, 2, 3); paper: (1, 1, 1).
      With one view the first is used.
    random_level: scale the noise levels by a Beta(2, 5) draw. Code: yes; the paper allows any
      noise with two moments.
    first: (rng, image) -> image, one draw per example, shared by the views (flip and crop).
    policy: (rng, image) -> image, drawn for each further view; None for copies of x^0.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative alpha or level, a sparsity outside [0, 1), a stage the network does
      not have, fewer view factors than views, or groups that do not divide every batch.

  Source: NoisyMix (Erichson et al.), eqs. (2)-(4), Table 4, and the authors' code; where the two
    differ the default is the code's, which the published numbers come from.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> params, stats = jax.jit(network.init)(jax.random.key(0), batch["image"])
    >>> state = core.TrainState.create(jax.random.key(1), params, stats)
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> loss_fn = methods.noisymix(network, spec=spec).loss_fn(state)
    >>> gradient = jax.jit(jax.grad(loss_fn, has_aux=True))
    >>> grads, aux = gradient.eval_shape(params, batch, jax.random.key(2))  # traced, not compiled
    >>> sorted(aux.metrics)
    ['jsd', 'label_loss', 'loss']
  """
  views = 3 if jsd_weight else 1
  _check(network, alpha, add_noise, mult_noise, sparsity, jsd_weight, stages, view_factors, views)
  _base.check_groups(spec, mix_groups)
  factors = tuple(view_factors)[:views]
  perturb = alpha > 0 or add_noise > 0 or mult_noise > 0

  def views_of(rng: PRNGKey, image: Array) -> Array:
    """[B, H, W, C] -> [B, V, H, W, C]: the clean view first."""
    streams = Streams(rng)
    clean = augment.batched(first)(streams("first"), image)
    if policy is None:
      return jnp.repeat(clean[:, None], views, axis=1)
    drawn = augment.views(policy, max(views - 1, 1))(streams("policy"), clean)
    return drawn if views == 1 else jnp.concatenate([clean[:, None], drawn], axis=1)

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = views_of(streams("augment"), batch["image"])
      batch_size = image.shape[0]
      # Without mixing each example is its own partner, and no device needs another's.
      groups = mix_groups if alpha else batch_size
      partners = augment.sample_partners(streams("partners"), batch_size, groups)
      lam = augment.sample_coefficient(streams("lam"), alpha)
      levels = augment.sample_levels(streams("levels"), views) if random_level else None
      at = jnp.asarray(stages)[jax.random.randint(streams("stage"), (), 0, len(stages))]
      noise_key = streams("noise")

      def perturbed(h: Array) -> Array:
        return augment.noisy_mix(
          noise_key,
          h,
          partners,
          lam,
          add_noise=add_noise,
          mult_noise=mult_noise,
          sparsity=sparsity,
          view_factors=factors,
          levels=levels,
        )

      def tap(stage: int, h: Array) -> Array:
        if not perturb or stage not in stages:
          return h
        return jax.lax.cond(at == stage, perturbed, lambda x: x, h)

      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout"), tap=tap
      )
      targets = _base.one_hot(batch["label"], spec.num_classes)
      weight = batch.get("weight")
      loss, per_example, metrics = noisymix_objective(
        out.logits,
        targets,
        augment.take_partners(targets, partners),
        lam,
        jsd_weight=jsd_weight,
        weight=weight,
        partner_weight=None if weight is None else augment.take_partners(weight, partners),
      )
      return loss, Aux(out.batch_stats, per_example, metrics)

    return fn

  return Method("noisymix", loss_fn, _base.student(network))


def noisymix_objective(
  logits: Array,
  targets: Array,
  partner_targets: Array,
  lam: Array,
  *,
  jsd_weight: float = 12.0,
  weight: Array | None = None,
  partner_weight: Array | None = None,
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
  """Computes the mixed label loss of the first view plus the stability term of all views.

  L = sum_i [lam w_i CE(z_i, t_i) + (1 - lam) w_j CE(z_i, t_j)] / sum w
      + jsd_weight sum_i [lam w_i + (1 - lam) w_j] JSD_i / sum w,   j = sigma(i).

  Args:
    logits: [B, V, K], the clean-derived branch first.
    targets: [B, K] distributions.
    partner_targets: [B, K], those of the partners, targets[sigma].
    lam: scalar in [0, 1].
    jsd_weight: 0 leaves the stability term out.
    weight: [B] example weights or None for 1.
    partner_weight: [B], weight[sigma]; None for 1.

  Returns:
    (scalar loss, [B] unweighted CE of each example against its own label, metrics).

  Raises:
    ValueError: when only one of the two weights is given.

  Source: NoisyMix, eqs. (2)-(3); the weights' way through the mixing is this library's contract.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise.methods import noisymix_objective
    >>> same = jnp.zeros((2, 3, 2))
    >>> objective = jax.jit(noisymix_objective)
    >>> loss, _, _ = objective(same, jnp.eye(2), jnp.eye(2)[::-1], 0.5)
    >>> round(float(loss), 4)  # log 2; the views agree
    0.6931
  """
  if (weight is None) != (partner_weight is None):
    raise ValueError("weight and partner_weight belong together; give both or neither")
  clean = logits[:, 0]
  own = losses.cross_entropy(clean, targets)
  other = losses.cross_entropy(clean, partner_targets)
  w, w_other = (
    jnp.ones_like(own) if v is None else jax.lax.stop_gradient(v).astype(own.dtype)
    for v in (weight, partner_weight)
  )
  total = jnp.sum(w)
  lam = jnp.asarray(lam, own.dtype)
  label_loss = jnp.sum(lam * w * own + (1 - lam) * w_other * other) / total
  metrics = {"label_loss": reduce.mean_count(lam * own + (1 - lam) * other)}
  loss = label_loss
  if jsd_weight:
    jsd = losses.jensen_shannon(logits)
    loss = loss + jsd_weight * jnp.sum((lam * w + (1 - lam) * w_other) * jsd) / total
    metrics["jsd"] = reduce.mean_count(jsd)
  count = jnp.asarray(own.shape[0], own.dtype)
  metrics["loss"] = (loss * count, count)
  return loss, own, metrics


def _check(network, alpha, add_noise, mult_noise, sparsity, jsd_weight, stages, factors, views):
  for field, value in (
    ("alpha", alpha),
    ("add_noise", add_noise),
    ("mult_noise", mult_noise),
    ("jsd_weight", jsd_weight),
  ):
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  if not 0 <= sparsity < 1:
    raise InputError(f"config.method.sparsity is {sparsity}; it must lie in [0, 1)")
  if not stages or any(k not in range(network.num_stages + 1) for k in stages):
    raise InputError(
      f"config.method.stages is {tuple(stages)}; it must name stages of the network, "
      f"0 (the input) to {network.num_stages}"
    )
  if len(factors) < views:
    raise InputError(
      f"config.method.view_factors has {len(factors)} entries; {views} views need {views}"
    )

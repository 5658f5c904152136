"""AugMax: AugMix whose mixture is chosen against the network, beside a random one."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
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
from jaxnoise.methods.noisymix import noisymix_objective

# (m [B], q [B, W]) -> (losses [B], whether each image is misclassified [B]).
_Objective = Callable[[Array, Array], tuple[Array, Array]]
_combine = jax.vmap(augment.augmix_combine)  # images, chains, weights and shares of a batch


def augmax(
  network: Network,
  *,
  spec: Spec,
  steps: int = 5,
  step_size: float = 0.1,
  tau: int | None = 1,
  jsd_weight: float = 10.0,
  width: int = 3,
  depth: int = -1,
  severity: float = 3.0,
  all_ops: bool = False,
  dual_norm: bool = False,
  first: _base.Transform = augment.identity,
  chain: _base.Transform | None = None,
) -> Method:
  """Minimises CE(z^0, y) + jsd_weight JSD(z^0, z^1, z^2), x^1 an AugMax and x^2 an AugMix view.

  x^0 is the image after `first`, and with two sets of AugMix' chains A_i, fixed for the step,

    x^1 = (1 - m) x^0 + m sum_i softmax(q)_i A_i(x^0),
    x^2 = (1 - m') x^0 + m' sum_i w_i A'_i(x^0),   w ~ Dirichlet(1, ..., 1), m' ~ U(0, 1).

  m and q start as U(0, 1) and climb the cross-entropy (`augmax_ascent`) with the network in
  evaluation mode and its parameters fixed; the loss is then that of three constant images in train
  mode. Example weights scale both terms.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    steps: of the ascent; 0 leaves m and q as they were drawn.
    step_size: of the ascent.
    tau: how often an image may be misclassified before its m and q stay where they are; None, or a
      number above `steps`, for no such limit.
    jsd_weight: weight of the stability term, >= 0. Code: 10 on CIFAR, 12 on ImageNet, and 1 for
      ResNet-18 on CIFAR-100.
    width: number of chains in a set.
    depth, severity, all_ops: of a chain; see `augment.sample_augmix`.
    dual_norm: send AugMax views, in the ascent too, through the network's second set of
      normalisation layers, "aux", and the others through "main", which predicts; for a network such
      as `models.resnet18(norm="dubin")`. False passes all views through one set, together.
    first: (rng, image) -> image, one draw per example, shared by the views (flip and crop).
    chain: (rng, image) -> image in place of AugMix' own chain, of which `depth`, `severity` and
      `all_ops` then say nothing.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative number of steps, step size, budget or weight, or a chain's parameter
      out of range; from the loss if `dual_norm` is set and the network has no such layers.

  Source: Wang et al. (2021), AugMax, eqs. (3)-(5), and the authors' code, in which the clean and
  the AugMix view have a forward pass, and so batch statistics, each; here they share one.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment, core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.augmax(network, spec=spec, steps=2, chain=augment.random_flip)
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   state = core.TrainState.create(key, params, stats)
    ...   return method.loss_fn(state)(params, batch, key)
    >>> sorted(jax.eval_shape(loss, jax.random.key(0))[1].metrics)
    ['jsd', 'label_loss', 'loss']
  """
  for field, value in (
    ("steps", steps), ("step_size", step_size), ("tau", tau or 0), ("jsd_weight", jsd_weight),
  ):  # fmt: skip
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  hyper = {"depth": depth, "severity": severity, "all_ops": all_ops}
  augment.augmix_policy(width=width, **hyper)  # refuses what is out of range
  chain = functools.partial(_augmix_chain, **hyper) if chain is None else chain
  view = _mixed.one_view(first, None)
  branch = {"norm_branch": "aux"} if dual_norm else {}

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      chains = augment.views(chain, 2 * width)(streams("policy"), image)
      drawn = jax.random.uniform(streams("mixture"), (image.shape[0], 2 * width + 2), image.dtype)
      m, q, other_m, gaps = jnp.split(drawn, (1, width + 1, width + 2), axis=1)
      targets = _base.one_hot(batch["label"], spec.num_classes)
      frozen = jax.lax.stop_gradient(params)

      def objective(m: Array, q: Array) -> tuple[Array, Array]:
        mixture = _combine(image, chains[:, :width], jax.nn.softmax(q), m)
        logits = network.apply(frozen, state.batch_stats, mixture, **branch).logits
        wrong = jnp.argmax(logits, axis=-1) != batch["label"]
        return losses.cross_entropy(logits, targets), wrong

      m, q = augmax_ascent(objective, m[:, 0], q, steps=steps, step_size=step_size, tau=tau)
      hardest = _combine(image, chains[:, :width], jax.nn.softmax(q), m)
      # Normalised exponentials are Dirichlet(1, ..., 1).
      gaps = -jnp.log1p(-gaps)
      weights = gaps / jnp.sum(gaps, axis=1, keepdims=True)
      mixed = _combine(image, chains[:, width:], weights, other_m[:, 0])
      logits, batch_stats = forward(params, state.batch_stats, (image, hardest, mixed), streams)
      weight = batch.get("weight")
      loss, per_example, metrics = noisymix_objective(
        logits, targets, targets, 1.0, jsd_weight=jsd_weight, weight=weight, partner_weight=weight
      )
      return loss, Aux(batch_stats, per_example, metrics)

    return fn

  def forward(
    params: Params, batch_stats: BatchStats, views: tuple[Array, Array, Array], streams: Streams
  ) -> tuple[Array, BatchStats]:
    """Logits [B, 3, K] of the three views in train mode, and the running statistics after them."""
    if not dual_norm:
      out = network.apply(
        params, batch_stats, jnp.stack(views, axis=1), train=True, rng=streams("dropout")
      )
      return out.logits, out.batch_stats
    clean, hardest, mixed = views
    main = network.apply(
      params, batch_stats, jnp.stack((clean, mixed), axis=1), train=True, rng=streams("dropout")
    )
    # The second pass starts from the statistics of the first: each moves those of its own branch.
    aux = network.apply(
      params, main.batch_stats, hardest, train=True, rng=streams("aux_dropout"), **branch
    )
    logits = jnp.stack((main.logits[:, 0], aux.logits, main.logits[:, 1]), axis=1)
    return logits, aux.batch_stats

  return Method("augmax", loss_fn, _base.student(network))


def augmax_ascent(
  objective: _Objective,
  m: Array,
  q: Array,
  *,
  steps: int = 5,
  step_size: float = 0.1,
  tau: int | None = 1,
) -> tuple[Array, Array]:
  """Climbs a loss over the parameters of an AugMix mixture by the signs of its gradient.

    m <- clip(m + a sign(dl/dm), 0, 1),   q <- q + a sign(dl/dq),

  `steps` times. Each image has a budget of `tau`: where it is misclassified at the beginning of a
  step it loses 1, and from 0 on, this step included, its m and q stay as they are. So with tau = 1
  an image that is misclassified is made no harder.

  Args:
    objective: (m, q) -> (loss of each image [B], whether it is misclassified [B]).
    m: [B] in [0, 1], the share of the mixture.
    q: [B, W], the logits of the chains' weights.
    steps: number of updates.
    step_size: a.
    tau: the budget; None for none.

  Returns:
    (m, q), constants for differentiation.

  Source: Wang et al. (2021), AugMax, algorithm 1; the budget is that of friendly adversarial
  training (Zhang et al. 2020) as AugMax' code counts it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import methods
    >>> objective = lambda m, q: (m - q[:, 0], m > 0.65)
    >>> m, q = methods.augmax_ascent(objective, jnp.array([0.5]), jnp.zeros((1, 2)))
    >>> m.round(3).tolist(), q.round(3).tolist()
    ([0.7], [[-0.2, 0.0]])
  """

  def total(m: Array, q: Array) -> tuple[Array, Array]:
    values, wrong = objective(m, q)
    return jnp.sum(values), wrong

  def climb(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    m, q, budget = carry
    (m_slope, q_slope), wrong = jax.grad(total, argnums=(0, 1), has_aux=True)(m, q)
    budget = budget - wrong
    rate = jnp.where(budget > 0, step_size, 0.0).astype(m.dtype)
    m = jnp.clip(m + rate * jnp.sign(m_slope), 0, 1)
    return m, q + rate[:, None] * jnp.sign(q_slope), budget

  m, q = jax.lax.stop_gradient((m, q))
  budget = jnp.full(m.shape, jnp.inf if tau is None else tau, jnp.float32)
  m, q, _ = jax.lax.fori_loop(0, steps, climb, (m, q, budget))
  return jax.lax.stop_gradient((m, q))


def _augmix_chain(
  rng: PRNGKey, image: Array, *, depth: int, severity: float, all_ops: bool
) -> Array:
  """One chain of AugMix' operations, not mixed with the image."""
  draw = augment.sample_augmix(
    rng, image.shape[:2], width=1, depth=depth, severity=severity, all_ops=all_ops
  )
  levels = augment.augmix_chain(
    augment.grey_levels(image), draw.op_index[0], draw.op_param[0], all_ops=all_ops
  )
  return levels.astype(image.dtype) / 255

"""TRADES: accuracy on clean images, and predictions that do not change near them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise import attacks, augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _adversarial, _base, _mixed


def trades(
  network: Network,
  *,
  spec: Spec,
  beta: float = 6.0,
  epsilon: float = 8 / 255,
  step_size: float = 0.007,
  steps: int = 10,
  start_scale: float = 0.001,
  natural_twice: bool = True,
  alpha: float = 0.0,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Minimises sum_i w_i l_i / sum_i w_i, l_i = CE(f(x_i), y_i) + beta KL(p(x_i) || p(x'_i)).

  x' maximises KL(p(x) || p(x')) in the l_inf ball of radius epsilon around x: from x + 0.001 n with
  n standard normal (at x itself the gradient is 0; the start is not clipped), so many signed steps,
  each projected onto the ball and clipped to [0, 1]. The ascent is in evaluation mode, unweighted
  and without dropout; its p(x) is a constant, the same at every step, and it leaves the running
  statistics alone.

  The outer loss is in train mode, x and x' in batches of their own with statistics of their own;
  the gradient reaches the parameters through p(x) and p(x') alike, and not through x'.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` and `image_shape` are used.
    beta: weight of the divergence, >= 0, the paper's 1 / lambda; 0 is `erm` at the price of an
      ascent.
    epsilon: radius of the ball, in [0, 1] pixel units; the authors' 0.031 is 8/255 rounded.
    step_size: length of a step, in the same units.
    steps: of the ascent; 0 takes the start itself, projected.
    start_scale: standard deviation of the start, in pixel units.
    natural_twice: move the running statistics by the batches x, x', x, as the authors' code does,
      whose third pass repeats the first one's numbers; False for x, x', which saves a forward pass
      of the step's many. Loss and gradient are the same, what evaluation sees is not.
    alpha: of mixup's Beta(alpha, alpha); 0 for no mixing. The mixed image takes the place of x, and
      its divergence has the weight lam w_i + (1 - lam) w_sigma(i).
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch.

  Returns:
    A Method with one predictor, "student"; `per_example` is the labelled term, CE(f(x_i), y_i).

  Raises:
    InputError: for an epsilon outside [0, 1], a negative beta, step, number of steps, start or
      alpha, or groups that do not divide every batch.

  Source: Zhang et al. (2019), eq. (5) and algorithm 1, and the authors' code; weights and mixing
  are ours after multiplicative reweighting, which states neither.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   state = core.TrainState.create(key, params, stats)
    ...   return methods.trades(network, spec=spec, steps=2).loss_fn(state)(params, batch, key)
    >>> sorted(jax.eval_shape(loss, jax.random.key(0))[1].metrics)
    ['kl', 'label_loss', 'loss']
  """
  _adversarial.check_ascent(spec, epsilon=epsilon, step_size=step_size, steps=steps)
  for field, value in (("beta", beta), ("start_scale", start_scale)):
    if not value >= 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  _mixed.check(alpha, spec, mix_groups)
  view = _mixed.one_view(first, policy)

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      clean = _adversarial.examples(
        streams,
        view(streams, batch["image"]),
        batch,
        alpha=alpha,
        mix_groups=mix_groups,
        num_classes=spec.num_classes,
      )
      frozen = jax.lax.stop_gradient(params)
      predict = _base.predictor(network, frozen, state.batch_stats)
      target = predict(clean.image)
      image = attacks.pgd(
        lambda x: losses.hinton(predict(x), target, temperature=1.0),
        clean.image,
        epsilon=epsilon,
        step_size=step_size,
        num_steps=steps,
        start=_adversarial.normal_start(streams("start"), clean.image, start_scale),
        clip_start=False,
      )
      dropout = streams("dropout")
      natural = network.apply(params, state.batch_stats, clean.image, train=True, rng=dropout)
      attacked = network.apply(
        params, natural.batch_stats, image, train=True, rng=streams("adversarial_dropout")
      )
      batch_stats = attacked.batch_stats
      if natural_twice:
        # The same numbers as `natural`, so no gradient is lost: it is there for the averages alone.
        again = network.apply(frozen, batch_stats, clean.image, train=True, rng=dropout)
        batch_stats = again.batch_stats
      value, per_example, metrics = trades_objective(
        natural.logits,
        attacked.logits,
        clean.targets,
        clean.partner_targets,
        clean.lam,
        beta=beta,
        weight=clean.weight,
        partner_weight=clean.partner_weight,
      )
      return value, Aux(batch_stats, per_example, metrics)

    return fn

  return Method("trades", loss_fn, _base.student(network))


def trades_objective(
  logits: Array,
  adversarial_logits: Array,
  targets: Array,
  partner_targets: Array,
  lam: Array | float,
  *,
  beta: float = 6.0,
  weight: Array | None = None,
  partner_weight: Array | None = None,
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
  """Computes the loss of TRADES from the two predictions.

    L = L_mixup(z, t) + beta sum_i v_i KL(p_i || p'_i) / sum w,   v_i = lam w_i + (1 - lam) w_j,

  with p = softmax(z), p' = softmax(z') and L_mixup as in `mixup_objective`, j = sigma(i). With
  lam = 1 it is sum_i w_i (CE_i + beta KL_i) / sum w. Gradients flow through p and p'.

  Args:
    logits: [B, K] z, of the images.
    adversarial_logits: [B, K] z', of the attacked images.
    targets: [B, K] distributions.
    partner_targets: [B, K], targets[sigma]; the targets again where nothing is mixed.
    lam: in [0, 1], a scalar; 1 where nothing is mixed.
    beta: weight of the divergence.
    weight: [B] example weights or None for 1.
    partner_weight: [B], weight[sigma]; None for 1.

  Returns:
    (scalar loss, [B] unweighted cross-entropy of each example's own label, metrics).

  Raises:
    ValueError: when only one of the two weights is given.

  Source: Zhang et al. (2019), eq. (5), and the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import trades_objective
    >>> z = jnp.array([[0.0, 0.0]])
    >>> value, _, _ = trades_objective(z, z, jnp.eye(2)[:1], jnp.eye(2)[:1], 1.0)
    >>> round(float(value), 4)  # log 2: the two predictions agree
    0.6931
  """
  label_value, own, label_metrics = _mixed.mixup_objective(
    logits, targets, partner_targets, lam, weight=weight, partner_weight=partner_weight
  )
  kl = losses.hinton(adversarial_logits, logits, temperature=1.0)
  if weight is None:
    divergence = jnp.mean(kl)
  else:
    w, w_other = (jax.lax.stop_gradient(v).astype(kl.dtype) for v in (weight, partner_weight))
    lam = jnp.asarray(lam, kl.dtype)
    divergence = jnp.sum((lam * w + (1 - lam) * w_other) * kl) / jnp.sum(w)
  label_sum, count = label_metrics["loss"]
  kl_sum, _ = reduce.mean_count(kl)
  metrics = {
    "loss": (label_sum + beta * kl_sum, count),
    "label_loss": (label_sum, count),
    "kl": (kl_sum, count),
  }
  return label_value + beta * divergence, own, metrics

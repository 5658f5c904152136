"""Dynamic bootstrapping: a mixture fitted to the losses says how far each label is trusted."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses, stats
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError, closest
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
  PassFn,
  PRNGKey,
  Spec,
)
from jaxnoise.methods import _base, _mixed

_NAME = "dynamic_bootstrap"
_VARIANTS = ("hard", "soft", "soft_to_hard")
_LAST_TEMPERATURE = 1e-3


def dynamic_bootstrap(
  network: Network,
  *,
  spec: Spec,
  variant: str = "hard",
  alpha: float = 32.0,
  warmup_epochs: int = 105,
  class_weight: float = 1.0,
  dynamic_mixup_epochs: int = 5,
  temperature_epochs: int = 89,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Mixup with labels that are replaced by the network's guesses as far as they look noisy.

  After the warm-up, which is `mixup` with cross-entropy, a step minimises

    mean_i [lam l_i(i) + (1 - lam) l_i(sigma(i))] + class_weight KL(u || mean_i p_i),
    l_i(j) = (1 - B_j) CE(f(x~_i), y_j) + B_j CE(f(x~_i), g_j),   x~ = lam x + (1 - lam) x[sigma],

  p_i = softmax f(x~_i), u uniform. g_j is the guess on the unmixed x_j, made in training mode by a
  pass of its own (it moves the running statistics), B_j the probability that y_j is wrong, looked
  up for the loss of x_j in evaluation mode; neither has a gradient. The table is made by
  `stats.fit_losses` at the end of every epoch, from the losses of the whole training set, augmented
  as in training and unmixed, in evaluation mode; before the first, B is 1/2. B is kept in
  [1e-4, 1 - 1e-4].

  Variants:

    "hard" (M-DYR-H): g is one-hot, at the arg-max.
    "soft" (M-DYR-S): g = softmax f(x).
    "soft_to_hard" (MD-DYR-SH): the images are mixed by trust, x~_i = ((1 - B_i) x_i +
      (1 - B_j) x_j) / (2 - B_i - B_j). For `dynamic_mixup_epochs` after the warm-up that is all: no
      guesses, no class term, the losses mixed with lam. Then g = softmax(f(x) / T), the two losses
      with 1/2 each, T falling from 1 to 0.001 over `temperature_epochs`, one step per epoch.

  With example weights w, row i's two losses carry lam w_i and (1 - lam) w_sigma(i), over the
  batch's sum; the class term is unweighted.

  Args:
    network: the model.
    spec: the run's static facts; `num_train`, `num_classes` and `steps_per_epoch` are used.
    variant: "hard", "soft" or "soft_to_hard".
    alpha: of the Beta distribution of lam, >= 0.
    warmup_epochs: epochs of plain mixup. In a run that is no longer, nothing is ever corrected: the
      metric "noise", the mean of B, stays 0.
    class_weight: weight of the class term. Script: 1; the code's own default is 0.
    dynamic_mixup_epochs: see "soft_to_hard".
    temperature_epochs: the length of T's schedule, in epochs, both ends included; 89 is the
      authors' code's for 200 epochs.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student". `method_state["dynamic_bootstrap"]` holds the fields of
    `stats.LossModel`, flat, and "posterior" [N], the B of every training example at the last fit.

  Raises:
    InputError: for an unknown variant, a negative alpha, weight or number of epochs, or groups that
      do not divide every batch.

  Source: Arazo et al. (2019), section 3.3, and the authors' code, which the order of the passes
    follows: the losses are looked up after the pass on x~ ("hard") or before it (the others).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.dynamic_bootstrap(network, spec=spec, warmup_epochs=0)
    >>> params, stats = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    >>> state = method.init_state(core.TrainState.create(jax.random.key(1), params, stats))
    >>> state.method_state["dynamic_bootstrap"]["posterior"].tolist()
    [0.5, 0.5]
  """
  _check(variant, class_weight, warmup_epochs, dynamic_mixup_epochs, temperature_epochs)
  _mixed.check(alpha, spec, mix_groups)
  view = _mixed.one_view(first, policy)
  by_trust = variant == "soft_to_hard"
  guess_from = warmup_epochs + (dynamic_mixup_epochs if by_trust else 0)

  def init_state(state: TrainState) -> TrainState:
    model = stats.LossModel(
      jnp.zeros(()),
      jnp.ones(()),
      stats.BetaMixture(jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0]), jnp.full(2, 0.5)),
      jnp.full(100, 0.5),
    )
    return state.with_method_state(_NAME, _flat(model, jnp.full(spec.num_train, 0.5)))

  def loss_fn(state: TrainState) -> LossFn:
    mine = state.method_state[_NAME]
    epoch = state.step // spec.steps_per_epoch
    correct, guess = epoch >= warmup_epochs, epoch >= guess_from
    temperature = _temperature(epoch - guess_from, temperature_epochs) if by_trust else 1.0

    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      partners = augment.sample_partners(streams("partners"), image.shape[0], mix_groups)
      lam = augment.sample_coefficient(streams("lam"), alpha)
      targets = _base.one_hot(batch["label"], spec.num_classes)
      dropout, guess_dropout = streams("dropout"), streams("guess_dropout")
      constant, unmixed = jax.lax.stop_gradient((params, image))

      def logits_of_unmixed(batch_stats: BatchStats) -> tuple[Array, BatchStats]:
        out = network.apply(constant, batch_stats, unmixed, train=True, rng=guess_dropout)
        return out.logits, out.batch_stats

      def noise_of_unmixed(batch_stats: BatchStats) -> Array:
        logits = network.apply(constant, batch_stats, unmixed).logits
        posterior = stats.noise_posterior(_model(mine), losses.cross_entropy(logits, targets))
        return jnp.clip(posterior, 1e-4, 1 - 1e-4)

      def without_guess(batch_stats: BatchStats) -> tuple[Array, BatchStats]:
        shape, _ = jax.eval_shape(logits_of_unmixed, batch_stats)
        return jnp.zeros(shape.shape, shape.dtype), batch_stats

      def trusted(batch_stats: BatchStats) -> Array:
        shape = jax.eval_shape(noise_of_unmixed, batch_stats)
        return jnp.zeros(shape.shape, shape.dtype)

      # Passes that a phase does not need are not run.
      unmixed_logits, batch_stats = jax.lax.cond(
        guess, logits_of_unmixed, without_guess, state.batch_stats
      )
      share, label_lam, noise = lam, lam, None
      if variant != "hard":
        noise = jax.lax.cond(correct, noise_of_unmixed, trusted, batch_stats)
      if by_trust:
        trust = 1 - noise
        own = trust / (trust + augment.take_partners(trust, partners))
        share = jnp.where(correct, own, lam).reshape(-1, *[1] * (image.ndim - 1))
        noise = jnp.where(guess, noise, 0.0)
        label_lam = jnp.where(guess, 0.5, lam)
      mixed = augment.mix(image, partners, share)
      out = network.apply(params, batch_stats, mixed, train=True, rng=dropout)
      if noise is None:
        noise = jax.lax.cond(correct, noise_of_unmixed, trusted, out.batch_stats)
      value, per_example, metrics = dynamic_bootstrap_objective(
        out.logits,
        targets,
        _guesses(unmixed_logits, variant, temperature),
        noise,
        partners,
        label_lam,
        class_weight=jnp.where(guess, class_weight, 0.0) if class_weight else 0.0,
        weight=batch.get("weight"),
      )
      return value, Aux(out.batch_stats, per_example, metrics)

    return fn

  def needed(state: TrainState) -> Array:
    """Whether the epoch that begins after this pass reads the fit."""
    return state.step // spec.steps_per_epoch >= warmup_epochs

  def example_pass(state: TrainState) -> PassFn:
    def collect(batch_stats: BatchStats, batch: Batch, rng: PRNGKey):
      def values() -> Array:
        logits = network.apply(state.params, batch_stats, view(Streams(rng), batch["image"])).logits
        return losses.cross_entropy(logits, _base.one_hot(batch["label"], spec.num_classes))

      shape = jax.eval_shape(values)
      skipped = lambda: jnp.zeros(shape.shape, shape.dtype)
      return {"loss": jax.lax.cond(needed(state), values, skipped)}, batch_stats

    return collect

  def after_pass(state: TrainState, tables: Mapping[str, Array], rng: PRNGKey) -> TrainState:
    del rng
    before = state.method_state[_NAME]

    def fitted() -> dict[str, Array]:
      model = stats.fit_losses(tables["loss"])
      after = _flat(model, stats.noise_posterior(model, tables["loss"]))
      return {name: after[name].astype(value.dtype) for name, value in before.items()}

    return state.with_method_state(
      _NAME, jax.lax.cond(needed(state), fitted, lambda: dict(before))
    )

  return Method(
    _NAME,
    loss_fn,
    _base.student(network),
    init_state=init_state,
    example_pass=example_pass,
    after_pass=after_pass,
  )


def dynamic_bootstrap_objective(
  logits: Array,
  targets: Array,
  guesses: Array,
  noise: Array,
  partners: Array,
  lam: Array | float,
  *,
  class_weight: Array | float = 1.0,
  weight: Array | None = None,
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
  """Computes the corrected mixup loss plus the class term.

  L = sum_i [lam w_i l_i(i) + (1 - lam) w_j l_i(j)] / sum w + class_weight KL(u || mean_i p_i),
  l_i(k) = (1 - B_k) CE(z_i, t_k) + B_k CE(z_i, g_k),   j = sigma(i).

  Args:
    logits: [B, K], of the mixed examples.
    targets: [B, K] distributions t, the labels of the unmixed examples.
    guesses: [B, K] distributions g, the predictions for the unmixed examples.
    noise: [B] in [0, 1], the probability that each label is wrong; 0 is `mixup_objective`.
    partners: [G, B / G] from `augment.sample_partners`.
    lam: scalar in [0, 1], the share of the own label.
    class_weight: 0 leaves the class term out.
    weight: [B] example weights or None for 1.

  Returns:
    (scalar loss, [B] unweighted CE of each mixed example against its own label, metrics). Guesses
    and noise get no gradient.

  Source: Arazo et al. (2019), section 3.3, and the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import dynamic_bootstrap_objective
    >>> z, t = jnp.array([[4.0, 0.0], [0.0, 4.0]]), jnp.eye(2)[::-1]
    >>> loss, own, _ = dynamic_bootstrap_objective(
    ...   z, t, jnp.eye(2), jnp.array([1.0, 0.5]), jnp.array([[0, 1]]), 0.5)
    >>> own.round(4).tolist()  # both labels are wrong, the first is known to be
    [4.0182, 4.0182]
    >>> round(float(loss), 3)  # (0.018 + (0.018 + 4.018) / 2) / 2, and even classes
    1.018
  """
  guesses, noise = jax.lax.stop_gradient((guesses, noise))
  own = losses.dynamic_bootstrap(logits, targets, guesses, noise)
  take = lambda x: augment.take_partners(x, partners)
  other = losses.dynamic_bootstrap(logits, take(targets), take(guesses), take(noise))
  lam = jnp.asarray(lam, own.dtype)
  if weight is None:
    label_loss = jnp.mean(lam * own + (1 - lam) * other)
  else:
    w = jax.lax.stop_gradient(weight).astype(own.dtype)
    label_loss = jnp.sum(lam * w * own + (1 - lam) * take(w) * other) / jnp.sum(w)
  metrics = {
    "label_loss": reduce.mean_count(lam * own + (1 - lam) * other),
    "noise": reduce.mean_count(noise),
  }
  loss, count = label_loss, jnp.asarray(own.shape[0], own.dtype)
  if not isinstance(class_weight, (int, float)) or class_weight:
    prior = losses.uniform_prior(logits)
    loss = loss + class_weight * prior
    metrics["prior"] = (prior * count, count)
  metrics["loss"] = (loss * count, count)
  return loss, losses.cross_entropy(logits, targets), metrics


def _guesses(logits: Array, variant: str, temperature: Array | float) -> Array:
  logits = reduce.promote(logits)
  if variant == "hard":
    return _base.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], logits.dtype)
  return jax.nn.softmax(logits / temperature)


def _temperature(epochs: Array, length: int) -> Array:
  """1 in epoch 0, then in even steps to its last value in epoch length - 1."""
  passed = jnp.clip(epochs / max(length - 1, 1), 0.0, 1.0)
  return 1 - (1 - _LAST_TEMPERATURE) * passed


def _flat(model: stats.LossModel, posterior: Array) -> dict[str, Array]:
  fields = {**model._asdict(), **model.mixture._asdict(), "posterior": posterior}
  del fields["mixture"]
  return fields


def _model(fields: Mapping[str, Array]) -> stats.LossModel:
  mixture = stats.BetaMixture(*(fields[name] for name in stats.BetaMixture._fields))
  return stats.LossModel(fields["low"], fields["high"], mixture, fields["table"])


def _check(variant, class_weight, warmup_epochs, dynamic_mixup_epochs, temperature_epochs):
  if variant not in _VARIANTS:
    raise InputError(f"config.method.variant is {variant!r}: {closest(str(variant), _VARIANTS)}")
  for field, value in (
    ("class_weight", class_weight),
    ("warmup_epochs", warmup_epochs),
    ("dynamic_mixup_epochs", dynamic_mixup_epochs),
  ):
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  if temperature_epochs < 1:
    raise InputError(
      f"config.method.temperature_epochs is {temperature_epochs}; it must be 1 or larger"
    )

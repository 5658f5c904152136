"""Adversarial training on the worst image that gradient ascent finds, in several steps or one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from jaxnoise import attacks, augment
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _adversarial, _base, _mixed

_MODES = ("eval", "train")
_NORMS = ("linf", "l2")


def pgd_at(
  network: Network,
  *,
  spec: Spec,
  epsilon: float = 8 / 255,
  step_size: float = 2 / 255,
  steps: int = 7,
  random_start: bool = True,
  norm: str = "linf",
  mode: str = "eval",
  alpha: float = 0.0,
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Minimises sum_i w_i l(f(x'_i), y_i) / sum_i w_i at x' = argmax_{||x' - x|| <= epsilon} l.

  The inner maximum is what `attacks.pgd` finds in so many steps from x, or from a uniform point of
  the ball, clipped to [0, 1]: x' <- clip(P(x' + step_size sign(g)), 0, 1), with g the gradient of
  the unweighted loss. x' is then a constant; the network is trained on it alone, in train mode.

  The ascent uses the running statistics (`mode="eval"`) or those of the attacked batch
  (`mode="train"`, in which an image's gradient depends on the others'). It never moves the running
  statistics, which those of the outer pass alone do, and has no dropout in either.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` and `image_shape` are used.
    epsilon: radius of the ball, in [0, 1] pixel units.
    step_size: length of a step, in the same units.
    steps: of the ascent; 0 trains on the start itself.
    random_start: start uniformly in the ball, else at the image.
    norm: "linf" or "l2".
    mode: of the network in the ascent, "eval" or "train".
    alpha: of mixup's Beta(alpha, alpha); 0 for no mixing. The attack starts from the mixed image
      and ascends the loss of its mixed labels; weights travel with the labels as in `mixup`.
    loss: a name in `jaxnoise.losses`, or any (logits [B, K], targets [B, K]) -> [B], for both
      players.
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch.

  Returns:
    A Method with one predictor, "student"; `per_example` is the loss at x' with the own label.

  Raises:
    InputError: for an epsilon outside the range of pixels, a negative step, number of steps or
      alpha, an unknown norm or mode, or groups that do not divide every batch.

  Source: Madry et al. (2018), eq. (2.1) and section 5; their CIFAR-10 run has 7 steps of 2/255 in
  the ball of radius 8/255. Mixing is multiplicative reweighting's, where it adds to Free-AT.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   state = core.TrainState.create(key, params, stats)
    ...   return methods.pgd_at(network, spec=spec, steps=2).loss_fn(state)(params, batch, key)
    >>> jax.eval_shape(loss, jax.random.key(0))[1].per_example.shape
    (2,)
  """
  for field, value, known in (("norm", norm, _NORMS), ("mode", mode, _MODES)):
    if value not in known:
      raise InputError(f"config.method.{field} is {value!r}; {closest(str(value), known)}")
  _adversarial.check_ascent(spec, epsilon=epsilon, step_size=step_size, steps=steps, norm=norm)
  _mixed.check(alpha, spec, mix_groups)
  value_fn = _base.resolve_loss(loss, loss_args)
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

      def ascended(image: Array) -> Array:
        z = network.apply(frozen, state.batch_stats, image, train=mode == "train").logits
        own = value_fn(z, clean.targets)
        if not alpha:
          return own
        return clean.lam * own + (1 - clean.lam) * value_fn(z, clean.partner_targets)

      image = attacks.pgd(
        ascended,
        clean.image,
        epsilon=epsilon,
        step_size=step_size,
        num_steps=steps,
        norm=norm,
        rng=streams("start") if random_start else None,
      )
      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout")
      )
      value, per_example, metrics = _mixed.mixup_objective(
        out.logits,
        clean.targets,
        clean.partner_targets,
        clean.lam,
        loss=value_fn,
        weight=clean.weight,
        partner_weight=clean.partner_weight,
      )
      return value, Aux(out.batch_stats, per_example, metrics)

    return fn

  return Method("pgd_at", loss_fn, _base.student(network))


def fast_at(
  network: Network,
  *,
  spec: Spec,
  epsilon: float = 8 / 255,
  step_size: float | None = None,
  mode: str = "eval",
  alpha: float = 0.0,
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """`pgd_at` with one l_inf step from a uniform start: "fast" adversarial training.

  x' = clip(P(x + u + step_size sign(g)), 0, 1), u uniform in the ball, g taken at x + u.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` and `image_shape` are used.
    epsilon: radius of the ball, in [0, 1] pixel units.
    step_size: length of the step; None means 1.25 epsilon, as in the paper. A longer one may end in
      a network that withstands this one step and no other attack: watch PGD accuracy.
    mode: of the network in the ascent, "eval" or "train".
    alpha: of mixup's Beta(alpha, alpha); 0 for no mixing.
    loss: as in `pgd_at`.
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop).
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch.

  Returns:
    A Method named "fast_at".

  Raises:
    InputError: as `pgd_at`.

  Source: Wong et al. (2020), algorithm 3.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.fast_at(network, spec=spec).name
    'fast_at'
  """
  made = pgd_at(
    network,
    spec=spec,
    epsilon=epsilon,
    step_size=1.25 * epsilon if step_size is None else step_size,
    steps=1,
    mode=mode,
    alpha=alpha,
    loss=loss,
    loss_args=loss_args,
    first=first,
    policy=policy,
    mix_groups=mix_groups,
  )
  return dataclasses.replace(made, name="fast_at")

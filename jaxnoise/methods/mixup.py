"""Mixup, manifold mixup and noisy feature mixup: convex mixtures of examples and their labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxnoise import augment
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base, _mixed

# (h [B, ...], partners, lam) -> [B, ...], what takes the place of a stage's activations.
_Change = Callable[[Array, Array, Array], Array]


def mixup(
  network: Network,
  *,
  spec: Spec,
  alpha: float = 1.0,
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Minimises lam l(f(x~), y) + (1 - lam) l(f(x~), y[sigma]), x~ = lam x + (1 - lam) x[sigma].

  One coefficient lam ~ Beta(alpha, alpha) and one permutation sigma per batch. With example weights
  w, row i's two terms carry lam w_i and (1 - lam) w_sigma(i), over the batch's sum of weights.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    alpha: of the Beta distribution, >= 0; 0 is `erm`. 1 on CIFAR, 0.2 on ImageNet; multiplicative
      reweighting has 0.5 with Adam, 0.1 with Adam and adversarial training.
    loss: a name in `jaxnoise.losses`, or any (logits [B, K], targets [B, K]) -> [B]. It is the loss
      that is mixed, not its target: for cross-entropy, linear in the target, the two are the same.
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative alpha, or groups that do not divide every batch.

  Source: Zhang et al. (2018), eq. (1), and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> params, stats = jax.jit(network.init)(jax.random.key(0), batch["image"])
    >>> state = core.TrainState.create(jax.random.key(1), params, stats)
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> loss_fn = methods.mixup(network, spec=spec).loss_fn(state)
    >>> loss, aux = jax.jit(loss_fn)(params, batch, jax.random.key(2))
    >>> aux.per_example.shape
    (2,)
  """
  value_fn = _base.resolve_loss(loss, loss_args)
  view = _mixed.one_view(first, policy)
  return _method("mixup", network, spec, alpha, (0,), _convex, value_fn, view, mix_groups)


def manifold_mixup(
  network: Network,
  *,
  spec: Spec,
  alpha: float = 2.0,
  stages: Sequence[int] = (0, 1, 2),
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Mixup of the activations of one stage k, drawn from `stages` for every batch.

  h_k = lam g_k(x) + (1 - lam) g_k(x)[sigma]; the loss is that of `mixup`.

  Args:
    network: the model; its tap positions are the stages.
    spec: the run's static facts; `num_classes` is used.
    alpha: of the Beta distribution, >= 0; 0 is `erm`. 2 in the paper's CIFAR runs; NoisyMix' code,
      whose tables compare with it, has 1.
    stages: where mixing may happen, each with equal probability; 0 is the normalised input. The
      paper's are the input and the first two stages, NoisyMix' code has (0, 1, 2, 3).
    loss: as in `mixup`.
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative alpha, a stage the network does not have, or groups that do not
      divide every batch.

  Source: Verma et al. (2019), section 2.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.manifold_mixup(network, spec=spec, stages=(0, 1)).name
    'manifold_mixup'
  """
  value_fn = _base.resolve_loss(loss, loss_args)
  view = _mixed.one_view(first, policy)
  return _method(
    "manifold_mixup", network, spec, alpha, stages, _convex, value_fn, view, mix_groups
  )


def nfm(
  network: Network,
  *,
  spec: Spec,
  alpha: float = 1.0,
  add_noise: float = 0.4,
  mult_noise: float = 0.2,
  sparsity: float = 0.0,
  random_level: bool = True,
  stages: Sequence[int] = (0, 1, 2, 3),
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Noisy feature mixup: manifold mixup with noise on the mixture.

  h_k = (1 + L_m s_m u b_m) * (lam g_k(x) + (1 - lam) g_k(x)[sigma]) + L_a s_a n b_a, with n normal,
  u uniform on (-1, 1), b Bernoulli(1 - sparsity), all elementwise, and s_m, s_a one Beta(2, 5) draw
  each; the loss is that of `mixup`. It is `noisymix` of one view, without its stability term.

  Args:
    network: the model; its tap positions are the stages.
    spec: the run's static facts; `num_classes` is used.
    alpha: of the Beta distribution, >= 0. The authors' noise-only runs have 1e-8; here 0 leaves
      the noise on.
    add_noise: L_a, in units of the normalised input (or of the activations). Authors: 0.4 on CIFAR,
      0.1 on ImageNet; NoisyMix 0.5.
    mult_noise: L_m. Authors: 0.2 on CIFAR, 0.1 on ImageNet; NoisyMix 0.5.
    sparsity: share of elements without noise; 0 in the authors' code, 0.65 in NoisyMix'.
    random_level: scale the noise levels by a Beta(2, 5) draw. Code: yes; the paper allows any noise
      with two moments.
    stages: where mixing may happen, each with equal probability; 0 is the normalised input. The
      authors' wide network has (0, 1, 2).
    loss: as in `mixup`.
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative alpha or level, a sparsity outside [0, 1), a stage the network does
      not have, or groups that do not divide every batch.

  Source: Lim et al. (2022), eq. (3), and the authors' code.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.nfm(network, spec=spec, add_noise=0.1, mult_noise=0.1).name
    'nfm'
  """
  for field, value in (("add_noise", add_noise), ("mult_noise", mult_noise)):
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  if not 0 <= sparsity < 1:
    raise InputError(f"config.method.sparsity is {sparsity}; it must lie in [0, 1)")
  noise = {"add_noise": add_noise, "mult_noise": mult_noise, "sparsity": sparsity}

  def noisy(streams: Streams) -> _Change:
    levels = augment.sample_levels(streams("levels"), 1) if random_level else None
    key = streams("noise")

    def change(h: Array, partners: Array, lam: Array) -> Array:
      views = h[:, None]
      out = augment.noisy_mix(
        key, views, partners, lam, view_factors=(1.0,), levels=levels, **noise
      )
      return out[:, 0]

    return change

  value_fn = _base.resolve_loss(loss, loss_args)
  view = _mixed.one_view(first, policy)
  return _method("nfm", network, spec, alpha, stages, noisy, value_fn, view, mix_groups)


def _convex(streams: Streams) -> _Change:
  del streams
  return augment.mix


def _method(
  name: str,
  network: Network,
  spec: Spec,
  alpha: float,
  stages: Sequence[int],
  change_of: Callable[[Streams], _Change],
  value_fn: _base.Loss,
  view: Callable[[Streams, Array], Array],
  mix_groups: int,
) -> Method:
  """The method that changes the activations of one stage and mixes the labels alike."""
  if not stages or any(k not in range(network.num_stages + 1) for k in stages):
    raise InputError(
      f"config.method.stages is {tuple(stages)}; it must name stages of the network, "
      f"0 (the input) to {network.num_stages}"
    )
  _mixed.check(alpha, spec, mix_groups)

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      partners = augment.sample_partners(streams("partners"), image.shape[0], mix_groups)
      lam = augment.sample_coefficient(streams("lam"), alpha)
      change = change_of(streams)
      at = jnp.asarray(stages)[jax.random.randint(streams("stage"), (), 0, len(stages))]

      def tap(stage: int, h: Array) -> Array:
        if stage not in stages:
          return h
        if len(stages) == 1:
          return change(h, partners, lam)
        return jax.lax.cond(at == stage, lambda x: change(x, partners, lam), lambda x: x, h)

      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout"), tap=tap
      )
      return _mixed.mixed_loss(out, batch, partners, lam, value_fn, spec.num_classes)

    return fn

  return Method(name, loss_fn, _base.student(network))

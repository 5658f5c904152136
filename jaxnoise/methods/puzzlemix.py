"""PuzzleMix: images are put together from the salient blocks of two, labels by their shares."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.augment._puzzle import check_blocks
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  LossFn,
  Method,
  Network,
  Output,
  Params,
  PRNGKey,
  Spec,
)
from jaxnoise.methods import _base, _mixed

_Tap = Callable[[int, Array], Array]


def puzzlemix(
  network: Network,
  *,
  spec: Spec,
  alpha: float = 1.0,
  blocks: Sequence[int] = (2, 4, 8, 16),
  beta: float = 1.2,
  gamma: float = 0.5,
  eta: float = 0.2,
  neighbourhood: int = 4,
  num_labels: int = 3,
  transport: bool = True,
  transport_eps: float = 0.8,
  transport_size: int = 4,
  clean_weight: float = 0.0,
  solver_sweeps: int = 16,
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Minimises r_i l(f(x~_i), y_i) + (1 - r_i) l(f(x~_i), y_j), x~_i = m x'_i + (1 - m) x''_j.

  j = sigma(i); one lam ~ Beta(alpha, alpha), one permutation sigma and one grid of n x n blocks, n
  drawn from `blocks`, per batch. S is the root mean square over channels of the gradient of the
  cross-entropy of the unmixed image with respect to the normalised image. The mask m in
  {0, ..., 1/2, 1}, one for each pair, keeps of each block the image that is salient there, under a
  prior for a share lam, and x', x'' are the images with their salient blocks moved to where they
  are kept (`augment.puzzle_mix`); r_i is the mean of m. No gradient passes through saliency or
  mask. With example weights w, row i's two terms carry r_i w_i and (1 - r_i) w_j.

  The mask comes from `augment.solve_puzzle` on the device instead of the authors' graph cuts, and
  costs are real numbers instead of integers; both are how the problem is solved, not what it is.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes`, `image_shape` and `image_mean` are used.
    alpha: of the Beta distribution, >= 0; 0 is lam = 1, a prior for the own image.
    blocks: the grids, each with equal probability; the images' side must be a multiple of each.
    beta, gamma, eta, neighbourhood, num_labels: see `augment.puzzle_problem`.
    transport, transport_eps, transport_size: see `augment.puzzle_compose`; what a moved block
      leaves empty is the data set's mean, 0 after normalisation.
    clean_weight: c >= 0. At 0 the saliency is taken in evaluation mode. Above 0 it is taken in
      train mode, that pass moves the running statistics too, and 2 c / K times its cross-entropy
      joins the loss.
    solver_sweeps: see `augment.solve_puzzle`.
    loss: a name in `jaxnoise.losses`, or any (logits [B, K], targets [B, K]) -> [B]; the loss is
      mixed, not its target. The authors train with "binary_cross_entropy".
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative alpha or weight, a grid that does not fit the images (naming those
      that do), images that are not square, or groups that do not divide every batch.

  Source: Kim et al. (2020), Puzzle Mix, and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.puzzlemix(network, spec=spec, blocks=(2, 4))
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   state = core.TrainState.create(key, params, stats)
    ...   return method.loss_fn(state)(params, batch, key)
    >>> jax.eval_shape(loss, jax.random.key(0))[1].per_example.shape
    (2,)
  """
  _mixed.check(alpha, spec, mix_groups)
  _check(spec, blocks, neighbourhood, transport_size if transport else 1, num_labels)
  for field, value in (
    ("beta", beta), ("gamma", gamma), ("eta", eta), ("transport_eps", transport_eps),
    ("clean_weight", clean_weight), ("solver_sweeps", solver_sweeps),
  ):  # fmt: skip
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  value_fn = _base.resolve_loss(loss, loss_args)
  view = _mixed.one_view(first, policy)
  mix = functools.partial(
    augment.puzzle_mix,
    beta=beta,
    gamma=gamma,
    eta=eta,
    neighbourhood=neighbourhood,
    num_labels=num_labels,
    sweeps=solver_sweeps,
    transport=transport,
    transport_eps=transport_eps,
    transport_size=transport_size,
    fill=spec.image_mean or 0.0,
  )
  # Each is one program where the loss is called outside of jit too: it has hundreds of small steps.
  grids = [jax.jit(functools.partial(mix, blocks=n)) for n in blocks]

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      partners = augment.sample_partners(streams("partners"), image.shape[0], mix_groups)
      lam = augment.sample_coefficient(streams("lam"), alpha)
      at = jax.random.randint(streams("blocks"), (), 0, len(grids))
      targets = _base.one_hot(batch["label"], spec.num_classes)
      live = {"train": True, "rng": streams("clean_dropout")} if clean_weight else {}

      def unmixed(params: Params, image: Array, tap: _Tap = lambda stage, h: h):
        out = network.apply(params, state.batch_stats, image, tap=tap, **live)
        return losses.cross_entropy(out.logits, targets), out

      saliency = augment.gradient_saliency(
        _input_gradient(functools.partial(unmixed, jax.lax.stop_gradient(params)), image)
      )
      mixed, ratio = jax.lax.switch(
        at,
        grids,
        image,
        augment.take_partners(image, partners),
        saliency,
        augment.take_partners(saliency, partners),
        lam,
      )
      if not clean_weight:
        out = network.apply(
          params, state.batch_stats, mixed, train=True, rng=streams("dropout")
        )
        return _mixed.mixed_loss(out, batch, partners, ratio, value_fn, spec.num_classes)

      clean, clean_out = unmixed(params, image)
      out = network.apply(
        params, clean_out.batch_stats, mixed, train=True, rng=streams("dropout")
      )
      value, aux = _mixed.mixed_loss(out, batch, partners, ratio, value_fn, spec.num_classes)
      factor = 2 * clean_weight / spec.num_classes
      value = value + factor * reduce.weighted_mean(clean, batch.get("weight"))
      count = jnp.asarray(clean.shape[0], value.dtype)
      metrics = {
        "label_loss": aux.metrics["loss"],
        "clean_loss": reduce.mean_count(clean),
        "loss": (value * count, count),
      }
      return value, aux._replace(metrics=metrics)

    return fn

  return Method("puzzlemix", loss_fn, _base.student(network))


def _input_gradient(values: Callable[..., tuple[Array, Output]], image: Array) -> Array:
  """The gradient of sum_i values_i(image, tap) with respect to the normalised image, [B, H, W, C].

  Where a network resizes images first, that has another shape; then it is with respect to the
  image, and differs where the normalisation divides channels by numbers of their own.
  """
  sees_image = []

  def total(image: Array, shift: Array) -> Array:
    def tap(stage: int, h: Array) -> Array:
      if stage or h.shape != shift.shape:
        return h
      sees_image.append(True)
      return h + shift.astype(h.dtype)

    return jnp.sum(values(image, tap)[0])

  shift = jnp.zeros(image.shape, jnp.promote_types(image.dtype, jnp.float32))
  by_image, by_shift = jax.grad(total, argnums=(0, 1))(image, shift)
  return jax.lax.stop_gradient(by_shift if sees_image else reduce.promote(by_image))


def _check(
  spec: Spec, blocks: Sequence[int], neighbourhood: int, transport_size: int, num_labels: int
) -> None:
  height, width = spec.image_shape[:2]
  if height != width:
    raise InputError(
      f"config.method.name is puzzlemix, which needs square images, but these are {height} x "
      f"{width} pixels; crop or resize them"
    )
  if num_labels < 2:
    raise InputError(f"config.method.num_labels is {num_labels}; it must be 2 or larger")
  if not blocks:
    raise InputError("config.method.blocks is empty; name at least one grid, such as 4")
  for n in blocks:
    try:
      check_blocks(width, n, neighbourhood=neighbourhood, transport_size=transport_size)
    except InputError as error:
      raise InputError(f"config.method.{error}") from None

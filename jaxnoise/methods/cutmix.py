"""CutMix: a box of every image is replaced by its partner's, and the labels by the box's share."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnoise import augment
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base, _mixed


def cutmix(
  network: Network,
  *,
  spec: Spec,
  alpha: float = 1.0,
  probability: float = 1.0,
  continuous: bool = False,
  loss: str | _base.Loss = "cross_entropy",
  loss_args: Mapping[str, object] | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Minimises lam' l(f(x~), y) + (1 - lam') l(f(x~), y[sigma]), x~ = M x + (1 - M) x[sigma].

  M is 0 in a box of area about (1 - lam) H W, lam ~ Beta(alpha, alpha), and 1 elsewhere; lam' is
  the mean of M, the share of pixels that stay once the box is clipped to the image. One box and one
  permutation sigma per batch. With example weights w, row i's two terms carry lam' w_i and
  (1 - lam') w_sigma(i), over the batch's sum of weights.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    alpha: of the Beta distribution, >= 0; 0 is `erm`.
    probability: share of batches with a box; the others are trained on as they are. The paper's
      algorithm has 1, and so have the authors' ImageNet runs and PuzzleMix' comparison; their CIFAR
      runs have 0.5.
    continuous: how the box meets the pixels; see `augment.sample_box`. Authors' code: False.
    loss: a name in `jaxnoise.losses`, or any (logits [B, K], targets [B, K]) -> [B]; the loss is
      mixed, not its target.
    loss_args: the loss's hyper-parameters.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative alpha, a probability outside [0, 1], or groups that do not divide
      every batch.

  Source: Yun et al. (2019), eqs. (1)-(2), and the authors' code, which first drew the labels'
    coefficient as lam and later as lam'.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> params, stats = jax.jit(network.init)(jax.random.key(0), batch["image"])
    >>> state = core.TrainState.create(jax.random.key(1), params, stats)
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> loss_fn = methods.cutmix(network, spec=spec).loss_fn(state)
    >>> loss, aux = jax.jit(loss_fn)(params, batch, jax.random.key(2))
    >>> aux.per_example.shape
    (2,)
  """
  if not 0 <= probability <= 1:
    raise InputError(f"config.method.probability is {probability}; it must lie in [0, 1]")
  _mixed.check(alpha, spec, mix_groups)
  value_fn = _base.resolve_loss(loss, loss_args)
  view = _mixed.one_view(first, policy)

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      size, height, width = image.shape[:3]
      partners = augment.sample_partners(streams("partners"), size, mix_groups)
      lam = augment.sample_coefficient(streams("lam"), alpha)
      box = augment.sample_box(streams("box"), lam, height, width, continuous=continuous)
      if probability < 1:
        # A box without pixels is no box: the labels' coefficient is then exactly 1.
        box = jnp.where(jax.random.bernoulli(streams("apply"), probability), box, 0)
      image = augment.cut_paste(image, partners, box)
      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout")
      )
      kept = augment.kept_share(box, height, width)
      return _mixed.mixed_loss(out, batch, partners, kept, value_fn, spec.num_classes)

    return fn

  return Method("cutmix", loss_fn, _base.student(network))

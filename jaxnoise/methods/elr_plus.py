"""ELR+: early-learning regularisation of two networks, each held to the other's average."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base, _mixed, _two
from jaxnoise.methods.elr import check as check_elr

_NAME = "elr_plus"


def elr_plus(
  network: Network,
  *,
  spec: Spec,
  elr_weight: float = 3.0,
  beta: float = 0.7,
  coef_steps: int = 0,
  alpha: float = 1.0,
  ema_decay: float = 0.997,
  ema_steps: int | None = 40000,
  refine: bool | None = None,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  mix_groups: int = 1,
) -> Method:
  """Trains two networks a, b by mixup, each regularised by what the other's average says.

  For network a, with views x of its own, one coefficient lam ~ Beta(alpha, alpha), folded to
  max(lam, 1 - lam), and one permutation sigma:

      h_i <- beta h_i + (1 - beta) softmax(f(x_i; EMA of b)),    q = lam h + (1 - lam) h[sigma],
      L_a = soft CE(z, y~) + ramp(t) elr_weight mean_i log(1 - <q_i, clip(p_i, 1e-4, 1 - 1e-4)>),

  z = f(x~; a), x~ and y~ mixed like q, p = softmax(z), and t = 1 for the first update. h [N, K]
  starts at 0 and is moved before it is used. The average sees the unmixed views, in train mode, and
  gets no gradient. ramp(t) = exp(-5 (1 - min(t, R) / R)^2) with R = `coef_steps`. After an update,
  EMA <- d EMA + (1 - d) weights, with d = ema_decay exp(-5 (1 - min(t, E) / E)^2), E = `ema_steps`.
  Weights alone are averaged; running statistics of the averages have no reader and are not kept.

  The loss is L_a + L_b. Two differences from the authors' order: they train one network for an
  epoch and then the other, so that the second meets a newer average, and each has an order of its
  own; here both take every step together, on the same examples in views of their own.

  Args:
    network: the architecture of both networks.
    spec: the run's static facts; `num_train` and `num_classes` are used.
    elr_weight: the authors' lambda, >= 0. 3 for CIFAR-10 with symmetric noise, mini-WebVision and
      Clothing1M, 1 for CIFAR-10 with asymmetric noise, 7 for CIFAR-100.
    beta: of the history h, in [0, 1). 0.7; 0.9 for CIFAR-10 with asymmetric noise and CIFAR-100.
    coef_steps: R, in updates; 0 is no ramp, 40000 for CIFAR-100.
    alpha: of the Beta distribution, >= 0; 0 is no mixup, 1.5 for mini-WebVision.
    ema_decay: the largest d, in [0, 1). 0.9999 for Clothing1M.
    ema_steps: E, in updates; 0 for a constant d; None for d = min(1 - 1 / (t + 1), ema_decay), the
      authors' rule outside CIFAR.
    refine: whether y~ is first replaced by y~ q, renormalised; None means for 100 classes exactly,
      which is what the authors' code does.
    first: (rng, image) -> image, drawn afresh for every example, network and step (crop and flip).
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    mix_groups: partners are drawn within so many groups of the batch; 1 is the paper's.

  Returns:
    A Method with the predictors "mean", "net0" and "net1": the mean of the two networks' logits,
    which is what the authors test, and each alone; the networks themselves, not their averages,
    which are `state.ema_params`. h is `state.method_state["elr_plus"]`, by network.

  Raises:
    InputError: for a number out of its range, or groups that do not divide every batch.

  Source: S. Liu, J. Niles-Weed, N. Razavian, C. Fernandez-Granda, "Early-Learning Regularization
    Prevents Memorization of Noisy Labels" (2020), section 4.3, and the authors' code.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3), batch_size=2)
    >>> method = methods.elr_plus(network, spec=spec, coef_steps=100)
    >>> method.name, method.labelled
    ('elr_plus', False)
  """
  check_elr(elr_weight, beta)
  _mixed.check(alpha, spec, mix_groups)
  _check(coef_steps, ema_decay, ema_steps)
  refined = spec.num_classes == 100 if refine is None else refine
  view = _mixed.one_view(first, policy)
  make_two = _two.init_two(network, spec)

  def init_state(state: TrainState) -> TrainState:
    state = make_two(state)
    # Copies: the step donates its state, and one buffer cannot be donated twice.
    state = state.replace(ema_params=jax.tree.map(jnp.copy, state.params))
    shape = (spec.table_rows, spec.num_classes)
    return state.with_method_state(_NAME, {net: jnp.zeros(shape) for net in _two.NETS})

  def loss_fn(state: TrainState) -> LossFn:
    def one(net: str, other: str, params: Params, batch: Batch, streams: Streams):
      hot = _base.one_hot(batch["label"], spec.num_classes)
      image = view(streams, _base.crops_of(batch["image"], _two.NETS.index(net), 1))
      partners = augment.sample_partners(streams("partners"), image.shape[0], mix_groups)
      lam = augment.sample_coefficient(streams("lam"), alpha)
      lam = jnp.maximum(lam, 1 - lam)
      mixed = augment.mix(image, partners, lam)
      out = network.apply(
        params[net], state.batch_stats[net], mixed, train=True, rng=streams("dropout")
      )
      # In train mode the statistics that go in are not read, and those that come out are dropped.
      said = network.apply(
        state.ema_params[other],
        state.batch_stats[other],
        image,
        train=True,
        rng=streams("ema_dropout"),
      ).logits
      before = state.method_state[_NAME][net][batch["index"]]
      rows = losses.elr_update(before, said, beta=beta, clip=None)
      value, ce, term = elr_plus_objective(
        out.logits,
        augment.mix(hot, partners, lam),
        augment.mix(rows, partners, lam),
        elr_weight=elr_weight,
        ramp=sigmoid_ramp(state.step + 1, coef_steps),
        refine=refined,
      )
      own = losses.cross_entropy(out.logits, hot)
      return value, (out.batch_stats, own, ce, term, rows)

    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      values, rest = [], []
      for net, other in zip(_two.NETS, reversed(_two.NETS), strict=True):
        value, more = one(net, other, params, batch, Streams(streams(net)))
        values.append(value)
        rest.append(more)
      stats, own, ce, term, rows = (list(x) for x in zip(*rest, strict=True))
      both = lambda pair: dict(zip(_two.NETS, pair, strict=True))
      loss = values[0] + values[1]
      metrics = {
        "loss": reduce.mean_count(loss[None]),
        "label_loss": reduce.mean_count((ce[0] + ce[1]) / 2),
        "elr": reduce.mean_count((term[0] + term[1]) / 2),
      }
      return loss, Aux(both(stats), (own[0] + own[1]) / 2, metrics, both(rows))

    return fn

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    del rng
    tables = {
      net: table.at[batch["index"]].set(aux.extra[net].astype(table.dtype))
      for net, table in state.method_state[_NAME].items()
    }
    if ema_steps is None:
      decay = jnp.minimum(1 - 1 / (state.step.astype(float) + 1), ema_decay)
    else:
      decay = ema_decay * sigmoid_ramp(state.step, ema_steps)
    average = jax.tree.map(
      lambda a, b: (decay * a + (1 - decay) * b).astype(a.dtype), state.ema_params, state.params
    )
    return state.replace(ema_params=average).with_method_state(_NAME, tables)

  return Method(
    _NAME,
    loss_fn,
    _two.two_predictors(network, "mean"),
    init_state=init_state,
    post_step=post_step,
    host_crops=len(_two.NETS),
    labelled=False,
  )


def elr_plus_objective(
  logits: Array,
  targets: Array,
  history: Array,
  *,
  elr_weight: float = 3.0,
  ramp: Array | float = 1.0,
  refine: bool = False,
) -> tuple[Array, Array, Array]:
  """Computes mean_i [CE(z_i, t_i) + ramp elr_weight log(1 - <q_i, clip(p_i, 1e-4, 1 - 1e-4)>)].

  Args:
    logits: [B, K] z, of mixed examples.
    targets: [B, K] t, their labels, mixed likewise.
    history: [B, K] q, the running averages of predictions, mixed likewise; constant.
    elr_weight: the authors' lambda.
    ramp: factor of the second term, in [0, 1].
    refine: replace t by t q / sum_c t_c q_c first; a row in which this sum is 0 keeps t.

  Returns:
    (scalar loss, [B] soft cross-entropy, [B] log term without its weight).

  Source: the authors' code of ELR+.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import elr_plus_objective
    >>> value, ce, term = elr_plus_objective(jnp.zeros((1, 2)), jnp.eye(2)[:1], jnp.eye(2)[:1])
    >>> round(float(ce[0]), 4), round(float(value), 4)  # log 2, and -3 log 2 with it
    (0.6931, -1.3863)
  """
  history = jax.lax.stop_gradient(history)
  if refine:
    product = targets * history
    total = jnp.sum(product, axis=-1, keepdims=True)
    targets = jnp.where(total > 0, product / jnp.where(total > 0, total, 1.0), targets)
  ce, term = losses.cross_entropy(logits, targets), losses.elr(logits, history)
  return jnp.mean(ce + ramp * elr_weight * term), ce, term


def sigmoid_ramp(t: Array, length: int) -> Array:
  """Computes exp(-5 (1 - min(t, R) / R)^2), from exp(-5) at t = 0 to 1 at t = R; 1 for R = 0."""
  t = jnp.asarray(t, float)
  if not length:
    return jnp.ones_like(t)
  return jnp.exp(-5.0 * (1 - jnp.clip(t / length, 0.0, 1.0)) ** 2)


def _check(coef_steps: int, ema_decay: float, ema_steps: int | None) -> None:
  for field, value in (("coef_steps", coef_steps), ("ema_steps", ema_steps or 0)):
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger, in updates")
  if not 0 <= ema_decay < 1:
    raise InputError(f"config.method.ema_decay is {ema_decay}; it must lie in [0, 1)")

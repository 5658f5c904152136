"""Co-teaching: two networks, each trained on the examples that the other finds easy."""

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


def co_teaching(
  network: Network,
  *,
  spec: Spec,
  noise_rate: float | None = None,
  ramp_epochs: float = 10.0,
  exponent: float = 1.0,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  dropout: float | None = None,
) -> Method:
  """Trains each of two networks on the small-loss examples that the other selects.

  In every batch of B examples each network marks the R(T) B examples of smallest cross-entropy, and
  minimises its own mean cross-entropy over those that the other has marked. With T the number of
  epochs completed, T_k = `ramp_epochs`, c = `exponent`, tau = `noise_rate`,

    R(T) = 1 - tau min(T^c / T_k, 1).

  Both networks see the same view of the batch in one step and are updated from the same old
  weights, as in the paper. R(T) B is rounded down, as in the authors' code; at least one example is
  kept.

  Args:
    network: the architecture of both; the second is drawn from a stream of its own.
    spec: the run's static facts; `num_classes`, `image_shape` and `steps_per_epoch` are used.
    noise_rate: tau in [0, 1), the share of wrong labels, known or estimated; it has no default. 0
      trains two networks independently.
    ramp_epochs: T_k, in epochs; 10 in the paper, which tries 5, 10 and 15.
    exponent: c > 0; 1 in the paper, which tries 0.5, 1 and 2. The authors' code raises tau to it
      instead: its R(T) is 1 - min(tau^c (T + 1) / (T_k - 1), tau) for its default c = 1.
    first: (rng, image) -> image, one draw per example (flip and crop), the same as in `erm`.
    policy: (rng, image) -> image, applied after `first`; None for no further transform.
    dropout: overrides the network's dropout rate; the masks of the two networks differ.

  Returns:
    A Method with the predictors "mean" (of both networks' logits), "net0" and "net1"; the published
    accuracies are those of single networks. Example weights have no meaning for it.

  Raises:
    InputError: without a noise rate in [0, 1), or for a ramp or an exponent that is not positive.

  Source: Han et al. (2018), algorithm 1, and its experiments' section for c and T_k.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.co_teaching(network, spec=spec, noise_rate=0.4)
    >>> params, stats = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    >>> state = core.TrainState.create(jax.random.key(1), params, stats)
    >>> sorted(jax.jit(method.init_state)(state).params)
    ['net0', 'net1']
  """
  _check(noise_rate, ramp_epochs, exponent)
  view = _mixed.one_view(first, policy)

  def loss_fn(state: TrainState) -> LossFn:
    epoch = reduce.promote(jnp.asarray(state.step // spec.steps_per_epoch, float))
    share = 1 - noise_rate * jnp.minimum(epoch**exponent / ramp_epochs, 1.0)

    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      keys = dict(zip(_two.NETS, jax.random.split(streams("dropout")), strict=True))
      out = {
        net: network.apply(
          params[net], state.batch_stats[net], image, train=True, rng=keys[net], dropout=dropout
        )
        for net in _two.NETS
      }
      value, per_example, metrics = co_teaching_objective(
        *(out[net].logits for net in _two.NETS),
        _base.one_hot(batch["label"], spec.num_classes),
        share,
      )
      return value, Aux({net: o.batch_stats for net, o in out.items()}, per_example, metrics)

    return fn

  return Method(
    "co_teaching",
    loss_fn,
    _two.two_predictors(network, "mean"),
    init_state=_two.init_two(network, spec),
    labelled=False,
  )


def co_teaching_objective(
  logits: Array, other_logits: Array, targets: Array, share: Array | float
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
  """Computes the sum of both networks' losses, each over the examples that the other selects.

  L = (1 / n) sum_(i in S1) CE(z0_i, t_i) + (1 / n) sum_(i in S0) CE(z1_i, t_i), S_k the n examples
  of smallest CE(zk_i, t_i), n = max(floor(R B), 1). Of equal losses the earlier row is selected.

  Args:
    logits: [B, K] z0, of the first network.
    other_logits: [B, K] z1, of the second.
    targets: [B, K] distributions.
    share: R in [0, 1].

  Returns:
    (scalar loss, [B] mean of the two networks' CE for each example, metrics: "loss", the mean of
    the two terms, "kept", the share selected, and "shared", the part of it that both select).

  Source: Han et al. (2018), algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.methods import co_teaching_objective
    >>> z = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> loss, _, _ = co_teaching_objective(z, -z, jnp.array([[1.0, 0.0], [1.0, 0.0]]), 0.5)
    >>> round(float(loss), 4)  # 1.3133 for the first, on row 1, and 2.1269 for the second, on row 0
    3.4402
  """
  values = [losses.cross_entropy(z, targets) for z in (logits, other_logits)]
  size = values[0].shape[0]
  # In single precision R B may come out just below the whole number that it stands for.
  count = jnp.maximum(jnp.floor(jnp.asarray(share, values[0].dtype) * size + 1e-4), 1.0)
  chosen = [_smallest(jax.lax.stop_gradient(v), count) for v in values]
  terms = [jnp.sum(mask * v) / count for mask, v in zip(reversed(chosen), values, strict=True)]
  total = jnp.asarray(size, values[0].dtype)
  metrics = {
    "loss": (sum(terms) / 2 * total, total),
    "kept": (count, total),
    "shared": (jnp.sum(chosen[0] * chosen[1]), count),
  }
  return sum(terms), sum(values) / 2, metrics


def _smallest(values: Array, count: Array) -> Array:
  """[B] of 0 and 1: the `count` smallest values; `count` may be traced."""
  rank = jnp.argsort(jnp.argsort(values))
  return (rank < count).astype(values.dtype)


def _check(noise_rate: float | None, ramp_epochs: float, exponent: float) -> None:
  if not isinstance(noise_rate, int | float) or not 0 <= noise_rate < 1:
    raise InputError(
      f"config.method.noise_rate is {noise_rate!r}; co_teaching takes the share of wrong labels, a "
      "number in [0, 1): the nominal rate of the noise, or an estimate"
    )
  for field, value in (("ramp_epochs", ramp_epochs), ("exponent", exponent)):
    if value <= 0:
      raise InputError(f"config.method.{field} is {value}; it must be positive")

"""Meta-Weight-Net: example weights from a small network that learns on trusted examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams, fold
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  LossFn,
  Method,
  Network,
  Params,
  PRNGKey,
  SideBatch,
  Spec,
)
from jaxnoise.methods import _base

_NAME = "meta_weight_net"


def meta_weight_net(
  network: Network,
  *,
  spec: Spec,
  hidden: int = 100,
  meta_lr: float = 1e-3,
  meta_weight_decay: float = 1e-4,
  trusted_size: int | None = None,
  normalised: bool = False,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises (1/B) sum_i V(l_i; Theta) l_i, l_i = CE(f(x_i; w), y_i), with a learnt weight V.

  V is a network 1 -> `hidden` -> 1 with a ReLU and a sigmoid. Every step, before w moves,

    w'(Theta) = w - lr grad_w (1/B) sum_i V(l_i; Theta) l_i        (l_i in V a constant),
    Theta     <- Adam(Theta, grad_Theta (1/T) sum_j CE(f(x_j; w'(Theta)), y_j)),

  j over T trusted examples and lr the schedule's rate of this step; w' has neither momentum nor
  weight decay. Then w takes the optimizer's step on the loss with the new Theta, V a constant. All
  passes are in train mode; running statistics are those of the training batch's own pass.

  Theta and Adam's state are `method_state["meta_weight_net"]`, {"params", "opt_state"}. Example
  weights of a wrapper multiply V l and divide by their own sum.

  Args:
    network: the model.
    spec: `num_classes`, `batch_size` and `learning_rate` are used.
    hidden: units of V.
    meta_lr: Adam's learning rate for Theta.
    meta_weight_decay: L2 added to Theta's gradient.
    trusted_size: T; None for the training batch's size.
    normalised: divide V by its sum over the batch, as the paper does; its authors' newer code,
      the default here, does not.
    first: (rng, image) -> image, for training and trusted images alike.

  Returns:
    A Method with one predictor, "student"; it draws a side batch from the pool "trusted".

  Raises:
    InputError: for a number out of range.

  Source: Shu et al. (2019), Meta-Weight-Net, eqs. (3)-(5) and algorithm 1, and the authors' code.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=40, num_classes=3, image_shape=(8, 8, 3), batch_size=8)
    >>> method = methods.meta_weight_net(network, spec=spec)
    >>> method.side_batches[0].pool, method.side_batches[0].size
    ('trusted', 8)
  """
  size = spec.batch_size if trusted_size is None else trusted_size
  for field, value, low in (
    ("hidden", hidden, 1), ("trusted_size", size, 1), ("meta_weight_decay", meta_weight_decay, 0),
  ):  # fmt: skip
    if value < low:
      raise InputError(f"config.method.{field} is {value}; it must be {low} or larger")
  if not meta_lr > 0:
    raise InputError(f"config.method.meta_lr is {meta_lr}; it must be larger than 0")
  transform = augment.batched(first)
  # Coupled, as PyTorch's Adam has it: the decay enters the moments.
  optimizer = optax.chain(optax.add_decayed_weights(meta_weight_decay), optax.adam(meta_lr))

  def init_state(state: TrainState) -> TrainState:
    theta = init_weight_net(fold(state.rng, _NAME), hidden)
    return state.with_method_state(
      _NAME, {"params": theta, "opt_state": optimizer.init(theta)}
    )

  def loss_fn(state: TrainState) -> LossFn:
    own = state.method_state[_NAME]
    rate = jnp.asarray(spec.learning_rate(state.step))

    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams, trusted = Streams(rng), batch["side"]["trusted"]
      image = transform(streams("augment"), batch["image"])
      trusted_image = transform(streams("trusted_augment"), trusted["image"])
      dropout, trusted_dropout = streams("dropout"), streams("trusted_dropout")
      weight = batch.get("weight")

      def per_example(params: Params, image: Array, label: Array, key: PRNGKey):
        out = network.apply(params, state.batch_stats, image, train=True, rng=key)
        targets = _base.one_hot(label, spec.num_classes)
        return losses.cross_entropy(out.logits, targets), out.batch_stats

      # One forward pass of the batch serves the virtual step, frozen, and the step itself.
      values, pull, batch_stats = jax.vjp(
        lambda p: per_example(p, image, batch["label"], dropout), params, has_aux=True
      )
      frozen, fixed, pull = jax.lax.stop_gradient((params, values, pull))

      def meta_loss(theta: Params) -> Array:
        # The virtual step is linear in the weights, so one linearised pass serves every Theta.
        coefficients = jax.grad(_objective)(fixed, weight_net(theta, fixed), weight, normalised)
        (slope,) = pull(coefficients)
        moved = jax.tree.map(lambda p, g: p - rate.astype(p.dtype) * g, frozen, slope)
        trusted_values, _ = per_example(
          moved, trusted_image, trusted["label"], trusted_dropout
        )
        return jnp.mean(trusted_values)

      meta, theta_slope = jax.value_and_grad(meta_loss)(own["params"])
      updates, opt_state = optimizer.update(theta_slope, own["opt_state"], own["params"])
      theta = jax.lax.stop_gradient(optax.apply_updates(own["params"], updates))
      v = weight_net(theta, fixed)
      loss = _objective(values, v, weight, normalised)
      one = jnp.ones_like(loss)
      metrics = {
        "loss": (loss, one),
        "label_loss": reduce.mean_count(values),
        "trusted_loss": (meta, one),
        "meta_weight": reduce.mean_count(v),
      }
      extra = {"params": theta, "opt_state": jax.lax.stop_gradient(opt_state)}
      return loss, Aux(batch_stats, values, metrics, extra)

    return fn

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    del batch, rng
    return state.with_method_state(_NAME, aux.extra)

  return Method(
    _NAME,
    loss_fn,
    _base.student(network),
    init_state=init_state,
    post_step=post_step,
    side_batches=(SideBatch("trusted", "trusted", size),),
  )


def init_weight_net(rng: PRNGKey, hidden: int = 100) -> dict[str, Array]:
  """Draws the parameters of `weight_net`: every one of a layer U(-b, b), b = 1 / sqrt(fan_in).

  Args:
    rng: a key.
    hidden: H.

  Returns:
    {"w1": [H], "b1": [H], "w2": [H], "b2": []} float32, fan_in being 1 for the first two and H for
    the others (PyTorch's default).
  """
  drawn = jax.random.uniform(rng, (3 * hidden + 1,), jnp.float32, -1.0, 1.0)
  w1, b1, w2, b2 = jnp.split(drawn, (hidden, 2 * hidden, 3 * hidden))
  return {"w1": w1, "b1": b1, "w2": w2 / hidden**0.5, "b2": b2[0] / hidden**0.5}


def weight_net(theta: Params, values: Array) -> Array:
  """Computes V(l; Theta) = sigmoid(w2 . relu(w1 l + b1) + b2) for every loss.

  Args:
    theta: as made by `init_weight_net`.
    values: [B] losses.

  Returns:
    [B] in (0, 1).

  Source: Shu et al. (2019), Meta-Weight-Net, section 3.1.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import methods
    >>> theta = {"w1": jnp.ones(1), "b1": jnp.zeros(1), "w2": -jnp.ones(1), "b2": jnp.zeros(())}
    >>> [round(float(v), 3) for v in methods.weight_net(theta, jnp.array([0.0, 2.0]))]
    [0.5, 0.119]
  """
  h = jax.nn.relu(values[:, None] * theta["w1"][None, :] + theta["b1"][None, :])
  return jax.nn.sigmoid(h @ theta["w2"] + theta["b2"])


def _objective(values: Array, v: Array, weight: Array | None, normalised: bool) -> Array:
  """sum_i w_i V_i l_i over sum_i w_i, or over sum_i w_i V_i."""
  if not normalised:
    return reduce.weighted_mean(v * values, weight)
  v = v if weight is None else v * jax.lax.stop_gradient(weight)
  total = jnp.sum(v)
  # Sigmoids that have all underflowed weigh nothing.
  return jnp.sum(v * values) / jnp.where(total > 0, total, 1.0)

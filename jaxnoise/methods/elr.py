"""Early-learning regularisation: cross-entropy, held to what the network said early on."""

from __future__ import annotations

import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base, _mixed

_NAME = "elr"


def elr(
  network: Network,
  *,
  spec: Spec,
  elr_weight: float = 3.0,
  beta: float = 0.7,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
) -> Method:
  """Minimises sum_i w_i [CE(z_i, y_i) + elr_weight log(1 - <t_i, p_i>)] / sum_i w_i.

  p_i = clip(softmax(z_i), 1e-4, 1 - 1e-4). t [N, K], the running average of the predictions for
  each training example, starts at 0 and, in every step, is moved for the batch's examples before
  it enters the loss:

      t_i <- beta t_i + (1 - beta) p_i / sum_c p_ic.

  The gradient goes through p alone, and is 0 where p is clipped. w_i = 1 unless a wrapper weighs.
  Should one batch hold an example twice, each row sees the average moved by itself, and one of the
  two is kept.

  Args:
    network: the model.
    spec: the run's static facts; `num_train` and `num_classes` are used.
    elr_weight: the authors' lambda, >= 0; 0 is `erm`. 3 for CIFAR-10 with symmetric noise, 1 with
      asymmetric, 7 for CIFAR-100.
    beta: of the average, in [0, 1). 0.7 for CIFAR-10 with symmetric noise, 0.9 otherwise.
    first: (rng, image) -> image, drawn afresh for every example and step (crop and flip).
    policy: (rng, image) -> image, applied after `first`; None for no further transform.

  Returns:
    A Method with one predictor, "student"; t is `state.method_state["elr"]["targets"]`.

  Raises:
    InputError: for a negative weight, or a beta outside [0, 1).

  Source: S. Liu, J. Niles-Weed, N. Razavian, C. Fernandez-Granda, "Early-Learning Regularization
    Prevents Memorization of Noisy Labels" (2020), eqs. (6) and (9), and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.elr(network, spec=spec, elr_weight=7.0, beta=0.9).name
    'elr'
  """
  check(elr_weight, beta)
  view = _mixed.one_view(first, policy)

  def init_state(state: TrainState) -> TrainState:
    targets = jnp.zeros((spec.table_rows, spec.num_classes))
    return state.with_method_state(_NAME, {"targets": targets})

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = view(streams, batch["image"])
      out = network.apply(params, state.batch_stats, image, train=True, rng=streams("dropout"))
      before = state.method_state[_NAME]["targets"][batch["index"]]
      targets = losses.elr_update(before, out.logits, beta=beta)
      ce = losses.cross_entropy(out.logits, _base.one_hot(batch["label"], spec.num_classes))
      term = losses.elr(out.logits, targets)
      values = ce + elr_weight * term
      metrics = {
        "loss": reduce.mean_count(values),
        "label_loss": reduce.mean_count(ce),
        "elr": reduce.mean_count(term),
      }
      value = reduce.weighted_mean(values, batch.get("weight"))
      return value, Aux(out.batch_stats, ce, metrics, targets)

    return fn

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    del rng
    table = state.method_state[_NAME]["targets"]
    rows = aux.extra.astype(table.dtype)
    return state.with_method_state(_NAME, {"targets": table.at[batch["index"]].set(rows)})

  return Method(_NAME, loss_fn, _base.student(network), init_state=init_state, post_step=post_step)


def check(elr_weight: float, beta: float) -> None:
  """Refuses a negative weight and a beta outside [0, 1)."""
  if elr_weight < 0:
    raise InputError(f"config.method.elr_weight is {elr_weight}; it must be 0 or larger")
  if not 0 <= beta < 1:
    raise InputError(f"config.method.beta is {beta}; it must lie in [0, 1)")

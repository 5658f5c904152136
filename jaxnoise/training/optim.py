"""Optimizers as the papers' PyTorch recipes define them, the plateau rule, and freezing.

Every optimizer accepts `update(grads, opt_state, params, value=loss)`. Its state is arrays only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, Params, PyTree
from jaxnoise.training.schedules import Schedule

NAMES = ("adam", "adamw", "lars", "sgd")
"""What `config.optim.name` may name."""


def make_optimizer(
  config: Mapping, schedule: Schedule, *, steps_per_epoch: int | None = None
) -> optax.GradientTransformationExtraArgs:
  """Builds the optimizer that `config.optim` names, in PyTorch's definitions.

  With g the gradient, w a parameter, a weight decay of b and the learning rate lr:

    sgd: u = g + b w; v <- momentum v + u; w -= lr v, or lr (u + momentum v) with `nesterov`.
    adam: the moments are those of u = g + b w; w -= lr m / (sqrt(v) + eps), bias-corrected.
    adamw: the moments are those of g; w -= lr (m / (sqrt(v) + eps) + b w).
    lars: r = trust_coefficient |w| / (|g| + b |w|) for each leaf; v <- momentum v + lr r (g + b w);
      w -= v. You et al., 'Large batch training of convolutional networks' (2017): the sum of the
      norms as in the paper, where optax.lars has the norm of the sum; no Nesterov momentum. Leaves
      of one axis, biases and norm parameters, have r = 1 and no decay, as is usual; so has a leaf
      whose norm, or whose gradient's, is 0 (r only).

  With `decay` "kernels" only leaves of two or more axes decay. With `schedule` "plateau" the rate
  is multiplied by `plateau`'s scale.

  Args:
    config: `optim` with `name`, `weight_decay`, `decay` ("all", "kernels"), `momentum` (sgd, lars),
      `nesterov` (sgd), `beta1`, `beta2`, `eps` (adam, adamw), `trust_coefficient` (lars), and for
      the schedule "plateau" `factor`, `patience`, `threshold`, `min_scale`.
    schedule: step -> learning rate.
    steps_per_epoch: optimizer updates in an epoch, which the plateau rule needs.

  Raises:
    InputError: for an unknown name, or a number out of its range.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.training import optim
    >>> config = {"name": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.5}
    >>> optimizer = optim.make_optimizer(config, lambda step: 0.1)
    >>> params = {"kernel": jnp.array([2.0])}
    >>> grads = {"kernel": jnp.array([1.0])}
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params, value=0.7)
    >>> round(float(updates["kernel"][0]), 4)
    -0.2
  """
  _check(config)
  rate = optax.scale_by_learning_rate(schedule)
  if config.get("schedule") == "plateau":
    if steps_per_epoch is None:
      raise ValueError("make_optimizer: the schedule 'plateau' needs steps_per_epoch")
    watch = plateau(
      steps_per_epoch,
      factor=config["factor"],
      patience=config.get("patience", 10),
      threshold=config.get("threshold", 1e-4),
      min_scale=config.get("min_scale", 0.0),
    )
    rate = optax.chain(rate, watch)
  mask = _kernels if config.get("decay", "all") == "kernels" else None
  decay = optax.add_decayed_weights(config["weight_decay"], mask=mask)
  name, momentum = config["name"], config["momentum"]
  adam = optax.scale_by_adam(
    config.get("beta1", 0.9), config.get("beta2", 0.999), config.get("eps", 1e-8)
  )
  if name == "adam":
    return optax.chain(decay, adam, rate)
  if name == "adamw":
    return optax.chain(adam, decay, rate)
  if name == "lars":
    trust = _trust_ratio(config.get("trust_coefficient", 1e-3), config["weight_decay"])
    return optax.chain(trust, rate, _trace(momentum, False))
  return optax.chain(decay, optax.chain(_trace(momentum, config["nesterov"]), rate))


def _check(config: Mapping) -> None:
  for field, default, known, kind in (
    ("name", "sgd", NAMES, "optimizer"),
    ("decay", "all", ("all", "kernels"), "choice"),
  ):
    value = config.get(field, default)
    if value not in known:
      raise InputError(
        f"config.optim.{field} is {value!r}, no such {kind}: {closest(value, known)}"
      )
  numbers = {field: config.get(field) for field in _RANGES}
  for field, value in numbers.items():
    fits, words = _RANGES[field]
    if value is not None and not fits(value):
      raise InputError(f"config.optim.{field} is {value}; it must {words}")
  if config.get("schedule") == "plateau" and not 0 < config["factor"] < 1:
    raise InputError(
      f"config.optim.factor is {config['factor']}; the schedule 'plateau' multiplies the rate by "
      "it, and it must lie between 0 and 1"
    )


_below_one = lambda x: 0 <= x < 1
_positive = lambda x: 0 < x < float("inf")
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
  "weight_decay": (lambda x: 0 <= x < float("inf"), "be >= 0"),
  "momentum": (_below_one, "lie in [0, 1)"),
  "beta1": (_below_one, "lie in [0, 1)"),
  "beta2": (_below_one, "lie in [0, 1)"),
  "eps": (_positive, "be larger than 0"),
  "trust_coefficient": (_positive, "be larger than 0"),
  "patience": (lambda x: x >= 0, "be 0 or larger"),
  "threshold": (lambda x: 0 < x < 1, "lie between 0 and 1"),
  "min_scale": (lambda x: 0 <= x <= 1, "lie in [0, 1]"),
}


def _kernels(params: Params) -> PyTree:
  """True for leaves that decay where only kernels do: no biases, no norm scales."""
  return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def _trace(momentum: float, nesterov: bool) -> optax.GradientTransformation:
  return optax.trace(momentum, nesterov) if momentum else optax.identity()


def _trust_ratio(coefficient: float, weight_decay: float) -> optax.GradientTransformation:
  """The paper's local rate times the decayed gradient, leaf by leaf; see `make_optimizer`."""

  def scaled(g: Array, w: Array) -> Array:
    if w.ndim < 2:
      return g
    norm_w, norm_g = jnp.linalg.norm(w.ravel()), jnp.linalg.norm(g.ravel())
    usable = (norm_w > 0) & (norm_g > 0)
    below = jnp.where(usable, norm_g + weight_decay * norm_w, 1.0)
    return jnp.where(usable, coefficient * norm_w / below, 1.0) * (g + weight_decay * w)

  return optax.stateless(lambda updates, params: jax.tree.map(scaled, updates, params))


class PlateauState(NamedTuple):
  """What the plateau rule keeps.

  Attributes:
    scale: float32 scalar, what the latest update was scaled by.
    watch: the epoch's mean so far, the best epoch's, how many were bad, and the next scale.
  """

  scale: Array
  watch: PyTree


def plateau(
  steps_per_epoch: int,
  *,
  factor: float = 0.1,
  patience: int = 10,
  threshold: float = 1e-4,
  min_scale: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """Scales updates by PyTorch's ReduceLROnPlateau rule on each epoch's mean training loss.

  An epoch is good if mean < best (1 - threshold), and then becomes the best; else it is bad. At
  the end of the bad epoch of number `patience` + 1 since the last good one or the last reduction,
  scale <- max(scale * factor, min_scale), in force from the first step of the next epoch. PyTorch's
  defaults: mode "min", relative threshold, no cooldown. The mean is that of the step losses given
  as `value`, each step counting alike, taken in float32.

  The counting is optax.contrib.reduce_on_plateau's, which differs in two ways made up for here: its
  patience is the number of the bad epoch that reduces (PyTorch's + 1), and it scales the epoch's
  last update by the next epoch's scale. One difference stays: PyTorch leaves a rate as it is when
  the reduction would be smaller than 1e-8.

  Args:
    steps_per_epoch: updates in an epoch; epochs count from the first update.
    factor: in (0, 1).
    patience: bad epochs in a row that are put up with.
    threshold: relative, in (0, 1).
    min_scale: the scale is never smaller.

  Returns:
    A transformation whose `update` needs `value`, the loss, as a keyword.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.training import optim
    >>> rule = optim.plateau(1, factor=0.5, patience=1)
    >>> state, scales = rule.init(None), []
    >>> for loss in (2.0, 1.0, 1.0, 1.0, 1.0):
    ...   updates, state = rule.update(jnp.ones(()), state, value=loss)
    ...   scales.append(float(updates))
    >>> scales
    [1.0, 1.0, 1.0, 1.0, 0.5]
  """
  rule = optax.contrib.reduce_on_plateau(
    factor=factor,
    patience=patience + 1,
    rtol=threshold,
    accumulation_size=steps_per_epoch,
    min_scale=min_scale,
  )

  def init(params: Params) -> PlateauState:
    del params  # the rule's numbers are float32 whatever the parameters are
    return PlateauState(jnp.ones((), jnp.float32), rule.init(jnp.zeros((), jnp.float32)))

  def update(updates: PyTree, state: PlateauState, params: Params = None, *, value, **extra):
    del params, extra
    scale = state.watch.scale
    _, watch = rule.update((), state.watch, value=jnp.asarray(value, jnp.float32))
    scaled = jax.tree.map(lambda u: (scale * u).astype(u.dtype), updates)
    return scaled, PlateauState(scale, watch)

  return optax.GradientTransformationExtraArgs(init, update)


def scale_of(opt_state: PyTree) -> Array:
  """Returns what the latest update multiplied the schedule's rate by: 1 without a plateau rule.

  The rate of the update that made `opt_state` is `schedule(t) * scale_of(opt_state)`, t being that
  update's step.

  Args:
    opt_state: of an optimizer made here, frozen parts or not; several seeds have an axis [S].

  Returns:
    float32, a scalar or [S]: a copy, so that it outlives a donated state.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.training import optim
    >>> float(optim.scale_of(optim.plateau(10).init(None)))
    1.0
  """
  is_plateau = lambda x: isinstance(x, PlateauState)
  found = [x for x in jax.tree.leaves(opt_state, is_leaf=is_plateau) if is_plateau(x)]
  return jnp.copy(found[0].scale) if found else jnp.ones((), jnp.float32)


def freeze(
  optimizer: optax.GradientTransformation, frozen: PyTree
) -> optax.GradientTransformationExtraArgs:
  """Leaves parameters as they are: no update, no weight decay, no momentum kept for them.

  Their gradients may be anything, not finite ones too. With nothing frozen the optimizer is
  returned as it is.

  Args:
    optimizer: of the other parameters.
    frozen: a pytree of bool of the structure of the parameters, True where frozen;
      `jaxnoise.models.frozen_stages` makes one.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> from jaxnoise.training import optim
    >>> params = {"stem": jnp.ones(()), "head": jnp.ones(())}
    >>> optimizer = optim.freeze(optax.sgd(0.5), {"stem": True, "head": False})
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> [float(updates[name]) for name in ("stem", "head")]
    [0.0, -0.5]
  """
  if not any(jax.tree.leaves(frozen)):
    return optax.with_extra_args_support(optimizer)
  trained = jax.tree.map(operator.not_, frozen)
  return optax.chain(
    optax.masked(optimizer, trained), optax.masked(optax.set_to_zero(), frozen)
  )

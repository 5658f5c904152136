"""Optimizers and learning-rate schedules, as the papers' PyTorch recipes define them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array

Schedule = Callable[[Array], Array]


def cosine(lr: float, num_steps: int, *, lr_min: float = 1e-6) -> Schedule:
  """Returns lr(t) = lr_min + (lr - lr_min) (1 + cos(pi t / T)) / 2, per step.

  Args:
    lr: the learning rate at step 0.
    num_steps: T.
    lr_min: the rate at T and after; the authors' code of NoisyMix has 1e-6.

  Example:
    >>> from jaxnoise.training import optim
    >>> round(float(optim.cosine(0.1, 100)(50)), 4)
    0.05
  """

  def schedule(step: Array) -> Array:
    done = jnp.minimum(step / num_steps, 1.0)
    return lr_min + (lr - lr_min) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

  return schedule


def step_decay(lr: float, milestones: tuple[int, ...], *, factor: float = 0.1) -> Schedule:
  """Returns lr * factor^(number of milestones reached), milestones in steps.

  Example:
    >>> from jaxnoise.training import optim
    >>> round(float(optim.step_decay(1.0, (10, 20))(15)), 3)
    0.1
  """
  bounds = jnp.asarray(milestones, jnp.int32)
  return lambda step: lr * factor ** jnp.sum(step >= bounds)


def constant(lr: float) -> Schedule:
  """Returns lr at every step."""
  return lambda step: jnp.full((), lr)


def make_schedule(config: Mapping, num_steps: int, to_steps: Callable[[str, str], int]) -> Schedule:
  """Builds the schedule that `config.optim` names.

  Args:
    config: `optim` with `lr`, `schedule` ("cosine", "step", "constant"), `lr_min`, `milestones`
      (durations), `factor`.
    num_steps: of the run.
    to_steps: (field, duration) -> steps.

  Raises:
    InputError: for an unknown schedule, or a rate that is not positive.
  """
  if not config["lr"] > 0:
    raise InputError(f"config.optim.lr is {config['lr']}; it must be larger than 0")
  name = config["schedule"]
  if name == "cosine":
    return cosine(config["lr"], num_steps, lr_min=config["lr_min"])
  if name == "step":
    steps = tuple(to_steps("optim.milestones", m) for m in config["milestones"])
    return step_decay(config["lr"], steps, factor=config["factor"])
  if name == "constant":
    return constant(config["lr"])
  known = ("cosine", "step", "constant")
  raise InputError(f"config.optim.schedule is {name!r}, no such schedule: {closest(name, known)}")


def make_optimizer(config: Mapping, schedule: Schedule) -> optax.GradientTransformation:
  """Builds SGD as PyTorch defines it: L2 decay of every parameter enters before the momentum.

  Args:
    config: `optim` with `name` ("sgd"), `momentum`, `nesterov`, `weight_decay`.
    schedule: step -> learning rate.

  Raises:
    InputError: for an unknown optimizer, a negative decay or a momentum outside [0, 1).
  """
  if config["name"] != "sgd":
    raise InputError(
      f"config.optim.name is {config['name']!r}, no such optimizer: "
      + closest(config["name"], ("sgd",))
    )
  if config["weight_decay"] < 0:
    raise InputError(f"config.optim.weight_decay is {config['weight_decay']}; it must be >= 0")
  if not 0 <= config["momentum"] < 1:
    raise InputError(f"config.optim.momentum is {config['momentum']}; it must lie in [0, 1)")
  return optax.chain(
    optax.add_decayed_weights(config["weight_decay"]),
    optax.sgd(schedule, momentum=config["momentum"] or None, nesterov=config["nesterov"]),
  )

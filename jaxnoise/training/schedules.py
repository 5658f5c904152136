"""Learning-rate schedules: step -> rate, float32, compiled into the step and asked by the log.

Steps count optimizer updates from 0, the run's first. What a schedule cannot know, the loss, lives
in the optimizer's state: `optim.make_optimizer` adds it for "plateau".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array

Schedule = Callable[[Array], Array]
"""step -> learning rate, both of one shape; the rate is float32."""

NAMES = ("constant", "cosine", "exponential", "linear", "plateau", "restarts", "step")
"""What `config.optim.schedule` may name."""


def constant(lr: float) -> Schedule:
  """Returns lr at every step.

  Example:
    >>> from jaxnoise.training import schedules
    >>> round(float(schedules.constant(0.1)(7)), 4)
    0.1
  """
  return lambda step: jnp.full(jnp.shape(step), lr, jnp.float32)


def cosine(lr: float, num_steps: int, *, lr_min: float = 1e-6, start: int = 0) -> Schedule:
  """Returns lr(t) = lr_min + (lr - lr_min) (1 + cos(pi (t - S) / (T - S))) / 2, per step.

  Exactly lr up to step S and exactly lr_min from step T on. Source: the authors' code of NoisyMix
  (with S = 0).

  Args:
    lr: the learning rate up to step S.
    num_steps: T.
    lr_min: the rate at T and after; the authors' code of NoisyMix has 1e-6.
    start: S, where the curve begins: the length of the warm-up, if there is one.

  Example:
    >>> from jaxnoise.training import schedules
    >>> round(float(schedules.cosine(0.1, 100)(50)), 4)
    0.05
  """

  def schedule(step: Array) -> Array:
    done = _float(jnp.clip(step, start, num_steps) - start) / (num_steps - start)
    high = 0.5 * (1.0 + jnp.cos(jnp.float32(np.pi) * done))
    # Not lr_min + (lr - lr_min) * high: this form is exact at both ends.
    return lr_min * (1.0 - high) + lr * high

  return schedule


def step_decay(lr: float, milestones: Sequence[int], *, factor: float = 0.1) -> Schedule:
  """Returns lr * factor^(number of milestones reached): PyTorch's MultiStepLR.

  Args:
    lr: the learning rate before the first milestone.
    milestones: in steps from the start of the run; the rate changes at the step of that number.
    factor: what each multiplies the rate by.

  Example:
    >>> from jaxnoise.training import schedules
    >>> round(float(schedules.step_decay(1.0, (10, 20))(15)), 3)
    0.1
  """
  bounds = np.sort(np.asarray(milestones, np.int32))
  # In float64, so that no rate carries the rounding of a power.
  rates = np.asarray([lr * factor**k for k in range(len(bounds) + 1)], np.float32)
  return lambda step: jnp.asarray(rates)[jnp.searchsorted(bounds, step, side="right")]


def exponential(lr: float, every: int, *, factor: float) -> Schedule:
  """Returns lr * factor^floor(t / every): PyTorch's ExponentialLR, `every` being its epoch.

  Args:
    lr: the learning rate of the first `every` steps.
    every: steps between two changes.
    factor: what each multiplies the rate by; PyTorch's gamma.

  Example:
    >>> from jaxnoise.training import schedules
    >>> schedule = schedules.exponential(1.0, 10, factor=0.5)
    >>> [float(schedule(t)) for t in (9, 10, 25)]
    [1.0, 0.5, 0.25]
  """
  return lambda step: lr * jnp.power(jnp.float32(factor), _float(jnp.asarray(step) // every))


def restarts(lr: float, period: int, *, every: int = 1, lr_min: float = 0.0) -> Schedule:
  """Returns lr_min + (lr - lr_min) (1 + cos(pi u / period)) / 2, u = t - t mod every, mod period.

  PyTorch's CosineAnnealingWarmRestarts, `every` being its epoch: the rate changes once an epoch and
  is back at lr after each period.

  Args:
    lr: the rate at each start.
    period: steps from one start to the next.
    every: steps between two changes.
    lr_min: what the rate falls towards.

  Example:
    >>> from jaxnoise.training import schedules
    >>> schedule = schedules.restarts(1.0, 20, every=5)
    >>> [round(float(schedule(t)), 4) for t in (0, 4, 10, 19, 20)]
    [1.0, 1.0, 0.5, 0.1464, 1.0]
  """

  def schedule(step: Array) -> Array:
    step = jnp.asarray(step)
    done = _float((step - step % every) % period) / period
    high = 0.5 * (1.0 + jnp.cos(jnp.float32(np.pi) * done))
    return lr_min * (1.0 - high) + lr * high

  return schedule


def linear(lr: float, start: int, num_steps: int, *, every: int = 1) -> Schedule:
  """Returns lr up to step S, then lr (T - u) / (T - S) with u = t - t mod every: 0 at T.

  Args:
    lr: the rate up to S.
    start: S, in steps.
    num_steps: T.
    every: steps between two changes.

  Source: the code of Han et al. (2018), Co-teaching, with an epoch for `every`.

  Example:
    >>> from jaxnoise.training import schedules
    >>> schedule = schedules.linear(1.0, 10, 30, every=5)
    >>> [float(schedule(t)) for t in (9, 14, 15, 29, 30)]
    [1.0, 1.0, 0.75, 0.25, 0.0]
  """

  def schedule(step: Array) -> Array:
    step = jnp.asarray(step)
    left = _float(num_steps - jnp.clip(step - step % every, start, num_steps))
    return lr * left / (num_steps - start)

  return schedule


def with_warmup(schedule: Schedule, lr: float, steps: int, *, start: float = 0.0) -> Schedule:
  """Returns lr (s + (1 - s) (t + 1) / W) for t < W, and `schedule` from step W on.

  The rate rises by the same amount at every step and is exactly lr at step W - 1, the last of the
  warm-up. lr * s is where the line would start, one step before the first: with s = 0 the first
  step has lr / W, so that none is wasted on a rate of 0.

  Args:
    schedule: what follows. It is asked for step t, not t - W: milestones count from the start of
      the run.
    lr: the rate reached.
    steps: W; with 0 the schedule is returned as it is.
    start: s, in [0, 1].

  Example:
    >>> from jaxnoise.training import schedules
    >>> schedule = schedules.with_warmup(schedules.constant(1.0), 1.0, 4)
    >>> [float(schedule(t)) for t in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
  """
  if not steps:
    return schedule

  def warmed(step: Array) -> Array:
    done = _float(jnp.minimum(jnp.asarray(step) + 1, steps)) / steps
    # Compiled, the division may become a product that misses 1 by a rounding.
    ramp = jnp.where(jnp.asarray(step) + 1 < steps, lr * (start * (1.0 - done) + done), lr)
    return jnp.where(jnp.asarray(step) < steps, ramp, schedule(step)).astype(jnp.float32)

  return warmed


def make_schedule(config: Mapping, num_steps: int, to_steps: Callable[[str, str], int]) -> Schedule:
  """Builds the schedule that `config.optim` names, with its warm-up.

  "constant"; "cosine" over the steps that the warm-up leaves, from lr down to `lr_min`; "step" with
  `milestones` and `factor`; "exponential" with `decay_every` and `factor`; "restarts", a cosine
  from lr down to `lr_min` in every `decay_every`, and "linear", down to 0 from the one milestone
  on, both changing once an epoch; "plateau", constant here, scaled by the optimizer. Milestones and
  `decay_every` count from the start of the run; during the warm-up their decay is not applied.

  Args:
    config: `optim` with `schedule`, `lr`, `lr_min`, `milestones` (durations), `factor`,
      `decay_every` (a duration), `warmup` (a duration), `warmup_start`.
    num_steps: of the run.
    to_steps: (field, duration) -> steps.

  Raises:
    InputError: for an unknown schedule, or a number out of its range.

  Example:
    >>> from jaxnoise.training import schedules
    >>> config = {"schedule": "cosine", "lr": 0.1, "lr_min": 0.0, "warmup": "10 steps"}
    >>> schedule = schedules.make_schedule(config, 100, lambda field, text: int(text.split()[0]))
    >>> [round(float(schedule(t)), 4) for t in (0, 9, 10, 55, 100)]
    [0.01, 0.1, 0.1, 0.05, 0.0]
  """
  name, lr = config["schedule"], config["lr"]
  if name not in NAMES:
    raise InputError(f"config.optim.schedule is {name!r}, no such schedule: {closest(name, NAMES)}")
  if not 0 < lr < np.inf:
    raise InputError(f"config.optim.lr is {lr}; it must be larger than 0")
  warmup = to_steps("optim.warmup", config.get("warmup", "0 steps"))
  start = config.get("warmup_start", 0.0)
  if warmup >= num_steps:
    raise InputError(
      f"config.optim.warmup is {config['warmup']!r}, {warmup} steps, but the whole run has "
      f"{num_steps}; make it shorter"
    )
  if not 0 <= start <= 1:
    raise InputError(
      f"config.optim.warmup_start is {start}; it is a fraction of config.optim.lr, in [0, 1]"
    )
  return with_warmup(_after(config, num_steps, warmup, to_steps), lr, warmup, start=start)


def _after(config: Mapping, num_steps: int, warmup: int, to_steps: Callable) -> Schedule:
  """The schedule without its warm-up."""
  name, lr = config["schedule"], config["lr"]
  if name in ("cosine", "restarts") and not 0 <= config["lr_min"] <= lr:
    raise InputError(
      f"config.optim.lr_min is {config['lr_min']}; it must lie between 0 and config.optim.lr, "
      f"which is {lr}"
    )
  if name == "cosine":
    return cosine(lr, num_steps, lr_min=config["lr_min"], start=warmup)
  if name in ("step", "exponential") and not 0 < config["factor"] < np.inf:
    raise InputError(f"config.optim.factor is {config['factor']}; it must be larger than 0")
  if name == "step":
    if not config["milestones"]:
      raise InputError(
        "config.optim.milestones is empty; the schedule 'step' needs durations such as "
        "('100 epochs', '150 epochs')"
      )
    steps = [to_steps("optim.milestones", m) for m in config["milestones"]]
    return step_decay(lr, steps, factor=config["factor"])
  if name == "linear":
    steps = [to_steps("optim.milestones", m) for m in config["milestones"]]
    if len(steps) != 1 or not 0 <= steps[0] < num_steps:
      raise InputError(
        f"config.optim.milestones is {config['milestones']}; the schedule 'linear' needs one, "
        "before the end of the run, from which on the rate falls"
      )
    return linear(lr, steps[0], num_steps, every=to_steps("optim.decay_every", "1 epoch"))
  if name in ("exponential", "restarts"):
    text = config.get("decay_every", "1 epoch")
    every = to_steps("optim.decay_every", text)
    if every < 1:
      raise InputError(f"config.optim.decay_every is {text!r}; it must be at least one step")
    if name == "exponential":
      return exponential(lr, every, factor=config["factor"])
    epoch = to_steps("optim.decay_every", "1 epoch")
    return restarts(lr, every, every=epoch, lr_min=config["lr_min"])
  return constant(lr)


def _float(step: Array) -> Array:
  return jnp.asarray(step).astype(jnp.float32)

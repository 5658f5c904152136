"""Learning-rate schedules: values, boundaries, warm-up, and what bad input is answered with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.core import InputError
from jaxnoise.training import durations, schedules, schema

NUM_STEPS = 200


def to_steps(field, text):
  return durations.to_steps(
    field, text, steps_per_epoch=20, batch_size=4, total_steps=NUM_STEPS
  )


def make(**changes):
  config = {**schema.default()["optim"], **changes}
  return schedules.make_schedule(config, NUM_STEPS, to_steps)


def rates(schedule, steps=NUM_STEPS + 5):
  return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(steps)))


def test_cosine_equals_the_authors(golden):
  data = golden("noisymix")
  lr, total = float(data["lr_schedule/base_lr"]), int(data["lr_schedule/total_steps"])
  schedule = schedules.cosine(lr, total, lr_min=1e-6)
  ours = np.asarray([schedule(step) for step in data["lr_schedule/steps"]])
  np.testing.assert_allclose(ours, lr * data["lr_schedule/multiplier"], rtol=1e-5, atol=1e-8)


def test_step_decay_changes_at_its_milestones():
  schedule = schedules.step_decay(0.1, (3, 5), factor=0.2)
  expected = np.float32([0.1, 0.1, 0.1, 0.02, 0.02, 0.004, 0.004])
  np.testing.assert_allclose([schedule(t) for t in range(7)], expected, rtol=2e-7)


def base(name, t, warmup):
  """The schedules in float64, by their formulas."""
  if name == "cosine":
    done = min(max(t - warmup, 0) / (NUM_STEPS - warmup), 1.0)
    return 1e-3 + (0.3 - 1e-3) * (1 + np.cos(np.pi * done)) / 2
  if name == "step":
    return 0.3 * 0.2 ** sum(t >= m for m in (60, 100, 110))
  if name == "exponential":
    return 0.3 * 0.2 ** (t // 50)
  if name == "restarts":
    done = (t // 20 * 20) % 50 / 50
    return 1e-3 + (0.3 - 1e-3) * (1 + np.cos(np.pi * done)) / 2
  if name == "linear":
    return 0.3 * min(1.0, max(0.0, (NUM_STEPS - t // 20 * 20) / (NUM_STEPS - 70)))
  return 0.3


def settings(name):
  return {**SETTINGS, "milestones": ("70 steps",)} if name == "linear" else SETTINGS


SETTINGS = {
  "lr": 0.3, "lr_min": 1e-3, "factor": 0.2, "decay_every": "2.5 epochs",
  "milestones": ("3 epochs", "50 percent", "110 steps"),
}  # fmt: skip


@pytest.mark.parametrize("warmup", ["0 steps", "41 steps", "0.25 epochs"])
@pytest.mark.parametrize("name", schedules.NAMES)
def test_values_of_every_schedule(name, warmup):
  schedule = make(schedule=name, warmup=warmup, warmup_start=0.1, **settings(name))
  length = to_steps("", warmup)
  expected = [
    0.3 * (0.1 + 0.9 * (t + 1) / length) if t < length else base(name, t, length)
    for t in range(NUM_STEPS + 5)
  ]
  ours = rates(schedule)
  np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=3e-8)
  assert ours.dtype == np.float32
  eager = [schedule(t) for t in (0, length, NUM_STEPS)]  # also a plain int
  np.testing.assert_allclose(eager, ours[[0, length, NUM_STEPS]], rtol=1e-6)


@pytest.mark.parametrize("length", [1, 3, 41, 47, 49, 55, 61])
def test_a_warm_up_ends_exactly_at_the_rate(length):
  """Lengths whose float32 reciprocal times themselves is not 1 are among them."""
  for name in ("constant", "cosine"):
    ours = rates(make(schedule=name, lr=0.3, lr_min=1e-3, warmup=f"{length} steps"))
    assert ours[length - 1] == ours[length] == np.float32(0.3)
    assert np.all(np.diff(ours[:length]) > 0)
    np.testing.assert_allclose(ours[0], 0.3 / length, rtol=1e-6)


@pytest.mark.parametrize("lr_min", [0.0, 1e-6, 0.05])
def test_cosine_is_exact_at_both_ends(lr_min):
  ours = rates(make(lr=0.1, lr_min=lr_min))
  assert ours[0] == np.float32(0.1)
  assert np.all(ours[NUM_STEPS:] == np.float32(lr_min))
  assert np.all(np.diff(ours) <= 0)


def test_rates_are_float32_in_a_program_of_float64():
  with jax.enable_x64(True):
    for name in schedules.NAMES:
      schedule = make(schedule=name, warmup="3 steps", **settings(name))
      assert schedule(jnp.asarray(7)).dtype == jnp.float32


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"schedule": "cosin"}, "config.optim.schedule is 'cosin', no such schedule: did you mean"),
    ({"lr": 0.0}, "config.optim.lr is 0.0; it must be larger than 0"),
    ({"lr": float("nan")}, "config.optim.lr is nan"),
    ({"lr_min": 0.2}, "config.optim.lr_min is 0.2; it must lie between 0 and config.optim.lr"),
    ({"schedule": "step"}, "config.optim.milestones is empty"),
    ({"schedule": "step", "milestones": ("3",)}, "config.optim.milestones is '3'; write a number"),
    ({"schedule": "exponential", "factor": 0.0}, "config.optim.factor is 0.0"),
    ({"schedule": "exponential", "decay_every": "0 steps"}, "optim.decay_every is '0 steps'"),
    ({"schedule": "linear"}, "config.optim.milestones is (); the schedule 'linear' needs one"),
    ({"schedule": "restarts", "lr_min": 0.2}, "config.optim.lr_min is 0.2"),
    ({"warmup": "10 epochs"}, "config.optim.warmup is '10 epochs', 200 steps, but the whole run"),
    ({"warmup": "soon"}, "config.optim.warmup is 'soon'; write a number and a unit"),
    ({"warmup_start": 1.5}, "config.optim.warmup_start is 1.5; it is a fraction"),
  ],
)
def test_bad_values(changes, message):
  with pytest.raises(InputError) as error:
    make(**changes)
  assert message in str(error.value)

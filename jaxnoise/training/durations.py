"""Durations in the unit a person thinks in, turned into optimizer steps."""

from __future__ import annotations

import re

from jaxnoise.core.errors import InputError

_UNITS = ("steps", "epochs", "examples", "percent")
_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*(steps?|epochs?|examples?|percent|%)\s*")


def to_steps(
  field: str,
  duration: str,
  *,
  steps_per_epoch: int,
  batch_size: int,
  total_steps: int | None = None,
) -> int:
  """Turns "30 epochs", "500 steps", "1e6 examples" or "5 percent" into a number of steps.

  Rounded to the nearest step. Percent is of the whole run. 0 of any unit is 0 steps; anything
  larger is at least 1 step.

  Args:
    field: the config field, for messages.
    duration: the text.
    steps_per_epoch: optimizer updates in an epoch.
    batch_size: examples in a step.
    total_steps: steps of the run; None where percent has no meaning.

  Raises:
    InputError: for anything else.

  Example:
    >>> from jaxnoise.training import durations
    >>> durations.to_steps("total", "2.5 epochs", steps_per_epoch=100, batch_size=32)
    250
  """
  match = _FORM.fullmatch(str(duration))
  if not match:
    raise InputError(
      f"config.{field} is {duration!r}; write a number and a unit out of {', '.join(_UNITS)}, "
      "such as '30 epochs'"
    )
  amount, unit = float(match[1]), match[2].rstrip("s").replace("%", "percent")
  if unit == "percent" and total_steps is None:
    raise InputError(f"config.{field} is {duration!r}; percent has no meaning there, use epochs")
  scale = {
    "step": 1.0,
    "epoch": steps_per_epoch,
    "example": 1.0 / batch_size,
    "percent": (total_steps or 0) / 100.0,
  }[unit]
  steps = amount * scale
  return max(round(steps), 1) if steps > 0 else 0

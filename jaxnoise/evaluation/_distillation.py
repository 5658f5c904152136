"""The attacks of the noise-in-distillation paper: PGD by its steps, and by its radius."""

from __future__ import annotations

from jaxnoise.core.errors import InputError
from jaxnoise.evaluation._adversarial import NO_ATTACK, Threat

NOISEKD_STEPS = (1, 5, 10, 15, 20, 100, 200, 1000)
"""Its Table 4: steps at the radius 8/255."""

NOISEKD_RADII = (1, 2, 10, 20, 25, 50, 100, 200)
"""Its Table 5: radii in 255ths, at 20 steps."""

NOISEKD_STEP_SIZE = 0.003
"""Of one step, in units of pixels in [0, 1]. The paper prints 0.03, about its whole radius, which
does not fit its own numbers: accuracy falls from 73 % after one step to 5 % after five."""


def noisekd_by_steps(step_size: float = NOISEKD_STEP_SIZE) -> dict[str, Threat]:
  """PGD of radius 8/255 from a random start with more and more steps of one size, and no attack.

  Args:
    step_size: in (0, 1], units of pixels in [0, 1]; the radius does not enter.

  Returns:
    Threats by the name of the cell.

  Raises:
    InputError: for a step size out of range.

  Source: "Noise as a Resource for Learning in Knowledge Distillation", Table 4; 20 steps are its
    Table 6.

  Example:
    >>> from jaxnoise import evaluation
    >>> list(evaluation.noisekd_by_steps())[:3]
    ['clean', 'linf 8/255, 1 step', 'linf 8/255, 5 steps']
  """
  step_size = _checked(step_size)
  return {"clean": NO_ATTACK} | {
    f"linf 8/255, {n} step{'s' if n > 1 else ''}": Threat("linf", 8 / 255, step_size, n, True)
    for n in NOISEKD_STEPS
  }


def noisekd_by_epsilon(step_size: float = NOISEKD_STEP_SIZE) -> dict[str, Threat]:
  """PGD-20 from a random start in larger and larger balls, with steps of one size, and no attack.

  At 0.003 the steps together reach 0.06, 15/255: beyond that the random start does the rest.

  Args:
    step_size: in (0, 1], units of pixels in [0, 1]; the radius does not enter.

  Returns:
    Threats by the name of the cell.

  Raises:
    InputError: for a step size out of range.

  Source: "Noise as a Resource for Learning in Knowledge Distillation", Table 5.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.noisekd_by_epsilon()["linf 200/255"].num_steps
    20
  """
  step_size = _checked(step_size)
  return {"clean": NO_ATTACK} | {
    f"linf {k}/255": Threat("linf", k / 255, step_size, 20, True) for k in NOISEKD_RADII
  }


def _checked(step_size: float) -> float:
  if not 0 < step_size <= 1:
    raise InputError(
      f"step_size is {step_size}; it must lie in (0, 1], in units of pixels in [0, 1] such as 0.003"
    )
  return step_size

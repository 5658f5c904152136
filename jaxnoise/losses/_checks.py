"""What losses refuse: hyper-parameters out of range, weights that are no distribution.

Values are checked where they are known, which is before a program is traced. Inside jit and vmap
they may be traced arrays, of which nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array


def is_traced(value: object) -> bool:
  """Whether a hyper-parameter, or an entry of it, is unknown while a program is traced."""
  if isinstance(value, (tuple, list)):
    return any(is_traced(entry) for entry in value)
  return isinstance(value, jax.core.Tracer)


def within(
  name: str, value: float | Array, low: float, high: float = math.inf, *, open_low: bool = False
) -> None:
  """Refuses a number, or an array with one, outside [low, high], or (low, high] for `open_low`.

  Raises:
    InputError: naming the argument, the number and the interval.
  """
  if is_traced(value):
    return
  found = np.asarray(value, np.float64)
  # Written so that a nan is refused.
  inside = (found <= high) & ((found > low) if open_low else (found >= low))
  if not np.all(inside):
    interval = f"{'(' if open_low else '['}{low:g}, {high:g}{']' if math.isfinite(high) else ')'}"
    first = found[~inside].flat[0]
    raise InputError(f"{name} is {first:g}; it must lie in {interval}")


def simplex(name: str, weights: Sequence[float] | Array, meaning: Sequence[str]) -> None:
  """Refuses weights that are no distribution over the things that `meaning` lists.

  Raises:
    InputError: for another number of entries, a negative one, or a sum that is not 1 within 1e-6.
  """
  expected = f"{len(meaning)} numbers ({', '.join(meaning)})"
  if len(weights) != len(meaning):
    raise InputError(f"{name} has {len(weights)} entries; it must be {expected} that sum to 1")
  if is_traced(weights):
    return
  found = np.asarray(weights, np.float64)
  shown = "(" + ", ".join(f"{w:g}" for w in found) + ")"
  if not np.all(found >= 0):
    raise InputError(f"{name} is {shown}; it must be {expected}, none below 0, that sum to 1")
  # A float32 array of weights has sums such as 1.00000003.
  if not abs(found.sum() - 1) <= 1e-6:
    raise InputError(
      f"{name} is {shown}, which sums to {found.sum():.8g}; it must be {expected} that sum to 1"
    )

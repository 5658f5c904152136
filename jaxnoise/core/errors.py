"""The one error that a user's mistake raises, and how names are suggested."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
  """Bad input from a user: one sentence that names the field, what was found, what was expected
  and the fix. The commands print it and exit with code 2; nothing has been written by then."""


def closest(name: str, known: Iterable[str]) -> str:
  """Returns "did you mean 'a' or 'b'?" for the known names nearest to `name`, or a list of all.

  Example:
    >>> from jaxnoise.core import errors
    >>> errors.closest("noisymx", ["erm", "noisymix"])
    "did you mean 'noisymix'?"
  """
  known = sorted(set(known))
  near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
  if near:
    return "did you mean " + " or ".join(repr(n) for n in near) + "?"
  return "known names: " + ", ".join(known)

"""Random streams: one root key, never advanced; every draw is derived from a name.

A stream's key depends on the key it was folded from and on its own name, and on nothing else, so
reordering code, adding a draw or removing one never changes another stream.
"""

from __future__ import annotations

import zlib

import jax

from jaxnoise.core.types import Array, PRNGKey


def fold(key: PRNGKey, name: str) -> PRNGKey:
  """Derives the key of the stream `name`: `fold_in(key, CRC32(name))`.

  The hash is part of the run format: renaming a stream changes every number drawn from it.
  """
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def step_key(root: PRNGKey, step: Array | int) -> PRNGKey:
  """The key of one training step, `fold_in(fold(root, "step"), step)`."""
  return jax.random.fold_in(fold(root, "step"), step)


class Streams:
  """Hands out one key per name and refuses to hand out the same one twice.

  A second draw of one name is a bug that correlates two things meant to be independent, so it
  raises while the program is traced.

  Args:
    key: the key to derive from, usually the key of one step.
    prefix: put before every name; wrappers pass their own, e.g. `"random_weighting/"`.

  Raises:
    ValueError: on the second request of a name.

  Example:
    >>> import jax
    >>> from jaxnoise.core import rng
    >>> streams = rng.Streams(jax.random.key(0))
    >>> key = streams("augment")
  """

  def __init__(self, key: PRNGKey, prefix: str = ""):
    self._key = key
    self._prefix = prefix
    self._drawn: set[str] = set()

  def __call__(self, name: str) -> PRNGKey:
    if name in self._drawn:
      raise ValueError(
        f"random stream {self._prefix + name!r} was drawn twice from one key; give each draw a "
        f"name of its own (drawn so far: {sorted(self._drawn)})"
      )
    self._drawn.add(name)
    return fold(self._key, self._prefix + name)

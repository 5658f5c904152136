"""What the state of a method says of each training example, as signals of a label audit."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import numpy as np

from jaxnoise.core.types import PyTree, table_rows

_KINDS = ("wrong", "target", "loss")
"""What tables are of, the first the closest to what an audit asks for."""


def table_signals(
  method_state: Mapping[str, PyTree], labels: np.ndarray
) -> dict[str, np.ndarray]:
  """Reads a signal out of each table of examples that a method has kept in its state.

  By the shape and the name of what a piece of `method_state` holds, N examples and K classes, rows
  = `core.table_rows(N)`:

    wrong    *clean* [N]                   1 - the probability that the label is right
             *posterior*, *noisy* [N]      as it is
    target   [rows, K], none negative      1 - q[y] / sum(q), q an average of predictions
    loss     loss_sum [N] with count [N]   loss_sum / count, the mean over training; nan unvisited
             other *loss* [N]              as it is

  What a piece has of one kind (two networks) is averaged. Where it has several kinds, which have no
  common unit and come from one another, the first of this order that tells examples apart speaks
  for it: DivideMix' posteriors, not the losses that they are fitted to. A table that is the same
  for all examples, such as that of a run that ended in its warm-up, says nothing; a piece without
  another is left out.

  Args:
    method_state: of one seed.
    labels: [N] integers, as given.

  Returns:
    [N] float64, higher more suspicious, by the name of the piece.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> state = {"track_losses": {"loss_sum": np.array([3.0, 8.0]), "count": np.array([2.0, 4.0])},
    ...   "elr": {"targets": np.array([[0.8, 0.0], [0.3, 0.1]])}, "other": {"scale": np.ones(3)}}
    >>> found = evaluation.table_signals(state, np.array([0, 1]))
    >>> {name: x.tolist() for name, x in found.items()}
    {'track_losses': [1.5, 2.0], 'elr': [0.0, 0.75]}
  """
  out = {}
  for piece, tree in method_state.items():
    leaves = [
      (tuple(str(getattr(k, "key", k)) for k in path), np.asarray(leaf))
      for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]
    by_path = dict(leaves)
    read = functools.partial(_read, labels=np.asarray(labels), by_path=by_path)
    found = [x for x in (read(path, leaf) for path, leaf in leaves) if x is not None]
    for kind in _KINDS:
      same = [x for of, x in found if of == kind]
      if same and _tells(mean := np.mean(same, axis=0)):
        out[piece] = mean
        break
  return out


def _tells(x: np.ndarray) -> bool:
  """Whether a signal [N] differs between the examples that it knows."""
  known = x[~np.isnan(x)]
  return len(known) > 0 and bool(np.isfinite(known).all() and known.min() < known.max())


def _read(
  path: tuple[str, ...],
  leaf: np.ndarray,
  *,
  labels: np.ndarray,
  by_path: Mapping[tuple[str, ...], np.ndarray],
) -> tuple[str, np.ndarray] | None:
  """What kind of signal a table is, and the signal [N]."""
  count, name = len(labels), (path[-1] if path else "")
  if not np.issubdtype(leaf.dtype, np.floating):
    return None
  leaf = leaf.astype(np.float64)
  if leaf.ndim == 2 and len(leaf) == table_rows(count):
    leaf = leaf[:count]
    if leaf.shape[1] <= labels.max() or (leaf < 0).any():
      return None
    with np.errstate(invalid="ignore"):  # an example that no step has visited: 0 / 0
      return "target", 1.0 - leaf[np.arange(count), labels] / leaf.sum(axis=1)
  if leaf.shape != (count,):
    return None
  if name == "loss_sum" and (visits := by_path.get((*path[:-1], "count"))) is not None:
    with np.errstate(invalid="ignore", divide="ignore"):
      return "loss", np.where(visits > 0, leaf / visits, np.nan)
  full = "/".join(path)
  if "clean" in full:
    return "wrong", 1.0 - leaf
  if "posterior" in full or "noisy" in full:
    return "wrong", leaf
  return ("loss", leaf) if "loss" in full else None

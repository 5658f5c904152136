"""What the state of a method says of each training example, as signals of a label audit."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import numpy as np

from jaxnoise.core.types import PyTree


def table_signals(
  method_state: Mapping[str, PyTree], labels: np.ndarray
) -> dict[str, np.ndarray]:
  """Reads a signal out of each table of examples that a method has kept in its state.

  By the shape and the name of what a piece of `method_state` holds, N examples and K classes:

    loss_sum [N] with count [N]   loss_sum / count, the mean loss over training; nan without visits
    other *loss* [N]              as it is
    *clean* [N]                   1 - the probability that the label is right
    *posterior*, *noisy* [N]      as it is
    [N, K], none negative         1 - q[y] / sum(q), q an average of predictions

  What fits several times (two networks) is averaged; a piece of none of these kinds is left out.

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
    if found:
      mean = np.mean(found, axis=0)
      if not np.isinf(mean).any() and not np.isnan(mean).all():
        out[piece] = mean
  return out


def _read(
  path: tuple[str, ...],
  leaf: np.ndarray,
  *,
  labels: np.ndarray,
  by_path: Mapping[tuple[str, ...], np.ndarray],
) -> np.ndarray | None:
  count, name = len(labels), (path[-1] if path else "")
  if not np.issubdtype(leaf.dtype, np.floating):
    return None
  leaf = leaf.astype(np.float64)
  if leaf.ndim == 2 and len(leaf) == count and leaf.shape[1] > labels.max() and (leaf >= 0).all():
    with np.errstate(invalid="ignore"):  # an example that no step has visited: 0 / 0
      return 1.0 - leaf[np.arange(count), labels] / leaf.sum(axis=1)
  if leaf.shape != (count,):
    return None
  if name == "loss_sum" and (visits := by_path.get((*path[:-1], "count"))) is not None:
    with np.errstate(invalid="ignore", divide="ignore"):
      return np.where(visits > 0, leaf / visits, np.nan)
  full = "/".join(path)
  if "clean" in full:
    return 1.0 - leaf
  return leaf if any(word in full for word in ("loss", "posterior", "noisy")) else None

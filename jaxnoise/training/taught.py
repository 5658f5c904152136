"""Which teacher a run learns from: its run, its parameters, how good it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxnoise.core.types import PyTree
from jaxnoise.training import writers

if TYPE_CHECKING:
  from jaxnoise.training.build import Run


def record(run: Run) -> dict[str, Any] | None:
  """What a run's record says of its teacher.

  Args:
    run: assembled from teachers that are trained.

  Returns:
    {"run" (its directory), "sha256" of what teaches, "method", "seed", "step" of "num_steps" (it is
    unfinished where these differ), "accuracy" on its test set of "n" images at that step (None
    where it was not measured there)}; of a teacher that no directory is named for, "sha256" alone.
    None where there is no teacher.
  """
  if run.teacher is None:
    return None
  digest, directory = {"sha256": sha256(run.teacher)}, run.config["teacher"]
  return {"run": directory, **digest, **_told(Path(directory))} if directory else digest


def sha256(variables: PyTree) -> str:
  """The SHA-256 of arrays: their names, types, shapes and bytes, in the order of the names.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.training import taught
    >>> a, b = np.zeros(3), np.ones((2, 2))
    >>> taught.sha256({"w": a, "v": b}) == taught.sha256({"v": b, "w": a})
    True
    >>> taught.sha256({"w": a, "v": b}) == taught.sha256({"v": a, "w": b})
    False
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _told(directory: Path) -> dict[str, Any]:
  """What the teacher's own run says of it."""
  info = writers.read_json(directory / "config.json")
  # From the folder's names: a manager of checkpoints waits for all processes, and one asks.
  names = [path.name for path in (directory / "checkpoints").iterdir()]
  step = max((int(name) for name in names if name.isdecimal()), default=None)
  accuracy, n = next(_measured(directory, step), (None, None))
  return {
    "method": info.get("method"),
    "seed": info["config"].get("seed"),
    "step": step,
    "num_steps": info.get("num_steps"),
    "accuracy": accuracy,
    "n": n,
  }


def _measured(directory: Path, step: int | None) -> Iterator[tuple[float, int | None]]:
  """(accuracy, test images where that is known) at a step, the final table's first.

  It is the trained network that teaches, "student" in its own run, not an average of it.
  """
  path = directory / "tables" / "clean.json"
  table = writers.read_json(path) if path.exists() else {}
  if table.get("step") == step and "student" in table["predictors"]:
    yield table["predictors"]["student"]["accuracy"][0], table["n"]
  for row in writers.read_rows(directory / "metrics.jsonl"):
    if row.get("step") == step and "test/student/accuracy" in row:
      yield row["test/student/accuracy"], None

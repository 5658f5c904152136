"""Checkpoints: three items, kept so that the latest and the best both survive.

`model` holds what a teacher or a fine-tuning needs (parameters, statistics and their averages),
`train` the rest of the state, `config` what the run was. The frozen teacher is not saved.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import PyTree

_MODEL = ("params", "batch_stats", "ema_params", "ema_batch_stats")
_TRAIN = ("step", "rng", "opt_state", "method_state")


def _split(state: TrainState) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
  pick = lambda names: {n: getattr(state, n) for n in names if getattr(state, n) is not None}
  return pick(_MODEL), pick(_TRAIN)


class _Manager(ocp.CheckpointManager):
  """Leaves the question whether to stop to the loop, which counts its own calls of it."""

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


def _alone() -> ocp.options.MultiprocessingOptions:
  """What makes a process read by itself, whatever the others of its run do meanwhile."""
  mine = jax.process_index()
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  return ocp.options.MultiprocessingOptions(
    primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=f"alone{mine}"
  )


def _manager(
  directory: Path, item_handlers: Mapping[str, Any], **options: Any
) -> ocp.CheckpointManager:
  """Opens a directory without the warnings that reading only is reading only."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    return _Manager(
      directory,
      # Named handlers, so that a freshly opened manager can read what an item holds.
      item_handlers=dict(item_handlers),
      options=ocp.CheckpointManagerOptions(**options),
    )
  finally:
    logger.setLevel(level)


def _abstract(tree: PyTree) -> PyTree:
  def leaf(x):
    if isinstance(x, jax.Array):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    return x

  return jax.tree.map(leaf, tree)


_PATIENCE = 1200
"""Seconds that a save of several processes may take; one that cannot write its part never ends."""


class CheckpointError(RuntimeError):
  """A checkpoint could not be written; the ones before it are kept."""


@contextlib.contextmanager
def _reading(directory: Path, step: int, others: Sequence[int] = ()) -> Iterator[None]:
  """One sentence for a checkpoint that is damaged: pages of storage errors help nobody."""
  try:
    yield
  except InputError:
    raise
  except (ValueError, OSError, KeyError) as error:
    before = [other for other in others if other < step]
    then = f"goes on from step {max(before)}" if before else "starts again"
    raise InputError(
      f"the checkpoint {directory / str(step)} cannot be read ({_reason(error)}); it is damaged. "
      f"Remove that folder, and the training of that run {then}"
    ) from error


def _reason(error: Exception) -> str:
  strerror = getattr(error, "strerror", None)
  return strerror or (str(error).splitlines() or [""])[0].split(":")[0][:100]


class Checkpointer:
  """Saves and restores the state of one run.

  Args:
    directory: of the checkpoints.
    keep: how many of the latest to keep.
    best: also keep the one with the highest "score" metric.
    read_only: nothing is saved, made or tidied up, whatever another process is doing there.

  Raises:
    InputError: when the scores of saved checkpoints cannot be read.
  """

  def __init__(
    self, directory: Path, *, keep: int = 1, best: bool = False, read_only: bool = False
  ):
    self.directory, self._best = Path(directory).absolute(), best
    policies = [checkpoint_managers.LatestN(keep)]
    if best:
      # max_to_keep together with best_fn would delete the latest; this keeps both.
      policies.append(
        checkpoint_managers.BestN(
          get_metric_fn=lambda m: m["score"], n=1, keep_checkpoints_without_metrics=False
        )
      )
    handlers = {
      "model": ocp.StandardCheckpointHandler(),
      "train": ocp.StandardCheckpointHandler(),
      "config": ocp.JsonCheckpointHandler(),
    }
    try:
      self._manager = _manager(
        self.directory,
        handlers,
        create=not read_only,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        best_fn=(lambda m: m["score"]) if best else None,
        best_mode="max",
        async_options=ocp.AsyncOptions(timeout_secs=_PATIENCE) if jax.process_count() > 1 else None,
      )
    except ValueError as error:
      if not best:
        raise
      raise InputError(
        f"the scores in {self.directory}/*/metrics cannot be read ({_reason(error)}); one of them "
        "is damaged. Remove the folder of that step"
      ) from error

  def latest_step(self) -> int | None:
    """The step of the latest complete checkpoint, or None."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """The step of the checkpoint with the highest score, or None where none has one.

    Raises:
      ValueError: when the checkpoints were opened without `best`.
    """
    if not self._best:
      raise ValueError("open the checkpoints with best=True to ask for the best one")
    return self._manager.best_step()

  def steps(self) -> list[int]:
    """The steps of all complete checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def save(self, state: TrainState, step: int, config: Mapping, score: float | None = None) -> None:
    """Saves in the background; the state may be donated as soon as this returns.

    Args:
      state: what to save; its teacher is left out.
      step: its step, as a host number.
      config: the run's config record (JSON).
      score: what the best checkpoint has the highest of.

    Raises:
      CheckpointError: when this one, or the one before it in the background, cannot be written.
    """
    if self._manager.latest_step() == step:
      return
    model, train = _split(state)
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          model=ocp.args.StandardSave(model),
          train=ocp.args.StandardSave(train),
          config=ocp.args.JsonSave(dict(config)),
        ),
        metrics=None if score is None else {"score": float(score)},
        force=True,
      )

  def restore(self, like: TrainState, step: int | None = None) -> TrainState:
    """Restores the latest (or the given) checkpoint into the structure and shardings of `like`.

    Args:
      like: a state, or its shapes and shardings; its teacher is returned as it is.
      step: None means the latest.

    Raises:
      InputError: when the checkpoint is of another model or method, or damaged.
    """
    step = self.latest_step() if step is None else step
    model, train = _split(like)
    with _reading(self.directory, step, self.steps()):
      for item, tree in (("model", model), ("train", train)):
        _compare(self.directory, item, self._manager.item_metadata(step)[item], tree)
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          model=ocp.args.StandardRestore(_abstract(model)),
          train=ocp.args.StandardRestore(_abstract(train)),
        ),
      )
    return like.replace(**restored["model"], **restored["train"])

  def wait(self) -> None:
    """Blocks until what was saved is on disk.

    Raises:
      CheckpointError: if it could not be written.
    """
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and lets go; raises as `wait` does."""
    try:
      self.wait()
    finally:
      self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except (ValueError, OSError) as error:
      kept = self.latest_step()
      found = "none was saved before" if kept is None else f"step {kept} is kept"
      raise CheckpointError(
        f"a checkpoint could not be written to {self.directory} ({_reason(error)}); {found}. Make "
        "room there, and the same command goes on"
      ) from error

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
    # Where another process has died, nobody is left to finish a save with.
    lost = kind is not None and issubclass(kind, jax.errors.JaxRuntimeError)
    if not lost or jax.process_count() == 1:
      self.close()


def load_model(
  directory: Path,
  like: Mapping[str, PyTree],
  *,
  step: int | None = None,
  drop: tuple[str, ...] = (),
  hint: str = "",
) -> PyTree:
  """Loads parts of the `model` item of a run's checkpoint: a teacher, or a network to start from.

  Args:
    directory: the run's `checkpoints/`.
    like: the parts wanted, e.g. {"params": ..., "batch_stats": ...}, arrays or their shapes.
    step: None means the latest.
    drop: layers of "params" that the checkpoint has and that are not wanted.
    hint: what to say of a checkpoint of another model; "" for the usual words.

  Raises:
    InputError: when there is no checkpoint, or it is damaged or of another model.
  """
  directory = Path(directory).absolute()
  if not directory.is_dir():
    raise InputError(f"{directory} does not exist; {directory.parent} is not a finished run")
  alone = _alone()
  handlers = {"model": ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)}
  with _manager(
    directory, handlers, read_only=True, create=False, multiprocessing_options=alone
  ) as manager:
    step = manager.latest_step() if step is None else step
    if step is None:
      raise InputError(f"{directory} holds no checkpoint; did the run end before its first save?")
    with _reading(directory, step):
      found = manager.item_metadata(step)["model"]
      parts = {name: found.tree[name] for name in like}
      if drop:
        parts["params"] = {k: v for k, v in parts["params"].items() if k not in drop}
      _compare(directory, "model", parts, like, hint or _HINT)
      target = _abstract(dict(like))
      restore_args = ocp.checkpoint_utils.construct_restore_args(target)
      args = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
      restored = manager.restore(step, args=ocp.args.Composite(model=args))["model"]
  # On one device of this process they could not meet what is on the devices of all.
  return restored if jax.process_count() == 1 else jax.tree.map(np.asarray, restored)


def compare(where: str, found: PyTree, expected: PyTree) -> None:
  """Raises InputError with the first leaf whose name or shape differs.

  Args:
    where: what `found` is, for the message.
    found: arrays or shapes.
    expected: the same of the run that wants them.
  """
  hint = "it is of another network, or of other classes (config.new_head starts a new last layer)"
  _first_difference(where, "", found, expected, hint)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  named = {}
  for path, value in flat:
    leaf = value
    keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
    is_shaped = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    if is_shaped and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.eval_shape(jax.random.key_data, leaf)  # keys are stored as their words
    named["/".join(keys)] = tuple(np.shape(leaf) if not hasattr(leaf, "shape") else leaf.shape)
  return named


_HINT = "the checkpoint is of another model or method; use the config it was trained with"


def _compare(directory: Path, item: str, found: Any, expected: PyTree, hint: str = _HINT) -> None:
  """One sentence about the first difference instead of pages of storage errors."""
  _first_difference(str(directory), f"{item}/", getattr(found, "tree", found), expected, hint)


def _first_difference(where: str, prefix: str, found: Any, expected: PyTree, hint: str) -> None:
  found, expected = _shapes(found), _shapes(expected)
  for name in sorted(set(found) | set(expected)):
    if found.get(name) != expected.get(name):
      have, want = (
        "nothing" if t is None else f"shape {t}" for t in (found.get(name), expected.get(name))
      )
      raise InputError(
        f"{where} has {have} at {prefix}{name} where this run has {want}: {hint}"
      )

"""A trained run opened again: its network, its state, its data; nothing is written into it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise import data as data_lib
from jaxnoise import evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Method, Network, PredictFn
from jaxnoise.training import (
  build,
  checkpoint,
  loop,
  networks,
  reassemble,
  schema,
  seeds,
  sharding,
  sweep,
  writers,
)


@dataclasses.dataclass(frozen=True)
class Opened:
  """A run at one of its checkpoints, as one of its seeds left it.

  Attributes:
    directory: the run directory.
    run: what it was assembled from; good for predicting and measuring, not for training on.
    step: of the checkpoint.
    seed: whose state `state` is.
    state: of one seed, on every device of `run.mesh`.
    saved: the state as it was saved: of all seeds, with a leading axis if there are several. Of a
      sweep that of one member.
    member: which one of a sweep; None where the run is none.
  """

  directory: Path
  run: build.Run
  step: int
  seed: int
  state: TrainState = dataclasses.field(repr=False)
  saved: TrainState = dataclasses.field(repr=False)
  member: int | None = None

  @property
  def seeds(self) -> tuple[int, ...]:
    """All seeds of the run."""
    return _seeds(self.run.config)

  @property
  def predictors(self) -> Mapping[str, PredictFn]:
    """image [B, H, W, C] in [0, 1] -> logits [B, K], by name; the first is the headline."""
    return self.run.method.predictors(self.state)

  @property
  def train(self) -> data_lib.Pool:
    """The training set, with the labels that this seed was trained on."""
    return self._own_labels(self.run.source.train, self.run.loaded.labels)

  @property
  def holdout(self) -> data_lib.Pool | None:
    """The examples held out of training, with the labels that this seed was chosen by, or None."""
    return self._own_labels(self.run.holdout, self.run.loaded.holdout_labels)

  def _own_labels(self, pool: data_lib.Pool | None, labels: Any) -> data_lib.Pool | None:
    if pool is None or labels is None:
      return pool
    return dataclasses.replace(pool, labels=labels[self.seeds.index(self.seed)])

  def of_seed(self, seed: int) -> Opened:
    """The same run and step, another of its seeds.

    Raises:
      InputError: for a seed that the run does not have.
    """
    _check_seed(self.directory, self.run.config, seed)
    state = self.saved
    if len(self.seeds) > 1:
      state = seeds.take(self.saved, self.seeds.index(seed))
    return dataclasses.replace(self, seed=seed, state=state)

  def predict(
    self, pool: data_lib.Pool, predictor: str = "", batch_size: int = 0
  ) -> evaluation.Predictions:
    """Predicts a set of images; see `evaluation.predict_pool`.

    Args:
      pool: the images, e.g. `opened.run.source.test`, or `data.image_pool(folder)`.
      predictor: the name of one, "" for the headline.
      batch_size: 0 for that of the run's evaluation.

    Raises:
      InputError: for an unknown predictor, or images of another shape than the run's.
    """
    shape = tuple(self.run.spec.image_shape)
    if pool.images.shape[1:] != shape:
      raise InputError(
        f"the images are of shape {pool.images.shape[1:]}, but {self.directory} was trained on "
        f"images of shape {shape}; resize or convert them"
      )
    predict = evaluation.make_predict(self.run.method, self.run.mesh, predictor)
    size = batch_size or self.run.config["evaluate"]["batch_size"]
    return evaluation.predict_pool(predict, self.state, pool, size, self.run.mesh)


def open_run(
  directory: str | os.PathLike[str],
  *,
  step: int | str | None = None,
  seed: int | None = None,
  member: int | None = None,
  path: str | os.PathLike[str] | None = None,
  with_data: bool = True,
  source: data_lib.Source | None = None,
  network: Network | Any | None = None,
  method: Callable[..., Method] | Method | None = None,
) -> Opened:
  """Opens a trained run for predictions and measurements; it may still be training.

  Only what predictions stand on has to be there still: what the run was started from, its teacher
  and files of corrupted images may be gone; `run.teacher` is then None. The run is put on all
  devices, whatever number of them it was trained on.

  Args:
    directory: the run directory.
    step: of a checkpoint that was kept, "latest", or "best", the one with the highest accuracy on
      the held-out examples; None means the latest.
    seed: one of `config.seed` .. `config.seed + config.seeds - 1`; None means the first.
    member: of a sweep, which one, counted from 0; it is opened as the run that it would be alone.
    path: where its data set lies now, in place of `config.data.path`.
    with_data: False leaves the data set out; `run.source` then is a stand-in of the same size, and
      `run.holdout` None.
    source: its data, if that was given as an object.
    network: its network, a `Network` or a linen module, if that was.
    method: its method (a factory, or a finished `Method` made with `network`), if that was.

  Raises:
    InputError: no run, no such step, seed or member, a sweep without a member, data that is missing
      or is not what the run was trained on, or an object that is needed and not given.

  Example:
    >>> import tempfile
    >>> import flax.linen as nn
    >>> from jaxnoise.training import build, loop, restore
    >>> config = {"total": "2 steps", "batch_size": 8, "data": {"name": "generated"}}
    >>> network = nn.Sequential([lambda x: x.mean((1, 2)), nn.Dense(4)])
    >>> workdir = tempfile.mkdtemp()
    >>> result = loop.train(build.assemble(config, network=network), workdir, quiet=True)
    >>> opened = restore.open_run(workdir, network=network)
    >>> opened.step, list(opened.predictors)
    (2, ['student'])
    >>> opened.predict(opened.run.source.test).probability.shape
    (64, 4)
  """
  directory = Path(directory)
  record = _record(directory)
  config = schema.check(record["config"])
  if path is not None:
    config["data"]["path"] = os.fspath(path)
  several = _check_member(directory, config, member)
  if several > 1:
    config = sweep.members(config)[member]
  seed = config["seed"] if seed is None else seed
  _check_seed(directory, config, seed)
  given = {"source": source, "network": network, "method": method}
  run = reassemble.reassemble(directory, record, config, with_data=with_data, **given)
  step, saved = _load(directory, run, step, several, member)
  opened = Opened(directory, run, step, seed, saved, saved, member)
  return opened.of_seed(seed)


def _record(directory: Path) -> dict[str, Any]:
  """The run's config.json; where there is none, the error names the runs within."""
  if not (directory / "config.json").exists() and directory.is_dir():
    inner = sorted(path.parent.name for path in directory.glob("*/config.json"))
    if inner:
      raise InputError(
        f"{directory} is no run itself, but holds the runs {', '.join(inner[:5])}; name one, such "
        f"as {directory / inner[-1]}"
      )
  return writers.read_json(directory / "config.json")


def _seeds(config: Mapping[str, Any]) -> tuple[int, ...]:
  return tuple(range(config["seed"], config["seed"] + config["seeds"]))


def _check_seed(directory: Path, config: Mapping[str, Any], seed: int) -> None:
  known = _seeds(config)
  if seed not in known:
    have = f"the seed {known[0]}" if len(known) == 1 else f"the seeds {known[0]} to {known[-1]}"
    raise InputError(f"seed {seed} is none of {directory}, which has {have}; choose one of them")


def _check_member(directory: Path, config: Mapping[str, Any], member: int | None) -> int:
  """How many members there are: 1 without a sweep."""
  labels = sweep.labels(config)
  if len(labels) == 1:
    if member is not None:
      raise InputError(f"member is {member}, but {directory} is no sweep; leave it out")
    return 1
  if member is None or not 0 <= member < len(labels):
    known = "; ".join(f"{i}: {label}" for i, label in enumerate(labels))
    said = "none was chosen" if member is None else f"{member} is none of them"
    raise InputError(
      f"{directory} is a sweep of {len(labels)} members, and {said}; one is chosen by its number "
      f"(--member of jaxnoise.predict, member= of restore.open_run), {known}"
    )
  return len(labels)


def _load(
  directory: Path, run: build.Run, step: int | str | None, members: int, member: int | None
) -> tuple[int, TrainState]:
  folder = directory / "checkpoints"
  if not folder.is_dir():
    raise InputError(f"{folder} does not exist; did the run end before its first save?")
  saver = checkpoint.Checkpointer(folder, best=True, read_only=True)
  try:
    step = _step(directory, run.config, saver, step, members)
    like, count = _like(run), run.config["seeds"]
    if members == 1:
      state = saver.restore(like, step)
    else:
      saved = saver.restore(_of_members(like, members, count), step)
      own = slice(member * count, (member + 1) * count) if count > 1 else member
      state = seeds.take(saved, own)
    return step, state.replace(teacher=_on_devices(run))
  finally:
    saver.close()


def _step(
  directory: Path,
  config: Mapping[str, Any],
  saver: checkpoint.Checkpointer,
  step: int | str | None,
  members: int,
) -> int:
  steps = saver.steps()
  if not steps:
    raise InputError(f"{saver.directory} holds no checkpoint; did the run end before a save?")
  if step in (None, "latest"):
    return steps[-1]
  if step == "best":
    best = saver.best_step()
    if best is None and members > 1:
      raise InputError(
        f"{directory} is a sweep, which keeps no best checkpoint: all members share one, and each "
        "may be best at another step; take the latest"
      )
    if best is None:
      why = "was never measured when it was saved" if config["data"]["holdout"] else (
        "held nothing out to tell it by (config.data.holdout is 0)"
      )
      raise InputError(f"{directory} has no best checkpoint: it {why}; take the latest")
    return best
  if step not in steps:
    raise InputError(
      f"{directory} has no checkpoint {step!r}; kept are the steps {', '.join(map(str, steps))}, "
      "or say 'latest' or 'best'"
    )
  return int(step)


def _like(run: build.Run) -> TrainState:
  """The state's shapes, for every device; nothing is computed."""
  teacher = run.teacher
  if teacher is None and run.config["teacher"]:
    shapes = networks.variables(run.network, tuple(run.spec.image_shape))
    teacher = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  state = jax.eval_shape(loop.Programs(dataclasses.replace(run, teacher=teacher)).init)
  everywhere = sharding.replicated(run.mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), state
  )


def _of_members(like: TrainState, members: int, count: int) -> TrainState:
  """The shapes of all members' states from one's, which has an axis if there are several seeds."""

  def shape(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    one = x.shape[1:] if count > 1 else x.shape
    return jax.ShapeDtypeStruct((members * count, *one), x.dtype, sharding=x.sharding)

  rows = jax.tree.map(shape, like.replace(step=None, teacher=None))
  return rows.replace(step=like.step, teacher=like.teacher)


def _on_devices(run: build.Run) -> Any:
  return None if run.teacher is None else jax.device_put(
    run.teacher, sharding.replicated(run.mesh)
  )

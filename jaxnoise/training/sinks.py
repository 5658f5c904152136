"""Where curves go beside metrics.jsonl: TensorBoard's files, Weights & Biases. Both optional."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnoise.core.errors import InputError
from jaxnoise.training import distributed, writers


def check(config: Mapping[str, Any]) -> None:
  """Checks that what `config.log` asks for is installed.

  TensorBoard's files are a convenience and are written where tensorboardX is installed; a project
  of Weights & Biases is asked for by name, so a missing package is an error.

  Raises:
    InputError: where `wandb` names a project and the package is missing.
  """
  if config["wandb"] and importlib.util.find_spec("wandb") is None:
    raise InputError(
      f"config.log.wandb is {config['wandb']!r}, but the package wandb is not installed; run "
      "`pip install wandb`, or leave the field empty"
    )


def writes_tensorboard(config: Mapping[str, Any]) -> bool:
  """Whether `config.log` has TensorBoard's files written."""
  return config["tensorboard"] and importlib.util.find_spec("tensorboardX") is not None


class Sinks:
  """Writes every row to metrics.jsonl, and to what else `config.log` asks for.

  A metric of several seeds is one curve for each, "name/seed3"; of a sweep one for each member,
  "name/member0", and seed, "name/member0-seed3". Of several processes the first one writes; each
  must make one, and knows the same `latest`.

  Args:
    workdir: the run directory; TensorBoard's files go to its `tensorboard/`.
    config: the run's.
    resume_step: later rows, of a run that was cut off, are dropped.
    ended: whether there is nothing left to write, so that nothing but metrics.jsonl is opened.

  Attributes:
    latest: of the rows told so far, the latest value of each name.
  """

  def __init__(
    self, workdir: Path, config: Mapping[str, Any], resume_step: int, *, ended: bool = False
  ):
    self._seed, self._seeds = config["seed"], config["seeds"]
    self._swept = bool(config["sweep"])
    self._rows = self._board = self._wandb = None
    with distributed.together():
      if distributed.is_main():
        self._rows = writers.MetricsWriter(workdir / "metrics.jsonl", resume_step)
    latest = {} if self._rows is None else self._rows.latest
    self.latest: Mapping[str, Any] = distributed.from_main(latest)
    if ended or self._rows is None:
      return
    if writes_tensorboard(config["log"]):
      import tensorboardX

      folder = str(workdir / "tensorboard")
      # Steps from purge_step on, told before the run was cut off, are hidden.
      # Two files of one second have one name but for their suffix.
      suffix = f".{resume_step:09d}"
      self._board = tensorboardX.SummaryWriter(
        folder, purge_step=resume_step + 1, filename_suffix=suffix
      )
    if config["log"]["wandb"]:
      import wandb

      self._wandb = wandb.init(
        project=config["log"]["wandb"],
        id=_wandb_id(workdir / "wandb.json"),
        name=config["name"] or workdir.name,
        config=writers.read_json(workdir / "config.json")["config"],
        dir=str(workdir),
        resume="allow",
      )

  def write(self, step: int, epoch: float, values: Mapping[str, Any]) -> None:
    """Writes one row everywhere."""
    if self._rows is None:
      return
    self._rows.write(step, epoch, values)
    if self._board is None and self._wandb is None:
      return
    flat = dict(self._flat(values))
    if self._board is not None:
      for name, value in flat.items():
        self._board.add_scalar(name, value, step)
    if self._wandb is not None:
      self._wandb.log({**flat, "epoch": epoch}, step=step)

  def _flat(self, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
      if isinstance(value, list):
        for row, of_network in enumerate(value):
          yield f"{name}/{self._name(row)}", of_network
      else:
        yield name, value

  def _name(self, row: int) -> str:
    """What tells a network from the others of its run: its seed, or its place in a sweep."""
    member, s = divmod(row, self._seeds)
    seed = [f"seed{self._seed + s}"] if self._seeds > 1 or not self._swept else []
    return "-".join([f"member{member}"] * self._swept + seed)

  def close(self) -> None:
    """Closes what is open."""
    if self._rows is not None:
      self._rows.close()
    if self._board is not None:
      self._board.close()
    if self._wandb is not None:
      self._wandb.finish()


def _wandb_id(path: Path) -> str:
  """The directory's own id, drawn once: a resumed run goes on under it, a new one never does."""
  if not path.exists():
    writers.write_json(path, {"id": uuid.uuid4().hex[:12]})
  return writers.read_json(path)["id"]

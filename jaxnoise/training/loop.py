"""The loop: steps, passes, evaluations, saves, in that order. It names no method.

The host does nothing per step but dispatch it; metrics are summed on the device and fetched when a
row is due, which is when the clock is read too: the device has then done what was dispatched. What
a resumed run needs is the state alone: orders, keys and rates are derived.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise import data, evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import PredictFn
from jaxnoise.training import (
  checkpoint,
  distributed,
  feeds,
  label_noise_table,
  lock,
  optim,
  rundir,
  seeds,
  sharding,
  sinks,
  splits,
  writers,
)
from jaxnoise.training.build import Run
from jaxnoise.training.programs import Programs


class NonFiniteError(RuntimeError):
  """The loss or its gradient was not finite; the last good checkpoint is kept."""


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run ends with.

  Attributes:
    run: what was trained.
    directory: the run directory.
    state: the state after the last step.
    step: that step; less than the run's when it was asked to stop.
    finished: whether the run reached its end.
    metrics: the last row of evaluation, "split/predictor/metric" -> number (or one per seed).
  """

  run: Run = dataclasses.field(repr=False)
  directory: Path
  state: TrainState = dataclasses.field(repr=False)
  step: int
  finished: bool
  metrics: Mapping[str, Any]

  def predictors(self, seed: int = 0, member: int = 0) -> Mapping[str, PredictFn]:
    """The trained networks by name, jitted: image [B, H, W, C] in [0, 1] -> logits [B, K].

    Args:
      seed: which of several, 0 being the first.
      member: of a sweep, which one, 0 being the first.

    Raises:
      InputError: for a seed or a member that the run does not have.
    """
    count, each = self.run.config["seeds"], self.run.members or (self.run,)
    for name, index, have in (("seed", seed, count), ("member", member, len(each))):
      if not 0 <= index < have:
        raise InputError(f"{name} is {index}; the run has {have}, counted from 0")
    several, of_state = count * len(each) > 1, each[member].method.predictors
    state = seeds.take(self.state, member * count + seed) if several else self.state
    predict = jax.jit(lambda name, state, image: of_state(state)[name](image), static_argnums=0)
    return {name: functools.partial(predict, name, state) for name in of_state(state)}


def train(
  run: Run,
  workdir: str | Path,
  *,
  quiet: bool = False,
  on_step: Callable[[int], None] | None = None,
  stop: Callable[[], bool] | None = None,
) -> Result:
  """Trains a run in its directory, from its latest checkpoint if there is one.

  Writes config.json, metrics.jsonl, checkpoints/ and, of noisy labels, tables/label_noise.json.
  SIGTERM makes it save and return early.

  Args:
    run: from `build.assemble`.
    workdir: the run directory; made if missing.
    quiet: print no progress.
    on_step: called with each finished step, for tests and demonstrations.
    stop: asked before each step whether to save and return; None means on SIGTERM.

  Raises:
    InputError: when the directory holds another run, its checkpoint another model, or another
      process trains in it. Of several processes, one that finds something unreadable in the middle
      of training ends itself, and so all of them (`distributed.ends_all`).
    NonFiniteError: on a loss or gradient that is not finite.

  Example:
    >>> import tempfile
    >>> import flax.linen as nn
    >>> from jaxnoise.training import build, loop
    >>> config = {"total": "2 steps", "batch_size": 8, "data": {"name": "generated"}}
    >>> network = nn.Sequential([lambda x: x.mean((1, 2)), nn.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...   result = loop.train(build.assemble(config, network=network), workdir, quiet=True)
    >>> result.step
    2
  """
  workdir = writers.run_directory(workdir)
  programs = Programs(run)
  programs.init_shapes()  # what an initial state refuses is refused before anything is written
  record = rundir.claim(run, workdir)
  with contextlib.ExitStack() as stack:
    with distributed.together():
      if distributed.is_main():
        stack.enter_context(lock.held(workdir))
    label_noise_table.store(run, workdir)
    saver = stack.enter_context(checkpoint.Checkpointer(
      workdir / "checkpoints",
      keep=run.config["checkpoint"]["keep"],
      best=run.holdout is not None and not run.members,
    ))
    if stop is None:
      stop = stack.enter_context(stop_on_sigterm())
    state = programs.init()
    if saver.latest_step() is not None:
      state = saver.restore(state)
    with distributed.ends_all():
      return _Loop(run, programs, saver, record, workdir, quiet).go(state, stop, on_step)


class _Loop:
  """One run's bookkeeping: what is due."""

  def __init__(self, run, programs, saver, record, workdir, quiet):
    self.run, self.programs, self.saver = run, programs, saver
    self.record, self.workdir, self.quiet = record, workdir, quiet
    config = run.config
    self.log_every = run.steps("log.every", config["log"]["every"])
    self.eval_every = run.steps("evaluate.every", config["evaluate"]["every"])
    self.save_every = run.steps("checkpoint.every", config["checkpoint"]["every"])
    mesh = sharding.one_group(run.mesh)
    self.measures = [evaluation.make_measure(m.method, mesh) for m in run.members or (run,)]
    self.data = data.put(run.host_data(), sharding.replicated(run.mesh))
    self.splits = splits.Splits(run, self.data)
    self.latest: dict[str, Any] = {}
    self.text = ""

  def go(self, state, stop, on_step) -> Result:
    run, programs = self.run, self.programs
    spec = run.spec
    step = start = int(state.step)
    self.writer = sinks.Sinks(self.workdir, run.config, step, ended=step == spec.num_steps)
    told = self.writer.latest
    self.latest = {name: told[name] for name in told if name.split("/")[0] in self.splits}
    per_step = spec.batch_size * programs.count
    self.watch = writers.Stopwatch(per_step, step, told.get("train/host/wall_seconds", 0.0))
    self.progress = writers.Progress(spec.num_steps, step, per_step, self.quiet)
    feed, zeros, totals = feeds.make_feed(run, programs, self.data), None, None
    try:
      if not spec.num_steps and self.saver.latest_step() is None:
        # Nothing to train: what the run starts from is measured, and kept for other commands.
        self._save(state, step, None, self._evaluate(state, step))
      if step < spec.num_steps:
        # Compiled before the first step, wanted only later: nothing compiles after an epoch.
        with self.watch.paused(state):
          self._check_finite(state, step)
          self._measure_all(state)
          self._learning_rate(step, optim.scale_of(state.opt_state))
      while step < spec.num_steps and not stop():
        orders = feed(state, step)
        if totals is None:
          zeros = programs.zero_totals(state, self.data, orders) if zeros is None else zeros
          totals = zeros
        within = step % spec.steps_per_epoch
        last = within // run.method.replays == programs.batches_per_epoch - 1
        fn, count = programs.last_step if last else programs.step, 1
        if programs.together > 1 and self._due_none(step, step + programs.together):
          fn, count = programs.steps, programs.together
        with self.watch.first(fn, state, count):
          state, totals = fn(state, self.data, orders, totals)
        step += count
        if within + count in programs.pass_steps:
          with self.watch.first(programs.example_pass, state, 0):
            state = programs.example_pass(state, self.data)
        ended, score = step == spec.num_steps, None
        if ended or _due(step, self.log_every):
          self._tell(state, step, totals)
          totals = None
        if ended or _due(step, self.eval_every):
          score = self._evaluate(state, step)
        if ended or _due(step, self.save_every):
          self._save(state, step, totals, score)
          totals = None
        self.progress.update(step, self.text)
        if on_step is not None:
          on_step(step)
      if step < spec.num_steps and step > start:
        self._save(state, step, totals, None)
      self.saver.wait()
    finally:
      feed.close()
      self.progress.close()
      self.writer.close()
    finished = step == spec.num_steps
    return Result(run, self.workdir, state, step, finished, self.latest)

  def _due_none(self, step: int, end: int) -> bool:
    """Whether steps from `step` to `end` can be one call: nothing falls between them.

    Calls begin at multiples of their length within an epoch, so that a resumed run makes the same.
    """
    spec, programs = self.run.spec, self.programs
    within = step % spec.steps_per_epoch
    begin = step - within
    ends = begin + spec.steps_per_epoch
    if programs.last_step is not programs.step:
      ends -= self.run.method.replays
    if within % (end - step) or end > min(ends, spec.num_steps):
      return False
    due = [every for every in (self.log_every, self.eval_every, self.save_every) if every > 0]
    passes = any(step < begin + at < end for at in programs.pass_steps)
    return not passes and all(step // every == (end - 1) // every for every in due)

  def _tell(self, state, step: int, totals) -> None:
    """Fetches the metrics since the last row, checks them and writes them."""
    totals = jax.device_get(totals)
    values = {}
    for name, (total, count) in totals.items():
      mean = np.asarray(total) / np.maximum(count, 1e-30)
      if not np.all(np.isfinite(mean)):
        raise self._not_finite(name, step, np.flatnonzero(~np.isfinite(np.atleast_1d(mean))))
      values[f"train/student/{name}"] = _number(mean)
    scale = optim.scale_of(state.opt_state)
    values["train/student/lr"] = self._learning_rate(step - 1, scale)
    self._row(step, {**values, **self.watch.row(step)})
    loss = np.mean(values.get("train/student/loss", np.nan))
    self.text = f"loss {loss:.3f}{self._accuracy()}"
    self.progress.update(step, self.text, row=True)

  def _learning_rate(self, step: int, scale) -> float | list[float]:
    """Of that step's update, `scale` being what the optimizer multiplied the schedule by."""
    scale = distributed.fetch(scale)
    rates = [float(m.spec.learning_rate(step)) for m in self.run.members]
    if not rates:
      return _number(np.float64(self.run.spec.learning_rate(step)) * scale)
    return _number(np.repeat(rates, self.programs.seeds) * scale)

  def _not_finite(self, what: str, step: int, rows: Sequence[int] = ()) -> NonFiniteError:
    kept = self.saver.latest_step()
    where = "no checkpoint was saved yet" if kept is None else f"step {kept} is kept"
    of = self.programs.names(rows)
    half = self.run.config["precision"] != "float32"
    return NonFiniteError(
      f"{what}{of and f' of {of}'} is not finite at or before step {step}; {where}. Lower "
      f"config.optim.lr{', or use config.precision = ' + repr('float32') if half else ''}"
    )

  def _check_finite(self, state, step: int) -> None:
    if not bool(self.programs.all_finite(state)):
      raise self._not_finite("a parameter or statistic", step)

  def _accuracy(self) -> str:
    for name, value in self.latest.items():
      if name.startswith("test/") and name.endswith("/accuracy"):
        return f"  {name} {np.mean(value):.3f}"
    return ""

  def _row(self, step: int, values: Mapping[str, Any]) -> None:
    self.writer.write(step, step / self.run.spec.steps_per_epoch, values)

  def _measure_all(self, state) -> list[dict[str, float]]:
    """One row of numbers per network, over every split."""
    of_row, count = self.programs.of_row, self.programs.seeds
    return [
      dict(self.splits.measure(self.measures[row // count], of_row(state, row), row % count))
      for row in range(self.programs.count)
    ]

  def _evaluate(self, state, step: int) -> float | None:
    with self.watch.paused(state):
      rows = self._measure_all(state)
    # What one seed has no number for is left out of the row.
    names = [k for k in rows[0] if all(k in row for row in rows)]
    self.latest = {k: _number(np.asarray([row[k] for row in rows])) for k in names}
    self._row(step, self.latest)
    if "holdout" not in self.splits or self.run.members:
      return None  # one checkpoint holds all members, each of which may be best at another step
    headline = next(k for k in self.latest if k.startswith("holdout/"))
    return float(np.mean(self.latest[headline]))

  def _save(self, state, step: int, totals, score) -> None:
    """Saves once everything since the last save is known to be finite."""
    if totals is not None:
      self._tell(state, step, totals)
    with self.watch.paused(state):
      self._check_finite(state, step)
      self.saver.save(state, step, self.record, score)


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0


def _number(values: np.ndarray) -> float | list[float]:
  """A float for one seed, a list for several."""
  values = np.atleast_1d(values).astype(float)
  return float(values[0]) if values.size == 1 else [float(v) for v in values]


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
  """Turns SIGTERM into a flag that can be asked; threads other than the main one leave it alone.

  Several processes are told of a SIGTERM to any of them, all at the same question: each must ask
  equally often.

  Example:
    >>> from jaxnoise.training import loop
    >>> with loop.stop_on_sigterm() as stop:
    ...   stop()
    False
  """
  if distributed.several():
    yield distributed.preemption()
    return
  asked = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield asked.is_set
    return
  previous = signal.signal(signal.SIGTERM, lambda *_: asked.set())
  try:
    yield asked.is_set
  finally:
    signal.signal(signal.SIGTERM, previous)

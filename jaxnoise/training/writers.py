"""What a run writes beside checkpoints: config.json, metrics.jsonl, tables/*.json, progress.

Every file carries `format_version`; whole files are written to a temporary name and renamed, so
that a reader never meets half of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Hashable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from jaxnoise.core.errors import InputError

FORMAT_VERSION = 1
_VERSIONED = ("jaxnoise", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


def run_directory(workdir: str | Path) -> Path:
  """A run directory as a path on a file system.

  Raises:
    InputError: for an address such as gs://bucket/run, which would become a local folder "gs:".

  Example:
    >>> from jaxnoise.training import writers
    >>> writers.run_directory("runs/a").name
    'a'
  """
  address = re.match(r"([a-z][a-z0-9+]+):/", str(workdir))
  if address:
    raise InputError(
      f"workdir {workdir} is an address ({address[1]}), and run directories are on file systems; "
      "mount the bucket (gs: with gcsfuse) and name the folder, the same on every host"
    )
  return Path(workdir)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
  """Writes `content` and the format version, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + ".tmp")
  # Unsorted: the first predictor of a table is the headline.
  text = json.dumps({"format_version": FORMAT_VERSION, **content}, indent=1)
  temporary.write_text(text + "\n")
  os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
  """Reads a file that `write_json` wrote.

  Raises:
    InputError: when it is missing, is not JSON, or is of a newer format.
  """
  try:
    content = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise InputError(f"{path} does not exist; is {path.parent} a run directory?") from None
  except (json.JSONDecodeError, UnicodeDecodeError):
    raise InputError(f"{path} is not a JSON file; was it edited or cut off?") from None
  version = content.get("format_version") if isinstance(content, dict) else None
  if not isinstance(version, int) or version > FORMAT_VERSION:
    raise InputError(
      f"{path} has format version {version}; this jaxnoise reads up to {FORMAT_VERSION}, "
      "install a newer one"
    )
  return content


def provenance() -> dict[str, Any]:
  """What produced a run: package versions, Python, platform, commit (where git knows one)."""
  versions = {}
  for package in _VERSIONED:
    try:
      versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      versions[package] = None
  return {
    "versions": versions,
    "python": platform.python_version(),
    "platform": f"{platform.system()} {platform.machine()}",
    "commit": _commit(),
  }


def _commit() -> str | None:
  here = Path(__file__).resolve().parents[2]
  if not (here / ".git").exists():
    return None
  command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
  """Yields the rows of a metrics.jsonl, a torn last line left out.

  Raises:
    InputError: for a line other than the last that is not JSON.
  """
  if not path.exists():
    return
  lines = path.read_text().splitlines()
  for number, line in enumerate(lines, start=1):
    try:
      yield json.loads(line)
    except json.JSONDecodeError:
      if number < len(lines):
        raise InputError(f"{path} line {number} is not JSON; was the file edited?") from None


class MetricsWriter:
  """Appends rows to metrics.jsonl: {"step", "epoch", "split/predictor/metric": value, ...}.

  A value is a number, or a list with one number per seed. The first line carries the format
  version. Opening truncates the file to the step that the run resumes from, so that no step is
  told twice.

  Args:
    path: of the file.
    resume_step: rows of later steps are dropped.

  Attributes:
    latest: of the rows kept, the latest value of each name.
  """

  def __init__(self, path: Path, resume_step: int):
    kept = [r for r in read_rows(path) if "step" in r and r["step"] <= resume_step]
    self.latest: dict[str, Any] = {name: value for row in kept for name, value in row.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    lines = [{"format_version": FORMAT_VERSION}, *kept]
    temporary.write_text("".join(json.dumps(row) + "\n" for row in lines))
    os.replace(temporary, path)
    self._file = path.open("a")

  def write(self, step: int, epoch: float, values: Mapping[str, Any]) -> None:
    """Appends one row and flushes it."""
    self._file.write(json.dumps({"step": step, "epoch": round(epoch, 4), **values}) + "\n")
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class Stopwatch:
  """How long a run takes and how many images a second it trains on, by the host's clock.

  The rate is that of training alone: evaluating, saving and compiling are left out of it. The total
  has them all, and those parts of the run that ended before this one began.

  Args:
    images_per_step: of all seeds.
    step: that this part of the run begins at.
    earlier: seconds that earlier parts took.

  Example:
    >>> from jaxnoise.training import writers
    >>> watch = writers.Stopwatch(images_per_step=128, earlier=60.0)
    >>> sorted(watch.row(step=10)), watch.row(20)["train/host/wall_seconds"] >= 60
    (['train/host/images_per_second', 'train/host/wall_seconds'], True)
  """

  def __init__(self, images_per_step: int, step: int = 0, earlier: float = 0.0):
    self._per_step, self._step, self._earlier = images_per_step, step, earlier
    self._begun = self._told = time.monotonic()
    self._left_out, self._compiled = 0.0, 0
    self._known: set[Hashable] = set()

  @contextlib.contextmanager
  def paused(self, state: Any = None) -> Iterator[None]:
    """Leaves what happens within out of the rate, once `state`, the work so far, is ready."""
    jax.block_until_ready(state)
    begun = time.monotonic()
    yield
    self._left_out += time.monotonic() - begun

  @contextlib.contextmanager
  def first(self, program: Hashable, state: Any = None, steps: int = 1) -> Iterator[None]:
    """The same around steps whose `program` is called for the first time, and compiles.

    Args:
      program: what is called.
      state: the work so far; what the device does while a program compiles would be left out.
      steps: that the call takes.
    """
    if program in self._known:
      yield
      return
    self._known.add(program)
    self._compiled += steps
    with self.paused(state):
      yield

  def row(self, step: int) -> dict[str, float]:
    """What a row of metrics says at `step`; the rate is that since the row before."""
    now = time.monotonic()
    steps, seconds = step - self._step - self._compiled, now - self._told - self._left_out
    if steps < 1:  # no other steps to tell it by
      steps, seconds = step - self._step, now - self._told
    self._step, self._told, self._left_out, self._compiled = step, now, 0.0, 0
    return {
      "train/host/images_per_second": round(steps * self._per_step / max(seconds, 1e-9), 2),
      "train/host/wall_seconds": round(self._earlier + now - self._begun, 3),
    }


class Progress:
  """A bar with rate and time left on a terminal; a plain line now and then elsewhere.

  Args:
    total: steps of the run.
    start: the step it resumes from.
    examples_per_step: for the rate; 0 shows none.
    quiet: print nothing.
    unit: what a step is called.
  """

  def __init__(
    self,
    total: int,
    start: int,
    examples_per_step: int,
    quiet: bool = False,
    unit: str = "step",
  ):
    self._total, self._start, self._per_step = total, start, examples_per_step
    self._unit = unit
    self._begun = self._told = time.monotonic()
    self._timed = False
    self._quiet = quiet
    self._bar = self._task = None
    if sys.stdout.isatty() and not quiet:
      from rich import progress

      self._bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
      )
      self._task = self._bar.add_task("training", total=total, completed=start, rate="")
      self._bar.start()

  def _rate(self, step: int) -> str:
    if not self._per_step:
      return ""
    rate = (step - self._start) * self._per_step / max(time.monotonic() - self._begun, 1e-9)
    return f"{rate:,.0f} images/s  "

  def update(self, step: int, text: str, *, row: bool = False) -> None:
    """Tells how far the run is, at most once a second on a terminal.

    Args:
      step: the steps dispatched so far.
      text: what was last measured.
      row: whether it was measured just now; without a terminal, only such news is a line.
    """
    now = time.monotonic()
    if not self._timed:  # the first step compiled; the rate is that of the others
      self._timed, self._start, self._begun = True, step, now
    if self._quiet or (not row and (self._bar is None or now - self._told < 1)):
      return
    rate = self._rate(step)
    if self._bar is not None:
      self._told = now
      self._bar.update(self._task, completed=step, rate=rate, description=text or "training")
      return
    if now - self._told >= 5 or step == self._total:
      self._told = now
      done = max(step - self._start, 1)
      left = (now - self._begun) / done * (self._total - step)
      print(f"{self._unit} {step}/{self._total}  {rate}{left:.0f} s left  {text}", flush=True)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.stop()

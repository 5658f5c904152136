"""Runs that are killed at random moments end as the undisturbed run did, to the bit.

    python benchmarks/soak.py --out=runs/soak
    python benchmarks/soak.py --methods=nrd,elr --kills=5

For each method that keeps something between steps, a run on digits is trained undisturbed. Then the
same run is started again and again; each time but the last it is killed by SIGKILL: one time at a
moment drawn at random from what the undisturbed run took, importing and compiling included, the
next time once it has saved anew, at a moment drawn from the two seconds after that. So kills fall
on every phase (start, compiling, steps, passes over the training set, evaluations, saves) and all
along the run. At last it is left alone. A row says whether its last checkpoint equals the
undisturbed run's in every byte of every array, its metrics (but for the clock's) in every number,
and which step had been saved when it was killed. The exit code is 1 if any run differs, or could
not be finished. Rows are appended to OUT/soak-KILLS.jsonl; the same command goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rows

ROOT = Path(__file__).resolve().parents[1]
METHODS: dict[str, dict[str, Any]] = {
  "mr": {"wrappers": ("multiplicative_reweighting",)},
  "ema": {"method": {"name": "noisymix"}, "wrappers": ("with_ema",)},
  "nrd": {"method": {"name": "nrd"}},
  "elr": {"method": {"name": "elr"}},
  "elr_plus": {"method": {"name": "elr_plus"}},
  "dividemix": {"method": {"name": "dividemix", "warm_up": 2}},
  "dynamic_bootstrap": {"method": {"name": "dynamic_bootstrap", "warmup_epochs": 2}},
  "co_teaching": {"method": {"name": "co_teaching", "noise_rate": 0.4}},
  "meta_weight_net": {"method": {"name": "meta_weight_net"}, "data": {"trusted": 100}},
  "free_at": {"method": {"name": "free_at"}},
}


def config_of(name: str, epochs: int) -> dict[str, Any]:
  """The config of a run: digits with 40 % label noise, a small network, frequent saves."""
  from jaxnoise.training import schema

  config = {
    "total": f"{epochs} epochs",
    "batch_size": 64,
    "seed": 7,
    "data": {"limit": 640, "holdout": 128, "noise": {"kind": "symmetric", "rate": 0.4}},
    "first": {"padding": 1},
    "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
    "log": {"every": "3 steps", "tensorboard": False},
    "evaluate": {"every": "5 steps"},
    "checkpoint": {"every": "4 steps"},
  }
  return schema.check(schema.merge(config, METHODS[name]))


def train(arguments: argparse.Namespace) -> None:
  """What is killed: one run in its directory, in a process of its own."""
  from jaxnoise.training import build, cache, loop

  cache.use_compilation_cache()
  run = build.assemble(config_of(arguments.train, arguments.epochs))
  loop.train(run, arguments.out, quiet=True)


def start(name: str, epochs: int, folder: Path) -> subprocess.Popen:
  """Starts such a process."""
  command = [sys.executable, __file__, f"--train={name}", f"--epochs={epochs}", f"--out={folder}"]
  return subprocess.Popen(
    command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
  )


def finish(name: str, epochs: int, folder: Path) -> float:
  """Lets a run go to its end; returns the seconds it took."""
  started = time.monotonic()
  process = start(name, epochs, folder)
  _, said = process.communicate()
  if process.returncode:
    raise RuntimeError(f"{name} in {folder} ended with {process.returncode}:\n{said[-3000:]}")
  return time.monotonic() - started


def latest(folder: Path) -> int:
  """The step of the latest complete checkpoint, 0 where there is none."""
  found = (folder / "checkpoints").glob("*")
  return max((int(path.name) for path in found if re.fullmatch(r"\d+", path.name)), default=0)


def ending(name: str, epochs: int, folder: Path) -> dict[str, np.ndarray]:
  """Every array of the last checkpoint, by name."""
  import jax

  from jaxnoise.training import build, checkpoint, loop

  run = build.assemble(config_of(name, epochs))
  saver = checkpoint.Checkpointer(folder / "checkpoints", read_only=True)
  state = saver.restore(loop.Programs(run).init())
  saver.close()
  if int(state.step) != run.spec.num_steps:
    raise RuntimeError(f"{folder} ended at step {int(state.step)} of {run.spec.num_steps}")
  is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {
    jax.tree_util.keystr(path): np.asarray(jax.random.key_data(x) if is_key(x) else x)
    for path, x in leaves
  }


def metrics(folder: Path) -> list[dict[str, Any]]:
  """The rows of metrics.jsonl without what the host's clock said."""
  from jaxnoise.training import writers

  read = [row for row in writers.read_rows(folder / "metrics.jsonl") if "step" in row]
  return [{k: v for k, v in row.items() if not k.startswith("train/host/")} for row in read]


def differences(name: str, epochs: int, folder: Path, reference: Path) -> list[str]:
  """The arrays and rows in which two finished runs differ."""
  found, expected = (ending(name, epochs, path) for path in (folder, reference))
  out = [
    key
    for key in sorted(found.keys() | expected.keys())
    if key not in found or key not in expected or found[key].tobytes() != expected[key].tobytes()
  ]
  return out if metrics(folder) == metrics(reference) else [*out, "metrics.jsonl"]


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Kills one method's run again and again; returns its row."""
  started = time.monotonic()
  name, epochs = arguments.row, arguments.epochs
  folder, reference = (arguments.out / f"{name}{suffix}" for suffix in ("", "-undisturbed"))
  for path in (folder, reference):
    shutil.rmtree(path, ignore_errors=True)
  finish(name, epochs, reference)
  shutil.rmtree(reference)
  seconds = finish(name, epochs, reference)  # again, as what is killed finds it: compiled
  draw = random.Random(f"{arguments.seed} {name}")
  killed_at: list[int] = []
  early = 0
  while len(killed_at) < arguments.kills:
    begun_at = latest(folder)
    process = start(name, epochs, folder)
    moment = draw.uniform(0.05, 1.0) * seconds
    if len(killed_at) % 2:
      moment = draw.uniform(0.0, 2.0)
      while process.poll() is None and latest(folder) == begun_at:
        time.sleep(0.01)
    try:
      _, said = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
      process.kill()
      process.communicate()
      killed_at.append(latest(folder))
      continue
    if process.returncode:
      raise RuntimeError(f"{name} ended with {process.returncode}:\n{said[-3000:]}")
    # It came to its end before its time: what was left to do had become too little.
    early += 1
    wrong = differences(name, epochs, folder, reference)
    if wrong:
      break
    shutil.rmtree(folder)
  else:
    finish(name, epochs, folder)
    wrong = differences(name, epochs, folder, reference)
  return {
    "row": name,
    "kills": len(killed_at),
    "finished_between": early,
    "killed_at_saved_step": killed_at,
    "different": wrong,
    **rows.provenance(started),
  }


def told(row: Mapping[str, Any]) -> str:
  """One line about a row."""
  end = "DIFFERENT in " + ", ".join(row["different"]) if row["different"] else "bitwise equal"
  saved = len({*row["killed_at_saved_step"]} - {0})
  runs = row["finished_between"] + 1
  at = f"of {runs} run(s), after {saved} different saves"
  return f"{row['kills']} kills {at}, {row['wall_seconds']:.0f} s: {end}"


def main(argv: Sequence[str]) -> int:
  """Makes the missing rows; returns 1 unless every run ended as the undisturbed one."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add("--out", type=Path, default=Path("runs/soak"))
  add("--methods", default="", help="comma between them; default: all")
  add("--kills", type=int, default=20, help="of each method's run")
  add("--epochs", type=int, default=6)
  add("--seed", type=int, default=0, help="of the moments")
  add("--jobs", type=int, default=1, help="rows at a time")
  add("--minutes", type=float, default=1e9, help="begin no row after so long")
  add("--row", default="", help=argparse.SUPPRESS)
  add("--train", default="", help=argparse.SUPPRESS)
  arguments = parser.parse_args(argv)
  if arguments.train:
    train(arguments)
    return 0
  if arguments.row:
    print(json.dumps(run_row(arguments)))
    return 0
  names = rows.chosen(parser, "methods", arguments.methods, tuple(METHODS)) or tuple(METHODS)
  path = arguments.out / f"soak-{arguments.kills}.jsonl"
  rows.run_missing(
    names,
    path,
    lambda row: [
      __file__, f"--row={row}", *rows.passed_on(arguments, ("out", "kills", "epochs", "seed")),
    ],
    jobs=arguments.jobs,
    minutes=arguments.minutes,
    told=told,
  )  # fmt: skip
  found = {row["row"]: row for row in rows.read_rows(path)}
  print()
  for name in names:
    print(f"{name:<18} {told(found[name]) if name in found else 'not run'}")
  return int(any(name not in found or found[name]["different"] for name in names))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

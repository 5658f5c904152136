"""Noise in knowledge distillation on a small protocol: accuracy, calibration, attacks.

    python benchmarks/distillation.py --out=runs/distillation --jobs=2
    python benchmarks/distillation.py --protocol=small --data=FILE.npz --out=runs/distillation

Protocols are those of configs/noisymix_digits.py and configs/noisymix_small.py, but that inputs are
not standardised and the teacher is larger: on digits a WRN-16-2 teaches a WRN-10-1, on small CIFAR
a WRN-16-2 a WRN-16-1. Every seed has teachers of its own. alpha is 0.9, tau 4, the weights of the
feature methods are the papers'. A fickle teacher's student trains as much longer as in its paper
(1.25 times with dropout 0.1 and 0.2, 1.75 times with 0.4). Cells:

  clean      plain training, KD, AT, SP, RKD-D, -A, -DA, the fickle teacher over its dropout
  noise      Gaussian augmentation (ga) against soft randomization (sr) over sigma
  labels-Q   a share Q of labels redrawn among all classes, for teacher and student alike: plain
             training (ce), KD and messy collaboration (mc) over its rate

A row is a student: test accuracy after the last epoch and where held-out accuracy is best, ECE,
accuracy under PGD (20 steps of a quarter of the radius, one random start), its teacher's accuracy.
Rows are appended to OUT/PROTOCOL.jsonl; the same command goes on where it stopped. Then come the
tables: mean ± standard deviation over seeds, and paired differences with 95 % intervals (Student,
three seeds or more) to the first method of the cell.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import reweighting
import rows

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = {"digits": 60, "small": 30}
SEEDS = {"digits": 5, "small": 3}
LONGER = {0.1: 1.25, 0.2: 1.25, 0.4: 1.75}
SIGMAS = (0.05, 0.1, 0.2, 0.4)
CELLS: dict[str, dict[str, tuple[str, ...]]] = {
  "digits": {
    "clean": (
      "ce", "kd", "at", "sp", "rkd_d", "rkd_a", "rkd_da", *(f"ft@{p}" for p in LONGER),
    ),
    "noise": ("ga@0.0", *(f"{name}@{s}" for s in SIGMAS for name in ("ga", "sr"))),
    "labels-0.25": ("kd", "ce", "mc@0.05", "mc@0.1", "mc@0.25"),
    "labels-0.5": ("kd", "ce", "mc@0.05", "mc@0.1", "mc@0.25"),
  },
  "small": {"clean": ("ce", "kd", "ft@0.2", "sr@0.05")},
}  # fmt: skip
# What the paper compares besides: the fickle teacher with KD, SR with GA, MC with plain training.
PAIRS = (
  *((f"ft@{p}", "kd") for p in LONGER),
  *((f"sr@{s}", f"ga@{s}") for s in SIGMAS),
  *((f"mc@{r}", "ce") for r in (0.05, 0.1, 0.25)),
)
COLUMNS = {
  "last": ("accuracy, last", 100),
  "best": ("accuracy, best", 100),
  "ece": ("ECE, last", 100),
  "pgd_8": ("PGD, 8/255", 100),
  "pgd_0.1": ("PGD, 0.1", 100),
  "teacher": ("teacher's accuracy", 100),
}


def method(name: str, value: float) -> dict[str, Any]:
  """The config section of a student's method; `value` is the number after @."""
  gaussian = {"policy": {"name": "gaussian_augment", "std": value, "clip": False}}
  return {
    "ce": {},
    "kd": {"method": {"name": "knowledge_distillation"}},
    "at": {"method": {"name": "attention_transfer"}},
    "sp": {"method": {"name": "similarity_preserving"}},
    "rkd_d": {"method": {"name": "rkd", "angle": 0.0}},
    "rkd_a": {"method": {"name": "rkd", "distance": 0.0}},
    "rkd_da": {"method": {"name": "rkd"}},
    "ft": {"method": {"name": "fickle_teacher"}},
    "sr": {"method": {"name": "soft_randomization", "sigma": value}},
    "ga": gaussian if value else {},
    "mc": {"method": {"name": "messy_collaboration", "rate": value}},
  }[name]


def config_of(protocol: str, cell: str, name: str, seed: int, data: str) -> dict[str, Any]:
  """The config of a network of a cell: a student, or "teacher@DROPOUT"."""
  from jaxnoise.training import schema

  file = ROOT / "configs" / f"noisymix_{protocol}.py"
  config = runpy.run_path(str(file))["get_config"]("method=erm").to_dict()
  kind, _, number = name.partition("@")
  value = float(number) if number else 0.0
  epochs = EPOCHS[protocol]
  depth, width = (10 if protocol == "digits" else 16), 1
  changes = {} if kind == "teacher" else method(kind, value)
  if kind == "teacher":
    depth, width = 16, 2
  if kind == "ft":
    epochs = round(epochs * LONGER[value])
  model = {"name": "wide_resnet", "depth": depth, "widen_factor": width, "mean": (), "std": ()}
  if kind == "teacher" and value:
    model["dropout"] = value
  section: dict[str, Any] = {"path": data}
  rate = cell.partition("-")[2]
  if rate:
    section["noise"] = {"kind": "symmetric", "rate": float(rate)}
  config = schema.merge(config, {"data": section, "model": model, **changes})
  config.update(name=f"{name}-{cell}", seed=seed, total=f"{epochs} epochs")
  every = "5 epochs" if protocol == "digits" else "3 epochs"
  config["evaluate"] = {**config["evaluate"], "corruptions": (), "every": every}
  config["checkpoint"] = {**config["checkpoint"], "every": config["total"]}
  return schema.check(config)


def teacher_of(cell: str, name: str) -> str | None:
  """The name of the teacher that a method of a cell needs."""
  kind, _, number = name.partition("@")
  if kind in ("ce", "ga"):
    return None
  return f"teacher@{number}" if kind == "ft" else "teacher@0.0"


def labels_of(cell: str) -> str:
  """Cells whose labels are the same share their teachers."""
  return cell if cell.startswith("labels") else "clean"


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Trains one network and returns its row; resumes what is there."""
  from jaxnoise import reporting
  from jaxnoise.training import cache, experiment, restore

  cache.use_compilation_cache()
  started = time.monotonic()
  cell, name, seed = arguments.row.split(":")
  config = config_of(arguments.protocol, cell, name, int(seed), arguments.data)
  root = arguments.out / arguments.protocol
  teacher = teacher_of(cell, name) if not name.startswith("teacher") else None
  taught = {}
  if teacher is not None:
    folder = root / f"{labels_of(cell)}-{teacher}-{seed}"
    config["teacher"] = str(folder)
    of_teacher = reporting.load_run(folder)
    taught["teacher"] = float(reporting.curve(of_teacher, "test/student/accuracy").value[-1, 0])
  result = experiment.run(config, root / f"{cell}-{name}-{seed}", quiet=True)[-1]
  run = reporting.load_run(result.directory)
  test, held = (reporting.curve(run, f"{s}/student/accuracy") for s in ("test", "holdout"))
  return {
    "row": arguments.row,
    "protocol": arguments.protocol,
    "cell": cell,
    "method": name,
    "seed": int(seed),
    "last": float(test.value[-1, 0]),
    # The last of equals, as checkpoints are kept.
    "best": float(test.value[np.flatnonzero(held.value[:, 0] == held.value[:, 0].max())[-1], 0]),
    "ece": float(reporting.curve(run, "test/student/ece").value[-1, 0]),
    **reweighting.attacked(restore.open_run(result.directory)),
    **taught,
    **rows.provenance(started),
  }


def main(argv: Sequence[str]) -> int:
  """Runs what is missing, each seed's teachers before their students, and prints the tables."""
  parser = rows.options(
    __doc__, "runs/distillation", seeds="5 on digits, 3 on small", protocols=tuple(CELLS)
  )
  parser.add_argument("--cells", default="", help="comma between them; default: all")
  arguments = parser.parse_args(argv)
  if arguments.row:
    print(json.dumps(run_row(arguments)))
    return 0
  cells = CELLS[arguments.protocol]
  rows.need_data(parser, arguments)
  chosen = rows.chosen(parser, "cells", arguments.cells, tuple(cells)) or tuple(cells)
  path = arguments.out / f"{arguments.protocol}.jsonl"
  options = rows.passed_on(arguments, ("protocol", "out", "data"))
  end = time.monotonic() + 60 * arguments.minutes
  for seed in range(arguments.seeds or SEEDS[arguments.protocol]):
    for cell in chosen:
      needed = {teacher_of(cell, name): None for name in cells[cell]}
      teachers = [f"{labels_of(cell)}:{name}:{seed}" for name in needed if name is not None]
      for wanted in (teachers, [f"{cell}:{name}:{seed}" for name in cells[cell]]):
        rows.run_missing(
          wanted,
          path,
          lambda row: [__file__, f"--row={row}", *options],
          jobs=arguments.jobs,
          minutes=(end - time.monotonic()) / 60,
          told=lambda row: (
            f"last {row['last']:.4f}, PGD {row['pgd_8']:.3f}, {row['wall_seconds']:.0f} s"
          ),
        )
  found = rows.read_rows(path)
  for cell in chosen:
    own = [row for row in found if row["cell"] == cell]
    print(f"\n### {cell}\n\n{rows.table(own, cells[cell], COLUMNS, cells[cell][0])}")
    pairs = [(f"{a} minus {b}", a, b) for a, b in PAIRS if {a, b} <= {*cells[cell]}]
    if pairs:
      print(f"\nThe paper's own comparisons:\n\n{rows.differences(own, pairs, COLUMNS)}")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

"""Methods for noisy labels on a small protocol: accuracy, memorisation, calibration.

    python benchmarks/noisy_labels.py --protocol=digits --out=runs/noisy_labels --jobs=2
    python benchmarks/noisy_labels.py --protocol=small --data=FILE.npz --out=runs/noisy_labels

Protocols are those of configs/noisymix_digits.py and configs/noisymix_small.py. Methods train on
the same views, torchvision's RandAugment (N = 1, M = 3) after the protocol's crop, but for glc,
meta_weight_net and dividemix, which have the crop alone; NRD's teacher sees torchvision's AugMix.
Hyper-parameters are the papers' for CIFAR-10 at the cell's rate, warm-ups in epochs scaled with the
run (DivideMix' ramp of 16 is not); lr and weight decay are the protocol's. A cell is a noise and
its rate; digits begin with every method at symmetric 40 %, seed by seed. A row is a run: test
accuracy after the last epoch and where the accuracy on held-out, equally noisy examples is best,
ECE, which training labels are fitted. Rows are appended to OUT/PROTOCOL.jsonl; the same command
goes on where it stopped. Then come the tables: mean ± standard deviation over seeds, and paired
differences to cross-entropy with 95 % intervals (Student, three seeds or more).
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rows

ROOT = Path(__file__).resolve().parents[1]
VIEWS = {"name": "rand_augment", "num_ops": 1, "magnitude": 3}
TRUSTED = {"digits": 100, "small": 500}
EPOCHS = {"digits": 60, "small": 30}
SEEDS = {"digits": 5, "small": 3}
ALL = (
  "ce", "nrd", "gjs", "js", "gce", "elr", "ls", "bs", "bs_hard", "mae", "sce", "nce_rce", "forward",
  "backward", "mixup", "dynamic_bootstrap", "co_teaching", "elr_plus", "dividemix", "glc",
  "meta_weight_net",
)  # fmt: skip
FEW = ("ce", "nrd", "gjs", "gce", "elr")
CELLS: dict[str, dict[str, tuple[str, ...]]] = {
  "digits": {
    "symmetric-0.4": ALL,
    "symmetric-0.2": FEW,
    "symmetric-0.6": FEW,
    "symmetric-0.8": FEW,
    "asymmetric_digits-0.4": FEW,
    "asymmetric_digits-0.2": FEW,
  },
  "small": {
    "worst_label": ("ce", "nrd", "gjs", "elr"),
    "symmetric-0.4": ("ce", "nrd", "gjs", "elr"),
  },
}
COLUMNS = {
  "last": ("accuracy, last", 100),
  "best": ("accuracy, best", 100),
  "ece": ("ECE, last", 100),
  "memorised": ("wrong labels fitted", 100),
  "corrected": ("wrong labels seen through", 100),
  "label_precision": ("fitted labels right", 100),
}


def column(cell: str) -> int:
  """Which column of NRD's Table 5 a cell is: human labels (40 % wrong) take symmetric 40 %'s."""
  kind, _, rate = cell.partition("-")
  if kind == "asymmetric_digits":
    return {"0.2": 5, "0.4": 6}[rate]
  return {"0.2": 1, "0.4": 2, "0.6": 3, "0.8": 4}.get(rate, 2)


def method(name: str, cell: str, protocol: str) -> dict[str, Any]:
  """What a method changes in the config of plain training."""
  at, epochs = column(cell), EPOCHS[protocol]
  table = runpy.run_path(str(ROOT / "configs" / "nrd.py"))
  ours = {"ce": "ce", "nrd": "nrd", "gjs": "gjs", "js": "js", "gce": "gce", "ls": "ls", "bs": "bs",
          "sce": "sce", "nce_rce": "nce_rce"}  # fmt: skip
  if name in ours:
    hyper = table["HYPER"]["cifar10"].get(name)
    section = table["method"](name, None if hyper is None else hyper[at])
    if name == "nrd":
      section["teacher_policy"] = {"name": "torchvision_augmix"}
    return {"method": section}
  rate = cell.partition("-")[2]
  noise = float(rate) if rate else 0.4
  trusted = {"data": {"trusted": TRUSTED[protocol], "trusted_in_train": False}}
  sections: dict[str, dict[str, Any]] = {
    "mae": {"method": {"name": "erm", "loss": "mean_absolute_error"}},
    "bs_hard": {
      "method": {"name": "erm", "loss": "hard_bootstrap", "loss_args": {"prediction_weight": 0.2}}
    },
    "mixup": {"method": {"name": "mixup", "alpha": 1.0}},
    # ELR's for CIFAR-10: symmetric, asymmetric.
    "elr": {
      "method": {"name": "elr", "elr_weight": 3.0, "beta": 0.7}
      if at < 5
      else {"name": "elr", "elr_weight": 1.0, "beta": 0.9}
    },
    "elr_plus": {"method": {"name": "elr_plus", "elr_weight": 3.0, "beta": 0.7, "ema_steps": None}},
    "dynamic_bootstrap": {
      "method": {"name": "dynamic_bootstrap", "warmup_epochs": round(105 / 300 * epochs)}
    },
    "co_teaching": {
      "method": {"name": "co_teaching", "noise_rate": noise, "ramp_epochs": 0.05 * epochs}
    },
    "dividemix": {
      "method": {"name": "dividemix", "warm_up": round(10 / 300 * epochs), "lambda_u": 25.0}
    },
    "meta_weight_net": {"method": {"name": "meta_weight_net"}, **trusted},
    "glc": {
      "stages": ("noisy", "corrected"),
      "stage": {"noisy": {}, "corrected": {"method": {"name": "glc"}, "label_matrix": "noisy"}},
      **trusted,
    },
  }
  if name in ("forward", "backward"):
    from jaxnoise import label_noise

    matrix = label_noise.symmetric_matrix(10, noise)
    rows_of = tuple(tuple(map(float, row)) for row in matrix)
    return {
      "method": {"name": "erm", "loss": f"{name}_correction", "loss_args": {"matrix": rows_of}}
    }
  return sections[name]


def config_of(protocol: str, cell: str, name: str, seed: int, data: str) -> dict[str, Any]:
  """The whole config of a row."""
  from jaxnoise.training import schema

  file = ROOT / "configs" / f"noisymix_{protocol}.py"
  config = runpy.run_path(str(file))["get_config"]("method=erm").to_dict()
  kind, _, rate = cell.partition("-")
  section = {"noise": {"kind": kind, "rate": float(rate)}} if rate else {"labels": cell}
  changes = {"policy": VIEWS, "data": {"path": data, **section}}
  config = schema.merge(schema.merge(config, changes), method(name, cell, protocol))
  if name in ("glc", "meta_weight_net", "dividemix"):
    # These have no second transform: what all others do after the crop is left out.
    config = schema.merge(config, {"policy": {"name": ""}})
  config.update(name=f"{name}-{cell}", seed=seed)
  every = "5 epochs" if protocol == "digits" else "3 epochs"
  config["evaluate"] = {**config["evaluate"], "corruptions": (), "every": every}
  config["checkpoint"] = {**config["checkpoint"], "every": config["total"]}
  return schema.check(config)


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Trains one network (or pair) and returns its row; resumes what is there."""
  from jaxnoise import reporting
  from jaxnoise.training import cache, experiment

  cache.use_compilation_cache()
  started = time.monotonic()
  cell, name, seed = arguments.row.split(":")
  config = config_of(arguments.protocol, cell, name, int(seed), arguments.data)
  folder = arguments.out / arguments.protocol / f"{cell}-{name}-{seed}"
  result = experiment.run(config, folder, quiet=True)[-1]
  run = reporting.load_run(result.directory)
  first = run.predictors[0]
  test, held = (reporting.curve(run, f"{s}/{first}/accuracy") for s in ("test", "holdout"))
  row = {
    "row": arguments.row,
    "protocol": arguments.protocol,
    "cell": cell,
    "method": name,
    "seed": int(seed),
    "predictor": first,
    "last": float(test.value[-1, 0]),
    # The last of equals, as checkpoints are kept.
    "best": float(test.value[np.flatnonzero(held.value[:, 0] == held.value[:, 0].max())[-1], 0]),
    "ece": float(reporting.curve(run, f"test/{first}/ece").value[-1, 0]),
  }
  for field in ("memorised", "corrected", "label_precision"):
    row[field] = float(reporting.curve(run, f"labels/{first}/{field}").value[-1, 0])
  if "ema" in run.predictors:
    row["ema_last"] = float(reporting.curve(run, "test/ema/accuracy").value[-1, 0])
  return {
    **row,
    "noise_rate": run.label_noise["rate"],
    **rows.provenance(started),
  }


def main(argv: Sequence[str]) -> int:
  """Runs what is missing and prints a table for each cell."""
  parser = rows.options(
    __doc__, "runs/noisy_labels", seeds="5 on digits, 3 on small", protocols=tuple(SEEDS)
  )
  parser.add_argument("--cells", default="", help="comma between them; default: all")
  parser.add_argument("--methods", default="", help="comma between them; default: all of a cell")
  arguments = parser.parse_args(argv)
  if arguments.row:
    print(json.dumps(run_row(arguments)))
    return 0
  cells = CELLS[arguments.protocol]
  rows.need_data(parser, arguments)
  chosen = rows.chosen(parser, "cells", arguments.cells, tuple(cells)) or tuple(cells)
  only = rows.chosen(parser, "methods", arguments.methods, ALL)
  seeds = range(arguments.seeds or SEEDS[arguments.protocol])
  wanted = [
    f"{cell}:{name}:{seed}"
    for cell in chosen
    for seed in seeds
    for name in only or cells[cell]
  ]
  path = arguments.out / f"{arguments.protocol}.jsonl"
  options = rows.passed_on(arguments, ("protocol", "out", "data"))
  rows.run_missing(
    wanted,
    path,
    lambda row: [__file__, f"--row={row}", *options],
    jobs=arguments.jobs,
    minutes=arguments.minutes,
    told=lambda row: (
      f"last {row['last']:.4f}, best {row['best']:.4f}, fitted {row['memorised']:.3f}, "
      f"{row['wall_seconds']:.0f} s"
    ),
  )
  found: Sequence[Mapping[str, Any]] = rows.read_rows(path)
  for cell in chosen:
    own = [row for row in found if row["cell"] == cell]
    print(f"\n### {cell}\n\n{rows.table(own, only or cells[cell], COLUMNS, 'ce')}")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

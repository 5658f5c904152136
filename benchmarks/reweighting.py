"""Multiplicative reweighting (MR) over other methods, against label noise and against attacks.

    python benchmarks/reweighting.py --out=runs/reweighting --jobs=2
    python benchmarks/reweighting.py --protocol=small --data=FILE.npz --out=runs/reweighting

Protocols are those of configs/noisymix_digits.py and configs/noisymix_small.py; views are the
protocol's crop (and flip) alone, as in MR's paper. A cell is a noise and its rate, with the
optimizer where it is not SGD; every method of a cell has the same recipe, and MR around it adds
nothing else. Mixup's alpha is 1, with Adam 0.5; label smoothing 0.1 on the other classes; Adam's lr
1e-3. M-DYR-H begins its bootstrapping at 35 % of the run, as in its paper.

A method NAME+mr has the paper's eta of 0.01, NAME+mr@ETA another: the paper trains three times as
long as digits are trained here. The cell `search` has four step sizes of MR around cross-entropy at
symmetric 40 %, three seeds; 0.1 is best on held-out, equally noisy examples. Every method is shown
with both; the further cells of digits have, for each, the one that held-out accuracy prefers there.

A row of noisy labels is the test accuracy after the last epoch and where the held-out accuracy is
best, the share of wrong labels fitted and, with MR, how well the summed losses tell wrong labels
(AUROC) and what share of the weight wrong labels have. Rows of `attacks` have no label noise: PGD
of 20 steps of a quarter of the radius from a random start. Free-AT trains on radius and step 8/255
with 4 replays for a quarter of the epochs, TRADES (beta 6, 10 steps of 2/255 in 8/255) for 40 % of
them, as its paper has 76 where MR's has 200.

Rows are appended to OUT/PROTOCOL.jsonl; the same command goes on where it stopped. Then come the
tables: mean ± standard deviation over seeds, and paired differences with 95 % intervals (Student,
three seeds or more), of each method to the same without MR and to plain training.
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
MR = "multiplicative_reweighting"
ETA = 0.1  # of cross-entropy, from the cell search
PAPER_ETA = 0.01
SEARCH = (0.001, 0.01, 0.1, 1.0)
EPOCHS = {"digits": 60, "small": 30}
INNER = ("ce", "random_weighting", "mixup", "ls", "mixup_ls", "m_dyr_h")
PAIRS = tuple(name + end for name in INNER for end in ("", "+mr", f"+mr@{ETA}"))
FEW = ("ce", f"ce+mr@{ETA}", "mixup_ls", "mixup_ls+mr")
SMALL = ("ce", "ce+mr", "mixup_ls+mr", f"ce+mr@{ETA}")
RADII = {"pgd_0.01": 0.01, "pgd_0.02": 0.02, "pgd_8": 8 / 255, "pgd_0.1": 0.1}
# cell -> (methods, seeds)
CELLS: dict[str, dict[str, tuple[tuple[str, ...], int]]] = {
  "digits": {
    "search": (tuple(f"ce+mr@{eta:g}" for eta in SEARCH), 3),
    "symmetric-0.4": (PAIRS, 5),
    "attacks": (("ce", "ce+mr", "free_at", "free_at+mr", "trades", "trades+mr"), 5),
    "symmetric-0.2": (FEW, 3),
    "symmetric-0.4-adam": (FEW, 3),
    "none": (FEW, 3),
  },
  "small": {"symmetric-0.4": (SMALL, 3), "worst_label": (SMALL, 3)},
}
NOISY = {
  "holdout": ("held-out accuracy, noisy labels", 100),
  "last": ("accuracy, last", 100),
  "best": ("accuracy, best", 100),
  "memorised": ("wrong labels fitted", 100),
  "auroc": ("AUROC of the summed losses", 100),
  "noisy_mass": ("weight of wrong labels", 100),
}
ATTACKED = {
  "last": ("accuracy", 100),
  "pgd_0.01": ("PGD, 0.01", 100),
  "pgd_0.02": ("PGD, 0.02", 100),
  "pgd_8": ("PGD, 8/255", 100),
  "pgd_0.1": ("PGD, 0.1", 100),
}


def method(name: str, protocol: str, adam: bool) -> dict[str, Any]:
  """What a method without MR changes in the config of plain training."""
  epochs = EPOCHS[protocol]
  smoothing = {"loss": "label_smoothing", "loss_args": {"smoothing": 0.1, "variant": "off_target"}}
  mixing = {"name": "mixup", "alpha": 0.5 if adam else 1.0}
  return {
    "ce": {},
    "random_weighting": {"wrappers": ("random_weighting",)},
    "mixup": {"method": mixing},
    "ls": {"method": {"name": "erm", **smoothing}},
    "mixup_ls": {"method": {**mixing, **smoothing}},
    "m_dyr_h": {
      "method": {
        "name": "dynamic_bootstrap",
        "variant": "hard",
        "alpha": 32.0,
        "warmup_epochs": round(0.35 * epochs),
      }
    },
    "free_at": {
      "method": {"name": "free_at", "epsilon": 8 / 255, "replays": 4},
      "total": f"{epochs // 4} epochs",
    },
    "trades": {
      "method": {"name": "trades", "epsilon": 8 / 255, "step_size": 2 / 255, "steps": 10},
      "total": f"{round(0.4 * epochs)} epochs",
    },
  }[name]


def config_of(protocol: str, cell: str, name: str, seed: int, data: str) -> dict[str, Any]:
  """The whole config of a row."""
  from jaxnoise.training import schema

  file = ROOT / "configs" / f"noisymix_{protocol}.py"
  config = runpy.run_path(str(file))["get_config"]("method=erm").to_dict()
  name, _, eta = name.partition("@")
  step = float(eta) if eta else PAPER_ETA
  inner, _, wrapped = name.partition("+")
  kind, _, rate = (
    ("symmetric-0.4" if cell == "search" else cell).removesuffix("-adam").partition("-")
  )
  adam = cell.endswith("-adam")
  section: dict[str, Any] = {"path": data}
  if rate:
    section["noise"] = {"kind": kind, "rate": float(rate)}
  elif kind not in ("none", "attacks"):
    section["labels"] = kind
  config = schema.merge(config, {"data": section, **method(inner, protocol, adam)})
  if wrapped:
    config["wrappers"] = (*config["wrappers"], MR)
    config["wrapper_args"] = {MR: {"eta": step}}
  if adam:
    config["optim"] = {**config["optim"], "name": "adam", "lr": 1e-3, "nesterov": False}
  config.update(name=f"{name}{eta and '@' + eta}-{cell}", seed=seed)
  every = "5 epochs" if protocol == "digits" else "3 epochs"
  measure = {"corruptions": (), "every": every, "memorisation": bool(rate) or "labels" in section}
  config["evaluate"] = {**config["evaluate"], **measure}
  config["checkpoint"] = {**config["checkpoint"], "every": config["total"]}
  return schema.check(config)


def attacked(opened: Any) -> dict[str, float]:
  """Accuracy under PGD at each radius, all test images in one batch."""
  import jax
  import jax.numpy as jnp

  from jaxnoise import attacks

  predict = opened.predictors["student"]
  test = opened.run.source.test
  image = jnp.asarray(test.images, jnp.float32) / 255
  label = jnp.asarray(test.labels)

  @jax.jit
  def accuracy(radius: jax.Array) -> jax.Array:
    start = attacks.uniform_start(
      jax.random.key(0), image, epsilon=radius, norm="linf", index=jnp.arange(len(label))
    )
    found = attacks.pgd(
      attacks.cross_entropy_ascent(predict, label),
      image,
      epsilon=radius,
      step_size=radius / 4,
      num_steps=20,
      norm="linf",
      start=start,
    )
    return jnp.mean(predict(found).argmax(axis=-1) == label)

  return {field: float(accuracy(jnp.float32(radius))) for field, radius in RADII.items()}


def weighed(opened: Any, eta: float) -> dict[str, float]:
  """How the summed losses treat wrong labels at the end."""
  from jaxnoise import metrics, stats

  pool = opened.train
  loss_sum = np.asarray(opened.state.method_state[MR]["loss_sum"])
  wrong = pool.labels != pool.clean_labels
  share = np.asarray(stats.weights(loss_sum, eta))
  return {"auroc": metrics.auroc(loss_sum, wrong), "noisy_mass": float(share[wrong].sum())}


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Trains one network and returns its row; resumes what is there."""
  from jaxnoise import reporting
  from jaxnoise.training import cache, experiment, restore

  cache.use_compilation_cache()
  started = time.monotonic()
  cell, name, seed = arguments.row.split(":")
  config = config_of(arguments.protocol, cell, name, int(seed), arguments.data)
  folder = arguments.out / arguments.protocol / f"{cell}-{name}-{seed}"
  result = experiment.run(config, folder, quiet=True)[-1]
  run = reporting.load_run(result.directory)
  test, held = (reporting.curve(run, f"{s}/student/accuracy") for s in ("test", "holdout"))
  row = {
    "row": arguments.row,
    "protocol": arguments.protocol,
    "cell": cell,
    "method": name,
    "seed": int(seed),
    "holdout": float(held.value[-1, 0]),
    "last": float(test.value[-1, 0]),
    # The last of equals, as checkpoints are kept.
    "best": float(test.value[np.flatnonzero(held.value[:, 0] == held.value[:, 0].max())[-1], 0]),
    "ece": float(reporting.curve(run, "test/student/ece").value[-1, 0]),
  }
  opened = restore.open_run(result.directory)
  if cell == "attacks":
    row.update(attacked(opened))
  elif cell != "none":
    row["memorised"] = float(reporting.curve(run, "labels/student/memorised").value[-1, 0])
    row["noise_rate"] = run.label_noise["rate"]
    if MR in config["wrappers"]:
      row.update(weighed(opened, config["wrapper_args"][MR]["eta"]))
  return {
    **row,
    "eta": config["wrapper_args"][MR]["eta"] if MR in config["wrappers"] else None,
    **rows.provenance(started),
  }


def tables(found: Sequence[Mapping[str, Any]], cell: str, names: Sequence[str]) -> str:
  """Markdown of a cell: against plain training, and each method against itself without MR."""
  columns = ATTACKED if cell == "attacks" else NOISY
  if cell == "search":
    return rows.table(found, names, columns, names[1])
  out = [rows.table(found, names, columns, "ce")]
  for name in names:
    inner = name.partition("+")[0]
    if inner not in (name, "ce") and inner in names:
      # The means stand above; of this table only the difference is new.
      out.append(rows.table(found, (inner, name), columns, inner).partition("\n\n")[2])
  return "\n\n".join(out)


def main(argv: Sequence[str]) -> int:
  """Runs what is missing and prints a table for each cell."""
  parser = rows.options(
    __doc__, "runs/reweighting", seeds="each cell's own number", protocols=tuple(CELLS)
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
  known = tuple({name: 0 for names, _ in cells.values() for name in names})
  only = rows.chosen(parser, "methods", arguments.methods, known)
  wanted = [
    f"{cell}:{name}:{seed}"
    for cell in chosen
    for seed in range(arguments.seeds or cells[cell][1])
    for name in cells[cell][0]
    if not only or name in only
  ]
  path = arguments.out / f"{arguments.protocol}.jsonl"
  options = rows.passed_on(arguments, ("protocol", "out", "data"))
  rows.run_missing(
    wanted,
    path,
    lambda row: [__file__, f"--row={row}", *options],
    jobs=arguments.jobs,
    minutes=arguments.minutes,
    told=lambda row: ", ".join(
      [f"held out {row['holdout']:.4f}" if row["cell"] == "search" else f"last {row['last']:.4f}"]
      + [f"{k} {row[k]:.3f}" for k in ("auroc", "noisy_mass", "pgd_8") if k in row]
      + [f"{row['wall_seconds']:.0f} s"]
    ),
  )
  found = rows.read_rows(path)
  for cell in chosen:
    own = [row for row in found if row["cell"] == cell]
    print(f"\n### {cell}\n\n{tables(own, cell, cells[cell][0])}")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

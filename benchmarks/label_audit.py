"""Finding wrong labels: the audit of a single run against cleanlab on out-of-fold predictions.

    pip install cleanlab        # for its rows alone; nothing else needs it
    python benchmarks/label_audit.py --protocol=digits --out=runs/label_audit --jobs=2
    python benchmarks/label_audit.py --protocol=small --data=FILE.npz --out=runs/label_audit

The recipes are those of benchmarks/noisy_labels.py, without held-out examples: every label is
judged, against the truth. Digits have synthetic symmetric noise, small CIFAR the human labels that
the file carries (CIFAR-10N). What is compared:

  audit         jaxnoise.audit on one run of cross-entropy with an averaged network and tracked
                losses; also with one of its two signals alone
  audit of nrd  the same on one run of NRD
  audit of mr   the same on the first run under multiplicative reweighting (eta as in
                benchmarks/reweighting.py); also with its summed losses alone
  out of fold   1 - p[given label] of networks that were trained without the example: five folds,
                stratified by the given labels, of the same cross-entropy recipe
  cleanlab      its default label quality score (self-confidence) on the same out-of-fold
                probabilities, as its guide says; estimated is what its find_label_issues finds

The ranking columns are AUROC, average precision and precision at the true number of wrong labels.
Estimated is the number of wrong labels that each says there are (the sum of probabilities; out of
fold: of disagreements), over the true one. The cost is in training passes (one example forward and
backward), forward passes and seconds of the clock, compiling included; both are of the whole
procedure. A row is appended to OUT/PROTOCOL.jsonl when it is finished, and the same command goes on
where it stopped. Then come the tables: mean ± standard deviation over seeds, and paired differences
to cleanlab (or out of fold, where cleanlab is not installed) with 95 % intervals.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import noisy_labels
import numpy as np
import reweighting
import rows

CELLS = {
  "digits": ("symmetric-0.4", "symmetric-0.2"),
  "small": ("worst_label", "aggregate_label"),
}
SEEDS = {"digits": 5, "small": 1}
PARTS = ("audit", "audit of nrd", "audit of mr", "folds")
MR = "multiplicative_reweighting"
FOLDS = 5
VIEWS = 10
COLUMNS = {
  "auroc": ("AUROC", 100),
  "average_precision": ("average precision", 100),
  "precision": ("precision at the number of wrong labels", 100),
  "estimated": ("estimated / true", 1),
  "train_passes": ("training passes, thousand", 1e-3),
  "forward_passes": ("forward passes, thousand", 1e-3),
  "seconds": ("seconds", 1),
}
NAMES = (
  "audit", "audit, views alone", "audit, losses alone", "audit of nrd", "audit of mr",
  "audit of mr, summed losses alone", "out of fold",
)  # fmt: skip
INSTALL = "cleanlab is not installed: `pip install cleanlab`, and the same command adds its rows"


def scored(score: np.ndarray, wrong: np.ndarray, estimated: float) -> dict[str, float]:
  """How well a score ranks the wrong labels."""
  from jaxnoise import metrics

  count = int(wrong.sum())
  return {
    "auroc": metrics.auroc(score, wrong),
    "average_precision": metrics.average_precision(score, wrong),
    "precision": metrics.precision_at(score, wrong, count),
    "estimated": float(estimated) / count,
  }


def config_of(arguments: argparse.Namespace, cell: str, name: str, seed: int) -> dict[str, Any]:
  """A run of a method on all training labels of a cell; nothing is measured on the way."""
  config = noisy_labels.config_of(arguments.protocol, cell, name, seed, arguments.data)
  config["data"] = {**config["data"], "holdout": 0}
  if arguments.epochs:
    config["total"] = f"{arguments.epochs} epochs"
  config["evaluate"] = {**config["evaluate"], "every": config["total"], "memorisation": False}
  config["log"] = {**config["log"], "every": config["total"], "tensorboard": False}
  return config


def run_audit(arguments: argparse.Namespace, cell: str, name: str, seed: int) -> dict[str, Any]:
  """Trains one network, audits its training labels: what each combination of signals finds."""
  from jaxnoise import audit, evaluation
  from jaxnoise.training import experiment, restore

  started = time.monotonic()
  config = config_of(arguments, cell, "ce" if name == "mr" else name, seed)
  # NRD has an averaged network of its own.
  given = {} if name == "nrd" else {"with_ema": {"decay": 0.99}}
  if name == "mr":
    given = {MR: {"eta": reweighting.ETA}, **given}
  config["wrappers"], config["wrapper_args"] = (*given, "track_losses"), given
  folder = arguments.out / arguments.protocol / f"{cell}-{name}-{seed}"
  result = experiment.run(config, folder, quiet=True)[-1]
  opened = restore.open_run(result.directory)
  found, _ = audit.audit_run(opened, views=VIEWS)
  seconds = time.monotonic() - started
  pool = audit.training_set(opened)
  wrong = pool.labels != pool.clean_labels
  # MR's own pass is one in an epoch.
  epochs = arguments.epochs or noisy_labels.EPOCHS[arguments.protocol]
  cost = {
    "train_passes": result.step * opened.run.spec.batch_size,
    "forward_passes": (VIEWS + (epochs if name == "mr" else 0)) * pool.size,
    "seconds": round(seconds, 1),
  }
  whole = "audit" if name == "ce" else f"audit of {name}"
  out = {whole: scored(found.score, wrong, found.probability.sum())}
  alone = {
    "ce": {evaluation.VIEWS: "views", "track_losses": "losses"},
    "mr": {MR: "summed losses"},
  }
  for signal, words in alone.get(name, {}).items():
    one = evaluation.audit_labels(pool.labels, signals={signal: found.signals[signal]})
    out[f"{whole}, {words} alone"] = scored(one.score, wrong, one.probability.sum())
  return {method: {**values, **cost} for method, values in out.items()}


def run_folds(arguments: argparse.Namespace, cell: str, seed: int) -> dict[str, Any]:
  """Trains a network without each fold and predicts the fold; keeps the probabilities."""
  import jax
  from sklearn.model_selection import StratifiedKFold

  from jaxnoise.training import experiment, sources

  started = time.monotonic()
  config = config_of(arguments, cell, "ce", seed)
  source = sources.load(config["data"], seed=seed).source
  # Made noisy above, once for all folds.
  config["data"] = {**config["data"], "noise": {}, "labels": ""}
  folder = arguments.out / arguments.protocol / f"{cell}-folds-{seed}"
  p = np.zeros((source.num_train, source.num_classes))
  passes = 0
  split = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
  for k, (rest, fold) in enumerate(split.split(source.labels, source.labels)):
    part = dataclasses.replace(
      source.take(rest), test_images=source.images[fold], test_labels=source.labels[fold]
    )
    result = experiment.run(config, folder / str(k), source=part, quiet=True)[-1]
    logits = [
      result.predictors()["student"](images / np.float32(255))
      for images in np.array_split(part.test_images, -(-len(fold) // 500))
    ]
    p[fold] = jax.nn.softmax(np.concatenate(logits).astype(np.float32), axis=-1)
    passes += result.step * config["batch_size"]
  seconds = time.monotonic() - started
  np.savez(folder / "out_of_fold.npz", p=p, labels=source.labels, true=source.true_labels)
  own = p[np.arange(len(p)), source.labels]
  wrong = source.labels != source.true_labels
  cost = {"train_passes": passes, "forward_passes": len(p), "seconds": round(seconds, 1)}
  differ = np.sum(p.argmax(axis=1) != source.labels)
  return {"out of fold": {**scored(1 - own, wrong, differ), **cost}}


def cleanlab_row(row: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
  """What cleanlab makes of the probabilities of a finished row; None without it."""
  try:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
  except ImportError:
    return None
  with np.load(folder / f"{row['cell']}-folds-{row['seed']}" / "out_of_fold.npz") as stored:
    p, labels, true = (stored[name] for name in ("p", "labels", "true"))
  p = p / p.sum(axis=1, keepdims=True)
  quality = get_label_quality_scores(labels, p)
  issues = find_label_issues(labels, p, n_jobs=1)
  found = row["found"]["out of fold"]
  cost = {name: found[name] for name in ("train_passes", "forward_passes", "seconds")}
  return {**scored(-quality, labels != true, issues.sum()), **cost}


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Makes one row; resumes what is there."""
  from jaxnoise.training import cache

  started = time.monotonic()
  cache.use_compilation_cache()
  cell, part, seed = arguments.row.split(":")
  if part == "folds":
    found = run_folds(arguments, cell, int(seed))
  else:
    name = part.removeprefix("audit").removeprefix(" of ") or "ce"
    found = run_audit(arguments, cell, name, int(seed))
  return {
    "row": arguments.row,
    "protocol": arguments.protocol,
    "cell": cell,
    "part": part,
    "seed": int(seed),
    "epochs": arguments.epochs or noisy_labels.EPOCHS[arguments.protocol],
    "found": found,
    **rows.provenance(started),
  }


def tables(found: Sequence[Mapping[str, Any]], cells: Sequence[str], folder: Path) -> str:
  """Markdown of every cell."""
  out, missing = [], False
  for cell in cells:
    flat = []
    for row in found:
      if row["cell"] != cell:
        continue
      of_methods = dict(row["found"])
      if row["part"] == "folds":
        theirs = cleanlab_row(row, folder)
        missing = missing or theirs is None
        if theirs is not None:
          of_methods["cleanlab"] = theirs
      flat += [{"method": m, "seed": row["seed"], **values} for m, values in of_methods.items()]
    names = [n for n in (*NAMES, "cleanlab") if any(row["method"] == n for row in flat)]
    if names:
      baseline = "cleanlab" if "cleanlab" in names else "out of fold"
      out.append(f"\n### {cell}\n\n{rows.table(flat, names, COLUMNS, baseline)}")
  return "\n".join([*out, *([f"\n{INSTALL}"] if missing else [])])


def main(argv: Sequence[str]) -> int:
  """Runs what is missing and prints a table for each cell."""
  parser = rows.options(
    __doc__, "runs/label_audit", seeds="5 on digits, 1 on small", protocols=tuple(CELLS)
  )
  add = parser.add_argument
  add("--cells", default="", help="comma between them; default: all of the protocol")
  add("--parts", default="", help=f"of {', '.join(PARTS)}; default: all")
  add("--epochs", type=int, default=0, help="default: the protocol's")
  arguments = parser.parse_args(argv)
  if arguments.row:
    print(json.dumps(run_row(arguments)))
    return 0
  rows.need_data(parser, arguments)
  known = CELLS[arguments.protocol]
  cells = rows.chosen(parser, "cells", arguments.cells, known) or known
  parts = rows.chosen(parser, "parts", arguments.parts, PARTS) or PARTS
  seeds = range(arguments.seeds or SEEDS[arguments.protocol])
  wanted = [f"{cell}:{part}:{seed}" for seed in seeds for cell in cells for part in parts]
  path = arguments.out / f"{arguments.protocol}.jsonl"
  options = rows.passed_on(arguments, ("protocol", "out", "data", "epochs"))
  rows.run_missing(
    wanted,
    path,
    lambda row: [__file__, f"--row={row}", *options],
    jobs=arguments.jobs,
    minutes=arguments.minutes,
    told=lambda row: ", ".join(
      f"{name} AUROC {100 * values['auroc']:.2f}" for name, values in row["found"].items()
    ),
  )
  print(tables(rows.read_rows(path), cells, arguments.out / arguments.protocol))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

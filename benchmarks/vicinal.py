"""NRD's Figures 4 and 5: long training of GJS against NRD, calibration error over noise rates.

    python benchmarks/vicinal.py --study=long --out=runs/vicinal --jobs=2
    python benchmarks/vicinal.py --study=ece --out=runs/vicinal --jobs=2
    python benchmarks/vicinal.py --study=long --dataset=cifar100 --data=DIR
    python benchmarks/vicinal.py --study=ece --dataset=cifar10 --data=DIR

`long` trains at symmetric 80 % for long, with the learning rate times 0.1 at 30 % and 80 % of it:
test accuracy after the last epoch, at its peak (an epoch that nobody can choose), and how far it
falls from there; on digits also at the best epoch by held-out, equally noisy examples. The paper
says that NRD then leads GJS by 36 points on CIFAR-100. `ece` measures the calibration error on test
images at symmetric 0, 20, 40, 60 and 80 %, with 10 bins (the paper names no number) and with 15.

Digits is the protocol of configs/noisymix_digits.py, with torchvision's RandAugment (N = 1, M = 3)
after its crop as the student's views and AugMix as those of NRD's teacher, 300 epochs for `long`
and 60 for `ece`. CIFAR is the recipe of configs/nrd.py, with 1,000 epochs for `long` and its own
400 for `ece`. Hyper-parameters are Table 5's of the rate (on digits those for CIFAR-10; lr and
weight decay the protocol's). `--epochs` makes runs of another length, in files of their own.

Rows are appended to OUT/STUDY-DATASET-EPOCHS.jsonl; the same command goes on where it stopped. Then
come the tables: mean ± standard deviation over seeds, and paired differences with 95 % intervals
(Student, three seeds or more); the curves go to a .json and a .html of the same name.
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
RATES = ("0", "0.2", "0.4", "0.6", "0.8")
METHODS = {"long": ("gjs", "nrd"), "ece": ("ce", "gjs", "nrd")}
EPOCHS = {
  ("long", "digits"): 300,
  ("ece", "digits"): 60,
  ("long", "cifar10"): 1000,
  ("long", "cifar100"): 1000,
  ("ece", "cifar10"): 400,
  ("ece", "cifar100"): 400,
}
COLUMNS = {
  "long": {
    "last": ("accuracy, last", 100),
    "peak": ("accuracy, peak", 100),
    "fall": ("peak less last", 100),
    "best": ("accuracy, best held-out", 100),
    "memorised": ("wrong labels fitted", 100),
  },
  "ece": {
    "ece10": ("ECE, 10 bins", 100),
    "ece15": ("ECE, 15 bins", 100),
    "last": ("accuracy, last", 100),
    "confidence": ("mean confidence", 100),
  },
}


def config_of(arguments: argparse.Namespace, rate: str, name: str, seed: int) -> dict[str, Any]:
  """The whole config of a row."""
  from jaxnoise.training import schema

  study, dataset, epochs = arguments.study, arguments.dataset, arguments.epochs
  recipe = runpy.run_path(str(ROOT / "configs" / "nrd.py"))
  if dataset == "digits":
    protocol = runpy.run_path(str(ROOT / "configs" / "noisymix_digits.py"))
    config = protocol["get_config"]("method=erm").to_dict()
    hyper = recipe["HYPER"]["cifar10"].get(name)
    section = recipe["method"](name, None if hyper is None else hyper[RATES.index(rate)])
    if name == "nrd":
      section["teacher_policy"] = {"name": "torchvision_augmix"}
    noise = {"kind": "symmetric", "rate": float(rate)} if rate != "0" else {}
    config = schema.merge(config, {
      "method": section,
      "policy": {"name": "rand_augment", "num_ops": 1, "magnitude": 3},
      "data": {"noise": noise},
    })  # fmt: skip
  else:
    noise = "none" if rate == "0" else "symmetric"
    argument = f"dataset={dataset},noise={noise},rate={rate},method={name}"
    config = recipe["get_config"](argument).to_dict()
    config["data"] = {**config["data"], "path": arguments.data}
    config["optim"] = {**config["optim"], "milestones": ("50 percent", "75 percent")}
  if study == "long":
    steps = {"schedule": "step", "milestones": ("30 percent", "80 percent"), "factor": 0.1}
    config["optim"] = {**config["optim"], **steps}
  every = f"{max(1, epochs // 100 if study == 'long' else epochs // 10)} epochs"
  config.update(name=f"{name}-{rate}", seed=seed, total=f"{epochs} epochs", published={})
  config["evaluate"] = {**config["evaluate"], "corruptions": (), "every": every}
  config["checkpoint"] = {**config["checkpoint"], "every": every}
  return schema.check(config)


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Trains one network and returns its row; resumes what is there."""
  from jaxnoise import metrics, reporting
  from jaxnoise.training import cache, experiment, restore

  cache.use_compilation_cache()
  started = time.monotonic()
  rate, name, seed = arguments.row.split(":")
  config = config_of(arguments, rate, name, int(seed))
  folder = arguments.out / stem(arguments) / f"{rate}-{name}-{seed}"
  result = experiment.run(config, folder, quiet=True)[-1]
  run = reporting.load_run(result.directory)
  measured = {field for line in run.rows for field in line}
  test = reporting.curve(run, "test/student/accuracy")
  accuracy = test.value[:, 0]
  row: dict[str, Any] = {
    "row": arguments.row,
    "study": arguments.study,
    "dataset": arguments.dataset,
    "epochs": arguments.epochs,
    "rate": float(rate),
    "method": name,
    "seed": int(seed),
    "last": float(accuracy[-1]),
    "peak": float(accuracy.max()),
    "fall": float(accuracy.max() - accuracy[-1]),
  }
  if "holdout/student/accuracy" in measured:
    held = reporting.curve(run, "holdout/student/accuracy").value[:, 0]
    # The last of equals, as checkpoints are kept.
    row["best"] = float(accuracy[np.flatnonzero(held == held.max())[-1]])
  if "labels/student/memorised" in measured:
    row["memorised"] = float(reporting.curve(run, "labels/student/memorised").value[-1, 0])
  if arguments.study == "ece":
    opened = restore.open_run(result.directory)
    found = opened.predict(opened.run.source.test)
    for count in (10, 15):
      bins = metrics.calibration_bins(found.probability, found.label, num_bins=count)
      row[f"ece{count}"] = float(metrics.expected_calibration_error(bins))
    row["confidence"] = float(found.probability.max(axis=-1).mean())
  if arguments.study == "long":
    row["curve"] = {"epoch": test.epoch.tolist(), "accuracy": accuracy.tolist()}
    if "test/ema/accuracy" in measured:
      ema = reporting.curve(run, "test/ema/accuracy").value[:, 0]
      row["curve"]["ema"], row["ema_last"] = ema.tolist(), float(ema[-1])
  return {
    **row,
    **rows.provenance(started),
  }


def stem(arguments: argparse.Namespace) -> str:
  """What the files of a study are called."""
  return f"{arguments.study}-{arguments.dataset}-{arguments.epochs}"


def lines(found: Sequence[Mapping[str, Any]], names: Sequence[str], study: str) -> dict[str, Any]:
  """label -> (places, values [places, seeds]) of the figure; seeds of an equal number of points."""
  out = {}
  for name in names:
    own = [row for row in found if row["method"] == name]
    if study == "long":
      for key, label in (("accuracy", name), ("ema", f"{name}, average")):
        curves = [row["curve"] for row in own if key in row["curve"]]
        if curves:
          out[label] = (curves[0]["epoch"], np.transpose([curve[key] for curve in curves]))
      continue
    seeds = {row["seed"] for row in own}
    by = {(row["rate"], row["seed"]): row["ece10"] for row in own}
    whole = [r for r in sorted({row["rate"] for row in own}) if all((r, s) in by for s in seeds)]
    if whole:
      values = [[by[r, s] for s in sorted(seeds)] for r in whole]
      out[name] = ([100 * r for r in whole], np.array(values))
  return out


def write_figure(
  arguments: argparse.Namespace, found: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> None:
  """Writes what is drawn as .json and .html."""
  from jaxnoise import reporting

  drawn = lines(found, names, arguments.study)
  if not drawn:
    return
  path = arguments.out / f"{stem(arguments)}.json"
  shown = {label: {"at": x, "values": np.asarray(y).tolist()} for label, (x, y) in drawn.items()}
  path.write_text(json.dumps({"study": arguments.study, "lines": shown}, indent=1) + "\n")
  where = f"{arguments.dataset}, {arguments.epochs} epochs"
  title, axis, note = {
    "long": ("Test accuracy in %", "epoch", f"{where}, symmetric noise of 80 %."),
    "ece": ("ECE in %, 10 bins", "noise rate in %", f"{where}, symmetric noise, test images."),
  }[arguments.study]
  curves = {k: reporting.Curve(np.asarray(x, float), y) for k, (x, y) in drawn.items()}
  heading = {"long": "Long training with wrong labels", "ece": "Calibration over noise rates"}
  chart = reporting.Chart(title, axis, curves)
  page = path.with_suffix(".html")
  print(f"\nwrote {reporting.write_charts(page, heading[arguments.study], [chart], [note])}")


def main(argv: Sequence[str]) -> int:
  """Runs what is missing, prints the tables and writes the figure."""
  parser = rows.options(__doc__, "runs/vicinal", seeds="3 on digits, 1 on CIFAR")
  add = parser.add_argument
  add("--study", choices=tuple(METHODS), default="long")
  add("--dataset", choices=("digits", "cifar10", "cifar100"), default="digits")
  add("--data", default="", help="of CIFAR: see configs/nrd.py")
  add("--epochs", type=int, default=0, help="default: the study's on the data set")
  add("--methods", default="", help="comma between them; default: the study's")
  add("--rates", default="", help="of ece: noise rates, comma between them; default: all")
  arguments = parser.parse_args(argv)
  study, dataset = arguments.study, arguments.dataset
  arguments.epochs = arguments.epochs or EPOCHS[study, dataset]
  if arguments.row:
    print(json.dumps(run_row(arguments)))
    return 0
  rates = ("0.8",) if study == "long" else RATES
  names = rows.chosen(parser, "methods", arguments.methods, METHODS["ece"]) or METHODS[study]
  rates = rows.chosen(parser, "rates", arguments.rates, rates) or rates
  seeds = range(arguments.seeds or (3 if dataset == "digits" else 1))
  path = arguments.out / f"{stem(arguments)}.jsonl"
  options = rows.passed_on(arguments, ("study", "dataset", "data", "out", "epochs"))
  rows.run_missing(
    [f"{rate}:{name}:{seed}" for seed in seeds for rate in rates for name in names],
    path,
    lambda row: [__file__, f"--row={row}", *options],
    jobs=arguments.jobs,
    minutes=arguments.minutes,
    told=lambda row: f"last {row['last']:.4f}, peak {row['peak']:.4f}, {row['wall_seconds']:.0f} s",
  )
  found = rows.read_rows(path)
  for rate in rates:
    own = [row for row in found if row["rate"] == float(rate)]
    table = rows.table(own, names, COLUMNS[study], names[0])
    print(f"\n### symmetric {float(rate):.0%}\n\n{table}")
  write_figure(arguments, found, names)
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

"""Noisy self-distillation on digits: gradient norm, validation and test accuracy over noise scales.

    python benchmarks/self_distillation.py --out=runs/self_distillation --jobs=2
    python benchmarks/self_distillation.py --loss=kl --out=runs/self_distillation

The protocol is that of configs/noisymix_digits.py, crop alone: WRN-10-1, 60 epochs. For each seed a
teacher is trained on labels, then students of the same network and recipe with a seed of their own
(S + 100, the same for all scales) on its logits: none-0 without noise, gaussian-V with variance V,
swap-P with probability P (reading "independent"). All of that twice, as in the paper: on the split
`validation`, where 20 % of the training images (287) are held out to choose the scale by, and on
the split `test`, where all train. The loss of the students is the squared one, or with --loss=kl
the divergence at temperature 1.

A row is a network after its last epoch: accuracy on held-out and test images; the gradient norm of
its outputs, (1/n) sum_i ||d f(x_i) / d theta||^2, exact, on the first n training images (--images),
without a crop, in evaluation mode; and the ends of the curves of the paper's Figure 3: what was
minimised (of the squared loss, 5 V of it is the noise itself), cross-entropy with the training
labels, cross-entropy on test images. The whole curves are in the metrics.jsonl of OUT/digits. A run
that diverged has no numbers. Rows are appended to OUT/digits-LOSS.jsonl; the same command goes on
where it stopped. Then come the tables: mean ± standard deviation over seeds, paired differences to
the noiseless student with 95 % intervals (Student, three seeds or more), and the scales that mean
held-out accuracy chooses.
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
HOLDOUT = {"validation": 287, "test": 0}
NOISELESS = "none-0"
SCALES = {
  "gaussian": ("0.1", "0.5", "1", "2", "5", "10"),
  "swap": ("0.1", "0.2", "0.3", "0.5", "0.7", "0.9"),
}
STUDENTS = (NOISELESS, *(f"{noise}-{scale}" for noise in SCALES for scale in SCALES[noise]))
COLUMNS = {
  "held_out": ("held-out accuracy", 100),
  "accuracy": ("test accuracy", 100),
  "gradient_norm": ("gradient norm", 1),
  "loss": ("training loss", 1),
  "label_loss": ("training cross-entropy", 1),
  "test_loss": ("test cross-entropy", 1),
}
TESTED = {field: column for field, column in COLUMNS.items() if field != "held_out"}


def config_of(
  split: str, name: str, seed: int, loss: str, epochs: int, teacher: Path
) -> dict[str, Any]:
  """The whole config of a row."""
  from jaxnoise.training import schema

  file = ROOT / "configs" / "noisymix_digits.py"
  config = runpy.run_path(str(file))["get_config"]("method=erm").to_dict()
  config.update(name=f"{name}-{split}", seed=seed, total=f"{epochs} epochs")
  changes = {
    "data": {"holdout": HOLDOUT[split]},
    "evaluate": {"corruptions": (), "every": "1 epoch"},
    "checkpoint": {"every": config["total"]},
  }
  config = schema.merge(config, changes)
  if name != "teacher":
    noise, _, scale = name.partition("-")
    section = runpy.run_path(str(ROOT / "configs" / "self_distillation.py"))["method"]
    config.update(method=section(noise, scale, loss), teacher=str(teacher), seed=seed + 100)
  return schema.check(config)


def gradient_norm(opened: Any, images: int) -> float:
  """The mean of the exact norm over the first training images."""
  import jax
  import jax.numpy as jnp

  from jaxnoise import metrics

  image = jnp.asarray(opened.train.images[:images], jnp.float32) / 255
  state, network = opened.state, opened.run.network

  @jax.jit
  def measure(params: Any, batch_stats: Any) -> jax.Array:
    predict = lambda p, x: network.apply(p, batch_stats, x).logits
    return jnp.mean(metrics.output_gradient_norm(predict, params, image, chunk=1))

  return float(measure(state.params, state.batch_stats))


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
  """The numbers of a finished run."""
  from jaxnoise import reporting
  from jaxnoise.training import restore

  run = reporting.load_run(folder)
  last = lambda name: float(reporting.curve(run, name).value[-1, 0])
  taught = run.method == "self_distillation"
  return {
    "held_out": last("holdout/student/accuracy") if run.config["data"]["holdout"] else np.nan,
    "accuracy": last("test/student/accuracy"),
    "gradient_norm": gradient_norm(restore.open_run(folder), arguments.images),
    "loss": last("train/student/loss"),
    "label_loss": last(f"train/student/{'label_loss' if taught else 'loss'}"),
    "test_loss": last("test/student/nll"),
  }


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
  """Trains one network and returns its row; resumes what is there."""
  from jaxnoise.training import cache, experiment, loop

  cache.use_compilation_cache()
  started = time.monotonic()
  split, name, seed = arguments.row.split(":")
  folder = arguments.out / "digits"
  teacher = folder / f"{split}-teacher-{seed}"
  loss = "" if name == "teacher" else f"-{arguments.loss}"
  config = config_of(split, name, int(seed), arguments.loss, arguments.epochs, teacher)
  try:
    result = experiment.run(config, folder / f"{split}-{name}{loss}-{seed}", quiet=True)[-1]
    values = measured(result.directory, arguments)
  except loop.NonFiniteError:
    values = dict.fromkeys(COLUMNS, np.nan)
  return {
    "row": arguments.row,
    "split": split,
    "method": name,
    "seed": int(seed),
    "train_loss": arguments.loss,
    "epochs": arguments.epochs,
    "images": arguments.images,
    **values,
    **rows.provenance(started),
  }


def chosen(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
  """Of each noise the scale of the best mean held-out accuracy, the smaller one of equals."""
  best = []
  for noise in SCALES:
    means = {}
    for name in (n for n in names if n.startswith(f"{noise}-")):
      values = [r["held_out"] for r in found if (r["split"], r["method"]) == ("validation", name)]
      if values and np.all(np.isfinite(values)):
        means[name] = float(np.mean(values))
    if means:
      best.append(max(means, key=means.__getitem__))
  return best


def tables(found: Sequence[Mapping[str, Any]], names: Sequence[str], splits: Sequence[str]) -> str:
  """Markdown: every scale of each split, then the chosen ones beside teacher and noiseless."""
  out = []
  for split in splits:
    own = [row for row in found if row["split"] == split]
    shown = COLUMNS if HOLDOUT[split] else TESTED
    out.append(f"### {split}\n\n{rows.table(own, names, shown, NOISELESS)}")
  best = chosen(found, names)
  if best and "test" in splits:
    own = [row for row in found if row["split"] == "test"]
    named = ("teacher", NOISELESS, *best)
    out.append("### test, the scales chosen by held-out accuracy")
    out.append(rows.table(own, named, TESTED, NOISELESS))
    # The means stand above; of this table only the difference is new.
    out.append(rows.table(own, named, TESTED, "teacher").partition("\n\n")[2])
  return "\n\n".join(out)


def main(argv: Sequence[str]) -> int:
  """Runs what is missing, teachers first, and prints the tables."""
  parser = rows.options(__doc__, "runs/self_distillation", seeds="5")
  add = parser.add_argument
  add("--loss", choices=("squared", "kl"), default="squared", help="of the students")
  add("--splits", default="validation,test", help="names, comma between them")
  add("--methods", default="", help="students such as swap-0.3; default: all")
  add("--epochs", type=int, default=60)
  add("--images", type=int, default=500, help="training images of the gradient norm")
  arguments = parser.parse_args(argv)
  if arguments.row:
    print(json.dumps(run_row(arguments)))
    return 0
  splits = rows.chosen(parser, "splits", arguments.splits, tuple(HOLDOUT))
  students = rows.chosen(parser, "methods", arguments.methods, STUDENTS) or STUDENTS
  path = arguments.out / f"digits-{arguments.loss}.jsonl"
  options = rows.passed_on(arguments, ("out", "loss", "epochs", "images"))
  end = time.monotonic() + 60 * arguments.minutes
  # Teachers of all seeds before the students, which need them.
  seeds = range(arguments.seeds or 5)
  for names in (("teacher",), students):
    rows.run_missing(
      [f"{split}:{name}:{seed}" for seed in seeds for split in splits for name in names],
      path,
      lambda row: [__file__, f"--row={row}", *options],
      jobs=arguments.jobs,
      minutes=(end - time.monotonic()) / 60,
      told=lambda row: (
        f"held-out {row['held_out']:.4f}, test {row['accuracy']:.4f}, gradient norm "
        f"{row['gradient_norm']:.1f}, {row['wall_seconds']:.0f} s"
      ),
    )
  print(f"\n{tables(rows.read_rows(path), ('teacher', *students), splits)}")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

"""Every augmentation and mixing method on a small protocol: accuracy, corruptions, flips, attacks.

    python benchmarks/robustness.py --protocol=digits --out=runs/robustness --jobs=2
    python benchmarks/robustness.py --protocol=small --data=FILE.npz --out=runs/robustness

Protocols are those of configs/noisymix_digits.py and configs/noisymix_small.py: all else is the
same for all methods, whose hyper-parameters are their papers'. Rows run seed by seed, so that what
is not run is seeds and not methods. A row is one run with its suite; it is appended to
OUT/PROTOCOL.jsonl when it is finished, and the same command goes on where it stopped. `--minutes`
begins no further row after so long. Then comes the table: mean ± standard deviation over seeds, and
the paired difference to plain training with its 95 % interval (Student, three seeds or more). The
flip rate is the mean over perturbations of a run's flip probability over that of plain training,
the mean of its seeds; it is read from the runs, which are kept in OUT/PROTOCOL.
"""

from __future__ import annotations

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
AUGMIX = {"name": "augmix", "width": 3, "depth": -1, "severity": 3.0}
NOISYMIX = {
  "name": "noisymix", "alpha": 1.0, "add_noise": 0.5, "mult_noise": 0.5, "sparsity": 0.65,
  "jsd_weight": 12.0, "stages": (0, 1, 2, 3), "view_factors": (1.0, 2.0, 3.0),
  "random_level": True,
}  # fmt: skip


def _policy(name: str, **hyper: Any) -> dict[str, Any]:
  """Plain training on images under a policy."""
  return {"policy": {"name": name, **hyper}}


def _method(name: str, policy: Mapping[str, Any] | None = None, **hyper: Any) -> dict[str, Any]:
  return {"method": {"name": name, **hyper}, "policy": dict(policy or {"name": ""})}


def methods(side: int) -> dict[str, dict[str, Any]]:
  """What each method changes in the config of plain training, the most telling ones first.

  Lengths in pixels that papers give for 32 pixels are scaled by side / 32.
  """
  return {
    "baseline": {},
    "noisymix": {"method": NOISYMIX, "policy": AUGMIX},
    "augmix": _method("augmix", AUGMIX),
    "nfm": _method("nfm", add_noise=0.4, mult_noise=0.2, alpha=1.0, stages=(0, 1, 2, 3)),
    "mixup": _method("mixup", alpha=1.0),
    "manifold_mixup": _method("manifold_mixup", alpha=1.0, stages=(0, 1, 2, 3)),
    "cutmix": _method("cutmix", alpha=1.0, probability=0.5),
    "puzzlemix": _method("puzzlemix", blocks=tuple(n for n in (2, 4, 8, 16) if 2 * n <= side)),
    "augmix_no_jsd": _method("augmix", AUGMIX, jsd=False),
    "augmix_torchvision": _method("augmix", {"name": "torchvision_augmix"}),
    "augmax": _method("augmax"),
    "auto_augment": _policy("auto_augment", policy="cifar10"),
    "fast_auto_augment": _policy("fast_auto_augment", policy="cifar10"),
    "rand_augment": _policy("rand_augment", num_ops=2, magnitude=9),
    "rand_augment_ildoonet": _policy("ildoonet_rand_augment", num_ops=1, magnitude=3),
    "cutout": _policy("cutout", size=side // 2),
    "random_erasing": _policy("random_erasing"),
    "color_jitter": _policy("color_jitter"),
    "gaussian": _policy("gaussian_augment"),
  }


CHOSEN = {"digits": None, "small": ("baseline", "noisymix", "augmix", "nfm", "mixup")}
SEEDS = {"digits": 5, "small": 3}
SIDES = {"digits": 8, "small": 16}
COLUMNS = {
  "clean": ("accuracy, clean", 100),
  "corrupted": ("accuracy, corrupted", 100),
  "without_noise": ("without noise", 100),
  "ece": ("ECE, clean", 100),
  "corrupted_ece": ("ECE, corrupted", 100),
  "flip": ("flip probability", 100),
  "flip_rate": ("flip rate", 100),
  "fgsm": ("FGSM 8/255", 100),
  "pgd": ("PGD l∞ 2/255", 100),
}


def run_row(protocol: str, method: str, seed: int, out: Path, data: str) -> dict[str, Any]:
  """Trains one network, measures it, and returns its row; resumes what is there."""
  from jaxnoise import evaluate, reporting
  from jaxnoise.training import cache, experiment, schema, suites

  cache.use_compilation_cache()
  started = time.monotonic()
  file = ROOT / "configs" / f"noisymix_{protocol}.py"
  config = runpy.run_path(str(file))["get_config"]("method=erm").to_dict()
  config = schema.merge(config, methods(SIDES[protocol])[method])
  config.update(name=f"{method}-{protocol}", seed=seed)
  config["data"] = {**config["data"], "path": data}
  # The suite measures corruptions; the last epoch is what is reported.
  config["evaluate"] = {**config["evaluate"], "corruptions": (), "every": config["total"]}
  config["checkpoint"] = {**config["checkpoint"], "every": config["total"]}
  run = out / protocol / f"{method}-{seed}"
  experiment.run(schema.check(config), run, quiet=True)
  options = suites.Options(restarts=1)
  evaluate.run_suite(run, "robustness", options=options)
  tables = {
    part: reporting.read_suite(run, "robustness")[part]["summary"]["student"]
    for part in suites.SUITES["robustness"]
  }
  return {
    "row": f"{method}:{seed}",
    "protocol": protocol,
    "method": method,
    "seed": seed,
    "clean": tables["calibration"]["accuracy"][0],
    "ece": tables["calibration"]["ece"][0],
    "corrupted": tables["corruptions"]["mean_accuracy"][0],
    "without_noise": tables["corruptions"]["without_noise"][0],
    "corrupted_ece": tables["corruptions"]["mean_ece"][0],
    "flip": tables["sequences"]["mean_flip_probability"][0],
    "fgsm": tables["fgsm"]["linf 8/255"][0],
    "pgd": tables["pgd"]["linf 2/255"][0],
    **rows.provenance(started),
  }


def with_flip_rates(found: Sequence[rows.Row], runs: Path) -> list[dict[str, Any]]:
  """The rows with "flip_rate"; NaN where plain training never flips, or has not run."""
  from jaxnoise import metrics, reporting
  from jaxnoise.core import InputError

  def flips(row: rows.Row) -> dict[str, float]:
    run = runs / f"{row['method']}-{row['seed']}"
    cells = reporting.read_suite(run, "robustness")["sequences"]["cells"]
    return {name: cell["student"][0]["flip_probability"] for name, cell in cells.items()}

  of_rows = [flips(row) for row in found]
  plain = [f for f, row in zip(of_rows, found, strict=True) if row["method"] == "baseline"]
  reference = {name: float(np.mean([f[name] for f in plain])) for name in (plain or [{}])[0]}
  out = []
  for row, own in zip(found, of_rows, strict=True):
    try:
      rate = metrics.mean_flip_rate(own, reference)
    except InputError:
      rate = float("nan")
    out.append({**row, "flip_rate": rate})
  return out


def main(argv: Sequence[str]) -> int:
  """Runs what is missing and prints the table."""
  parser = rows.options(
    __doc__, "runs/robustness", seeds="5 on digits, 3 on small", protocols=tuple(SEEDS)
  )
  parser.add_argument("--methods", default="", help="comma between them; default: the protocol's")
  arguments = parser.parse_args(argv)
  if arguments.row:
    method, seed = arguments.row.split(":")
    print(json.dumps(
      run_row(arguments.protocol, method, int(seed), arguments.out, arguments.data)
    ))
    return 0
  rows.need_data(parser, arguments)
  known = methods(SIDES[arguments.protocol])
  names = rows.chosen(parser, "methods", arguments.methods, tuple(known))
  names = names or CHOSEN[arguments.protocol]
  names = tuple(known) if names is None else names
  path = arguments.out / f"{arguments.protocol}.jsonl"
  seeds = range(arguments.seeds or SEEDS[arguments.protocol])
  options = rows.passed_on(arguments, ("protocol", "out", "data"))
  rows.run_missing(
    [f"{name}:{seed}" for seed in seeds for name in names],
    path,
    lambda row: [__file__, f"--row={row}", *options],
    jobs=arguments.jobs,
    minutes=arguments.minutes,
    told=lambda row: (
      f"clean {row['clean']:.4f}, corrupted {row['corrupted']:.4f}, {row['wall_seconds']:.0f} s"
    ),
  )
  found = with_flip_rates(rows.read_rows(path), arguments.out / arguments.protocol)
  print(rows.table(found, names, COLUMNS, "baseline"))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

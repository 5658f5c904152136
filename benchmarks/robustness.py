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

import argparse
import concurrent.futures
import json
import os
import platform
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
  from jaxnoise.training import cache, experiment, schema, suites, writers

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
    "wall_seconds": round(time.monotonic() - started, 1),
    "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    "commit": writers.provenance()["commit"],
  }


def read_rows(path: Path) -> list[dict[str, Any]]:
  """The finished rows; a torn last line is left out."""
  rows = []
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      continue
  return rows


def with_flip_rates(rows: Sequence[Mapping[str, Any]], runs: Path) -> list[dict[str, Any]]:
  """The rows with "flip_rate"; NaN where plain training never flips, or has not run."""
  from jaxnoise import metrics, reporting
  from jaxnoise.core import InputError

  def flips(row: Mapping[str, Any]) -> dict[str, float]:
    run = runs / f"{row['method']}-{row['seed']}"
    cells = reporting.read_suite(run, "robustness")["sequences"]["cells"]
    return {name: cell["student"][0]["flip_probability"] for name, cell in cells.items()}

  of_rows = [flips(row) for row in rows]
  plain = [f for f, row in zip(of_rows, rows, strict=True) if row["method"] == "baseline"]
  reference = {name: float(np.mean([f[name] for f in plain])) for name in (plain or [{}])[0]}
  out = []
  for row, found in zip(rows, of_rows, strict=True):
    try:
      rate = metrics.mean_flip_rate(found, reference)
    except InputError:
      rate = float("nan")
    out.append({**row, "flip_rate": rate})
  return out


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
  """Markdown: mean ± sd over seeds of every column, and differences to the baseline."""
  by = {(row["method"], row["seed"]): row for row in rows}
  seeds = {name: [s for n, s in by if n == name] for name in names}
  lines = ["| method | n | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
  lines.append("|---" * (len(COLUMNS) + 2) + "|")
  for name in names:
    cells = []
    for field, (_, scale) in COLUMNS.items():
      values = scale * np.array([by[name, s][field] for s in seeds[name]])
      cells.append(spread(values) if len(values) else "not run")
    lines.append(f"| {name} | {len(seeds[name])} | " + " | ".join(cells) + " |")
  lines += ["", "Paired difference to the baseline, points, 95 % interval:", ""]
  lines.append("| method | n | " + " | ".join(title for title, _ in COLUMNS.values()) + " |")
  lines.append("|---" * (len(COLUMNS) + 2) + "|")
  for name in names[1:]:
    both = [s for s in seeds[name] if ("baseline", s) in by]
    cells = []
    for field, (_, scale) in COLUMNS.items():
      change = scale * np.array([by[name, s][field] - by["baseline", s][field] for s in both])
      cells.append(interval(change) if len(change) else "not run")
    lines.append(f"| {name} | {len(both)} | " + " | ".join(cells) + " |")
  return "\n".join(lines)


def spread(values: np.ndarray) -> str:
  """Mean ± standard deviation (n - 1)."""
  mean = f"{values.mean():.2f}"
  return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1):.2f}"


def interval(values: np.ndarray) -> str:
  """Mean with Student's 95 % interval; bold where it leaves 0 out."""
  mean, n = values.mean(), len(values)
  if n < 3:
    return f"{mean:+.2f}"
  from scipy import special

  half = float(special.stdtrit(n - 1, 0.975)) * values.std(ddof=1) / np.sqrt(n)
  text = f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
  return f"**{text}**" if abs(mean) > half else text


def run_all(arguments: argparse.Namespace, names: Sequence[str], path: Path) -> None:
  """Runs the rows that are missing, each in a process of its own."""
  done = {(row["method"], row["seed"]) for row in read_rows(path)}
  wanted = [
    (name, seed) for seed in range(arguments.seeds or SEEDS[arguments.protocol]) for name in names
  ]
  missing = [row for row in wanted if row not in done]
  end = time.monotonic() + 60 * arguments.minutes

  def one(row: tuple[str, int]) -> None:
    if time.monotonic() > end:
      return
    command = [
      sys.executable, __file__, f"--row={row[0]}:{row[1]}", f"--protocol={arguments.protocol}",
      f"--out={arguments.out}", f"--data={arguments.data}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
      print(f"{row[0]} seed {row[1]} failed:\n{done.stderr[-2000:]}", file=sys.stderr, flush=True)
      return
    line = done.stdout.strip().splitlines()[-1]
    with path.open("a") as file:
      file.write(line + "\n")
    told = json.loads(line)
    print(
      f"{row[0]} seed {row[1]}: clean {told['clean']:.4f}, corrupted {told['corrupted']:.4f}, "
      f"{told['wall_seconds']:.0f} s",
      flush=True,
    )

  with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
    list(pool.map(one, missing))


def main(argv: Sequence[str]) -> int:
  """Runs what is missing and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add("--protocol", choices=tuple(SEEDS), default="digits")
  add("--out", type=Path, default=Path("runs/robustness"))
  add("--data", default="", help="of small: FILE.npz; see configs/noisymix_small.py")
  add("--methods", default="", help="names, comma between them; default: all of the protocol")
  add("--seeds", type=int, default=0, help="default: 5 on digits, 3 on small")
  add("--jobs", type=int, default=1, help="rows at a time")
  add("--minutes", type=float, default=1e9, help="begin no row after so long")
  add("--row", default="", help=argparse.SUPPRESS)
  arguments = parser.parse_args(argv)
  if arguments.row:
    method, seed = arguments.row.split(":")
    row = run_row(arguments.protocol, method, int(seed), arguments.out, arguments.data)
    print(json.dumps(row))
    return 0
  known = methods(SIDES[arguments.protocol])
  names = tuple(filter(None, arguments.methods.split(","))) or CHOSEN[arguments.protocol]
  names = tuple(known) if names is None else names
  for name in names:
    if name not in known:
      parser.error(f"--methods has {name!r}; known are {', '.join(known)}")
  path = arguments.out / f"{arguments.protocol}.jsonl"
  path.parent.mkdir(parents=True, exist_ok=True)
  run_all(arguments, names, path)
  rows = with_flip_rates(read_rows(path), arguments.out / arguments.protocol)
  print(table(rows, names))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

"""Plain training and NoisyMix on scikit-learn's digits, side by side: what `make demo` runs.

    python benchmarks/demo.py --out runs/demo --seeds 3

Both go through `jaxnoise.main`, as anybody's run does, and are tested on the same images under the
same corruptions. Then come the table, what the difference is worth, a figure and two reports. The
same command again resumes what was cut off and repeats nothing that is done.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from jaxnoise import main as main_lib
from jaxnoise import reporting
from jaxnoise.core import InputError
from jaxnoise.training import schema

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "noisymix_digits.py"
METHODS = {"erm": "plain training", "noisymix": "NoisyMix"}


def train(method: str, workdir: Path, seeds: int) -> int:
  """Trains one method unless its run directory already holds this run; returns an exit code."""
  argv = [
    "jaxnoise",
    f"--config={CONFIG}:method={method}",
    f"--config.seeds={seeds}",
    f"--workdir={workdir}",
  ]
  if is_done(argv, workdir):
    print(f"{METHODS[method]}: trained before, in {shown(workdir)}; remove it to train anew")
    return 0
  print(f"\n{METHODS[method]} ({method}), {seeds} seed(s)", flush=True)
  return main_lib.main(argv)


def is_done(argv: Sequence[str], workdir: Path) -> bool:
  """Whether `workdir` holds the finished run of exactly this command, with its page."""
  if not (workdir / "report.html").exists():
    return False
  try:
    asked = schema.check(main_lib.parse(argv)[0]["config"])
    run = reporting.load_run(workdir)
  except InputError:
    return False  # `main` says what is wrong
  return run.finished and run.config == json.loads(json.dumps(asked))


def shown(path: Path) -> str:
  """A path as one would type it from here."""
  relative = os.path.relpath(path)
  return str(path) if relative.startswith("..") else relative


def next_commands(run: Path) -> str:
  """What to try after the demo; `run` is one of its runs."""
  python = shown(Path(sys.executable))
  config = shown(CONFIG)
  return f"""Next:
  {python} -m jaxnoise.evaluate {shown(run)} --suite=robustness
      corruptions, perturbation sequences, attacks and calibration of that run, on one page
  {python} -m jaxnoise.main --config={config} --config.method.jsd_weight=0.0
      the same without the consistency term; every field of the config can be set so
  {python} -m jaxnoise.main --config={shown(CONFIG.with_name("noisymix.py"))} --config.data.path=DIR
      CIFAR-10 as in the paper; DIR holds cifar-10-python.tar.gz (meant for an accelerator)
  make notebooks
      NoisyMix taken apart, step by step, in notebooks/"""


def summary(runs: Sequence[reporting.RunRecord]) -> str:
  """The table and what the difference between the two runs is worth, in words."""
  n = runs[0].clean["n"]
  cells = reporting.corruption_cells(runs[0])
  kinds, levels = len(cells.names), len(cells.severities)
  reading = (
    f"All in percent: mean ± standard error over seeds, on {n} test images that training never saw "
    f"(erm is plain training). Corrupted: the mean over {kinds} corruptions, {levels} severities. "
    "Calibration error: ECE; smaller is better. The standard error says how much other seeds would "
    "change the mean, not what other test images would; from few seeds it is itself rough."
  )
  table = reporting.format_rows(reporting.comparison_rows(runs))
  return f"{table}\n\n{textwrap.fill(reading, 100)}\n\n{reporting.verdict(*runs)}."


def main(argv: Sequence[str]) -> int:
  """Trains both, then tells; returns an exit code as `jaxnoise.main` does."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where the runs go")
  parser.add_argument("--seeds", type=int, default=3, help="networks per method (default 3)")
  arguments = parser.parse_args(argv)
  started = time.monotonic()
  for method, words in METHODS.items():
    code = train(method, arguments.out / method, arguments.seeds)
    if code:
      print(f"demo: {words} did not finish, so there is no comparison", file=sys.stderr)
      return code
  try:
    runs = [reporting.load_run(arguments.out / method) for method in METHODS]
    if not all(run.finished for run in runs):
      print("demo: stopped before the end; the same command resumes", file=sys.stderr)
      return 1
    text = summary(runs)
    figure = reporting.comparison_figure(runs, arguments.out / "comparison.png")
    page = reporting.write_comparison([run.path for run in runs], figure.with_suffix(".html"))
  except InputError as error:
    print(f"demo: {error}", file=sys.stderr)
    return 2
  print(f"\n{text}\n")
  print(f"figure: {shown(figure)}")
  print(f"comparison: {shown(page)}")
  for run in runs:
    print(f"report: {shown(run.path / 'report.html')}")
  print(f"\n{next_commands(runs[-1].path)}\n")
  print(f"{time.monotonic() - started:.0f} s in all")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

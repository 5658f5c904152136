"""Measures a finished run: `python -m jaxnoise.evaluate RUN --suite=robustness`.

robustness: calibration on clean images, before and after temperature scaling; all common
corruptions at five severities; flip probabilities along perturbation sequences; FGSM and PGD.
adversarial: FGSM and PGD at the radii of multiplicative reweighting's tables; the standard ensemble
of attacks, on what each has left; whether the network only hides its gradients.
stability: the gradient norm of the logits, (1/N) sum ||d f(x) / d theta||^2, on training and test
images; how far the logits move when the parameters do.
distillation: all 19 corruptions; PGD by its steps and by its radius, as in the paper on noise in
distillation; with --images images of the same classes from elsewhere, such as CINIC-10's.
renditions: images of some of the classes only, such as ImageNet-R, given with --images.

The tables are RUN/tables/SUITE/*.json, the page is RUN/SUITE.html. What is measured is kept at
once: stopped at any moment, the same command goes on where it was, and finished tables are not
measured again (of the ensemble of attacks, whole radii are kept). Corrupted images are made on the
device, from the same draws for every run.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxnoise.core.errors import InputError

if TYPE_CHECKING:
  from jaxnoise.training import suites


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line.

  Example:
    >>> from jaxnoise import evaluate
    >>> evaluate.parse(["runs/mine", "--suite=robustness", "--only=fgsm,pgd"]).only
    ('fgsm', 'pgd')
  """
  parser = argparse.ArgumentParser(
    prog="python -m jaxnoise.evaluate",
    description=__doc__.partition("\n\n")[2],
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="Exit codes: 0 done, or stopped by SIGTERM with everything measured kept; 2 bad input.",
  )
  add = parser.add_argument
  add("run", type=Path, metavar="RUN", help="run directory")
  add("--suite", required=True, metavar="SUITE",
      help="robustness, adversarial, stability, distillation or renditions")  # fmt: skip
  add("--only", type=_names, default=(), metavar="PARTS",
      help="parts of the suite, such as corruptions,pgd; default: all")  # fmt: skip
  add("--corruptions", type=_names, default=("standard",), metavar="NAMES",
      help="standard (the benchmark's 15, default), all (19), or names")  # fmt: skip
  add("--severities", type=_numbers, default=(1, 2, 3, 4, 5), metavar="S,S", help="default: all")
  add("--limit", type=int, default=0, metavar="N",
      help="only the first N test images; of stability also N training images")  # fmt: skip
  add("--restarts", type=int, default=5, metavar="R", help="of PGD; default: 5")
  add("--every_run", action="store_true",
      help="count PGD's restarts by run too: beaten images are attacked again")  # fmt: skip
  add("--reference", default="", metavar="RUN",
      help="run on which this suite was run, that mCE and flip rates are relative to; or alexnet "
      "(mCE on ImageNet-C)")  # fmt: skip
  add("--corrupted_path", metavar="DIR",
      help="official files of corrupted images, CIFAR-10-C or CIFAR-100-C, instead of making them; "
      "default: the run's config.evaluate.corrupted_path")  # fmt: skip
  add("--frost_path", default="", metavar="DIR",
      help="the official frost textures, instead of generated ice")  # fmt: skip
  add("--epsilon", type=_names, default=("8/255",), metavar="E,E",
      help="l_inf radii of the ensemble of attacks, pixels in [0, 1]; default: 8/255")  # fmt: skip
  add("--queries", type=int, default=5000, metavar="Q",
      help="of the ensemble's Square; default: 5000")  # fmt: skip
  add("--attack_steps", type=int, default=100, metavar="T",
      help="of the ensemble's Auto-PGD and FAB; default: 100")  # fmt: skip
  add("--surrogate", default="", metavar="RUN",
      help="of the masking check: a run on the same data, whose images must not fool this one more "
      "than its own do; default: the next seed of a run of several")  # fmt: skip
  add("--estimator", default="hutchinson", metavar="NAME",
      help="of the gradient norm: hutchinson (default), an unbiased estimate with its standard "
      "error, or exact, which costs a backward pass for each image and class")  # fmt: skip
  add("--samples", type=int, default=4, metavar="S",
      help="of hutchinson: draws, each a backward pass, for an image; default: 4")  # fmt: skip
  add("--images", default="", metavar="DIR",
      help="of renditions and of distillation's ood: one folder for each class")  # fmt: skip
  add("--step_size", type=float, default=0.003, metavar="S",
      help="of the distillation suite's PGD, pixels in [0, 1]; default: 0.003")  # fmt: skip
  add("--checkpoint", default="latest", metavar="STEP", help="latest (default), best, or a step")
  add("--batch_size", type=int, default=0, metavar="B", help="default: the run's own")
  add("--path", metavar="DIR", help="where the run's data set lies now, if it has moved")
  return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
  return tuple(filter(None, text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(part) for part in _names(text))


def run_suite(
  run: Path,
  suite: str,
  *,
  checkpoint: str = "latest",
  path: str | None = None,
  options: suites.Options | None = None,
  quiet: bool = True,
) -> Path | None:
  """Runs a suite and writes its page.

  Args:
    run: run directory.
    suite: a name of `training.suites.SUITES`.
    checkpoint: latest, best, or the number of a step.
    path: where the run's data set lies now.
    options: what to measure; see `training.suites.Options`.
    quiet: show no progress.

  Returns:
    The page, or None when SIGTERM came first.

  Raises:
    InputError: for anything that does not exist or does not fit; nothing is measured then.
  """
  from jaxnoise import reporting
  from jaxnoise.training import loop, restore, suites

  options = suites.Options() if options is None else options
  suites.chosen_parts(suite, options.only)
  if not checkpoint.isdigit() and checkpoint not in ("latest", "best"):
    raise InputError(f"checkpoint is {checkpoint!r}; it must be a number, or latest or best")
  step = int(checkpoint) if checkpoint.isdigit() else checkpoint
  tell = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
  with loop.stop_on_sigterm() as stop:
    opened = restore.open_run(run, step=step, path=path)
    done = suites.evaluate(opened, suite, options, tell=tell, stop=stop, quiet=quiet)
  if not done:
    tell("stopped; the same command goes on where it was")
    return None
  for line in reporting.suite_lines(run, suite):
    tell(line)
  return reporting.write_suite(run, suite)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  arguments = vars(parse(argv))
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
  logging.getLogger("absl").setLevel(logging.ERROR)  # the checkpoint library narrates every restore
  from jaxnoise.training import cache, suites

  cache.use_compilation_cache()
  run, suite = arguments.pop("run"), arguments.pop("suite")
  given = {name: arguments.pop(name) for name in ("checkpoint", "path")}
  try:
    options = suites.Options(**arguments)
    page = run_suite(run, suite, options=options, quiet=False, **given)
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except OSError as error:
    print(f"jaxnoise: {error.strerror}: {error.filename}; is the path right?", file=sys.stderr)
    return 2
  if page is not None:
    print(page)
  return 0


if __name__ == "__main__":
  sys.exit(main())

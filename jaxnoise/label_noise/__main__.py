"""Writes noisy labels: `python -m jaxnoise.label_noise --data=digits --kind=symmetric --rate=0.4`.

Draws the noise that a run with `config.data.noise` of this kind, rate and seed trains on, prints
the nominal and the realised rate, the matrix and a hash, and writes index, id, true and given label
of every training example to an .npz or .csv file that other tools read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnoise import label_noise
from jaxnoise.core.errors import InputError
from jaxnoise.label_noise._files import check_output
from jaxnoise.label_noise._readers import load_npy

_SHOWN_CLASSES = 20
_OF_CIFAR = ("asymmetric", "asymmetric_sequential", "asymmetric_dividemix", "superclass")
_NOT_CIFAR = ("digits", "svhn", "generated")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line.

  Example:
    >>> from jaxnoise.label_noise import __main__ as command
    >>> command.parse(["--data=digits", "--kind=pair_flip", "--rate=0.2", "--out=a.npz"]).rate
    0.2
  """
  parser = argparse.ArgumentParser(
    prog="python -m jaxnoise.label_noise",
    description=__doc__.partition("\n\n")[2],
    epilog="Exit codes: 0 done, 2 bad input.",
  )
  add = parser.add_argument
  add("--data", required=True, metavar="NAME", help="data set, as in config.data.name")
  add("--path", default="", metavar="DIR", help="where it lies, as in config.data.path")
  add("--kind", required=True, metavar="KIND", help=", ".join(label_noise.KINDS))
  add("--rate", type=float, default=0.0, metavar="ETA", help="a fraction in [0, 1]")
  add("--seed", type=int, default=0, metavar="N", help="default: 0")
  add(
    "--sampled", action="store_true", help="draw each label by itself instead of an exact number"
  )
  add(
    "--matrix", metavar="FILE", help="for --kind=matrix: .npy or .csv of K rows, true labels, of K "
    "probabilities",
  )  # fmt: skip
  add("--allow_unlearnable", action="store_true", help="take noise that hides a class")
  add("--out", metavar="FILE", help="ends with .npz or .csv; left out: only print")
  return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> list[str]:
  """Draws, writes where asked to, and returns the lines that the command prints.

  Raises:
    InputError: for anything that does not exist or does not fit; nothing is written then.
  """
  from jaxnoise import data

  kind = arguments.kind
  if arguments.out is not None:
    check_output(arguments.out)
  if kind in _OF_CIFAR and arguments.data in _NOT_CIFAR:
    other = "asymmetric_digits" if arguments.data != "generated" else "pair_flip"
    raise InputError(
      f"--kind is {kind!r}, which mistakes the classes of CIFAR for one another, but --data is "
      f"{arguments.data!r}; use --kind={other}"
    )
  if kind == "matrix" and arguments.matrix is None:
    raise InputError("--kind is 'matrix', but there is none; give it with --matrix=FILE")
  if kind != "matrix" and arguments.matrix is not None and kind in label_noise.KINDS:
    raise InputError(
      f"--matrix is {arguments.matrix}, but --kind is {kind!r}; leave it out, or use --kind=matrix"
    )
  source = data.load(arguments.data, arguments.path)
  noisy = label_noise.corrupt(
    source.true_labels,
    kind,
    num_classes=source.num_classes,
    rate=arguments.rate,
    seed=arguments.seed,
    exact=not arguments.sampled,
    matrix=None if arguments.matrix is None else _matrix(Path(arguments.matrix)),
    images=source.images if kind == "instance" else None,
    allow_unlearnable=arguments.allow_unlearnable,
  )
  lines = describe(noisy, source.true_labels)
  if arguments.out is not None:
    lines.append(str(label_noise.write_file(arguments.out, noisy, source.true_labels, source.ids)))
  return lines


def describe(noisy: label_noise.NoisyLabels, true_labels: np.ndarray) -> list[str]:
  """The nominal and the realised rate, a hash, and the matrix of up to 20 classes.

  Example:
    >>> from jaxnoise import label_noise
    >>> from jaxnoise.label_noise import __main__ as command
    >>> noisy = label_noise.corrupt([0, 0, 1, 1], "asymmetric_digits", num_classes=10)
    >>> command.describe(noisy, noisy.labels)[0]
    'asymmetric_digits, nominal rate 0, exact counts, seed 0: 0 of 4 labels changed, 0.00%'
  """
  out = label_noise.realised(true_labels, noisy.labels, noisy.num_classes)
  how = "exact counts" if noisy.exact else "each label drawn by itself"
  lines = [
    f"{noisy.kind}, nominal rate {noisy.nominal_rate:.6g}, {how}, seed {noisy.seed}: "
    f"{out.changed:,} of {out.count:,} labels changed, {out.rate:.2%}",
    f"sha256 {out.sha256}",
  ]
  if noisy.num_classes <= _SHOWN_CLASSES:
    lines.append("percent of each true class (row) given each label (column):")
    for k, row in enumerate(out.counts):
      share = 100 * row / max(row.sum(), 1)
      lines.append(f"{k:>4} | " + " ".join(f"{value:5.1f}" for value in share))
  return lines


def _matrix(path: Path) -> np.ndarray:
  if path.suffix not in (".npy", ".csv"):
    raise InputError(f"--matrix is {path}, which ends with {path.suffix!r}; give .npy or .csv")
  try:
    if path.suffix == ".npy":
      return load_npy(path)
    return np.loadtxt(path, delimiter=",", ndmin=2)
  except FileNotFoundError:
    raise InputError(f"--matrix is {path}, which does not exist; is the path right?") from None
  except (ValueError, EOFError) as error:
    raise InputError(f"--matrix is {path}, which holds no matrix ({error})") from None


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  try:
    lines = run(parse(argv))
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except OSError as error:
    print(f"jaxnoise: {error.strerror}: {error.filename}; is the path right?", file=sys.stderr)
    return 2
  print("\n".join(lines))
  return 0


if __name__ == "__main__":
  sys.exit(main())

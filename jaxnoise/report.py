"""Writes report pages: `python -m jaxnoise.report RUN...`.

One run: its page, RUN/report.html. Several: that of each, and comparison.html, which holds all of
them against the first one, in the directory that they have in common. Runs that differ only in
their seeds are one row of it. A directory that is no run stands for the runs in it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxnoise.core.errors import InputError


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line: `runs` (paths) and `out` (path or None)."""
  parser = argparse.ArgumentParser(
    prog="python -m jaxnoise.report",
    description=__doc__.partition("\n\n")[2],
    epilog="Exit codes: 0 done, 2 bad input.",
  )
  parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
  parser.add_argument(
    "--out",
    type=Path,
    metavar="FILE",
    help="where the page goes: for one run instead of RUN/report.html, for several instead of "
    "comparison.html in their common parent directory",
  )
  return parser.parse_args(argv)


def write(runs: Sequence[Path], out: Path | None = None) -> list[Path]:
  """Writes the pages and returns their paths.

  Args:
    runs: run directories, or directories of them.
    out: of the page of a single run, or of the comparison.

  Raises:
    InputError: for a path that is no run, or runs that cannot be compared; nothing is written then.

  Example:
    >>> import pathlib
    >>> from jaxnoise import report
    >>> from jaxnoise.training import writers
    >>> for name in ("erm", "mixup"):
    ...   config = {"method": {"name": name}, "data": {"name": "digits"}}
    ...   writers.write_json(pathlib.Path("runs") / name / "config.json", {"config": config})
    >>> [path.as_posix() for path in report.write([pathlib.Path("runs")])]
    ['runs/comparison.html', 'runs/erm/report.html', 'runs/mixup/report.html']
  """
  from jaxnoise import reporting

  if out is not None and out.is_dir():
    raise InputError(f"--out is {out}, a directory; give a file, such as {out / 'page.html'}")
  found = reporting.find_runs(runs)
  if len(found) == 1:
    return [reporting.write_report(found[0], out)]
  if out is None:
    out = Path(os.path.commonpath([run.absolute().parent for run in found])) / "comparison.html"
    out = Path(os.path.relpath(out))
  # First, because it reads every run: where one cannot be read or compared, nothing is written.
  pages = [reporting.write_comparison(found, out)]
  return [*pages, *(reporting.write_report(run) for run in found)]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  arguments = parse(argv)
  try:
    for path in write(arguments.runs, arguments.out):
      print(path)
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except OSError as error:
    print(f"jaxnoise: {error.strerror}: {error.filename}; is the path right?", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main())

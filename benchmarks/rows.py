"""What benchmarks of many runs share: rows that are appended as they are finished, and tables.

A benchmark names its rows by text, such as "erm:0"; a row is made by a process of its own,
`SCRIPT --row=NAME ...`, whose last line of output is the row as JSON. The same command goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = Mapping[str, Any]
Columns = Mapping[str, tuple[str, float]]
"""field of a row -> (title, what the value is multiplied by)."""


def options(doc: str, out: str, *, seeds: str, protocols: Sequence[str] = ()) -> Any:
  """The command line that all of these benchmarks have.

  Args:
    doc: the script's docstring; its first line is the description.
    out: the default folder.
    seeds: how many --seeds=0 stands for, in words.
    protocols: names of the protocols, the default one first; () for a script that has one.
  """
  parser = argparse.ArgumentParser(description=doc.splitlines()[0])
  add = parser.add_argument
  if protocols:
    add("--protocol", choices=tuple(protocols), default=protocols[0])
    add("--data", default="", help="of small: FILE.npz; see configs/noisymix_small.py")
  add("--out", type=Path, default=Path(out))
  add("--seeds", type=int, default=0, help=f"default: {seeds}")
  add("--jobs", type=int, default=1, help="rows at a time")
  add("--minutes", type=float, default=1e9, help="begin no row after so long")
  add("--row", default="", help=argparse.SUPPRESS)
  return parser


def chosen(parser: argparse.ArgumentParser, field: str, given: str, known: Sequence[str]) -> tuple:
  """The names in `given`, comma between them, () for none; ends the program at an unknown one."""
  names = tuple(filter(None, given.split(",")))
  for name in names:
    if name not in known:
      parser.error(f"--{field} has {name!r}; known are {', '.join(known)}")
  return names


def need_data(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
  """Ends the program where the protocol `small` was asked for without its images."""
  if arguments.protocol == "small" and not arguments.data:
    parser.error("--protocol=small needs --data=FILE.npz; see configs/noisymix_small.py")


def passed_on(arguments: argparse.Namespace, fields: Sequence[str]) -> list[str]:
  """Those options again, for the process that makes a row."""
  return [f"--{field}={getattr(arguments, field)}" for field in fields]


def provenance(started: float) -> dict[str, Any]:
  """What every row ends with: how long it took, on what, and of which commit."""
  from jaxnoise.training import writers

  return {
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


def run_missing(
  names: Sequence[str],
  path: Path,
  command: Callable[[str], Sequence[str]],
  *,
  jobs: int,
  minutes: float,
  told: Callable[[Row], str],
) -> None:
  """Makes the rows that are not in the file yet, `jobs` at a time, in order.

  Args:
    names: of all rows, each the field "row" of its row.
    path: the file of rows.
    command: name -> arguments of the Python interpreter.
    jobs: rows at a time.
    minutes: no row is begun after so long.
    told: row -> a line for the user.
  """
  done = {row["row"] for row in read_rows(path)}
  end = time.monotonic() + 60 * minutes

  def one(name: str) -> None:
    if time.monotonic() > end:
      return
    arguments = [sys.executable, *command(name)]
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if process.returncode:
      print(f"{name} failed:\n{process.stderr[-2000:]}", file=sys.stderr, flush=True)
      return
    line = process.stdout.strip().splitlines()[-1]
    with path.open("a") as file:
      file.write(line + "\n")
    print(f"{name}: {told(json.loads(line))}", flush=True)

  path.parent.mkdir(parents=True, exist_ok=True)
  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    list(pool.map(one, [name for name in names if name not in done]))


def table(rows: Sequence[Row], names: Sequence[str], columns: Columns, baseline: str) -> str:
  """Markdown: mean ± sd over seeds of every column, and paired differences to a method.

  Args:
    rows: with "method", "seed" and the fields of the columns; NaN is a value that is not defined.
    names: of the methods, in order.
    columns: what is shown.
    baseline: the method that the others are compared with.
  """
  by = {(row["method"], row["seed"]): row for row in rows}
  seeds = {name: [s for n, s in by if n == name] for name in names}
  head = ["| method | n | " + " | ".join(title for title, _ in columns.values()) + " |"]
  head.append("|---" * (len(columns) + 2) + "|")
  lines = list(head)
  for name in names:
    cells = []
    for field, (_, scale) in columns.items():
      values = scale * np.array([by[name, s].get(field, np.nan) for s in seeds[name]])
      cells.append(spread(values) if len(values) else "not run")
    lines.append(f"| {name} | {len(seeds[name])} | " + " | ".join(cells) + " |")
  lines += ["", f"Paired difference to {baseline}, points, 95 % interval:", ""]
  others = [(name, name, baseline) for name in names if name != baseline]
  return "\n".join([*lines, differences(rows, others, columns)])


def differences(
  rows: Sequence[Row], pairs: Sequence[tuple[str, str, str]], columns: Columns
) -> str:
  """Markdown: differences of two methods, paired by seed, with 95 % intervals.

  Args:
    rows: as in `table`.
    pairs: (what the line is called, a method, the one that is taken from it).
    columns: what is shown.
  """
  by = {(row["method"], row["seed"]): row for row in rows}
  lines = ["| method | n | " + " | ".join(title for title, _ in columns.values()) + " |"]
  lines.append("|---" * (len(columns) + 2) + "|")
  for title, name, baseline in pairs:
    both = [s for n, s in by if n == name and (baseline, s) in by]
    cells = []
    for field, (_, scale) in columns.items():
      values = [by[name, s].get(field, np.nan) - by[baseline, s].get(field, np.nan) for s in both]
      cells.append(interval(scale * np.array(values)) if both else "not run")
    lines.append(f"| {title} | {len(both)} | " + " | ".join(cells) + " |")
  return "\n".join(lines)


def spread(values: np.ndarray) -> str:
  """Mean ± standard deviation (n - 1); a dash where a value is not defined."""
  if not np.all(np.isfinite(values)):
    return "-"
  mean = f"{values.mean():.2f}"
  return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1):.2f}"


def interval(values: np.ndarray) -> str:
  """Mean with Student's 95 % interval; bold where it leaves 0 out."""
  if not np.all(np.isfinite(values)):
    return "-"
  mean, n = values.mean(), len(values)
  if n < 3:
    return f"{mean:+.2f}"
  from scipy import special

  half = float(special.stdtrit(n - 1, 0.975)) * values.std(ddof=1) / np.sqrt(n)
  text = f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
  return f"**{text}**" if abs(mean) > half else text

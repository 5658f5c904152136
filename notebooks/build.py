"""Makes every notebook from its .py source and executes a copy of it.

  python notebooks/build.py               # make and execute
  python notebooks/build.py --no-execute  # only make

The source, in jupytext's percent format, is what to edit. The .ipynb beside it holds no output and
depends on the source alone; executed copies, with their figures, go to runs/notebooks.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
from collections.abc import Mapping

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = pathlib.Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[pathlib.Path]:
  """The notebooks' sources: what begins with a number."""
  return sorted(FOLDER.glob("[0-9]*.py"))


def make(source: pathlib.Path) -> nbformat.NotebookNode:
  """Reads a source and returns its notebook: same source, same notebook."""
  read = jupytext.read(source, fmt="py:percent")
  notebook = nbformat.v4.new_notebook(
    metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}}
  )
  for number, cell in enumerate(read.cells):
    new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
    notebook.cells.append(new(cell.source, id=f"cell-{number:02d}"))
  notebook.nbformat_minor = 5
  nbformat.validate(notebook)
  return notebook


def text(notebook: nbformat.NotebookNode) -> str:
  """What stands in the .ipynb file."""
  return nbformat.writes(notebook).rstrip("\n") + "\n"


def execute(
  notebook: nbformat.NotebookNode,
  *,
  timeout: float = 600,
  env: Mapping[str, str] = os.environ,
) -> nbformat.NotebookNode:
  """Runs the cells in place, in a fresh kernel of this Python, and returns the notebook.

  Args:
    notebook: from `make`.
    timeout: seconds for one cell.
    env: the kernel's environment.

  Raises:
    CellExecutionError: with the traceback of the cell that failed.
  """
  # Another backend named in the environment would keep the figures out of the notebook.
  env = {name: value for name, value in env.items() if name != "MPLBACKEND"}
  resources = {"metadata": {"path": str(FOLDER)}}
  client = NotebookClient(
    notebook,
    timeout=timeout,
    kernel_name="python3",
    resources=resources,
    coalesce_streams=True,
  )
  return client.execute(env=env)


def main() -> int:
  """Makes, and unless told otherwise executes, every notebook; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--execute", action=argparse.BooleanOptionalAction, default=True)
  arguments = parser.parse_args()
  failed = 0
  for source in sources():
    target = source.with_suffix(".ipynb")
    notebook = make(source)
    target.write_text(text(notebook), encoding="utf-8")
    print(f"made {target.name}", flush=True)
    if not arguments.execute:
      continue
    begun = time.perf_counter()
    try:
      execute(notebook)
      outcome = "executed"
    except CellExecutionError as error:
      failed, outcome = 1, f"failed: {error}"
    out = FOLDER.parent / "runs" / "notebooks" / target.name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text(notebook), encoding="utf-8")
    print(f"{outcome} in {time.perf_counter() - begun:.0f} s, see runs/notebooks/{target.name}")
  return failed


if __name__ == "__main__":
  raise SystemExit(main())

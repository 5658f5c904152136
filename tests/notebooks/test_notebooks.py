"""Notebooks: each is what its source makes, and its cells run with fewer epochs.

The notebooks assert on their own numbers; here is checked that they ran to the end and what they
show.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
WHY = "needs the notebooks extra: pip install -e '.[notebooks]'"

for package in ("jupytext", "nbformat", "nbclient", "ipykernel"):
  pytest.importorskip(package, reason=f"{package} is not installed; {WHY}")


def load_build():
  spec = importlib.util.spec_from_file_location("notebooks_build", FOLDER / "build.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


build = load_build()


def name_of(path: pathlib.Path) -> str:
  return path.stem


def test_every_notebook_has_a_source():
  assert SOURCES
  assert build.sources() == SOURCES
  assert {p.stem for p in FOLDER.glob("*.ipynb")} == {p.stem for p in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_notebook_is_what_its_source_makes(source):
  made = build.text(build.make(source))
  stored = source.with_suffix(".ipynb").read_text(encoding="utf-8")
  assert stored == made, "run `python notebooks/build.py --no-execute` and commit the result"
  cells = json.loads(stored)["cells"]
  assert len({cell["id"] for cell in cells}) == len(cells)
  assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_a_failing_cell_is_an_error(tmp_path):
  source = tmp_path / "0_fails.py"
  source.write_text("# %% [markdown]\n# Text.\n\n# %%\nassert 1 == 2\n")
  notebook = build.make(source)
  assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code"]
  with pytest.raises(build.CellExecutionError, match="AssertionError"):
    build.execute(notebook, timeout=60)


@pytest.fixture(scope="module")
def executed():
  """The first notebook, run with fewer epochs."""
  env = {**os.environ, "JAXNOISE_FAST": "1"}
  notebook = build.make(FOLDER / "01_noisymix_taken_apart.py")
  return build.execute(notebook, timeout=300, env=env)


def outputs(notebook):
  return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def printed(notebook) -> str:
  return "".join(out["text"] for out in outputs(notebook) if out.get("name") == "stdout")


def test_noisymix_runs_to_its_last_cell(executed):
  assert re.search(r"all checks passed after \d+ s\n$", printed(executed))
  assert not [out for out in outputs(executed) if out["output_type"] == "error"]


def test_noisymix_shows_its_figures(executed):
  data = [out.get("data", {}) for out in outputs(executed)]
  figures = [shown["image/png"] for shown in data if "image/png" in shown]
  assert len(figures) == 7
  assert all(base64.b64decode(f).startswith(b"\x89PNG") and len(f) > 5000 for f in figures)


def test_noisymix_takes_both_terms_apart(executed):
  line = re.compile(r"^\d+ to \d+ +(label|12 JSD) +([\d.]+) +([\d.]+) +-?[\d.]+$", re.MULTILINE)
  rows = line.findall(printed(executed))
  assert [row[0] for row in rows] == ["label", "12 JSD"] * 2
  values = [float(row[1]) for row in rows]
  assert values[2] < values[0], "the label term did not fall during training"
  assert all(float(row[2]) > 0 for row in rows), "a term without a gradient"


def test_noisymix_trains_the_ten_rows_of_the_ablation(executed):
  line = re.compile(r"^([A-][M-][N-][J-])((?: +\d+\.\d){4}) +\d+\.\d$", re.MULTILINE)
  rows = line.findall(printed(executed))
  assert [row[0] for row in rows] == [
    "----", "--N-", "-M--", "-MN-", "A---", "A-NJ", "A--J", "AMN-", "AM-J", "AMNJ",
  ]  # fmt: skip
  results = [row[1] for row in rows]
  assert len(set(results)) == len(results), "two switches train the same network"
  clean = [float(result.split()[0]) for result in results]
  assert min(clean) > 20, f"a row learned nothing: {clean}"

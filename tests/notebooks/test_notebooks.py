"""Notebooks: each is what its source makes, and what it names in the library exists.

The cells are executed by the files beside this one, with fewer epochs, among the slow tests. The
notebooks assert on their own numbers; the tests check that they ran to
the end and what they show.
"""

from __future__ import annotations

import ast
import base64
import importlib
import importlib.util
import inspect
import json
import os
import pathlib
import types

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


def imported_by(tree: ast.AST) -> dict[str, object]:
  """What each imported name stands for; raises where there is no such thing."""
  found = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        module = importlib.import_module(alias.name)
        top = alias.name.partition(".")[0]
        found[alias.asname or top] = module if alias.asname else importlib.import_module(top)
    elif isinstance(node, ast.ImportFrom):
      module = importlib.import_module(node.module)
      for alias in node.names:
        if not hasattr(module, alias.name):  # then it is a sub-module, or nothing
          importlib.import_module(f"{node.module}.{alias.name}")
        found[alias.asname or alias.name] = getattr(module, alias.name)
  return found


def resolved(node: ast.AST, names: dict[str, object]) -> object:
  """The object that `a.b.c` names, followed through modules; None for what only a run knows."""
  if isinstance(node, ast.Name):
    return names.get(node.id)
  if not isinstance(node, ast.Attribute):
    return None
  owner = resolved(node.value, names)
  return getattr(owner, node.attr) if isinstance(owner, types.ModuleType) else None


def check_names(source: str) -> int:
  """Checks every name and argument that a source takes from a module; returns how many calls."""
  tree = ast.parse(source)
  names, calls = imported_by(tree), 0
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      resolved(node, names)
    called = resolved(node.func, names) if isinstance(node, ast.Call) else None
    if not getattr(called, "__module__", "").startswith("jaxnoise"):
      continue
    calls += 1
    given = [None for a in node.args if not isinstance(a, ast.Starred)]
    named = {keyword.arg: None for keyword in node.keywords if keyword.arg}
    inspect.signature(called).bind_partial(*given, **named)
  return calls


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_what_a_notebook_names_exists(source):
  assert check_names(source.read_text(encoding="utf-8")) > 5


@pytest.mark.parametrize(
  "line, error",
  [
    ("from jaxnoise import nothing", ImportError),
    ("from jaxnoise import augment\naugment.augmixx", AttributeError),
    ("from jaxnoise import methods\nmethods.erm(net, spec=s, los=1)", TypeError),
    ("from jaxnoise import augment\naugment.mix(x, partners, 0.5, 1)", TypeError),
  ],
)
def test_a_name_that_does_not_exist_is_found(line, error):
  with pytest.raises(error):
    check_names(line)


def run(name: str):
  """A notebook's cells, executed with fewer epochs."""
  env = {**os.environ, "JAXNOISE_FAST": "1"}
  return build.execute(build.make(FOLDER / f"{name}.py"), timeout=300, env=env)


def outputs(notebook):
  return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def printed(notebook) -> str:
  return "".join(out["text"] for out in outputs(notebook) if out.get("name") == "stdout")


def figures(notebook) -> list[str]:
  """The PNGs that are shown; an empty one is an error."""
  data = [out.get("data", {}) for out in outputs(notebook)]
  found = [shown["image/png"] for shown in data if "image/png" in shown]
  assert all(base64.b64decode(f).startswith(b"\x89PNG") and len(f) > 5000 for f in found)
  return found

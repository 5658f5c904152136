"""The project's own rules, read from its files: layers, imports, sizes, docstrings, examples."""

from __future__ import annotations

import ast
import configparser
import doctest
import functools
import importlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxnoise"

# Lowest first. A module imports its own layer and those before it. `training.x` names one module;
# the rest of `training` is the assembly.
PURE = ("losses", "augment", "corruptions", "label_noise", "attacks", "stats", "theory", "metrics")
SERVICES = (
  "sharding", "schedules", "optim", "durations", "checkpoint", "writers", "sinks", "cache",
  "schema", "distributed", "lock",
)  # fmt: skip
LAYERS = (
  ("core",),
  PURE,
  ("models",),
  ("methods", "data"),
  tuple(f"training.{name}" for name in SERVICES),
  ("evaluation",),
  ("training",),
  ("reporting",),
  ("api",),
  ("main", "evaluate", "report", "predict", "audit"),
)
COMMANDS = len(LAYERS) - 1

# The only places that import these libraries, inside functions too.
ONLY_IN = {
  "flax": ("jaxnoise.models", "jaxnoise.core.state"),
  "orbax": ("jaxnoise.training.checkpoint",),
  "ml_collections": ("jaxnoise.main",),
  "absl": ("jaxnoise.main",),
  "matplotlib": ("jaxnoise.reporting",),
}
DISTRIBUTION = {
  "absl": "absl-py",
  "orbax": "orbax-checkpoint",
  "PIL": "pillow",
  "sklearn": "scikit-learn",
}

FACTORIES = frozenset(
  (
    "erm", "noisymix", "nfm", "mixup", "manifold_mixup", "cutmix", "puzzlemix", "augmix", "augmax",
    "nrd", "gjs", "js", "elr", "elr_plus", "dividemix", "dynamic_bootstrap", "co_teaching", "glc",
    "meta_weight_net", "multiplicative_reweighting", "random_weighting", "with_ema", "free_at",
    "pgd_at", "trades", "knowledge_distillation", "attention_transfer", "similarity_preserving",
    "rkd", "fickle_teacher", "soft_randomization", "messy_collaboration", "self_distillation",
  )
)  # fmt: skip


def module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = [name for name, path in FILES.items() if path.name == "__init__.py"]
PYTHON_FILES = [
  path
  for folder in ("jaxnoise", "configs", "benchmarks", "notebooks", "tests")
  for path in sorted((ROOT / folder).rglob("*.py"))
]


@functools.cache
def parse(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(module: str, node: ast.stmt) -> list[str]:
  """The modules that an import statement of `module` names, dotted and absolute."""
  if isinstance(node, ast.Import):
    return [alias.name for alias in node.names]
  if not isinstance(node, ast.ImportFrom):
    return []
  source = node.module or ""
  if node.level:
    package = module if module in PACKAGES else module.rpartition(".")[0]
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    source = ".".join([*above, source] if source else above)
  if source == "jaxnoise":  # its sub-packages, and the one name that it holds itself
    return [f"jaxnoise.{alias.name}" for alias in node.names if alias.name != "__version__"]
  names = [f"{source}.{alias.name}" for alias in node.names]
  return [name if name in FILES else source for name in names]


def imports(module: str, lazy: bool = True) -> Iterator[tuple[str, int]]:
  """Yields (module, line) of every import, or of those that run when the module loads."""
  pending: list[ast.AST] = [parse(FILES[module])]
  while pending:
    node = pending.pop()
    for name in imported(module, node):
      yield name, node.lineno
    if lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
      pending.extend(ast.iter_child_nodes(node))


def within(module: str, places: tuple[str, ...]) -> bool:
  return any(module == place or module.startswith(place + ".") for place in places)


def layer(module: str) -> int | None:
  """The layer's position, or None for a module that the table does not know."""
  parts = module.split(".")[1:]
  if parts[-1] == "__main__":
    return COMMANDS
  known = {name: position for position, names in enumerate(LAYERS) for name in names}
  return known.get(".".join(parts[:2]), known.get(parts[0]))


@pytest.mark.parametrize("module", [name for name in FILES if name != "jaxnoise"])
def test_layers(module):
  own = layer(module)
  assert own is not None, f"{module} is in no layer; add it to LAYERS in this file and say why"
  wrong = []
  for name, line in imports(module):
    if not within(name, ("jaxnoise",)):
      continue
    if name == "jaxnoise":
      wrong.append(f"line {line}: the whole of jaxnoise; name the module")
    elif layer(name) is None:
      wrong.append(f"line {line}: {name}, which is in no layer")
    elif layer(name) > own:
      wrong.append(f"line {line}: {name}, from a higher layer")
  assert not wrong, f"{module} imports " + "; ".join(wrong)


def test_packages_import_one_another_in_one_direction():
  graph: dict[str, set[str]] = {}
  for module in FILES:
    unit = module.split(".")[1:2]
    if unit and unit[0] != "training" and layer(module) != COMMANDS:  # two layers of their own
      named = {name.split(".")[1] for name, _ in imports(module) if name.startswith("jaxnoise.")}
      graph.setdefault(unit[0], set()).update(named - set(unit))
  while leaves := [unit for unit, below in graph.items() if not below & graph.keys()]:
    for unit in leaves:
      del graph[unit]
  assert not graph, f"packages that import one another: {graph}"


def test_the_top_module_imports_nothing_but_the_standard_library():
  tops = {name.split(".")[0] for name, _ in imports("jaxnoise")}
  assert tops <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", FILES)
def test_libraries_stay_in_their_place(module):
  wrong = []
  for name, line in imports(module):
    top = name.split(".")[0]
    if not within(module, ONLY_IN.get(top, ("jaxnoise",))):
      wrong.append(f"line {line}: {top} belongs in {' and '.join(ONLY_IN[top])}")
    pure = within(module, tuple(f"jaxnoise.{unit}" for unit in ("core", *PURE)))
    allowed = {"jax", "numpy", "jaxnoise", "flax", *sys.stdlib_module_names}
    if pure and layer(module) != COMMANDS and top not in allowed:
      wrong.append(f"line {line}: {top}, in a package of pure array functions")
  assert not wrong, f"{module}: " + "; ".join(wrong)


@pytest.mark.parametrize("module", FILES)
def test_what_loads_with_a_module_is_in_the_base_installation(module):
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  listed = setup["options"]["install_requires"].split("\n")
  base = {re.split(r"[\s<>=]", line.strip())[0] for line in listed if line.strip()}
  tops = {(name.split(".")[0], line) for name, line in imports(module, lazy=False)}
  wrong = [
    f"line {line}: {top}"
    for top, line in sorted(tops)
    if top not in sys.stdlib_module_names
    and top != "jaxnoise"
    and DISTRIBUTION.get(top, top) not in base
  ]
  assert not wrong, f"{module} imports what install_requires of setup.cfg lacks: {wrong}"


@pytest.mark.parametrize("module", FILES)
def test_length(module):
  lines = FILES[module].read_text(encoding="utf-8").count("\n")
  assert lines <= 400, f"{FILES[module].relative_to(ROOT)} has {lines} lines: split it by idea"


def is_documented(module: str, name: str) -> bool:
  """Whether `name` of `module` has a docstring, followed through the modules it comes from."""
  body = parse(FILES[module]).body
  for position, node in enumerate(body):
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
      return bool(ast.get_docstring(node))
    if isinstance(node, ast.ImportFrom):
      for alias in node.names:
        if (alias.asname or alias.name) == name:
          source = imported(module, node)[node.names.index(alias)]
          if source.endswith(f".{alias.name}"):  # a module is documented by its own first line
            return bool(ast.get_docstring(parse(FILES[source])))
          return is_documented(source, alias.name)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if any(isinstance(target, ast.Name) and target.id == name for target in targets):
      after = body[position + 1] if position + 1 < len(body) else None
      text = FILES[module].read_text(encoding="utf-8").split("\n")
      comment = text[node.lineno - 2].startswith("#") or " # " in text[node.lineno - 1]
      documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
      return comment or documented
  return False


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented(package):
  tree = parse(FILES[package])
  assert ast.get_docstring(tree), f"{package} has no docstring"
  listed = [
    alias.asname
    for node in tree.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
    if alias.asname
  ]
  bare = [name for name in listed if not is_documented(package, name)]
  assert not bare, f"public names of {package} without a docstring: {bare}"


MESHES = ("jax.make_mesh", "jax.sharding.Mesh", "sharding.Mesh", "make_mesh", "Mesh")


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pmap_and_axis_types_spelled_out(path):
  own = {getattr(node, "name", None) for node in parse(path).body}
  for node in ast.walk(parse(path)):
    names = (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "name", ""))
    assert "pmap" not in names, f"line {node.lineno}: pmap; use jit with shardings"
    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    if called in MESHES and called not in own:
      given = {keyword.arg for keyword in node.keywords}
      assert "axis_types" in given, f"line {node.lineno}: {called} without axis_types"


def test_tracked_files_name_no_machine():
  git = ["git", "-C", str(ROOT), "ls-files", "-z"]
  listed = subprocess.run(git, capture_output=True, check=False)
  if listed.returncode:
    pytest.skip("not a git checkout")
  folders = "|".join(("work", "tmp", "root", "home", "opt", "Users"))
  pattern = re.compile(rf"(?<![\w.~$}}])/(?:{folders})/")
  found = []
  for name in listed.stdout.decode().split("\0"):
    path = ROOT / name
    if not name or not path.is_file():
      continue
    try:
      lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
      continue
    found += [f"{name}:{n}" for n, line in enumerate(lines, 1) if pattern.search(line)]
  assert not found, f"paths of one machine: {found}"


class Numbers(doctest.OutputChecker):
  """Compares floats as they round to the decimals written (three at least), the rest exactly."""

  FLOAT = re.compile(r"-?\d+\.(\d*)(?:e[+-]?\d+)?")

  def check_output(self, want, got, optionflags):
    if super().check_output(want, got, optionflags):
      return True
    text = ["".join(self.FLOAT.sub("#", t).split()) for t in (want, got)]
    pairs = zip(self.FLOAT.finditer(want), self.FLOAT.finditer(got))
    return text[0] == text[1] and all(
      abs(float(w[0]) - float(g[0])) <= 0.501 * 10.0 ** -max(3, len(w[1])) for w, g in pairs
    )


@pytest.mark.parametrize("module", [n for n, p in FILES.items() if ">>> " in p.read_text("utf-8")])
def test_examples(module, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  loaded = importlib.import_module(module)
  options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
  runner = doctest.DocTestRunner(Numbers(), verbose=False, optionflags=options)
  report: list[str] = []
  for test in doctest.DocTestFinder().find(loaded, module):
    runner.run(test, out=report.append)
  assert not runner.failures, "".join(report)
  written = sum(
    line.lstrip().startswith(">>> ") for line in FILES[module].read_text("utf-8").split("\n")
  )
  assert runner.tries == written, f"{written} examples are written, {runner.tries} of them run"


@pytest.mark.parametrize("name", ["loop", "step", "seeds"])
def test_the_loop_names_no_method(name):
  path = PACKAGE / "training" / f"{name}.py"
  if not path.exists():
    pytest.skip(f"training/{name}.py is not written yet")
  words: set[str] = set()
  docstrings = set()
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
      docstrings.add(node.value)
    for field in ("id", "attr", "name", "asname", "arg"):
      words.update(re.findall(r"\w+", getattr(node, field, None) or ""))
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
      words.update(re.findall(r"\w+", node.value))
  assert not words & FACTORIES, f"training/{name}.py names {sorted(words & FACTORIES)}"


def load_in_a_fresh_process(code: str, tmp_path: pathlib.Path) -> str:
  """Runs `code` where importing tensorflow prints a word and fails, and returns what it printed."""
  (tmp_path / "tensorflow").mkdir()
  (tmp_path / "tensorflow" / "__init__.py").write_text(
    "import traceback\nprint('TENSORFLOW')\ntraceback.print_stack()\nraise ImportError\n"
  )
  start = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
  ran = subprocess.run(
    [sys.executable, "-c", start + code], capture_output=True, text=True, check=False, timeout=120
  )
  assert ran.returncode == 0, ran.stderr
  assert "TENSORFLOW" not in ran.stdout, ran.stderr
  return ran.stdout


@pytest.mark.parametrize("module", ["jaxnoise", "jaxnoise.main", "every module"])
def test_no_tensorflow_at_import(module, tmp_path):
  if module == "jaxnoise.main" and module not in FILES:
    pytest.skip("jaxnoise/main.py is not written yet")
  names = list(FILES) if module == "every module" else [module]
  code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
  load_in_a_fresh_process(code, tmp_path)


def test_imports_and_configs_start_no_device(tmp_path):
  """`jax.distributed.initialize` and the number of CPU devices must still be open after them."""
  configs = [str(path) for path in sorted((ROOT / "configs").glob("*.py"))]
  code = f"""
import importlib, runpy
for name in {list(FILES)!r}: importlib.import_module(name)
for path in {configs!r}: runpy.run_path(path)["get_config"]()
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 3)
print(jax.device_count())"""
  assert load_in_a_fresh_process(code, tmp_path).split()[-1] == "3"

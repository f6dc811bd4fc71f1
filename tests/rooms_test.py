"""Which part of the package may import which (see WORKSPACE.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import official_nasfpn

PACKAGE = Path(official_nasfpn.__file__).parent
ROOMS = (
  "architecture",
  "modeling",
  "data",
  "reporting",
  "training",
  "search",
  "serving",
  "paper",
  "benchmark",
)

# What anything may import: it imports no room itself.
FOUNDATION = {
  "configuration",
  "disk",
  "errors",
  "folders",
  "gpus",
  "installation",
  "json_text",
  "printable",
  "progress",
  "recipes",
}

UPSTREAM = {
  "architecture": set(),
  "modeling": {"architecture"},
  "data": set(),
  "reporting": set(),
  "training": {"architecture", "modeling", "data", "reporting"},
  "serving": {"architecture", "modeling", "data", "training"},
  "search": {"architecture", "reporting"},
  "paper": {"architecture", "modeling", "data", "training", "search", "serving"},
  "benchmark": {"architecture", "search"},
}
# Only these know how detectors are trained; the loop is given a function that evaluates a trial.
EXCEPTIONS = {
  # The page of its check.
  "data/doctor": {"reporting"},
  "search/proxy": {"architecture", "modeling", "data", "training"},
  "search/proxy_check": {"architecture", "data", "training"},
  # A recipe of a search holds that of a training.
  "search/recipe.py": {"architecture", "training"},
}
# Programs may put any rooms together.
PROGRAMS = {"search/__main__.py"}

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def _imported_parts(path: Path) -> set[str]:
  """Returns what directly below the package a module imports: rooms, or modules at the root."""
  package = ("official_nasfpn", *path.relative_to(PACKAGE).parent.parts)
  names = []
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      start = ".".join(package[: len(package) - node.level + 1]) if node.level else None
      module = ".".join(part for part in (start, node.module) if part)
      names += [f"{module}.{alias.name}" for alias in node.names]
  split = [name.split(".") for name in names]
  return {parts[1] for parts in split if parts[0] == "official_nasfpn" and len(parts) > 1}


def _allowed(module: str) -> set[str]:
  folder = Path(module).parent.as_posix()
  return EXCEPTIONS.get(module, EXCEPTIONS.get(folder, UPSTREAM[module.split("/")[0]]))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rooms_upstream(module):
  room = module.split("/")[0]
  imported = _imported_parts(PACKAGE / module)
  if module in PROGRAMS or (room not in ROOMS and Path(module).stem not in FOUNDATION):
    return
  allowed = FOUNDATION | {"__version__"}
  if room in ROOMS:
    allowed |= {room} | _allowed(module)
  assert imported <= allowed, f"{module} imports {sorted(imported - allowed)}"


def test_every_folder_of_the_package_is_a_room():
  folders = {module.split("/")[0] for module in MODULES if "/" in module}
  assert folders <= set(ROOMS)


def test_a_forbidden_import_is_seen_in_every_form(tmp_path, monkeypatch):
  monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
  (tmp_path / "data").mkdir()
  module = tmp_path / "data" / "module.py"
  for statement in (
    "import official_nasfpn.search.loop as x",
    "from official_nasfpn import search",
    "from official_nasfpn.search import x",
    "from official_nasfpn.search.loop import x",
    "from ..search import x",
    "from .. import search",
    "def f():\n  import official_nasfpn.search",
  ):
    module.write_text(statement)
    assert _imported_parts(module) == {"search"}, statement


@pytest.mark.parametrize(
  "module",
  [
    "architecture",
    "data.label_map",
    "data.config",
    "modeling.config",
    "training.config",
    "training.report.run_report",
  ],
)
def test_descriptions_can_be_read_without_tensorflow(module):
  code = f"import sys, official_nasfpn.{module}; sys.exit('tensorflow' in sys.modules)"
  subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)

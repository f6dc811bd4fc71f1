"""WORKSPACE.md names files that exist, all rooms, and all modules at the root of the package."""

import re
from pathlib import Path

import pytest

import official_nasfpn

PACKAGE = Path(official_nasfpn.__file__).parent
ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "WORKSPACE.md").read_text(encoding="utf-8")
QUOTED = re.compile(r"`([^`\s]+)`")
ENDINGS = (".py", ".gin", ".md", ".sh", ".toml", ".txt", "/")
# Files that programs write, named in the text.
WRITTEN = {"architecture.gin", "config.gin", "recipe.gin"}

# A row of the table of rooms: the folder, what is in it, and the modules to start at.
ROOMS = re.findall(r"^\| `(official_nasfpn/[a-z_/]+)` \|.*\| ([^|]+) \|$", TEXT, re.MULTILINE)
TABLE = re.compile(r"^\|.*\n", re.MULTILINE)


def paths(text):
  """Returns the paths in backquotes."""
  return [
    name for name in QUOTED.findall(text) if name.endswith(ENDINGS) and not name.startswith("@")
  ]


@pytest.mark.parametrize("name", sorted({*paths(TABLE.sub("", TEXT))} - WRITTEN))
def test_every_path_is_there(name):
  assert (ROOT / name).exists() or (PACKAGE / name).exists()


@pytest.mark.parametrize(("room", "modules"), ROOMS)
def test_every_room_has_the_modules_to_start_at(room, modules):
  assert paths(modules)
  for name in paths(modules):
    assert (ROOT / room / name).is_file(), name


def test_every_room_and_every_module_of_the_root_is_named():
  rooms = {path.parent for path in PACKAGE.glob("*/__init__.py")}
  rooms |= {path.parent for path in PACKAGE.glob("*/*/__init__.py")}
  assert {room for room, _ in ROOMS} == {f"{room.relative_to(ROOT).as_posix()}/" for room in rooms}
  modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
  assert modules <= set(paths(TEXT))


def test_every_place_to_add_something_names_a_path():
  section = TEXT.partition("## Where to add")[2].partition("\n## ")[0]
  entries = re.split(r"^- ", section, flags=re.MULTILINE)[1:]
  assert len(entries) > 10
  for entry in entries:
    assert paths(entry) or entry.startswith("*A dataset*"), entry


def test_it_stays_two_pages():
  assert len(TEXT.splitlines()) <= 130

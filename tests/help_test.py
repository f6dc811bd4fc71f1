"""What the `--help` of a program tells a person to run is a whole command, and one that works."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from official_nasfpn.cli import PROGRAMS as PROGRAMS_OF_NASFPN

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "official_nasfpn"
# Sub-commands of `nasfpn` that are not called as their module is.
MODULE_OF = {program.name: program.module.replace(".", "/") for program in PROGRAMS_OF_NASFPN}


def _is_program(file):
  return 'if __name__ == "__main__":' in file.read_text(encoding="utf-8")


PROGRAMS = sorted(
  file
  for folder in (PACKAGE, REPOSITORY / "benchmarks")
  for file in folder.rglob("*.py")
  if _is_program(file)
)
BY_NAME = {file.relative_to(REPOSITORY).with_suffix("").as_posix(): file for file in PROGRAMS}


def _docstring(file):
  """Returns the docstring as Python reads it, which is what --help prints."""
  return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def flags_of(file):
  """Returns the names of the flags that a program defines itself."""
  calls = [
    node
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE_")
  ]
  return {call.args[0].value for call in calls}


def _commands(text):
  """Returns the commands in a text, as lists of words, over all lines that they take."""
  joined = re.sub(r" *\\\n *", " ", text)
  starts = re.finditer(
    r"(?:^ *|`)((?:nasfpn(?= \w)|python -m|\./scripts)\b[^\n`]*)", joined, re.MULTILINE
  )
  return [shlex.split(match.group(1)) for match in starts]


def _program_of(words):
  """Returns the file that a command runs, and the rest of its words; no file for a script."""
  if words[0] == "nasfpn":
    return BY_NAME[f"official_nasfpn/{MODULE_OF[words[1]]}"], words[2:]
  if words[0] == "python":
    name = words[2].replace(".", "/")
    return BY_NAME.get(name) or BY_NAME[f"{name}/__main__"], words[3:]
  return None, words[1:]


@pytest.mark.parametrize("name", BY_NAME)
def test_commands_in_the_help_are_right(name):
  text = _docstring(BY_NAME[name])
  # A continuation that Python has swallowed leaves the next line's indentation behind.
  assert not re.search(r"\S {3,}--", text)
  for words in _commands(text):
    program, arguments = _program_of(words)
    if program is None:
      continue
    named = {argument[2:].partition("=")[0] for argument in arguments if argument[:2] == "--"}
    assert named <= flags_of(program), f"{words} has flags that {program.name} does not take"
    for recipe in re.findall(r"\bgin/\S+\.gin", " ".join(arguments)):
      assert (REPOSITORY / recipe).is_file(), f"{words} names {recipe}, which is not there"


def test_every_program_of_the_package_says_what_to_run():
  assert [
    name
    for name, file in BY_NAME.items()
    if name.startswith("official_nasfpn/") and not _commands(_docstring(file))
  ] == []


def test_help_prints_what_is_tested_here(run_program):
  finished = run_program("train", "--help")
  assert "--model_dir RUN \\\n        --mode train_and_evaluate" in finished.stdout
  assert "gin/bccd_r18_nasfpn.gin" in finished.stdout

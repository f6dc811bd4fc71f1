"""Pyramids as text: gin, which training reads directly, and JSON for other programs.

Both are read as data. Nothing in a file is imported or run, so a file from anyone is safe to
open.
"""

import dataclasses
import functools
import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

from gin import config_parser

from official_nasfpn import configuration
from official_nasfpn.architecture.baselines import BASELINES
from official_nasfpn.architecture.catalog import CATALOG, Architecture, architecture_by_name
from official_nasfpn.architecture.spec import MergingCell, PyramidSpec
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

# Names of the files that a search writes, in a folder where others may write, too.
SEARCHED_FILES = ("architecture.gin", "best_architecture.gin")

_JSON_VERSION = 1
# What `to_gin` writes, exactly; gin's own parser takes milliseconds for it.
_CELL = r"\(\((\d{1,3}), (\d{1,3})\), (\d{1,2}), '(\w+)'\)"
_WRITTEN = re.compile(
  r"(?:#[^\n]*\n)*Detector\.architecture = @PyramidSpec\(\)\n\n"
  r"PyramidSpec\.min_level = (\d{1,2})\nPyramidSpec\.max_level = (\d{1,2})\n"
  rf"PyramidSpec\.cells = \(({_CELL}(?:,\n? *{_CELL})+)\)\n?"
  r"(?:(?<=\n)PyramidSpec\.num_repeats = (?P<num_repeats>[1-9]\d{0,3})\n?)?"
  r"(?:(?<=\n)PyramidSpec\.num_filters = (?P<num_filters>[1-9]\d{0,3})\n?)?"
)
_FIELDS = tuple(field.name for field in dataclasses.fields(PyramidSpec))


def to_json(spec: PyramidSpec) -> str:
  """Returns the pyramid as JSON text, one cell a line, that `from_json` reads back."""
  cells = ",\n".join(f"    {json.dumps(dataclasses.asdict(cell))}" for cell in spec.cells)
  sizes = (f'  "{name}": {size},\n' for name, size in spec.sizes.items() if size is not None)
  return (
    "{\n"
    f'  "version": {_JSON_VERSION},\n'
    f'  "min_level": {spec.min_level},\n'
    f'  "max_level": {spec.max_level},\n'
    f"{''.join(sizes)}"
    f'  "cells": [\n{cells}\n  ]\n'
    "}\n"
  )


def from_json(text: str, where: str = "architecture") -> PyramidSpec:
  """Reads what `to_json` writes.

  Args:
    text: the JSON text.
    where: the name of the text in error messages, for instance a file name.

  Raises:
    UserError: the text does not describe a valid pyramid.
  """
  try:
    fields = parse_json(text)
  except ValueError as error:
    raise UserError(f"{where} is not JSON: {error}.") from error
  if not isinstance(fields, dict):
    raise UserError(f"{where}: expected a JSON object with {', '.join(_FIELDS)}.")
  version = fields.pop("version", None)
  if version != _JSON_VERSION:
    raise UserError(f"{where} has version {version!r}; this program reads {_JSON_VERSION}.")
  cells = fields.get("cells")
  if isinstance(cells, list):
    fields["cells"] = [_cell_from_json(cell, index, where) for index, cell in enumerate(cells)]
  return _spec(fields, where)


def to_gin(spec: PyramidSpec, complete: bool = False) -> str:
  """Returns the pyramid as a gin recipe, which sets the detector's pyramid.

  Args:
    spec: the pyramid.
    complete: whether sizes that it does not say are written as None, so that the text may follow
      the recipe of another pyramid.
  """
  fields = configuration.to_gin(spec, complete=complete)
  return f"Detector.architecture = @PyramidSpec()\n\n{fields}"


def from_gin(text: str, where: str = "architecture") -> PyramidSpec:
  """Reads what `to_gin` writes.

  Args:
    text: gin text with bindings of `PyramidSpec` and, at most, the line
      `Detector.architecture = @PyramidSpec()`.
    where: the name of the text in error messages, for instance a file name.

  Raises:
    UserError: there is anything else in the text, or the pyramid is not valid.
  """
  if (written := _as_written(text)) is not None:
    return written
  fields: dict[str, Any] = {}
  for statement in configuration.statements(text, where, _References()):
    if isinstance(statement, config_parser.BlockDeclaration):
      continue
    if not isinstance(statement, config_parser.BindingStatement):
      raise UserError(
        f"{where}: an architecture only binds values, found "
        f"{statement.location.line_content.strip()!r}."
      )
    scope = f"{statement.scope}/" if statement.scope else ""
    field = f".{statement.arg_name}" if statement.arg_name else ""
    name = f"{scope}{statement.selector}{field}"
    if name == "Detector.architecture" and statement.value == _Reference("PyramidSpec", True):
      continue
    if statement.scope or statement.selector != "PyramidSpec":
      raise UserError(
        f"{where}: an architecture binds PyramidSpec and "
        f"Detector.architecture = @PyramidSpec() only, found {name}."
      )
    fields[statement.arg_name] = statement.value
  return _spec(fields, where)


def resolve_architecture(
  value: str | PathLike[str] | Architecture,
) -> Architecture:
  """Returns the pyramid that a setting names.

  Args:
    value: a name of the catalogue, the path of a `.gin` or `.json` file, or a pyramid itself.

  Raises:
    UserError: there is no such name or file, or the file holds no valid pyramid.
  """
  if isinstance(value, Architecture):
    return value
  if not isinstance(value, str | PathLike):
    references = [f"@{type(each).__name__}()" for each in BASELINES.values()]
    raise UserError(
      "an architecture is a name of the catalogue, the path of a .gin or .json file, or one of "
      f"@PyramidSpec(), {', '.join(references)}, not {value!r}."
    )
  path = Path(value)
  try:
    is_file, exists = path.is_file(), path.exists()
  except OSError as error:  # The name is too long, or the folder cannot be searched.
    raise UserError(f"The architecture {path} cannot be read: {error.strerror}.") from error
  if path.suffix not in _READERS:
    if len(path.parts) > 1 or is_file:
      raise UserError(f"{path}: an architecture file ends in {' or '.join(_READERS)}.")
    return architecture_by_name(str(value))
  if not exists:
    names = ", ".join([*CATALOG, *BASELINES])
    raise UserError(f"There is no architecture file {path}. The catalogue has {names}.")
  return _READERS[path.suffix](configuration.read_text(path), str(path))


def names_a_file(value: object) -> bool:
  """Returns whether `resolve_architecture` would read a file."""
  return isinstance(value, str | PathLike) and Path(value).suffix in _READERS


_READERS = {".gin": from_gin, ".json": from_json}


@dataclasses.dataclass(frozen=True)
class _Reference:
  """`@name` or, when evaluated, `@name()`, kept as data."""

  name: str
  evaluated: bool


class _References(config_parser.ParserDelegate):
  """Keeps references as data where gin itself would look the names up."""

  def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> _Reference:
    return _Reference(scoped_configurable_name, evaluate)

  def macro(self, macro_name: str) -> None:
    raise SyntaxError(f"the macro %{macro_name} has no place in an architecture")


def _as_written(text: str) -> PyramidSpec | None:
  """Returns the pyramid of a text that is exactly as `to_gin` writes it; None of any other."""
  match = _WRITTEN.fullmatch(text)
  if match is None:
    return None
  try:
    cells = tuple(_cell(*cell) for cell in re.findall(_CELL, match[3]))
    sizes = {name: int(match[name]) for name in ("num_repeats", "num_filters") if match[name]}
    return PyramidSpec(int(match[1]), int(match[2]), cells, **sizes)
  except ValueError:
    return None  # What is wrong with it, the parser says.


@functools.lru_cache(maxsize=10_000)
def _cell(first: str, second: str, level: str, op: str) -> MergingCell:
  return MergingCell((int(first), int(second)), int(level), op)


def _cell_from_json(cell: object, index: int, where: str) -> tuple[object, object, object]:
  if not isinstance(cell, dict) or set(cell) != {"inputs", "level", "op"}:
    raise UserError(f"{where}: cell {index} must have inputs, level and op, got {cell!r}.")
  return cell["inputs"], cell["level"], cell["op"]


def _spec(fields: dict[str, Any], where: str) -> PyramidSpec:
  for name in fields:
    if name not in _FIELDS:
      raise UserError(f"{where}: a pyramid has {', '.join(_FIELDS)}, not {name!r}.")
  try:
    return PyramidSpec(**fields)
  except ValueError as error:
    raise UserError(f"{where}: {error}.") from error

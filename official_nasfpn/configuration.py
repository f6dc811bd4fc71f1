"""gin, the one configuration language: recipes are read here, and resolved configs written.

Every room describes its settings as a frozen dataclass and makes it known with
`@configurable("Name")`; recipes then bind `Name.field = value`. Values that a recipe does not bind
keep the dataclass's defaults. Instances are made by `from_bindings` alone, so building a dataclass
by hand, in a test for instance, never picks up what some recipe has bound.
"""

import dataclasses
import difflib
import pprint
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gin

from official_nasfpn.errors import UserError

_T = TypeVar("_T")
_NAMES: dict[type, str] = {}


def configurable(name: str) -> Callable[[type[_T]], type[_T]]:
  """Makes a frozen dataclass bindable in gin as `name.field = value`."""

  def register(cls: type[_T]) -> type[_T]:
    # external_configurable leaves the class itself alone: only `from_bindings` sees bindings.
    gin.external_configurable(cls, name)
    _NAMES[cls] = name
    return cls

  return register


def parse(gin_files: Sequence[str | Path] = (), gin_params: Sequence[str] = ()) -> None:
  """Replaces all bindings by those of the files, then of the single parameters, in order.

  Args:
    gin_files: recipes; an `include` in one is looked up beside that file, then from the current
      directory.
    gin_params: single bindings such as `Detector.num_filters = 64`.

  Raises:
    UserError: a file is missing, a line cannot be parsed, or a name is unknown (the message names
      the nearest known one).
  """
  gin.clear_config()
  for file in gin_files:
    path = Path(file)
    if not path.is_file():
      raise UserError(f"There is no gin file {str(path)!r}.")
    _guarded_parse(_with_includes(path), str(path))
  for param in gin_params:
    _guarded_parse(param, "--gin_param")


def from_bindings(cls: type[_T]) -> _T:
  """Returns an instance of a `@configurable` class with the current bindings.

  Raises:
    UserError: the class refuses a value.
  """
  try:
    return gin.get_configurable(_NAMES[cls])()
  except (TypeError, ValueError) as error:
    # gin adds where the binding stands after the class's own message.
    raise UserError(f"{_NAMES[cls]}: {_first_lines(error)}") from error


def to_gin(*configs: Any) -> str:
  """Returns every field of the given configs as gin text that `parse` reads back.

  Args:
    *configs: instances of `@configurable` classes. A field that holds another such instance is
      written as a reference, `@Other()`, followed by that instance's own fields.

  Raises:
    ValueError: two different instances of one class would share their bindings.
  """
  sections: dict[str, list[str]] = {}

  def write(config: Any) -> str:
    name = _NAMES[type(config)]
    lines = []
    for field in dataclasses.fields(config):
      value = getattr(config, field.name)
      lines.append(f"{name}.{field.name} = {literal(value)}")
    if sections.setdefault(name, lines) != lines:
      raise ValueError(f"two different {name} cannot stand in one gin text")
    return name

  def literal(value: Any) -> str:
    if type(value) in _NAMES:
      return f"@{write(value)}()"
    text = pprint.pformat(_plain(value), width=90, sort_dicts=False)
    return text.replace("\n", "\n  ")

  for config in configs:
    write(config)
  return "\n\n".join("\n".join(lines) for lines in sections.values()) + "\n"


def _plain(value: Any) -> Any:
  """Returns `value` with nested dataclasses that are no configurables turned into tuples."""
  if dataclasses.is_dataclass(value) and type(value) not in _NAMES:
    return dataclasses.astuple(value)
  if isinstance(value, tuple | list):
    return type(value)(_plain(item) for item in value)
  return value


def _with_includes(path: Path, seen: tuple[Path, ...] = ()) -> str:
  """Returns the text of a recipe with `include 'other.gin'` lines replaced by those files."""
  path = path.resolve()
  if path in seen:
    raise UserError(f"{path} includes itself through {seen[-1]}.")
  try:
    text = path.read_text(encoding="utf-8")
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is not a text file: {error}") from error

  def include(match: re.Match[str]) -> str:
    name = match.group(2)
    for folder in (path.parent, Path.cwd()):
      if (folder / name).is_file():
        return _with_includes(folder / name, (*seen, path))
    raise UserError(f"{path} includes {name!r}, which is neither beside it nor in {Path.cwd()}.")

  return re.sub(r"^include\s+(['\"])(.+?)\1\s*$", include, text, flags=re.MULTILINE)


def _guarded_parse(text: str, where: str) -> None:
  _refuse_imports(text, where)
  try:
    gin.parse_config(text)
  except SyntaxError as error:
    line = (error.text or "").strip()
    raise UserError(f"{where}: gin cannot parse {line or text.strip()!r}: {error.msg}.") from error
  except ValueError as error:
    raise UserError(f"{where}: {_unknown_name(str(error))}") from error


def _refuse_imports(text: str, where: str) -> None:
  # A recipe is data; gin itself would run any module that a recipe imports.
  for line in text.splitlines():
    if re.match(r"\s*(import|from)\s", line):
      raise UserError(f"{where}: {line.strip()!r}: a recipe cannot import Python modules.")


def _first_lines(error: Exception) -> str:
  message = str(error).strip()
  return re.split(r"\n\s*In call to configurable", message)[0].strip()


def _unknown_name(message: str) -> str:
  """Returns gin's complaint in one line, with the nearest known name where a name is unknown."""
  fields = {_NAMES[cls]: [f.name for f in dataclasses.fields(cls)] for cls in _NAMES}
  first = message.split("\n")[0].rstrip(".")
  if match := re.match(r"No configurable matching '(.+?)'", first):
    return f"{first}.{_nearest(match.group(1), list(fields))}"
  if match := re.match(r"Configurable '(.+?)' doesn't have a parameter named '(.+?)'", first):
    known = fields.get(match.group(1), [])
    return f"{first}.{_nearest(match.group(2), known, match.group(1) + '.')}"
  return first + "."


def _nearest(name: str, known: list[str], prefix: str = "") -> str:
  lowered = {item.lower(): item for item in known}
  match = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.0)
  return f" Did you mean {prefix}{lowered[match[0]]}?" if match else ""

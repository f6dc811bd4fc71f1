"""gin, the one configuration language: recipes are read here, and resolved configs written.

Every room describes its settings as a `@settings` dataclass and makes it known with
`@configurable("Name")`; recipes then bind `Name.field = value`. Values that a recipe does not bind
keep the dataclass's defaults. Instances are made by `from_bindings` alone, so building a dataclass
by hand, in a test for instance, never picks up what some recipe has bound.
"""

import dataclasses
import difflib
import pprint
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeVar

import gin
import pydantic
import pydantic.dataclasses
from gin import config_parser

from official_nasfpn.errors import UserError
from official_nasfpn.recipes import find_recipe

_T = TypeVar("_T")
_NAMES: dict[type, str] = {}

# Makes a class a frozen dataclass that refuses values which do not fit its annotations.
settings = pydantic.dataclasses.dataclass(
  frozen=True,
  config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True),
)


def configurable(name: str) -> Callable[[type[_T]], type[_T]]:
  """Makes a frozen dataclass bindable in gin as `name.field = value`."""

  def register(cls: type[_T]) -> type[_T]:
    # external_configurable leaves the class itself alone: only `from_bindings` sees bindings. The
    # fields are listed because gin cannot see the parameters of pydantic's classes.
    fields = [field.name for field in dataclasses.fields(cls)]
    gin.external_configurable(cls, name, allowlist=fields)
    _NAMES[cls] = name
    return cls

  return register


def parse(gin_files: Sequence[str | Path] = (), gin_params: Sequence[str] = ()) -> None:
  """Replaces all bindings by those of the files, then of the single parameters, in order.

  Args:
    gin_files: recipes, as `recipes.find_recipe` takes them; an `include` in one is looked up beside
      that file, then from the current directory.
    gin_params: single bindings such as `Detector.num_filters = 64`.

  Raises:
    UserError: a file is missing, a line cannot be parsed, a name is unknown (the message names the
      nearest known one), or a line sets nothing.
  """
  gin.clear_config()
  macros = _Macros()
  for file in gin_files:
    path = find_recipe(file)
    _guarded_parse(_with_includes(path), str(path), macros)
  for param in gin_params:
    _guarded_parse(param, "--gin_param", macros)
  macros.check()


def from_bindings(cls: type[_T]) -> _T:
  """Returns an instance of a `@configurable` class with the current bindings.

  Raises:
    UserError: the class refuses a value.
  """
  try:
    bindings = gin.get_bindings(_NAMES[cls])
  except (TypeError, ValueError, UserError) as error:
    # A class that a value refers to: gin adds where the binding stands after its own message.
    raise UserError(f"{_NAMES[cls]}: {_own_message(error)}") from error
  return build(cls, **bindings)


def build(cls: type[_T], **values: Any) -> _T:
  """Returns an instance of a `@configurable` class.

  Raises:
    UserError: the class refuses a value.
  """
  name = _NAMES[cls]
  try:
    return cls(**values)
  except pydantic.ValidationError as error:
    mistakes = (_sentence_of(name, details) for details in error.errors(include_url=False))
    raise UserError(" ".join(mistakes)) from error
  except (TypeError, ValueError, UserError) as error:
    raise UserError(f"{name}: {error}") from error


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
  """Returns `value` with paths as strings and unnamed dataclasses as tuples, as gin writes them."""
  if isinstance(value, PathLike):
    return fspath(value)
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

  return re.sub(r"^include\s+(['\"])(.+?)\1\s*(#.*)?$", include, text, flags=re.MULTILINE)


@dataclasses.dataclass
class _Macros(config_parser.ParserDelegate):
  """Which macros recipes define (`side = 256`) and which they use (`%side`)."""

  defined_in: dict[str, str] = dataclasses.field(default_factory=dict)
  used: set[str] = dataclasses.field(default_factory=set)

  def macro(self, macro_name: str) -> None:
    self.used.add(macro_name)

  def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
    pass

  def check(self) -> None:
    """Raises a `UserError` for an undefined macro, and for one that nobody uses.

    To gin `num_filters = 64` is a macro too, and without a use it changes nothing.
    """
    for name in sorted(self.used - self.defined_in.keys()):
      defined = {macro: f"%{macro}" for macro in self.defined_in}
      raise UserError(f"%{name} is not defined.{_nearest(name, defined)}")
    for name in sorted(self.defined_in.keys() - self.used):
      fields = {
        field.name: f"{_NAMES[cls]}.{field.name}"
        for cls in _NAMES
        for field in dataclasses.fields(cls)
      }
      raise UserError(f"{self.defined_in[name]}: {name!r} sets nothing.{_nearest(name, fields)}")


def _guarded_parse(text: str, where: str, macros: _Macros) -> None:
  try:
    # A recipe is data; gin itself would run any module that a recipe imports.
    for statement in config_parser.ConfigParser(text, macros):
      _refuse_unless_binding(statement, where)
      if isinstance(statement, config_parser.BindingStatement) and not statement.arg_name:
        macros.defined_in[statement.selector] = where
    gin.parse_config(text)
  except SyntaxError as error:
    line = (error.text or "").strip() or text.strip()
    raise UserError(f"{where}: gin cannot parse {line!r}: {_sentence(error.msg)}") from error
  except tokenize.TokenError as error:
    raise UserError(f"{where}: gin cannot parse it: {_sentence(error.args[0])}") from error
  except ValueError as error:
    raise UserError(f"{where}: {_unknown_name(str(error))}") from error


def _refuse_unless_binding(statement: Any, where: str) -> None:
  line = statement.location.line_content.strip()
  if isinstance(statement, config_parser.ImportStatement):
    raise UserError(f"{where}: {line!r}: a recipe cannot import Python modules.")
  if isinstance(statement, config_parser.IncludeStatement):
    raise UserError(f"{where}: {line!r}: an include stands in a recipe, on a line of its own.")
  if statement.scope:
    raise UserError(f"{where}: {line!r}: the scope {statement.scope!r} is never entered.")


def _sentence_of(name: str, details: Mapping[str, Any]) -> str:
  """Returns what pydantic says about one value, with the binding that it is about."""
  reason = details["msg"].removeprefix("Value error, ").removesuffix(".") + "."
  if not details["loc"]:
    return f"{name}: {reason}"
  field, *position = details["loc"]
  where = f"{name}.{field}" + "".join(f"[{index}]" for index in position)
  value = "" if details["type"] == "missing" else f" = {details['input']!r}"
  return f"{where}{value}: {reason[0].lower() + reason[1:]}"


def _own_message(error: Exception) -> str:
  """Returns an exception's message without the lines that gin adds to it."""
  return re.split(r"\n\s*(?:In call to configurable|No values supplied by Gin)", str(error))[0]


def _sentence(message: str) -> str:
  """Returns the last line of a message, which names the token in question, as a sentence."""
  return message.strip().split("\n")[-1].strip().rstrip(".") + "."


def _unknown_name(message: str) -> str:
  """Returns gin's complaint in one line, with the nearest known name where a name is unknown."""
  classes = {name: cls for cls, name in _NAMES.items()}
  first = _sentence(message.split("\n")[0])
  if match := re.match(r"No configurable matching (?:reference )?'@?(.+?)(?:\(\))?'", first):
    return first + _nearest(match.group(1), {name: name for name in classes})
  pattern = r"Configurable '(.+?)' doesn't (?:have a parameter named|include kwarg) '(.+?)'"
  if match := re.match(pattern, first):
    name, unknown = match.groups()
    known = dataclasses.fields(classes[name]) if name in classes else ()
    fields = {field.name: f"{name}.{field.name}" for field in known}
    return f"{name} has no setting {unknown!r}." + _nearest(unknown, fields)
  return first


def _nearest(name: str, known: Mapping[str, str]) -> str:
  """Returns a question that proposes the value in `known` whose key resembles `name` most."""
  lowered = {key.lower(): value for key, value in known.items()}
  match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.0)
  return f" Did you mean {lowered[match[0]]}?" if match else ""

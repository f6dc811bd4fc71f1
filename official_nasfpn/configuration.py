"""Reads recipes and writes resolved settings in gin, the configuration language of this package.

Every room describes its settings as a `@settings` dataclass and registers it with
`@configurable("Name")`; recipes then bind `Name.field = value`. Values that a recipe does not bind
keep the dataclass's defaults. Only `from_bindings` applies bindings: an instance that is made
directly, in a test for example, never depends on a recipe.

There are two kinds of gin text. A recipe is a file that a user names on a command line; it may
include other recipes. Text that a program has stored, where others may write too, is `Stored`: it
is data, which binds values to settings and does nothing else.
"""

import dataclasses
import os
import pprint
import re
import stat
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gin
import pydantic
import pydantic.dataclasses
from gin import config_parser

from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.recipes import find_recipe

_T = TypeVar("_T")
_NAMES: dict[type, str] = {}
# Former names of settings: {"Search.cell": "PPO.cell"}.
_MOVED: dict[str, str] = {}

# Settings files have a few thousand bytes; a much larger file would only keep the parser busy.
MAX_BYTES = 1 << 16
# Metadata of a field that `to_gin` leaves out while it is None.
LEFT_OUT_IF_NONE = {"left_out_if_none": True}
_DEEPEST_INCLUDE = 32
# Characters of a line or a value in a message.
_MOST_QUOTED = 200

if TYPE_CHECKING:
  # For type checkers: by pydantic's own types, the dataclass would not be frozen.
  from typing_extensions import dataclass_transform

  @dataclass_transform(frozen_default=True)
  def settings(cls: type[_T]) -> type[_T]: ...

else:
  # Makes a class a frozen dataclass that rejects values which do not match its annotations.
  settings = pydantic.dataclasses.dataclass(
    frozen=True,
    config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True),
  )


def configurable(
  name: str, moved: Mapping[str, str] | None = None
) -> Callable[[type[_T]], type[_T]]:
  """Makes a frozen dataclass bindable in gin as `name.field = value`.

  Args:
    name: name of the class in recipes.
    moved: former fields of the class, and the settings that replace them, `{"cell": "PPO.cell"}`.
  """

  def register(cls: type[_T]) -> type[_T]:
    def make(**values: Any) -> _T:
      # `build` raises a `UserError`: gin cannot extend the messages of pydantic's errors.
      return build(cls, **values)

    make.__name__ = name
    # external_configurable does not change the class itself: only `from_bindings` sees bindings.
    # The fields are listed because gin cannot see them.
    fields = [field.name for field in dataclasses.fields(cls)]
    gin.external_configurable(make, name, allowlist=fields)
    _NAMES[cls] = name
    _MOVED.update({f"{name}.{field}": new for field, new in (moved or {}).items()})
    return cls

  return register


def configured_name(cls: type) -> str:
  """Returns the name of a `@configurable` class in recipes."""
  return _NAMES[cls]


@dataclasses.dataclass(frozen=True)
class Stored:
  """Gin text that a program has stored. It is treated as data, because others may have changed it.

  Attributes:
    text: bindings of values to settings; includes, imports, scopes and macros are refused.
    where: name of the text in error messages, for example the path of a file.
  """

  text: str
  where: str


def read_stored(path: Path, follows_links: bool = True) -> Stored:
  """Reads a file that a program has stored.

  Args:
    path: path of the file.
    follows_links: whether it may be a symbolic link.

  Raises:
    UserError: the file cannot be read, is not text, or has more than `MAX_BYTES`.
  """
  return Stored(read_text(path, follows_links), str(path))


def read_text(path: Path, follows_links: bool = True) -> str:
  """Reads a settings file. Folders, devices and pipes are refused without waiting for them.

  Args:
    path: path of the file.
    follows_links: whether it may be a symbolic link.

  Raises:
    UserError: the file cannot be read, is not text, or has more than `MAX_BYTES`.
  """
  if path.is_symlink() and not follows_links:
    raise UserError(f"{path} is a symbolic link to another file; put a copy of that file there.")
  flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follows_links else os.O_NOFOLLOW)
  try:
    with open(os.open(path, flags), "rb") as file:
      if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise UserError(f"{path} cannot be read: it is not a file.")
      content = file.read(MAX_BYTES + 1)
    _check_size(content, str(path))
    # A recipe may come from Windows.
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
  except UnicodeDecodeError as error:
    raise UserError(f"{path} cannot be read: it is not a text file: {error}.") from error
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read: {error}.") from error


def parse(
  gin_files: Sequence[str | Path | Stored] = (),
  gin_params: Sequence[str] = (),
  checks: Mapping[str, Callable[[str, str], str]] | None = None,
) -> None:
  """Replaces all bindings by those of the files and then of the single parameters, in order.

  Args:
    gin_files: recipes, as `recipes.find_recipe` takes them, and stored texts. An `include` in a
      recipe is looked up beside that file, then by `recipes.find_recipe`.
    gin_params: single bindings such as `Detector.num_filters = 64`.
    checks: checks of files that are always stored texts, by the name of the file. A check takes the
      text and its name for messages, returns the text to bind, and raises a `UserError` if it is
      wrong.

  Raises:
    UserError: a file is missing, a line cannot be parsed, a name is unknown (the message names the
      nearest known one), a line has no effect, or a stored text does more than bind values.
  """
  gin.clear_config()
  macros = _Macros()
  for source in gin_files:
    if isinstance(source, Stored):
      _bind_stored(source)
    else:
      _bind_recipe(find_recipe(source), macros, checks or {})
  for param in gin_params:
    _bind_text(param, "--gin_param", macros, _refuse_include)
  macros.check()


def stored_bindings(stored: Stored) -> dict[str, Any]:
  """Returns the bindings of a stored text, `{"Detector.num_filters": 64}`, without applying them.

  A reference is returned as text, `"@PyramidSpec()"`. Names are not checked.

  Raises:
    UserError: the text cannot be parsed, or does more than bind values.
  """
  return {
    f"{statement.selector}.{statement.arg_name}": statement.value
    for statement in _stored_statements(stored, ReferencesAsText())
  }


def stored_from(bindings: Mapping[str, Any], where: str) -> Stored:
  """Returns a stored text of bindings as `stored_bindings` returns them."""
  lines = []
  for name, value in bindings.items():
    # `stored_bindings` gives references as text.
    text = value if isinstance(value, str) and value.startswith("@") else repr(value)
    lines.append(f"{name} = {text}\n")
  return Stored("".join(lines), where)


def read_settings(
  classes: Sequence[type],
  gin_files: Sequence[str | Path | Stored] = (),
  gin_params: Sequence[str] = (),
  checks: Mapping[str, Callable[[str, str], str]] | None = None,
) -> list[Any]:
  """Returns an instance of each class with the values that recipes bind; clears all bindings.

  Args:
    classes: `@configurable` classes.
    gin_files: recipes and stored texts, see `parse`.
    gin_params: single bindings, see `parse`.
    checks: checks of stored files, see `parse`.

  Raises:
    UserError: a recipe is wrong, see `parse`, or a class rejects a value.
  """
  try:
    parse(gin_files, gin_params, checks)
    return [from_bindings(cls) for cls in classes]
  finally:
    # Later code must not depend on the recipe that was read last.
    gin.clear_config()


def from_bindings(cls: type[_T]) -> _T:
  """Returns an instance of a `@configurable` class with the current bindings.

  Raises:
    UserError: the class rejects a value, or the bindings refer to themselves.
  """
  try:
    bindings = gin.get_bindings(_NAMES[cls])
  except UserError as error:
    # The error is about a class that a value refers to; gin adds lines to its message.
    raise UserError(_own_message(error)) from error
  except RecursionError as error:
    raise UserError(
      f"A setting of {_NAMES[cls]} refers to what it is a part of, as in `{_NAMES[cls]}.name = "
      f"@{_NAMES[cls]}()`. Give it a value."
    ) from error
  return build(cls, **bindings)


def build(cls: type[_T], **values: Any) -> _T:
  """Returns an instance of a `@configurable` class with the given values.

  Raises:
    UserError: the class rejects a value.
  """
  name = _NAMES[cls]
  try:
    return cls(**values)
  except pydantic.ValidationError as error:
    mistakes = (_sentence_of(name, details) for details in error.errors(include_url=False))
    raise UserError(" ".join(mistakes)) from error
  except (TypeError, ValueError, UserError) as error:
    raise UserError(f"{name}: {_ended(str(error))}") from error


def to_gin(*configs: Any, complete: bool = False) -> str:
  """Returns all fields of the given settings as gin text that `parse` can read.


  Args:
    *configs: instances of `@configurable` classes. A field that holds another such instance is
      written as a reference, `@Other()`, and the fields of that instance follow.
    complete: whether fields with the metadata `LEFT_OUT_IF_NONE` are written while they are None,
      for text that is bound after other text, which may have bound them.

  Raises:
    ValueError: two different instances of one class would have the same bindings.
  """
  sections: dict[str, list[str]] = {}

  def write(config: Any) -> str:
    name = _NAMES[type(config)]
    lines = []
    for field in dataclasses.fields(config):
      value = getattr(config, field.name)
      if value is None and not complete and field.metadata == LEFT_OUT_IF_NONE:
        continue
      lines.append(f"{name}.{field.name} = {literal(value)}")
    if sections.setdefault(name, lines) != lines:
      raise ValueError(f"two different {name} cannot be written to one gin text")
    return name

  def literal(value: Any) -> str:
    if type(value) in _NAMES:
      return f"@{write(value)}()"
    text = pprint.pformat(_plain(value), width=90, sort_dicts=False)
    return text.replace("\n", "\n  ")

  for config in configs:
    write(config)
  return "\n\n".join("\n".join(lines) for lines in sections.values() if lines) + "\n"


def _plain(value: Any) -> Any:
  """Returns `value` for gin text: paths become strings, dataclasses without a name tuples."""
  if isinstance(value, PathLike):
    return fspath(value)
  if dataclasses.is_dataclass(value) and type(value) not in _NAMES:
    return dataclasses.astuple(value)
  if isinstance(value, tuple | list):
    return type(value)(_plain(item) for item in value)
  return value


def statements(
  text: str, where: str, delegate: config_parser.ParserDelegate, quotes: bool = False
) -> Iterator[Any]:
  """Yields the statements of a gin text, from gin's own parser.

  Args:
    text: gin text.
    where: name of the text in error messages.
    delegate: turns references and macros into values.
    quotes: whether an error message quotes the line. Stored text must not be quoted, because it may
      be secret and the message may reach others.

  Raises:
    UserError: the text cannot be parsed.
  """
  _check_size(text.encode("utf-8", "replace"), where)
  try:
    yield from config_parser.ConfigParser(text, delegate)
  except SyntaxError as error:
    if quotes:
      line = _start((error.text or "").strip() or text.strip())
      raise UserError(f"{where}: gin cannot parse {line!r}: {_sentence(error.msg)}") from error
    line = f"line {error.lineno}: " if error.lineno else ""
    raise UserError(f"{where}: {line}gin cannot parse it: {_unquoted(error.msg)}") from error
  except tokenize.TokenError as error:
    raise UserError(f"{where}: gin cannot parse it: {_sentence(error.args[0])}") from error
  except RecursionError as error:
    raise UserError(f"{where}: gin cannot parse it: it is nested too deeply.") from error
  except ValueError as error:
    raise UserError(f"{where}: {_unknown_name(str(error))}") from error


class ReferencesAsText(config_parser.ParserDelegate):
  """Returns references as text, where gin itself would look up the names."""

  def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> str:
    return f"@{scoped_configurable_name}{'()' if evaluate else ''}"

  def macro(self, macro_name: str) -> str:
    raise SyntaxError("a macro is not allowed here")


class _References(ReferencesAsText):
  """Looks up names as gin does, but only among our own settings."""

  def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> object:
    if scoped_configurable_name not in _NAMES.values():
      # Some of gin's own configurables call functions.
      raise ValueError(f"No configurable matching reference '@{scoped_configurable_name}'")
    return gin.config.ConfigurableReference(scoped_configurable_name, evaluate)


def _stored_statements(
  stored: Stored, delegate: config_parser.ParserDelegate
) -> Iterator[config_parser.BindingStatement]:
  for statement in statements(stored.text, stored.where, delegate):
    where = f"{stored.where}: line {statement.location.line_num}: stored settings"
    if isinstance(statement, config_parser.IncludeStatement):
      raise UserError(f"{where} cannot include a file.")
    if isinstance(statement, config_parser.ImportStatement):
      raise UserError(f"{where} cannot import a module.")
    if statement.scope:
      raise UserError(f"{where} have no scopes.")
    if isinstance(statement, config_parser.BindingStatement):
      if not statement.arg_name:
        raise UserError(f"{where} define no macros.")
      yield statement


def _bind_stored(stored: Stored) -> None:
  for statement in _stored_statements(stored, _References()):
    if statement.selector not in _NAMES.values():
      known = {name: name for name in _NAMES.values()}
      raise UserError(
        f"{stored.where}: there are no settings {statement.selector!r}."
        f"{_nearest(statement.selector, known)}"
      )
    _bind(statement, stored.where)


def _bind_recipe(
  path: Path,
  macros: "_Macros",
  checks: Mapping[str, Callable[[str, str], str]],
  above: tuple[Path, ...] = (),
) -> None:
  """Applies the bindings of a recipe and of the recipes that it includes, in order."""
  real_path = path.resolve()
  if real_path in above:
    raise UserError(f"{real_path} includes itself through {above[-1]}.")
  if len(above) > _DEEPEST_INCLUDE:
    raise UserError(f"{above[0]} includes recipes more than {_DEEPEST_INCLUDE} deep.")
  text = read_text(path)
  for name in {path.name, real_path.name} & checks.keys():
    _bind_stored(Stored(checks[name](text, str(path)), str(path)))
    return

  def include(statement: config_parser.IncludeStatement) -> None:
    included = real_path.parent / statement.filename
    if not _is_file(included):
      try:
        included = find_recipe(statement.filename)
      except (UserError, OSError) as error:
        raise UserError(
          f"{real_path} includes {statement.filename!r}, which is neither beside it nor in "
          f"{Path.cwd()}, nor a recipe of this package."
        ) from error
    _bind_recipe(included, macros, checks, (*above, real_path))

  _bind_text(text, str(path), macros, include)


def _is_file(path: Path) -> bool:
  try:
    return path.is_file()
  except OSError:  # The name is too long, or the folder cannot be searched.
    return False


def _bind_text(
  text: str,
  where: str,
  macros: "_Macros",
  include: Callable[[config_parser.IncludeStatement], None],
) -> None:
  for statement in statements(text, where, macros, quotes=True):
    line = _start(statement.location.line_content.strip())
    if isinstance(statement, config_parser.IncludeStatement):
      include(statement)
    # A recipe is data; gin itself would run any module that a recipe imports.
    elif isinstance(statement, config_parser.ImportStatement):
      raise UserError(f"{where}: {line!r}: a recipe cannot import Python modules.")
    elif statement.scope:
      raise UserError(f"{where}: {line!r}: the scope {statement.scope!r} is never entered.")
    elif isinstance(statement, config_parser.BindingStatement):
      if not statement.arg_name:
        macros.defined_in[statement.selector] = where
      _bind(statement, where)


def _refuse_include(statement: config_parser.IncludeStatement) -> None:
  line = statement.location.line_content.strip()
  raise UserError(f"--gin_param: {line!r}: only a recipe file can include another.")


def _bind(statement: config_parser.BindingStatement, where: str) -> None:
  key = ("", statement.selector, statement.arg_name)
  if not statement.arg_name:
    key = (statement.selector, "gin.macro", "value")
  try:
    gin.bind_parameter(key, statement.value)
  except ValueError as error:
    raise UserError(f"{where}: {_unknown_name(str(error))}") from error


def _check_size(content: bytes, where: str) -> None:
  if len(content) > MAX_BYTES:
    raise UserError(f"{where}: it has more than {MAX_BYTES:,} bytes, too many for settings.")


@dataclasses.dataclass
class _Macros(config_parser.ParserDelegate):
  """The macros that recipes define (`side = 256`) and those that they use (`%side`)."""

  defined_in: dict[str, str] = dataclasses.field(default_factory=dict)
  used: set[str] = dataclasses.field(default_factory=set)

  def macro(self, macro_name: str) -> object:
    self.used.add(macro_name)
    return gin.config.ParserDelegate().macro(macro_name)

  def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> object:
    return gin.config.ConfigurableReference(scoped_configurable_name, evaluate)

  def check(self) -> None:
    """Raises a `UserError` for an undefined macro and for an unused one.

    To gin `num_filters = 64` is also a macro, and an unused macro has no effect.
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


def _sentence_of(name: str, details: Mapping[str, Any]) -> str:
  """Returns pydantic's message about one value as a sentence that starts with the binding."""
  reason = details["msg"].removeprefix("Value error, ").removesuffix(".") + "."
  if not details["loc"]:
    return f"{name}: {reason}"
  field, *position = details["loc"]
  where = f"{name}.{field}" + "".join(f"[{index}]" for index in position)
  value = "" if details["type"] == "missing" else f" = {_start(repr(details['input']))}"
  return f"{where}{value}: {reason[0].lower() + reason[1:]}"


def _own_message(error: Exception) -> str:
  """Returns the message of an exception without the lines that gin has added."""
  return re.split(r"\n\s*(?:In call to configurable|No values supplied by Gin)", str(error))[0]


def _sentence(message: str) -> str:
  """Returns the last line of a message, which names the wrong token, as a sentence."""
  return message.strip().split("\n")[-1].strip().rstrip(".") + "."


def _ended(message: str) -> str:
  """Returns a message with a full stop, unless it ends a sentence already."""
  return message if message.endswith((".", "?", "!")) else f"{message}."


def _start(text: str) -> str:
  """Returns the start of a text that is quoted in a message."""
  return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."


def _unquoted(message: str) -> str:
  """Returns the message of gin's parser as a sentence that does not quote the parsed text."""
  sentence = _sentence(message)
  if sentence.startswith("Failed to parse token"):
    return "A value is not a literal."
  return _sentence(sentence.partition("Got ")[0])


def _unknown_name(message: str) -> str:
  """Returns gin's message in one line, with the nearest known name if a name is unknown."""
  classes = {name: cls for cls, name in _NAMES.items()}
  first = _sentence(message.split("\n")[0])
  if match := re.match(r"No configurable matching (?:reference )?'@?(.+?)(?:\(\))?'", first):
    return first + _nearest(match.group(1), {name: name for name in classes})
  pattern = r"Configurable '(.+?)' doesn't (?:have a parameter named|include kwarg) '(.+?)'"
  if match := re.match(pattern, first):
    name, unknown = match.groups()
    if new := _MOVED.get(f"{name}.{unknown}"):
      return f"{name} no longer has a setting {unknown!r}: it is {new} now."
    known = dataclasses.fields(classes[name]) if name in classes else ()
    fields = {field.name: f"{name}.{field.name}" for field in known}
    return f"{name} has no setting {unknown!r}." + _nearest(unknown, fields)
  return first


def _nearest(name: str, known: Mapping[str, str]) -> str:
  """Returns a question that suggests the value in `known` whose key is most similar to `name`."""
  return f" Did you mean {known[nearest_name(name, known)]}?" if known else ""

"""Every setting that a recipe may bind, from the classes that check them; needs no TensorFlow.

nasfpn settings > docs/settings.md
"""

import dataclasses
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from official_nasfpn.architecture import BASELINES
from official_nasfpn.configuration import configured_name
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.search.algorithms.algorithms import ALGORITHMS

# By module, so that nothing is imported before it is listed.
TRAINING = (
  ("official_nasfpn.modeling.config", "DetectorConfig"),
  ("official_nasfpn.data.config", "InputConfig"),
  ("official_nasfpn.training.config", "TrainingConfig"),
  ("official_nasfpn.architecture", "PyramidSpec"),
  *(("official_nasfpn.architecture.baselines", type(each).__name__) for each in BASELINES.values()),
)
SEARCH = (
  ("official_nasfpn.search.config", "SearchConfig"),
  *((cls.__module__, cls.__name__) for cls in ALGORITHMS),
  ("official_nasfpn.architecture", "SearchSpace"),
  ("official_nasfpn.search.proxy.config", "ProxyConfig"),
  ("official_nasfpn.search.proxy.reward", "RewardConfig"),
  ("official_nasfpn.search.proxy.config", "LatencyConfig"),
)
_COLUMNS = 100
_HEAD = """\
# Settings

<!-- Written by `nasfpn settings > docs/settings.md`; do not edit. -->

What a recipe or `--gin_param` may bind, as `Training.epochs = 20`. `nasfpn train --list_settings`
and `nasfpn search --list_settings` print the same. What does not fit is refused in one sentence.
"""

# A class, as its module and its name.
Place = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Setting:
  """One line of a recipe.

  Attributes:
    name: as recipes write it, `Training.epochs`.
    type: the allowed values, in words.
    default: the default value, as gin writes it.
    meaning: its description in the class docstring.
  """

  name: str
  type: str
  default: str
  meaning: str


@dataclasses.dataclass(frozen=True)
class Group:
  """The settings of one class.

  Attributes:
    name: the name of the class in recipes.
    summary: the first line of the class docstring.
    settings: its settings, in order.
  """

  name: str
  summary: str
  settings: tuple[Setting, ...]


def groups(places: Sequence[Place]) -> Iterator[Group]:
  """Yields the settings of each of some classes, such as `TRAINING`."""
  for module, class_name in places:
    yield _group(getattr(importlib.import_module(module), class_name))


def as_text(places: Sequence[Place]) -> str:
  """Returns the settings of some classes for a terminal."""
  lines = []
  for group in groups(places):
    lines += ["", f"{group.name}: {group.summary}"]
    for setting in group.settings:
      lines.append(f"  {setting.name} = {setting.default}  ({setting.type})")
      lines += textwrap.wrap(
        setting.meaning, _COLUMNS, initial_indent=" " * 6, subsequent_indent=" " * 6
      )
  return "\n".join(lines[1:])


def as_markdown() -> str:
  """Returns all settings as a page of the documentation."""
  lines = [_HEAD]
  for group in groups((*TRAINING, *SEARCH)):
    lines += [f"## {group.name}", "", group.summary, "", "| setting | type | default | meaning |"]
    lines.append("|---|---|---|---|")
    for setting in group.settings:
      cells = (f"`{setting.name}`", setting.type, f"`{setting.default}`", setting.meaning)
      lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines.append("")
  return "\n".join(lines).rstrip("\n")


def _group(cls: type) -> Group:
  name = configured_name(cls)
  hints = typing.get_type_hints(cls, include_extras=True)
  docstring = inspect.getdoc(cls)
  meanings = _meanings(docstring)
  settings = tuple(
    Setting(
      f"{name}.{field.name}",
      _type_in_words(hints[field.name]),
      _as_gin(field.default),
      meanings[field.name],
    )
    for field in dataclasses.fields(cls)
  )
  return Group(name, docstring.splitlines()[0], settings)


def _as_gin(value: Any) -> str:
  return f"@{configured_name(type(value))}()" if dataclasses.is_dataclass(value) else repr(value)


def _meanings(docstring: str) -> dict[str, str]:
  """Reads the section `Attributes` of a docstring, as {name: text in one line}."""
  _, _, section = docstring.partition("\nAttributes:\n")
  section = textwrap.dedent(section)
  entries = re.split(r"^(\w+): ", section, flags=re.MULTILINE)[1:]
  return {
    name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)
  }


def _type_in_words(hint: Any) -> str:
  """Returns an annotation in words: `int > 0`, `'step' or 'cosine'`."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    limits = [limit for marker in arguments[1:] for limit in _limits(marker)]
    return f"{_type_in_words(arguments[0])} {' and '.join(limits)}".strip()
  if origin is typing.Literal:
    return " or ".join(map(repr, arguments))
  if origin in (typing.Union, types.UnionType):
    return " or ".join(map(_type_in_words, arguments))
  if origin is tuple:
    if arguments[-1] is Ellipsis:
      return f"tuple of ({_type_in_words(arguments[0])})"
    return f"({', '.join(map(_type_in_words, arguments))})"
  return "None" if hint is type(None) else hint.__name__


def _limits(marker: Any) -> list[str]:
  """Returns the limits of a pydantic annotation in words, such as `> 0`."""
  # A Field holds the markers of its limits.
  if inner := getattr(marker, "metadata", None):
    return [limit for each in inner for limit in _limits(each)]
  signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
  found = [
    f"{sign} {getattr(marker, name):g}" for name, sign in signs.items() if hasattr(marker, name)
  ]
  return [*found, "not empty"] if getattr(marker, "min_length", 0) else found


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  print(as_markdown())


if __name__ == "__main__":
  run_program(main)

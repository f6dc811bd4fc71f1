"""Writes docs/api/: for each public module a page of the names in its `__all__`.

Signatures are those of the source, as they stand there; docstrings become Markdown by pdoc.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pdoc import docstrings

FOLDER = Path(__file__).parents[1] / "docs" / "api"
# A name that is added to the `__all__` of one of these has its place on the module's page.
MODULES = ("official_nasfpn", "official_nasfpn.architecture", "official_nasfpn.benchmark")


def page(module_name: str) -> str:
  """Returns the page of a module as Markdown."""
  module = importlib.import_module(module_name)
  parts = [f"# {module_name}", _markdown(module.__doc__)]
  for name in getattr(module, "__all__", ()):
    parts += [f"## {name}", *_entry(name, getattr(module, name))]
  return "\n\n".join(filter(None, parts)) + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
  """Yields what a page says of a class, a function or a constant."""
  if not (inspect.isclass(value) or inspect.isfunction(value)):
    yield _constant(value)
    return
  source = textwrap.dedent(inspect.getsource(value))
  definition = ast.parse(source).body[0]
  yield _header(definition, source)
  yield _markdown(ast.get_docstring(definition))
  for method in definition.body if isinstance(definition, ast.ClassDef) else ():
    if isinstance(method, ast.FunctionDef) and _is_public(method.name):
      yield f"### {name}.{method.name}"
      yield _header(method, source)
      yield _markdown(ast.get_docstring(method))


def _is_public(name: str) -> bool:
  return name == "__init__" or not name.startswith("_")


def _header(definition: ast.stmt, source: str) -> str:
  """Returns a definition down to its body; of a class its fields, too."""
  lines = source.splitlines()
  is_class = isinstance(definition, ast.ClassDef)
  # The decorators of a method say how it is called, those of a class how it is made.
  decorators = [] if is_class else definition.decorator_list
  first = min([definition.lineno, *(decorator.lineno for decorator in decorators)])
  header = lines[first - 1 : definition.body[0].lineno - 1]
  if is_class:
    for field in definition.body:
      if isinstance(field, ast.AnnAssign) and _is_public(field.target.id):
        header += lines[field.lineno - 1 : field.end_lineno]
  return "```python\n" + textwrap.dedent("\n".join(header)) + "\n```"


def _constant(value: Any) -> str:
  """Returns the names in a table, or a value, in which classes go without their modules."""
  if isinstance(value, Mapping):
    return f"A table of {', '.join(f'`{name}`' for name in value)}."
  return "`" + re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", repr(value)) + "`"


def _markdown(docstring: str | None) -> str:
  text = docstrings.google(inspect.cleandoc(docstring or ""))
  # Sections get no place in the page's outline.
  text = re.sub(r"^#{6} (.*)", r"**\1**\n", text, flags=re.MULTILINE)
  return re.sub(r"\n{3,}", "\n\n", text).strip()


def main() -> None:
  """Writes all pages, and no others are left."""
  pages = {f"{module}.md": page(module) for module in MODULES}
  FOLDER.mkdir(exist_ok=True)
  for path in FOLDER.glob("*.md"):
    path.unlink()
  for name, text in pages.items():
    (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()

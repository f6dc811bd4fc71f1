"""HTML and SVG put together from parts, of which every text is escaped."""

import html

# Stands where there is no value.
NOTHING = "—"

# Elements without a content of their own.
_VOID = {"meta", "br", "hr"}


class Markup(str):
  """A text that is markup already, and is not escaped again."""


def element(name: str, *children: object, **attributes: object) -> Markup:
  """Returns an element.

  Args:
    name: of the element.
    *children: markup, or anything else, whose text is escaped. None is left out.
    **attributes: by name, with `_` for `-`, and one at the end where Python has a word of that
      name. None is left out, and True stands for an attribute without a value.
  """
  written = "".join(
    f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(value)}"')
    for key, value in attributes.items()
    if value is not None
  )
  if name in _VOID:
    return Markup(f"<{name}{written}>")
  return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: object) -> Markup:
  """Returns parts one after the other; those that are no markup are escaped, None is left out."""
  return Markup(
    "".join(
      part if isinstance(part, Markup) else _escaped(part) for part in parts if part is not None
    )
  )


def _escaped(value: object) -> str:
  return html.escape(str(value))

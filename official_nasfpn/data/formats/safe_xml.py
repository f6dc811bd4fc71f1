"""XML of strangers: nothing in it is expanded and nothing loaded."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from xml.parsers import expat

from official_nasfpn.data.json_numbers import number
from official_nasfpn.errors import UserError

_CHUNK = 1 << 16


def parse_xml(path: Path) -> ElementTree.Element:
  """Parses an XML file.

  A declaration of an entity, with which a few lines become gigabytes or other files are read in, is
  refused. No annotation tool writes one.

  Raises:
    UserError: it is no XML, cannot be read, or declares entities.
  """
  builder = ElementTree.TreeBuilder()
  parser = expat.ParserCreate()
  parser.buffer_text = True
  parser.StartElementHandler = builder.start
  parser.EndElementHandler = builder.end
  parser.CharacterDataHandler = builder.data

  def refuse(name: str, *_: Any) -> None:
    raise UserError(f"{path} declares the XML entity {name!r}, which no annotation needs.")

  parser.EntityDeclHandler = refuse
  try:
    with path.open("rb") as file:
      while chunk := file.read(_CHUNK):
        parser.Parse(chunk, False)
    parser.Parse(b"", True)
    return builder.close()
  except OSError as error:
    raise UserError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
  # Names of unknown encodings are a LookupError.
  except (expat.ExpatError, LookupError, ValueError) as error:
    raise UserError(f"{path} is not XML: {error}.") from error


def number_in(element: ElementTree.Element | None, tag: str) -> float | None:
  """Returns the finite number in a child element; None if there is none."""
  return number(element.findtext(tag)) if element is not None else None

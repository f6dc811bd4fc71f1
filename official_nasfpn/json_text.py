"""JSON that anybody may have written."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
  """Returns the value of a JSON text.

  Raises:
    ValueError: it is no JSON, or is nested more deeply than can be read, for which `json.loads` has
      an error that nobody thinks of.
  """
  try:
    return json.loads(text)
  except RecursionError:
    raise ValueError("lists or objects are nested too deeply") from None

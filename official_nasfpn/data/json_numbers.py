"""Numbers of JSON files, however they are spelt: 128, 128.0, "128", " 1.28e2 "."""

import math
import re
from decimal import Decimal
from typing import Any

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?\s*", re.ASCII | re.IGNORECASE)
# Python's own limit is on the digits of an int.
_LONGEST = 1000
# Larger floats stand for several whole numbers each.
_LARGEST_EXACT_FLOAT = 2.0**53


def number(value: Any) -> float | None:
  """Returns a finite number; None for whatever is none, true and false among them."""
  if isinstance(value, str):
    value = float(value) if _is_number(value) else None
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  try:
    found = float(value)
  except OverflowError:
    return None
  return found if math.isfinite(found) else None


def whole_number(value: Any) -> int | None:
  """Returns a whole number of at most 64 bits; None for whatever is none, or not exactly one."""
  if isinstance(value, str):
    exact = Decimal(value.strip()) if _is_number(value) else None
    if exact is None or exact.copy_abs() > 2**63 or exact != exact.to_integral_value():
      return None
    value = int(exact)
  if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT_FLOAT:
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
    return None
  return value


def _is_number(text: str) -> bool:
  return len(text) <= _LONGEST and _NUMBER.fullmatch(text) is not None

"""Names in files that others have made, fit to be stored."""

import unicodedata

# Control characters, line and paragraph separators, halves of a pair, which UTF-8 does not have.
_UNPRINTABLE = frozenset(("Cc", "Zl", "Zp", "Cs"))


def clean_name(text: str) -> str:
  """Returns a name without line breaks, control characters and halves of pairs.

  Spaces take their place, one for any number of them.
  """
  return " ".join("".join(" " if _is_unprintable(letter) else letter for letter in text).split())


def is_text(text: str) -> bool:
  """Returns whether UTF-8 has all characters of a text; it has no half of a surrogate pair."""
  return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_unprintable(letter: str) -> bool:
  return unicodedata.category(letter) in _UNPRINTABLE

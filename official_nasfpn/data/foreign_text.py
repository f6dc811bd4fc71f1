"""Text of files that others have made, fit to be printed, drawn and stored."""

import unicodedata

# Control characters, line and paragraph separators, halves of a pair, which UTF-8 does not have.
_UNPRINTABLE = frozenset(("Cc", "Zl", "Zp", "Cs"))
_LONGEST = 200


def one_line(text: str) -> str:
  """Returns a text with its unprintable characters as escapes, and cut where it is very long."""
  if len(text) > _LONGEST:
    text = f"{text[:_LONGEST]}..."
  if text.isprintable():
    return text
  return "".join(_escape(letter) if _is_unprintable(letter) else letter for letter in text)


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


def _escape(letter: str) -> str:
  return letter.encode("unicode_escape").decode("ascii")

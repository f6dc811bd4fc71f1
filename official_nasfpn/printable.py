"""Texts of strangers on terminals, pictures and pages: control characters are shown, not obeyed.

Names of classes, comments, file names and reasons of failures may be anybody's. On a terminal they
could move the cursor, change colours, or fake lines; some letters turn the text around.
"""

import contextlib
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

# What joins letters and pictures in many scripts.
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def printable(text: str, keep: str = "\n\t") -> str:
  r"""Returns a text in which what cannot be shown, or turns the text around, is an escape: `\x1b`.

  Args:
    text: any.
    keep: characters that stay as they are.
  """
  if text.isprintable():
    return text
  keep += _JOINERS
  return "".join(
    _escape(letter) if letter not in keep and unicodedata.category(letter) in _HIDDEN else letter
    for letter in text
  )


def one_line(text: str) -> str:
  r"""Returns a text as `printable` does, in which new lines and tabs are escapes, too: `\n`."""
  return printable(text, keep="")


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
  """Makes whatever is printed to standard output within the block `printable`."""
  former = sys.stdout
  sys.stdout = _Printable(former)
  try:
    yield
  finally:
    sys.stdout = former


class _Printable:
  """A text stream before another one."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str) -> int:
    # A bar on standard output goes back to the start of its line.
    return self._stream.write(printable(text, keep="\n\t\r"))

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def _escape(letter: str) -> str:
  return letter.encode("unicode_escape").decode()

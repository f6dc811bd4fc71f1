"""Fonts that have the letters of a text, in whatever script it is."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from official_nasfpn.printable import one_line
from official_nasfpn.progress import say

# Characters of a text that are drawn.
_LONGEST = 200
# It comes with matplotlib and knows Greek, Cyrillic and Arabic letters; Pillow's own does not.
_USUAL = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")


def font_for(texts: Iterable[str], size: int) -> ImageFont.FreeTypeFont:
  """Returns a font of this machine that has all letters of some texts, or else the usual one.

  Args:
    texts: to be drawn.
    size: in pixels.
  """
  letters = frozenset(itertools.chain(*texts))
  path = _USUAL if _letters_of(_USUAL) >= letters else _font_with(letters) or _USUAL
  return _load(path, size)


def drawable(text: str, font: ImageFont.FreeTypeFont | None = None) -> str:
  """Returns a text in one line, with escapes for the letters that a font does not have.

  That letters are missing is said on standard error, once in a process.

  Args:
    text: any.
    font: of `font_for`; None stands for the usual one, which matplotlib has, too.
  """
  text = one_line(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
  known = _letters_of(Path(font.path) if font else _USUAL)
  if known.issuperset(text):
    return text
  escaped = "".join(
    letter if letter in known else letter.encode("unicode_escape").decode() for letter in text
  )
  _say_missing("".join(letter for letter in dict.fromkeys(text) if letter not in known))
  return escaped


def _say_missing(letters: str) -> None:
  if next(_first_time(), False):
    say(
      f"no font of this machine has {letters!r}: pictures show {letters!a}, and so with other "
      "letters that are missing. A font that has them, such as one of Noto's, is taken where one "
      "is installed"
    )


@functools.cache
def _first_time() -> Iterator[bool]:
  """Returns the iterator of this process, which gives a single True."""
  return iter([True])


@functools.cache
def _font_with(letters: frozenset[str]) -> Path | None:
  """Returns the first font of the system that has all letters, and outlines of any size."""
  paths = sorted(map(Path, font_manager.findSystemFonts()), key=_preference)
  return next((path for path in paths if _letters_of(path) >= letters), None)


def _preference(path: Path) -> tuple[bool, bool, str]:
  return "Sans" not in path.stem, "Bold" not in path.stem, str(path)


@functools.cache
def _letters_of(path: Path) -> frozenset[str]:
  """Returns the letters that can be drawn with a font; none where it cannot be loaded."""
  try:
    _load(path, 20)
    return frozenset(map(chr, FT2Font(str(path)).get_charmap()))
  # Pillow draws outlines alone: fonts of coloured bitmaps have one size.
  except (OSError, RuntimeError, ValueError):
    return frozenset()


@functools.cache
def _load(path: Path, size: int) -> ImageFont.FreeTypeFont:
  return ImageFont.truetype(str(path), size)

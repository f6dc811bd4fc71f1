"""Letters of every script in pictures: with a font that has them, or as escapes."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image, ImageFont

from official_nasfpn.data import fonts
from official_nasfpn.data.drawing import draw_boxes, side_by_side, titled_rows
from official_nasfpn.data.fonts import drawable, font_for


@pytest.fixture(autouse=True)
def _forgets():
  """No test hears of what another one has found or said."""
  caches = (fonts._font_with, fonts._letters_of, fonts._first_time)
  for cache in caches:
    cache.cache_clear()
  yield
  for cache in caches:
    cache.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
  """Returns a function that makes a font the system's only one; all of its glyphs are squares."""

  def make(letters):
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    pen = TTGlyphPen(None)
    for point in ((100, 0), (100, 700), (800, 700), (800, 0)):
      (pen.lineTo if pen.points else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "Squares.ttf")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "Squares.ttf")])

  return make


@pytest.fixture
def no_fonts(monkeypatch):
  monkeypatch.setattr(font_manager, "findSystemFonts", list)


def test_the_usual_font_has_latin_greek_cyrillic_and_arabic(no_fonts, capsys):
  for text in ("cat 0.93", "Straße", "γάτα", "кошка", "قطة"):
    font = font_for([text], 20)
    assert str(font.path).endswith("DejaVuSans-Bold.ttf")
    assert drawable(text, font) == text
  assert not capsys.readouterr().err


def test_a_font_of_the_system_that_has_the_letters_is_taken(install, capsys):
  install("猫犬 0.93")
  font = font_for(["猫 0.93", "犬"], 20)
  assert str(font.path).endswith("Squares.ttf")
  assert drawable("猫 0.93", font) == "猫 0.93"
  assert not capsys.readouterr().err


def test_without_a_font_names_are_escapes_and_that_is_said_once(no_fonts, capsys):
  names = ["猫", "👩‍🚀", "cat"]
  font = font_for(names, 20)
  assert [drawable(name, font) for name in names] == [
    r"\u732b",
    "\\U0001f469\u200d\\U0001f680",
    "cat",
  ]
  said = capsys.readouterr().err
  assert len(said.splitlines()) == 1
  assert r"no font of this machine has '猫': pictures show '\u732b'" in said


def test_a_broken_font_is_not_taken(no_fonts, tmp_path, monkeypatch):
  (tmp_path / "Sans.ttf").write_bytes(b"no font")
  monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "Sans.ttf")])
  assert drawable("猫", font_for(["猫"], 20)) == r"\u732b"


@pytest.mark.parametrize("name", ["cat\n", "a\rb", "猫", "👩‍🚀", "\ud800", "\x00", "", "🐈" * 300])
def test_any_name_can_be_drawn(no_fonts, name):
  image = Image.new("RGB", (700, 500))
  drawn = draw_boxes(image, np.array([[300, 100, 400, 250]]), [0], [name])
  assert drawn.size == image.size
  assert side_by_side([(name, image)]).width > 700
  assert titled_rows([(name, [(name, image)])]).width > 700


def test_names_of_the_system_font_are_in_the_picture(install):
  install("猫")
  image = Image.new("RGB", (700, 500))
  picture = np.asarray(draw_boxes(image, np.array([[300, 100, 400, 250]]), [0], ["猫"]))
  # The glyph is a square of white in its label.
  white = (picture == 255).all(-1)
  rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
  assert white[rows[0] : rows[-1], columns[0] : columns[-1]].mean() > 0.9
  assert isinstance(font_for(["猫"], 20), ImageFont.FreeTypeFont)

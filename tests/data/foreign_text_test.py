"""Names that would break a line, a terminal or a file."""

import pytest

from official_nasfpn.data.foreign_text import clean_name, is_text, one_line


@pytest.mark.parametrize(
  ("text", "line"),
  [
    ("a.jpg", "a.jpg"),
    ("猫 👩‍🚀", "猫 👩‍🚀"),
    ("a\nb\x1b[2J", "a\\nb\\x1b[2J"),
    ("\ud83d", "\\ud83d"),
    ("x" * 300, "x" * 200 + "..."),
  ],
)
def test_one_line_shows_what_cannot_be_printed(text, line):
  assert one_line(text) == line
  assert line.encode()


def test_clean_names_have_single_spaces():
  assert clean_name("\tblack\r\n \x00 cat\u2029") == "black cat"
  assert clean_name("\ud800\n") == ""


def test_half_a_pair_is_no_text():
  assert is_text("👩‍🚀")
  assert not is_text("a\udcff.jpg")

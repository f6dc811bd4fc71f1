"""Names that would break a line, a terminal or a file."""

from official_nasfpn.data.foreign_text import clean_name, is_text


def test_clean_names_have_single_spaces():
  assert clean_name("\tblack\r\n \x00 cat\u2029") == "black cat"
  assert clean_name("\ud800\n") == ""


def test_half_a_pair_is_no_text():
  assert is_text("👩‍🚀")
  assert not is_text("a\udcff.jpg")

"""JSON of strangers has one kind of error."""

import pytest

from official_nasfpn.json_text import parse_json


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, b"[" * 100_000])
def test_deep_nesting_is_no_json(text):
  with pytest.raises(ValueError, match="nested too deeply"):
    parse_json(text)


@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_beyond_any_float_is_no_json(sign):
  with pytest.raises(ValueError, match="a number has 400 digits"):
    parse_json(f'{{"width": {sign}1{"0" * (399 - len(sign))}}}')
  assert parse_json(f"{sign}1{'0' * 306}") == int(f"{sign}1{'0' * 306}")


def test_what_is_no_json_is_said_as_json_says_it():
  with pytest.raises(ValueError, match="Expecting value: line 1"):
    parse_json("x")
  assert parse_json('{"a": [1]}') == {"a": [1]}

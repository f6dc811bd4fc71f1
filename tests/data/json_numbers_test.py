"""Numbers in every spelling, and what is none."""

import pytest

from official_nasfpn.data.json_numbers import number, whole_number


@pytest.mark.parametrize("value", [128, 128.0, "128", "128.0", " +128 ", "1.28e2", "12800E-2"])
def test_a_number_is_one_however_it_is_spelt(value):
  assert number(value) == 128.0
  assert whole_number(value) == 128
  assert isinstance(whole_number(value), int)


@pytest.mark.parametrize(
  "value",
  [
    None,
    True,
    False,
    "",
    " ",
    "x",
    "1,5",
    "1_000",
    "0x10",
    "nan",
    "inf",
    "\uff11\uff12",
    "1e",
    "--1",
    [1],
  ],
)
def test_whatever_is_no_number_is_none(value):
  assert number(value) is None
  assert whole_number(value) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "1e400", "9" * 5000])
def test_what_is_not_finite_is_none(value):
  assert number(value) is None
  assert whole_number(value) is None


@pytest.mark.parametrize("value", [0.5, "0.5", 2**63, str(2**63), "1e999999999", "1e-999999999"])
def test_what_is_not_whole_or_has_more_than_64_bits_is_none(value):
  assert whole_number(value) is None


def test_large_numbers_are_exact():
  for value in (2**63 - 1, -(2**63), 2**53 + 1):
    assert whole_number(value) == whole_number(str(value)) == whole_number(f"{value}.0") == value
  assert whole_number(2.0**53) == 2**53
  # This float is what 2**53 + 3 and its neighbours become, too.
  assert whole_number(2.0**53 + 4) is None

"""The table of trained architectures: read, written, refused."""

import dataclasses

import pytest

from official_nasfpn.benchmark.table import TABLE, missing_in_words, read_table, table_text
from official_nasfpn.errors import UserError
from tests.benchmark.drawn_tables import drawn_table, recorded


def test_a_table_is_read_as_it_was_written(tmp_path):
  path, table = tmp_path / "table.csv", drawn_table(5)
  path.write_text(table_text(table))
  assert read_table(path) == table


def test_the_recorded_benchmark_is_whole():
  table = read_table()
  assert table_text(table) == TABLE.read_text()
  assert len(table) >= 300
  assert all(0 <= entry.reward <= 1 for entry in table)


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("search_seed,", "seed,", "must begin with the line"),
    (",0.350000,", ",good,", "line 3: could not convert string to float"),
    (",0.350000,", ",nan,", "line 3: the reward nan is not finite"),
    (",0.350000,", ",", "line 3: .*Remove the line"),
    ("FIRST_CHOICES", "9 9 9", "line 2: 28 choices make a pyramid, got 3"),
    ("SECOND_HASH", "0123456789abcdef", "line 3: the choices are those of architecture"),
    ("SECOND_LINE", "FIRST_LINE", "line 3: the same architecture is already in line 2"),
  ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, old, new, message):
  table = [recorded(0, 0.25), recorded(1, 0.35)]
  text = table_text(table)
  names = {
    "FIRST_CHOICES": " ".join(map(str, table[0].choices)),
    "SECOND_HASH": table[1].architecture_hash,
    "FIRST_LINE": text.splitlines()[1],
    "SECOND_LINE": text.splitlines()[2],
  }
  path = tmp_path / "table.csv"
  path.write_text(text.replace(names.get(old, old), names.get(new, new), 1))
  with pytest.raises(UserError, match=message):
    read_table(path)


def test_a_missing_table_is_said(tmp_path):
  with pytest.raises(UserError, match="There is no table"):
    read_table(tmp_path / "none.csv")


def with_optional(table):
  """Adds a learning curve to the first, and seconds to the second of two."""
  curve = ((0.25, 0.101), (0.5, 0.1875), (1.0, 0.25))
  return [
    dataclasses.replace(table[0], curve=curve),
    dataclasses.replace(table[1], seconds=131.25),
  ]


def test_curves_and_seconds_are_read_where_a_table_has_them(tmp_path):
  plain = [recorded(0, 0.25), recorded(1, 0.35)]
  table = with_optional(plain)
  path = tmp_path / "table.csv"
  path.write_text(table_text(table))
  assert path.read_text().splitlines()[0].endswith(",choices,curve,seconds")
  assert ",0.25:0.101000 0.5:0.187500 1:0.250000,\n" in path.read_text()
  assert read_table(path) == table
  # One column alone, too.
  path.write_text(table_text([plain[0], table[1]]))
  assert path.read_text().splitlines()[0].endswith(",choices,seconds")
  assert read_table(path) == [plain[0], table[1]]


def test_what_a_table_has_not_is_said():
  plain = [recorded(0, 0.25), recorded(1, 0.35)]
  assert missing_in_words(plain) == "The table has no learning curves and no seconds of trainings."
  assert missing_in_words(with_optional(plain)) == (
    "The table has learning curves of 1 only and seconds of trainings of 1 only."
  )
  curve = with_optional(plain)[0].curve
  whole = [dataclasses.replace(entry, curve=curve, seconds=1.0) for entry in plain]
  assert missing_in_words(whole) is None


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("curve,seconds", "curve,minutes", "perhaps with curve and seconds behind"),
    ("131.25", "0", "line 3: a training cannot take 0 seconds"),
    ("131.25", "inf", "line 3: the number of seconds inf is not finite"),
    ("0.25:0.101000", "0.101", "line 2: a curve is written SHARE:AP SHARE:AP, and has '0.101'"),
    ("1:0.250000", "1.5:0.25", "line 2: the shares of a curve must rise within 0 and 1"),
    ("0.5:0.187500", "0.2:0.2", "line 2: the shares of a curve must rise within 0 and 1"),
    ("0.5:0.187500", "0.5:nan", "line 2: the AP nan is not finite"),
  ],
)
def test_what_is_wrong_with_curves_and_seconds_is_said(tmp_path, old, new, message):
  text = table_text(with_optional([recorded(0, 0.25), recorded(1, 0.35)]))
  assert old in text
  path = tmp_path / "table.csv"
  path.write_text(text.replace(old, new, 1))
  with pytest.raises(UserError, match=message):
    read_table(path)

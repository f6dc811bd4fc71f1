"""Durations in words."""

import pytest

from official_nasfpn.progress import duration


@pytest.mark.parametrize(
  ("seconds", "text"),
  [
    (0, "0 s"),
    (0.052, "0.052 s"),
    (3.44, "3.4 s"),
    (25.4, "25 s"),
    (59.4, "59 s"),
    (59.6, "1.0 min"),
    (90, "1.5 min"),
    (9.94 * 60, "9.9 min"),
    (9.96 * 60, "10 min"),
    (59.4 * 60, "59 min"),
    (59.6 * 60, "1 h 0 min"),
    (12_000, "3 h 20 min"),
    (47.9 * 3600, "47 h 54 min"),
    (50.4 * 3600, "2.1 days"),
    (1200 * 86400, "1,200.0 days"),
  ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds, text):
  assert duration(seconds) == text

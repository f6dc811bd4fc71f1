"""The analysis of the study on searching, on made AP."""

import pytest

from benchmarks import searched_and_known as study
from benchmarks.searched_and_known import Candidate


def _found():
  """Returns two searches by one algorithm, two baselines, and two architectures drawn at random."""
  return {
    Candidate("FPN", None, 1, "fpn", "fpn"): (0.40, 0.42),
    Candidate("NAS-FPN", None, 1, "nas_fpn", "nas_fpn"): (0.45, 0.47),
    Candidate("evolution", 0, 1, "a", "...", 0.30): (0.50, 0.54),
    Candidate("evolution", 0, 2, "b", "...", 0.29): (0.44,),
    Candidate("evolution", 1, 1, "c", "...", 0.31): (0.55, 0.57),
    Candidate("evolution", 1, 2, "d", "...", 0.28): (),
    Candidate(study.NOT_CHOSEN, 0, 0, "e", "...", 0.27): (0.38,),
    Candidate(study.NOT_CHOSEN, 0, 0, "f", "...", 0.25): (0.42,),
  }


def test_a_search_counts_once_however_often_its_best_is_trained():
  assert study.groups_of(_found()) == {
    "FPN": [0.40, 0.42],
    "NAS-FPN": [0.45, 0.47],
    "evolution": [0.52, 0.56],
    study.NOT_CHOSEN: [0.38, 0.42],
  }


def test_the_interval_is_that_of_welch():
  # Welch by hand: variances 0.0008 and 0.0002 of two each, so a standard error of sqrt(0.0005) and
  # 0.0005^2 / (0.0004^2 + 0.0001^2) = 1.4706 degrees of freedom; their t at 97.5 % is 6.1881.
  gain = study.gain([0.52, 0.56], [0.45, 0.47])
  assert gain.mean == pytest.approx(0.08)
  assert gain.high - gain.mean == pytest.approx(6.1881 * 0.0005**0.5, rel=1e-3)
  assert gain.mean - gain.low == pytest.approx(gain.high - gain.mean)


def test_searches_that_found_the_same_have_an_interval():
  gain = study.gain([0.5, 0.5, 0.5], [0.45, 0.47])
  assert gain.mean == pytest.approx(0.04)
  assert gain.low < gain.mean < gain.high


def test_the_table_has_what_is_there():
  lines = study.table(_found()).splitlines()
  (evolution,) = [line for line in lines if line.startswith("| evolution")]
  assert evolution.startswith("| evolution | 0.540 | 0.520 0.560 | +0.130 (")
  # The first training of each finalist that has one.
  assert evolution.endswith("| 0.497 |")
  assert "Reward and AP of 5 architectures: Kendall's tau 0.80" in lines[-1]


def test_the_picture_is_drawn(tmp_path):
  study.draw(_found(), tmp_path / "pays.png")
  assert (tmp_path / "pays.png").stat().st_size > 5000


def test_results_are_read_back():
  assert study.from_json(study.to_json(_found())) == _found()


@pytest.mark.parametrize("text", ["[", "[3]", '[{"AP": 3}]', '[{"AP": [0.5], "group": "FPN"}]'])
def test_something_else_is_no_result(text):
  with pytest.raises((ValueError, KeyError, TypeError)):
    study.from_json(text)

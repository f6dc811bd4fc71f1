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


def test_trainings_are_paired_by_their_seed():
  # Differences 0.01 0.03 / 0.05 0.07: searches vary by 0.04 and seeds by 0.02, so the variances of
  # two are 0.0008 / 2 and 0.0002 / 2, and 0.0005^2 / (0.0004^2 + 0.0001^2) = 1.4706 degrees of
  # freedom; their t at 97.5 % is 6.1881.
  gain = study.gain([(0.46, 0.58), (0.50, 0.62)], (0.45, 0.55))
  assert gain.mean == pytest.approx(0.04)
  assert gain.high - gain.mean == pytest.approx(6.1881 * 0.0005**0.5, rel=1e-3)
  assert gain.mean - gain.low == pytest.approx(gain.high - gain.mean)


def test_one_architecture_over_another_is_the_paired_t():
  # Differences 0.01, 0.02, 0.03: a standard error of 0.01 / sqrt(3), and t of 4.3027.
  gain = study.gain([(0.41, 0.52, 0.63)], (0.40, 0.50, 0.60))
  assert gain.mean == pytest.approx(0.02)
  assert gain.high == pytest.approx(0.02 + 4.3027 * 0.01 / 3**0.5, rel=1e-3)


def test_a_seed_that_one_side_lacks_is_not_paired():
  whole = study.gain([(0.46, 0.58), (0.50, 0.62)], (0.45, 0.55))
  assert study.gain([(0.46, 0.58, 0.9), (0.50, 0.62)], (0.45, 0.55, 0.1)) == whole


def test_of_one_seed_the_interval_is_that_of_welch():
  # Variances 0.0008 and 0.0002 of two each: as above.
  gain = study.gain([(0.52,), (0.56,)], (0.45, 0.47))
  assert gain.mean == pytest.approx(0.08)
  assert gain.high - gain.mean == pytest.approx(6.1881 * 0.0005**0.5, rel=1e-3)


def test_equal_differences_have_an_interval():
  gain = study.gain([(0.5,), (0.5,), (0.5,)], (0.45, 0.47))
  assert gain.mean == pytest.approx(0.04)
  assert gain.low < gain.mean < gain.high
  assert study.gain([(0.5, 0.5)], (0.25, 0.25)) == study.Gain(0.25, 0.25, 0.25)


def test_a_single_training_has_no_interval():
  assert study.gain([(0.5,)], (0.45, 0.47)) is None
  assert study.gain([(0.5, 0.6)], (0.45,)) is None


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

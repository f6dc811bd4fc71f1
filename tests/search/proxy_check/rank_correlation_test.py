"""Rank correlations against published and closed-form numbers."""

import numpy as np
import pytest
from scipy import stats

from official_nasfpn.search.proxy_check.rank_correlation import kendall, spearman


def test_correlations_without_ties_follow_their_definitions():
  rng = np.random.default_rng(3)
  x = rng.normal(size=25)
  y = x + rng.normal(size=25)
  rank_difference = stats.rankdata(x) - stats.rankdata(y)
  assert spearman(x, y).value == pytest.approx(
    1 - 6 * (rank_difference**2).sum() / (25 * (25**2 - 1))
  )
  signs = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
  assert kendall(x, y).value == pytest.approx(signs.sum() / (25 * 24))


def test_intervals_are_those_of_efrons_bootstrap():
  rng = np.random.default_rng(4)
  x = rng.normal(size=12)
  y = x + rng.normal(size=12)
  found = spearman(x, y)
  # The percentile bootstrap written out (Efron 1979): pairs are drawn with replacement.
  rng = np.random.default_rng(5)
  drawn = [rng.integers(12, size=12) for _ in range(2000)]
  low, high = np.percentile([stats.spearmanr(x[i], y[i]).statistic for i in drawn], [2.5, 97.5])
  assert (found.low, found.high) == pytest.approx((low, high), abs=0.04)
  assert found == spearman(x, y)  # The same seed, the same interval.
  assert found != spearman(x, y, seed=1)


def test_few_pairs_have_an_interval_too():
  found = kendall([1, 2, 3], [1, 3, 2])
  assert -1 <= found.low <= found.value <= found.high <= 1
  assert found.num_pairs == 3


@pytest.mark.parametrize("values", [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3])])
def test_no_correlation_without_differences(values):
  with pytest.raises(ValueError, match="three pairs"):
    spearman(*values)

"""Random search samples the space uniformly and returns the log-probabilities."""

import math
from collections import Counter

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.random_search import RandomSearch

SPACE = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0)


def test_every_architecture_is_equally_likely():
  search = RandomSearch().make(SPACE, seed=0)
  counts = Counter(proposal.choices for proposal in search.propose(1, 50 * SPACE.size))
  assert len(counts) == SPACE.size
  assert max(abs(count - 50) for count in counts.values()) < 5 * math.sqrt(50)


def test_log_probabilities_are_those_of_the_space():
  for proposal in RandomSearch().make(SearchSpace(), seed=0).propose(1, 5):
    assert sum(proposal.log_probs) == pytest.approx(-math.log(SearchSpace().size))
    assert len(proposal.log_probs) == len(proposal.choices) == len(SearchSpace().decisions)


def test_proposals_depend_on_seed_and_update_alone():
  search = RandomSearch().make(SPACE, seed=0)
  assert search.propose(2, 9) == RandomSearch().make(SPACE, seed=0).propose(2, 9)
  assert search.propose(2, 9) != search.propose(3, 9)
  assert search.propose(2, 9) != RandomSearch().make(SPACE, seed=1).propose(2, 9)

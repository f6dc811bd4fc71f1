"""Simulated searches: what they return, noise, late rewards, virtual time."""

import random

import pytest

from benchmarks.closed_form_rewards import smooth
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.simulated_search import search
from official_nasfpn.search.algorithms.algorithm import Proposal
from official_nasfpn.search.algorithms.random_search import RandomSearch

SPACE = SearchSpace()


def smooth_of(specs):
  return [smooth(spec) for spec in specs]


class Repeating:
  """Proposes the same few architectures again and again, and records the outcomes."""

  def __init__(self, num_different: int):
    self.learnt: list[tuple[int, int]] = []
    self._all = [SPACE.encode(SPACE.sample(random.Random(i))) for i in range(num_different)]
    self._update = 0

  def propose(self, update, count):
    self._update = update
    return [
      Proposal(self._all[(update * count + i) % len(self._all)], (0.0,) * 28) for i in range(count)
    ]

  def learn(self, update, outcomes):
    self.learnt.append((update, self._update))
    return {}


def run(algorithm, **settings):
  settings = {"num_trained": 40, "trials_per_update": 10, "seed": 0, **settings}
  return search(algorithm, SPACE, smooth_of, **settings)


def test_a_repeated_architecture_costs_nothing_and_a_search_of_repeats_ends():
  of_few = run(Repeating(7))
  assert of_few.num_trained == 7
  assert len(of_few.sampled) == 80
  of_random = run(RandomSearch().make(SPACE, 0))
  assert of_random.num_trained == len(of_random.sampled) == 40


def test_without_noise_the_best_is_returned():
  result = run(RandomSearch().make(SPACE, 0))
  assert list(result.returned) == sorted(result.returned)
  assert result.returned[-1] == result.best == max(result.sampled)


def test_noise_changes_what_is_returned_but_not_its_true_reward():
  exact, noisy = run(RandomSearch().make(SPACE, 0)), run(RandomSearch().make(SPACE, 0), noise=10.0)
  assert noisy.sampled == exact.sampled
  assert noisy.best == exact.best
  assert noisy.returned[-1] in exact.sampled
  assert noisy.returned != exact.returned
  assert run(RandomSearch().make(SPACE, 0), noise=10.0) == noisy


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_rewards_arrive_late_and_in_order(delay):
  algorithm = Repeating(1000)
  run(algorithm, delay=delay)
  assert algorithm.learnt == [(update, update + delay) for update in range(1, 5 - delay)]


class Watching(Repeating):
  """Records in which order updates were proposed and learnt, and of how many trials."""

  def __init__(self, num_different: int):
    super().__init__(num_different)
    self.calls: list[str] = []

  def propose(self, update, count):
    self.calls.append(f"propose {update}")
    return super().propose(update, count)

  def learn(self, update, outcomes):
    self.calls.append(f"learn {update} of {len(outcomes)}")
    return {}


def hours_of(num_workers, trial_hours=1.0, **settings):
  algorithm = Repeating(1000)
  return run(
    algorithm,
    num_workers=num_workers,
    trial_seconds=lambda spec: 3600 * trial_hours,
    **settings,
  ).hours


@pytest.mark.parametrize(("num_workers", "rounds"), [(1, 40), (4, 12), (5, 8), (10, 4)])
def test_workers_share_the_trials_of_an_update_and_wait_for_the_last(num_workers, rounds):
  """Ten trials an update: four workers need three rounds for each of the four updates."""
  assert hours_of(num_workers)[-1] == rounds
  assert hours_of(num_workers, 0.5)[-1] == rounds / 2


def test_the_hours_of_a_search_are_when_each_architecture_was_trained():
  assert hours_of(5) == tuple(1.0 + n // 5 for n in range(40))
  # Repeated architectures cost nothing.
  assert run(Repeating(7), num_workers=1).hours == (1, 2, 3, 4, 5, 6, 7)


def test_workers_without_a_place_in_an_update_get_the_next_one():
  """With 20 workers two updates are trained at once, and a third waits for a free worker."""
  assert hours_of(20)[-1] == 2.0
  algorithm = Watching(1000)
  run(algorithm, num_workers=20)
  proposed = [f"propose {update}" for update in (1, 2, 3)]
  assert algorithm.calls[:4] == [*proposed, "learn 1 of 10"]
  assert algorithm.calls[-1] == "learn 4 of 10"
  few = Watching(1000)
  run(few, num_workers=10)
  assert few.calls[:4] == ["propose 1", "learn 1 of 10", "propose 2", "learn 2 of 10"]


def test_a_slow_trial_is_learnt_from_when_it_ends():
  """With a worker for each trial in flight the quick ones do not wait for the slow one."""
  seconds = {}

  def first_is_slow(spec):
    return seconds.setdefault(spec, 36000.0 if not seconds else 3600.0)

  slow_first = run(Repeating(1000), num_workers=20, trial_seconds=first_is_slow)
  assert slow_first.hours[-1] <= 10
  assert list(slow_first.hours) == sorted(slow_first.hours)
  assert slow_first.hours[:19] == (1.0,) * 19


def test_a_search_that_may_train_fewer_is_the_beginning_of_a_longer_one():
  longer = run(RandomSearch().make(SPACE, 0), noise=0.1)
  shorter = run(RandomSearch().make(SPACE, 0), noise=0.1, num_trained=25)
  assert shorter.returned == longer.returned[:25]
  assert shorter.hours == longer.hours[:25]


def test_trained_architectures_are_counted_on_the_way():
  counted = []
  run(Repeating(7), on_trained=counted.append)
  assert counted == [7]
  counted.clear()
  run(Repeating(1000), num_trained=25, on_trained=counted.append)
  assert counted == [10, 10, 5]


def test_the_number_of_trials_to_a_reward():
  result = run(RandomSearch().make(SPACE, 0))
  assert result.trials_to(0.0) == 1
  assert result.trials_to(result.best) == result.returned.index(result.best) + 1
  assert result.trials_to(1.1) is None

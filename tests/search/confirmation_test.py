"""The best architectures of a search, trained again with other seeds and ranked by the mean."""

import contextlib
import random
import re
import statistics
from pathlib import Path

import pytest

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec, SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.confirmation import largest_number_of_confirmations
from official_nasfpn.search.loop import SearchLoop
from official_nasfpn.search.recipe import check_continues, read_recipe
from official_nasfpn.search.search import Search
from official_nasfpn.search.store.trial import Trial
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.evaluation import Evaluation, TrialFailed
from tests.search.one_process import search_in_one_process
from tests.search.workers.closed_form_worker import closed_form_reward, noisy_reward

SPACE = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=1)
NOISE = 0.3


def config(**settings) -> SearchConfig:
  return SearchConfig(
    **{
      "algorithm": RandomSearch(),
      "num_trials": 12,
      "trials_per_update": 4,
      "confirm_top": 3,
      "confirm_seeds": 2,
      **settings,
    }
  )


@contextlib.contextmanager
def opened(search_dir: Path):
  search_dir.mkdir(parents=True, exist_ok=True)
  store = TrialStore(storage.database_path(search_dir))
  try:
    store.create()
    yield store
  finally:
    store.close()


def spec_of(trial: Trial) -> PyramidSpec:
  return architecture.from_gin(trial.architecture)


def reward_of(spec: PyramidSpec, seed_offset: int) -> float:
  # Above 0: what found nothing is not confirmed.
  return 2 + noisy_reward(spec, seed_offset, NOISE)


def noisy(trial: Trial) -> float:
  return reward_of(spec_of(trial), trial.seed_offset)


def searched(store: TrialStore, settings: SearchConfig, search_dir: Path, reward=noisy, count=None):
  """Works as loop and worker, to the end or until `count` rewards; returns whether it is over."""
  loop = SearchLoop(settings, SPACE, search_dir, store)
  while not loop.is_over(loop.step()):
    trial = store.claim("worker")
    if count == 0:
      return False
    count = None if count is None else count - 1
    store.report_reward(trial.number, trial.attempt, reward(trial))
  return True


def outcomes(store: TrialStore) -> list[tuple]:
  """Returns what does not depend on time and on interruptions, of trials and confirmations."""
  return [
    (t.number, t.confirms, t.seed_offset, t.architecture, t.reward, t.further_rewards, t.learnt_in)
    for t in (*store.trials(), *store.confirmations())
  ]


def test_what_is_returned_is_truly_better_on_average(tmp_path):
  lucky, confirmed, gaps = [], [], []
  for seed in range(12):
    with opened(tmp_path / str(seed)) as store:
      settings = config(seed=seed, num_trials=40, trials_per_update=40, confirm_top=8)
      searched(store, settings, tmp_path / str(seed))
      (first,) = store.greatest_rewards(1, lambda trial: True)
      (best,) = store.best(1)
    lucky.append(2 + closed_form_reward(spec_of(first)))
    confirmed.append(2 + closed_form_reward(spec_of(best)))
    gaps.append((first.reward - lucky[-1], best.mean_reward - confirmed[-1]))
  gain = [after - before for before, after in zip(lucky, confirmed, strict=True)]
  assert statistics.fmean(gain) > 2 * statistics.stdev(gain) / len(gain) ** 0.5
  # And what is said of it is nearer to the truth.
  too_good, after = map(statistics.fmean, zip(*gaps, strict=True))
  assert too_good > 0.3
  assert after < too_good / 1.5


@pytest.mark.parametrize("algorithm", [RandomSearch(), Evolution(population_size=4)])
def test_the_algorithm_does_not_learn_from_confirmations(algorithm, tmp_path):
  rows = []
  for name, top in (("without", 0), ("with", 3)):
    with opened(tmp_path / name) as store:
      settings = config(algorithm=algorithm, confirm_top=top)
      searched(store, settings, tmp_path / name)
      rows.append([(t.choices, t.reward, t.learnt_in) for t in store.trials()])
      confirmations = store.confirmations()
      assert store.counts().learnt == store.counts().sampled == 12
  assert rows[0] == rows[1]
  assert [(t.learnt_in, t.reused_from, t.state) for t in confirmations] == [
    (None, None, "done")
  ] * 6
  assert [t.number for t in confirmations] == [*range(13, 19)]


def test_each_of_the_best_gets_its_seeds_one_seed_after_the_other(tmp_path):
  with opened(tmp_path) as store:
    searched(store, config(), tmp_path)
    best = store.greatest_rewards(3, lambda trial: True)
    confirmations = store.confirmations()
    assert [(t.confirms, t.seed_offset) for t in confirmations] == [
      (trial.number, offset) for offset in (1, 2) for trial in best
    ]
    by_number = {trial.number: trial for trial in store.trials()}
  for one in confirmations:
    assert one.architecture_hash == by_number[one.confirms].architecture_hash
    text = (storage.trial_dir(tmp_path, one.number) / "architecture.gin").read_text()
    assert text == one.architecture
    assert text.startswith(
      f"# Search {tmp_path.name}, trial {one.number}: trial {one.confirms} again, with "
      f"Training.seed + {one.seed_offset}.\n"
    )
    assert spec_of(one) == spec_of(by_number[one.confirms])


def test_confirmed_ones_come_first_by_the_mean_of_all_their_seeds(tmp_path):
  with opened(tmp_path) as store:
    searched(store, config(), tmp_path)
    trials, ranking = store.trials(), store.best(12)
  confirmed, others = ranking[:3], ranking[3:]
  assert all(len(trial.rewards) == 3 for trial in confirmed)
  assert not any(trial.further_rewards for trial in others)
  for trial in confirmed:
    of_seeds = [reward_of(spec_of(trial), offset) for offset in (0, 1, 2)]
    assert [*trial.rewards] == of_seeds
    assert trial.mean_reward == pytest.approx(statistics.fmean(of_seeds))
    assert trial.deviation == pytest.approx(statistics.stdev(of_seeds))
  for group in (confirmed, others):
    means = [trial.mean_reward for trial in group]
    assert means == sorted(means, reverse=True)
  assert {trial.number for trial in ranking} <= {trial.number for trial in trials}


def test_a_search_that_is_killed_anywhere_ends_as_if_it_had_not_been(tmp_path):
  with opened(tmp_path / "whole") as store:
    searched(store, config(), tmp_path / "whole")
    expected = outcomes(store)
  for count in (1, 2, 5):
    with opened(tmp_path / str(count) / "whole") as store:
      starts = 1
      while not searched(store, config(), tmp_path / str(count) / "whole", count=count):
        store.release("worker", "killed", is_death=False)
        starts += 1
      assert starts > 3
      assert outcomes(store) == expected


@pytest.mark.parametrize(
  ("further", "added"),
  [
    ({"confirm_top": 5}, 4),
    ({"confirm_seeds": 4}, 6),
    ({"confirm_top": 1}, 0),
    ({"confirm_top": 0}, 0),
  ],
)
def test_more_may_be_confirmed_later(further, added, tmp_path):
  with opened(tmp_path) as store:
    searched(store, config(), tmp_path)
    before = outcomes(store)
    searched(store, config(**further), tmp_path)
    after = store.confirmations()
    assert len(after) == 6 + added
    # What was confirmed before counts, and is not repeated.
    numbers = {row[0] for row in before}
    assert [row[:5] for row in outcomes(store) if row[0] in numbers] == [row[:5] for row in before]
    assert len({(t.confirms, t.seed_offset) for t in after}) == len(after)


def test_more_trials_later_get_numbers_and_confirmations_of_their_own(tmp_path):
  with opened(tmp_path) as store:
    searched(store, config(num_trials=4), tmp_path)
    first = {trial.confirms for trial in store.confirmations()}
    searched(store, config(num_trials=24), tmp_path)
    trials, confirmations = store.trials(), store.confirmations()
    best = {trial.number for trial in store.greatest_rewards(3, lambda trial: True)}
  assert [t.number for t in trials] == [1, 2, 3, 4, *range(11, 31)]
  # The same seeds give the same trials, whatever their numbers.
  with opened(tmp_path / "at once") as store:
    searched(store, config(num_trials=24), tmp_path / "at once")
    assert [t.choices for t in store.trials()] == [t.choices for t in trials]
  assert {t.confirms for t in confirmations} == first | best
  assert not best <= first
  assert len(confirmations) == 2 * len(first | best)


def test_there_may_be_fewer_than_are_to_be_confirmed(tmp_path):
  settings = config(num_trials=6, trials_per_update=3, confirm_top=50)
  with opened(tmp_path) as store:
    assert SearchLoop(settings, SPACE, tmp_path, store).num_trainings(store.counts()) == 6 + 12
    searched(store, settings, tmp_path)
    unique = {trial.architecture_hash for trial in store.trials()}
    assert len(store.confirmations()) == 2 * len(unique)
    assert {len(trial.rewards) for trial in store.best(50)} == {3}
    counts = store.counts()
    total = SearchLoop(settings, SPACE, tmp_path, store).num_trainings(counts)
    assert total == 6 + counts.confirmations


def test_an_architecture_that_comes_again_is_confirmed_once(tmp_path):
  space = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0)
  with opened(tmp_path) as store:
    loop = SearchLoop(config(num_trials=40, confirm_top=40), space, tmp_path, store)
    while not loop.is_over(loop.step()):
      trial = store.claim("worker")
      store.report_reward(trial.number, trial.attempt, noisy(trial))
    counts = store.counts()
    assert counts.reused > 0
    assert counts.confirmations == 2 * counts.unique
    assert {t.state for t in store.trials() if t.further_rewards} == {"done"}


def test_more_than_a_database_can_count_to_is_all(tmp_path):
  many = 2**70
  with opened(tmp_path) as store:
    searched(store, config(trials_per_update=many, confirm_top=many), tmp_path)
    counts, ranking = store.counts(), store.best(many)
    assert (counts.learnt, counts.confirmations) == (12, 2 * counts.done)
    assert ranking == store.best(12) == list(store.overview(many).best)
    assert len(ranking) == counts.done > 1
  with pytest.raises(UserError, match=f"there is no rank {many}; {counts.done} trials have"):
    Search(tmp_path).best(many)


def test_what_found_nothing_is_not_confirmed(tmp_path):
  with opened(tmp_path) as store:
    searched(store, config(), tmp_path, reward=lambda trial: 0.0)
    assert store.confirmations() == []


def test_what_was_stopped_early_is_not_confirmed(tmp_path):
  with opened(tmp_path) as store:
    loop = SearchLoop(config(), SPACE, tmp_path, store)
    while not loop.is_over(loop.step()):
      trial = store.claim("worker")
      stopped = {"stopped_at": 0.5} if trial.number <= 10 else {}
      store.report_reward(trial.number, trial.attempt, noisy(trial), stopped)
    assert {trial.confirms for trial in store.confirmations()} == {11, 12}


class TestWithWorkers:
  """In `run_search`, with the package's worker."""

  @pytest.fixture
  def recipe(self):
    return read_recipe(
      gin_params=[
        "Search.algorithm = @RandomSearch()",
        "Search.num_trials = 6",
        "Search.trials_per_update = 3",
        "Search.confirm_top = 2",
        "Search.confirm_seeds = 2",
        "SearchSpace.max_level = 4",
        "Input.data_dir = 'nowhere'",
      ]
    )

  def test_a_worker_trains_with_the_seed_of_the_confirmation(self, recipe, tmp_path, capsys):
    seeds = []

    def evaluate(spec, trial_dir, progress, seed_offset=0):
      seeds.append((trial_dir.name, seed_offset))
      assert not progress.is_hopeless(0.5, 0.0)
      return Evaluation(reward_of(spec, seed_offset))

    trials = search_in_one_process(recipe, tmp_path, evaluate)
    assert [offset for _, offset in seeds[-4:]] == [1, 1, 2, 2]
    assert [name for name, _ in seeds[-4:]] == [f"{number:06d}" for number in range(7, 11)]
    assert [offset for _, offset in seeds[:-4]] == [0] * (len(seeds) - 4)
    assert sum(len(trial.further_rewards) == 2 for trial in trials) == 2
    output = capsys.readouterr()
    assert "the best 2 of them are trained again with other seeds: 4 trainings." in output.err
    assert re.search(r"10/10 \[", output.err)
    assert re.search(r"trial 7 \(confirms trial \d\), attempt 1: reward", output.out)

  def test_a_failed_confirmation_is_left_out(self, recipe, tmp_path):
    def evaluate(spec, trial_dir, progress, seed_offset=0):
      if trial_dir.name == "000008":
        raise TrialFailed("the loss became NaN", diverged=True)
      return Evaluation(reward_of(spec, seed_offset))

    search_in_one_process(recipe, tmp_path, evaluate)
    with opened(tmp_path) as store:
      best, second, third = store.best(3)
      overview = store.overview(3)
    assert sorted(len(trial.rewards) for trial in (best, second)) == [2, 3]
    assert len(third.rewards) == 1
    assert [trial.number for trial in overview.failed_confirmations] == [8]
    assert overview.failed == 0


class TestSettings:
  @pytest.mark.parametrize(
    ("params", "message"),
    [
      (["Search.confirm_top = -1"], r"Search.confirm_top = -1: .*greater than or equal to 0"),
      (["Search.confirm_seeds = -1"], r"Search.confirm_seeds = -1: .*greater than or equal to 0"),
      (["Search.confirm_top = 1.5"], r"Search.confirm_top = 1.5: .* integer"),
      (
        ["Search.confirm_top = 3", "Search.confirm_seeds = 0"],
        r"confirm_top = 3 with confirm_seeds = 0 would train nothing again: set confirm_seeds to 1",
      ),
    ],
  )
  def test_nonsense_is_refused(self, params, message):
    with pytest.raises(UserError, match=message):
      read_recipe(gin_params=params)

  def test_without_confirmations_their_seeds_do_not_matter(self):
    read_recipe(gin_params=["Search.confirm_seeds = 0"])

  def test_they_may_change_when_a_search_is_continued(self):
    there = read_recipe()
    now = read_recipe(gin_params=["Search.confirm_top = 5", "Search.confirm_seeds = 1"])
    check_continues(there, now, "there", "--search_dir")
    check_continues(now, there, "there", "--search_dir")
    # So a worker that runs goes on.
    assert there.version == now.version

  def test_how_many_there_are_at_most(self):
    rng = random.Random(0)
    for _ in range(20):
      top, seeds, num_trials = rng.randint(0, 9), rng.randint(1, 9), rng.randint(1, 9)
      settings = config(num_trials=num_trials, confirm_top=top, confirm_seeds=seeds)
      assert largest_number_of_confirmations(settings) == min(top, num_trials) * seeds

"""The rule that stops hopeless trials."""

import functools
import random

import pytest

from official_nasfpn.architecture import SearchSpace, canonical_hash, to_gin
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.search.workers.early_stopping import is_hopeless
from official_nasfpn.search.workers.evaluation import Evaluation
from official_nasfpn.search.workers.trial_worker import run_worker

OTHERS = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(("value", "stops"), [(0.29, True), (0.3, False), (0.31, False)])
def test_below_the_median_it_stops(value, stops):
  assert is_hopeless(value, OTHERS, 0.5, min_others=5) == stops


def test_a_third_goes_on():
  # Of six trials, the worst four stop: the quantile 2/3 is between the fourth and the fifth.
  others = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
  assert [is_hopeless(value, others, 2 / 3, 1) for value in others] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
  ("quantile", "min_others", "others"), [(0.0, 1, OTHERS), (0.5, 6, OTHERS), (0.5, 0, [])]
)
def test_when_none_stops(quantile, min_others, others):
  assert not is_hopeless(-1.0, others, quantile, min_others)


def test_as_trials_come_the_best_half_goes_on():
  rng = random.Random(0)
  values = [rng.random() for _ in range(400)]
  kept = [
    value
    for index, value in enumerate(values)
    if not is_hopeless(value, values[:index], 0.5, min_others=10)
  ]
  assert max(values) in kept
  # The first ten trials, and half of the others.
  assert len(kept) == pytest.approx(10 + 390 / 2, abs=30)


def work(store, work_dir, evaluate, num_trials):
  """Runs a worker under the median rule, which needs three others."""
  run_worker(
    store,
    work_dir,
    evaluate,
    "worker-0",
    recipe_version="1",
    trials_per_worker=num_trials,
    is_hopeless=functools.partial(is_hopeless, quantile=0.5, min_others=3),
  )


def test_a_worker_stops_what_others_have_left_behind(tmp_path):
  values = [0.4, 0.5, 0.6, 0.1, 0.7, 0.3, 0.65]
  store = TrialStore(tmp_path / "search.db")
  store.create()
  store.begin("", "1", code_fingerprint())
  rng = random.Random(0)
  for number in range(1, len(values) + 1):
    spec = SearchSpace().sample(rng)
    store.propose([NewTrial(number, 1, (), (), canonical_hash(spec), to_gin(spec))])

  def evaluate(spec, trial_dir, progress, seed_offset=0):
    value = values[int(trial_dir.name) - 1]
    if progress.is_hopeless(0.5, value / 2):
      return Evaluation(value / 2, {"AP": value / 2, "stopped_at": 0.5})
    return Evaluation(value, {"AP": value})

  work(store, tmp_path, evaluate, len(values))
  trials = store.trials()
  store.close()
  # The fourth and the sixth are below the median of all earlier trials.
  assert [trial.number for trial in trials if "stopped_at" in trial.metrics] == [4, 6]
  assert [trial.reward for trial in trials] == [0.4, 0.5, 0.6, 0.05, 0.7, 0.15, 0.65]


def test_a_confirmation_is_neither_stopped_nor_compared_with(tmp_path):
  store = TrialStore(tmp_path / "search.db")
  store.create()
  store.begin("", "1", code_fingerprint())
  rng = random.Random(0)
  specs = [SearchSpace().sample(rng) for _ in range(4)]
  texts = [(canonical_hash(spec), to_gin(spec)) for spec in specs]
  store.propose([NewTrial(n, 1, (), (), *text) for n, text in enumerate(texts[:3], start=1)])
  store.propose([NewTrial(4, 1, (), (), *texts[0], confirms=1, seed_offset=1)])
  store.propose([NewTrial(5, 1, (), (), *texts[3])])
  values = [0.4, 0.5, 0.6, 0.1, 0.2]

  def evaluate(spec, trial_dir, progress, seed_offset=0):
    value = values[int(trial_dir.name) - 1]
    return Evaluation(0.0 if progress.is_hopeless(0.5, value) else value)

  work(store, tmp_path, evaluate, 5)
  assert [trial.reward for trial in store.trials()] == [0.4, 0.5, 0.6, 0.0]
  assert store.trials()[0].further_rewards == (0.1,)
  assert store.measure(5, 1, 0.5, 0.2) == [0.4, 0.5, 0.6]
  store.close()

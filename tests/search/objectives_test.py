"""Searches with several objectives: what recipes may ask for, what is learnt, and budgets."""

import json
import math
import random
import sys

import pytest

from official_nasfpn.architecture import SearchSpace, from_gin
from official_nasfpn.configuration import configurable
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.front import hypervolume, non_dominated
from official_nasfpn.search.loop import SearchLoop, begun_store
from official_nasfpn.search.objectives import OBJECTIVES, parse_budget, point_of
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.found import found_architecture
from official_nasfpn.search.report.results import write_results
from tests.search.one_process import search_in_one_process

SPACE = SearchSpace(min_level=3, max_level=5, num_intermediate_cells=1)


@pytest.fixture(name="short_recipe")
def _short_recipe(request):
  """Returns the path of the recipe of short trials; `recipe` is a function here."""
  return request.getfixturevalue("recipe")


EVOLVES = "Search.algorithm = @Evolution()"


def recipe(*bindings: str):
  return read_recipe(gin_params=bindings)


@pytest.mark.parametrize(
  ("bindings", "message"),
  [
    (["Search.objectives = ('latency',)"], "has no 'AP'"),
    (["Search.objectives = ('AP', 'AP')"], "twice"),
    (["Search.objectives = ('AP', 'energy')"], "objectives"),
    (
      [
        "Search.objectives = ('AP', 'latency')",
        EVOLVES,
        "Reward.cost = 'latency'",
        "Reward.target = 20",
      ],
      "Reward.cost = 'latency' weighs AP and cost",
    ),
    (
      ["Search.objectives = ('AP', 'latency')", EVOLVES, "Search.early_stopping_quantile = 0.5"],
      "cheap end of the front",
    ),
    (
      ["Search.objectives = ('AP', 'latency')", EVOLVES, "Search.confirm_top = 3"],
      "not a front; set confirm_top to 0",
    ),
    (["Latency.threads = 2"], "TF_NUM_INTRAOP_THREADS"),
    (["Latency.runtime = 'tensorrt'"], "runtime"),
  ],
)
def test_what_excludes_each_other_is_refused_in_one_sentence(bindings, message):
  with pytest.raises(UserError, match=message) as refusal:
    recipe(*bindings)
  assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["parameters", "file_size"])
def test_an_objective_in_which_all_are_equal_is_refused_before_the_data_is_read(name):
  with pytest.raises(UserError, match=f"'{name}', but all architectures"):
    proxy_task.resolved(recipe(EVOLVES, f"Search.objectives = ('AP', '{name}')"))


def test_a_runtime_that_is_missing_is_said_by_controller_and_worker(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  aims = recipe(EVOLVES, "Search.objectives = ('AP', 'latency')", "Latency.runtime = 'onnxruntime'")
  for start in (proxy_task.resolved, lambda aims: proxy_task.make_evaluate(aims, tmp_path)):
    with pytest.raises(UserError, match=r"pip install 'official-nasfpn\[onnx\]'.*'tensorflow'"):
      start(aims)


def test_it_goes_round_in_gin_and_an_old_recipe_has_the_reward_alone():
  both = recipe(EVOLVES, "Search.objectives = ('AP', 'latency')", "Latency.runtime = 'litert'")
  assert recipe(both.to_gin()) == both
  assert both.costs == {"latency"}
  assert recipe().search.objectives == ("AP",)
  assert recipe().costs == frozenset()
  assert recipe("Reward.cost = 'multiply_adds'", "Reward.target = 1e9").costs == {"multiply_adds"}


@pytest.mark.parametrize(
  ("text", "name", "limit"),
  [
    ("20ms", "latency", 20.0),
    ("0.5s", "latency", 500.0),
    ("150M", "multiply_adds", 150e6),
    ("4.1M", "multiply_adds", 4_100_000),
    ("1.5G", "multiply_adds", 1.5e9),
    ("2.5Mparams", "parameters", 2.5e6),
    ("900kB", "file_size", 9e5),
  ],
)
def test_budgets(text, name, limit):
  budget = parse_budget(text)
  # Exactly: what has just as many multiply-adds is within.
  assert (budget.objective.name, budget.limit) == (name, limit)


@pytest.mark.parametrize("text", ["", "20", "ms", "-3ms", "0ms", "20 ms", "20ml", "1e3M"])
def test_what_is_no_budget_is_said_with_examples(text):
  with pytest.raises(UserError, match="@20ms"):
    parse_budget(text)


def test_costs_count_as_their_negatives_and_what_is_missing_makes_no_point():
  metrics = {"AP": 0.3, "latency_ms": 12.5, "multiply_adds": True}
  assert point_of(metrics, ("AP", "latency")) == (0.3, -12.5)
  assert point_of(metrics, ("latency", "AP")) == (-12.5, 0.3)
  assert point_of(metrics, ("AP", "multiply_adds")) is None
  assert point_of({"AP": math.nan}, ("AP",)) is None
  assert OBJECTIVES["multiply_adds"].text(191.25e6) == "191.2 M"


def test_an_algorithm_that_learns_from_one_reward_is_refused():
  class OneReward(Evolution):
    takes_objectives = False

  with pytest.raises(ValueError, match=r"learns from one reward alone: write .* @Evolution\(\)"):
    SearchConfig(algorithm=configurable("OneReward")(OneReward)(), objectives=("AP", "latency"))


def trade_off(choices) -> tuple[float, float]:
  """Returns two objectives of which an architecture can have one: pooling cells, and summing."""
  cells = SPACE.decode(choices).cells
  pooling = sum(cell.op == "global_pool" for cell in cells)
  first = sum(cell.inputs[0] for cell in cells) / 10
  return pooling + first, -pooling + first


def run(algorithm, num_updates: int, batch: int = 10) -> list[tuple[float, float]]:
  points = []
  for update in range(1, num_updates + 1):
    proposals = algorithm.propose(update, batch)
    outcomes = [Outcome(p, trade_off(p.choices)[0], trade_off(p.choices)) for p in proposals]
    algorithm.learn(update, outcomes)
    points += [outcome.objectives for outcome in outcomes]
  return points


def test_evolution_finds_a_larger_front_than_random_search():
  reference = (-1.0, -5.0)

  def volume(settings, seed):
    return hypervolume(run(settings.make(SPACE, seed), 12), reference)

  found = [volume(Evolution(20, 3), seed) for seed in range(3)]
  by_chance = [volume(RandomSearch(), seed) for seed in range(3)]
  assert min(found) > max(by_chance)


def test_evolution_keeps_what_fewest_dominate_and_goes_on_from_its_state():
  algorithm = Evolution(3, 2).make(SPACE, 0)
  choices = [SPACE.encode(SPACE.sample(random.Random(seed))) for seed in range(5)]
  points = [(0.0, 0.0), (1.0, 5.0), (5.0, 1.0), (3.0, 3.0), (0.0, -math.inf)]
  outcomes = [
    Outcome(Proposal(each, (0.0,) * len(each)), point[0], point)
    for each, point in zip(choices, points, strict=True)
  ]
  assert algorithm.learn(1, outcomes) == {"population/front_size": 3.0}
  again = Evolution(3, 2).make(SPACE, 0)
  again.restore(algorithm.state())
  assert again.state() == algorithm.state()
  assert again.propose(2, 6) == algorithm.propose(2, 6)
  # A member that all others dominate is replaced, however young.
  late = Outcome(outcomes[0].proposal, 0.0, (0.0, 0.0))
  state = algorithm.state()
  algorithm.learn(2, [late])
  assert algorithm.state() == state


def test_ppo_prefers_what_dominates_whatever_the_trade_off_and_goes_on_from_its_state():
  settings = PPO(hidden_units=4, replay_best=2, learning_rate=0.01, epochs_per_update=2)
  algorithm = settings.make(SPACE, 0)
  points = [(0.2, -3.0), (0.4, -2.0), (0.1, -9.0), (0.0, -math.inf)]
  outcomes = [
    Outcome(proposal, point[0], point)
    for proposal, point in zip(algorithm.propose(1, 4), points, strict=True)
  ]
  rewards = [algorithm._trade_off(update, outcomes) for update in range(1, 30)]
  assert all(a < b > c > d for a, b, c, d in ((r[0], r[1], r[0], r[3]) for r in rewards))
  assert all(0 <= value <= 1.05 for each in rewards for value in each)
  # Between trade-offs the distance of two changes.
  assert len({round(r[1] - r[2], 6) for r in rewards}) == len(rewards)
  # Nothing but trials that diverged says nothing.
  metrics = settings.make(SPACE, 0).learn(1, outcomes[3:])
  assert math.isfinite(metrics["loss"])
  algorithm.learn(1, outcomes)
  again = settings.make(SPACE, 0)
  again.restore(algorithm.state())
  assert again.state() == algorithm.state()
  assert again.propose(2, 4) == algorithm.propose(2, 4)
  assert again.learn(2, outcomes[:2]) == algorithm.learn(2, outcomes[:2])


def test_the_loop_hands_over_what_trials_measured_and_the_worst_of_what_diverged(tmp_path):
  config = SearchConfig(
    algorithm=Evolution(4, 2), objectives=("AP", "latency"), num_trials=4, trials_per_update=4
  )
  search_recipe = read_recipe(
    gin_params=[EVOLVES, "Search.objectives = ('AP', 'latency')", "Search.num_trials = 4"]
  )
  with storage.exclusive(tmp_path), begun_store(tmp_path, search_recipe) as store:
    loop = SearchLoop(config, SPACE, tmp_path, store)
    loop.step()
    store.join("w", search_recipe.version, code_fingerprint())
    for number in range(1, 5):
      attempt = store.claim("w").attempt
      if number == 1:
        store.report_failure(number, attempt, "NaN", True)
      else:
        measured = {"AP": 0.1 * number, "latency_ms": 10.0 * number, "latency_on": "here"}
        # The last has no latency, as if its row were damaged: it is left out.
        measured = {"AP": 0.9} if number == 4 else measured
        store.report_reward(number, attempt, 0.1 * number, measured)
    counts = loop.step()
    assert loop.is_over(counts)
    algorithm = config.algorithm.make(SPACE, 0)
    algorithm.restore(store.latest_snapshot()[1])
    assert [point for _, point in algorithm._population] == [
      (0.0, -math.inf),
      (0.2, -20.0),
      (pytest.approx(0.3), -30.0),
    ]


@pytest.mark.slow
def test_a_search_for_three_objectives_from_data_to_its_front(tmp_path, short_recipe):
  aims = read_recipe(
    [short_recipe],
    [
      EVOLVES,
      "Search.objectives = ('AP', 'latency', 'multiply_adds')",
      "Search.num_trials = 3",
      "Search.trials_per_update = 2",
      "Evolution.population_size = 2",
    ],
  )
  resolved = proxy_task.resolved(aims)
  evaluate = proxy_task.make_evaluate(resolved, tmp_path)
  trials = search_in_one_process(resolved, tmp_path, evaluate)
  for trial in trials:
    assert trial.metrics["latency_ms"] > 0
    assert trial.metrics["latency_spread_ms"] >= 0
    assert trial.metrics["latency_on"].startswith("TensorFlow 2")
    assert trial.metrics["multiply_adds"] > 1e6
    assert trial.reward == trial.metrics["AP"]
  write_results(trials, tmp_path, objectives=aims.search.objectives)
  result = json.loads((tmp_path / "result.json").read_text())
  numbers = {point["trial"] for point in result["front"]}
  points = [point_of(trial.metrics, aims.search.objectives) for trial in trials]
  assert numbers == {trials[index].number for index in non_dominated(points)}
  least = min(trial.metrics["multiply_adds"] for trial in trials)
  cheapest = [trial for trial in trials if trial.metrics["multiply_adds"] == least]
  expected = max(cheapest, key=lambda trial: trial.metrics["AP"])
  found = found_architecture(f"{tmp_path}@{least / 1e6 + 1e-6:.6f}M")
  assert found == from_gin(expected.architecture)

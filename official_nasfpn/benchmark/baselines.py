"""The algorithms that every other one is ranked beside, and their recorded searches.

Their searches do not depend on the user's, so `baselines.jsonl` has those of the default
conditions. What other conditions need is run. `python -m benchmarks.record_baselines` records them.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from official_nasfpn.benchmark.simulated_search import MAX_SAMPLED, Progress, Run
from official_nasfpn.benchmark.surrogate import benchmark_id
from official_nasfpn.search.algorithms.algorithm import AlgorithmSettings
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.recipe import read_recipe

RECORDED = Path(__file__).with_name("baselines.jsonl")
RANDOM = "random search"

# What `nasfpn proxy_check` measured: the standard deviation of the rewards of one architecture over
# three seeds (docs/results.md).
MEASURED_NOISE = 0.008


@dataclasses.dataclass(frozen=True)
class Conditions:
  """What all searches of a ranking have in common; the defaults are those of the record.

  Attributes:
    num_trained: architectures that each search trains.
    trials_per_update: proposals of one update.
    num_workers: workers of the simulated pool.
    noise: standard deviation of the noise of a reward.
  """

  num_trained: int = 300
  trials_per_update: int = 10
  num_workers: int = 10
  noise: float = MEASURED_NOISE


def _of_recipe(name: str) -> Callable[[], AlgorithmSettings]:
  return lambda: read_recipe([name]).search.algorithm


# By name, functions that return the settings: recipes are read only if they are needed.
BASELINES: dict[str, Callable[[], AlgorithmSettings]] = {
  RANDOM: RandomSearch,
  "evolution": Evolution,
  "PPO, paper": _of_recipe("gin/paper/proxy_search.gin"),
  "PPO, small": _of_recipe("gin/bccd_search.gin"),
}


class RecordedSearches:
  """Searches with the baselines that were run before, under given conditions."""

  def __init__(self, conditions: Conditions, searches: dict[tuple[str, int], tuple[Progress, int]]):
    """Keeps them.

    Args:
      conditions: of all of these searches.
      searches: by algorithm and seed, each with the number of its proposals.
    """
    self._conditions = conditions
    self._searches = searches

  def find(self, algorithm: str, seed: int, conditions: Conditions) -> Progress | None:
    """Returns a search, cut to fewer trials if need be; None if it has to be run."""
    recorded, wanted = self._conditions, conditions.num_trained
    if dataclasses.replace(conditions, num_trained=recorded.num_trained) != recorded:
      return None
    if wanted > recorded.num_trained or (algorithm, seed) not in self._searches:
      return None
    progress, num_sampled = self._searches[algorithm, seed]
    # A shorter search may have ended before, by its repeated proposals.
    num_repeated = num_sampled - progress.num_trained
    cut = wanted < recorded.num_trained
    if cut and num_repeated + conditions.trials_per_update > (MAX_SAMPLED - 1) * wanted:
      return None
    return Progress(progress.returned[:wanted], progress.hours[:wanted])

  def add(self, algorithm: str, seed: int, run: Run) -> None:
    """Adds a search."""
    self._searches[algorithm, seed] = (run, len(run.sampled))

  def as_text(self) -> str:
    """Returns the text of their file, a line for each search."""
    lines = [
      json.dumps(
        {
          "algorithm": algorithm,
          "seed": seed,
          "num_sampled": num_sampled,
          "num_trained": progress.num_trained,
          "returned": _changes(progress.returned, 6),
          "hours": _changes(progress.hours, 5),
        }
      )
      for (algorithm, seed), (progress, num_sampled) in self._searches.items()
    ]
    head = json.dumps({"benchmark": benchmark_id(), **dataclasses.asdict(self._conditions)})
    return "\n".join([head, *lines]) + "\n"


def recorded_searches(path: Path = RECORDED) -> RecordedSearches:
  """Returns the searches in a file; none if they were made with another table or surrogate."""
  if not path.is_file():
    return RecordedSearches(Conditions(), {})
  head, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
  if head.pop("benchmark") != benchmark_id():
    return RecordedSearches(Conditions(**head), {})
  return RecordedSearches(
    Conditions(**head),
    {(line["algorithm"], line["seed"]): (_progress(line), line["num_sampled"]) for line in lines},
  )


def _changes(values: Sequence[float], digits: int) -> list[tuple[int, float]]:
  """Returns the values that differ from the one before, with their indices."""
  changes: list[tuple[int, float]] = []
  for index, value in enumerate(round(value, digits) for value in values):
    if not changes or changes[-1][1] != value:
      changes.append((index, value))
  return changes


def _progress(line: dict[str, Any]) -> Progress:
  number = line["num_trained"]
  return Progress(_values(line["returned"], number), _values(line["hours"], number))


def _values(changes: Sequence[tuple[int, float]], number: int) -> tuple[float, ...]:
  values: list[float] = []
  for (index, value), (end, _) in zip(changes, [*changes[1:], (number, 0.0)], strict=True):
    values += [value] * (end - index)
  return tuple(values)

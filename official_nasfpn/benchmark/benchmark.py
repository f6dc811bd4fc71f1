"""Ranks search algorithms beside the baselines, on rewards of a surrogate."""

import contextlib
import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from official_nasfpn import __version__
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.baselines import (
  BASELINES,
  RANDOM,
  Conditions,
  recorded_searches,
)
from official_nasfpn.benchmark.figure import ranking_figure
from official_nasfpn.benchmark.ranking import Row, as_table, rank
from official_nasfpn.benchmark.simulated_search import Progress, search
from official_nasfpn.benchmark.surrogate import benchmark_id, recorded_fit, recorded_surrogate
from official_nasfpn.benchmark.table import missing_in_words, read_table
from official_nasfpn.benchmark.trial_time import trial_time
from official_nasfpn.benchmark.user_algorithm import make_watched
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.folders import whole_folder
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.search.algorithms.algorithm import AlgorithmSettings

# Characters of a line of the text.
_WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Algorithms beside the baselines.

  Attributes:
    rows: a row for each algorithm, the best first.
    searches: by algorithm, one for each seed: 0, 1 and so on.
    ranked: the algorithms that are no baselines.
    conditions: what all searches had in common.
    notes: what to know of the table, the surrogate and the time of trials, a sentence each.
  """

  rows: tuple[Row, ...]
  searches: Mapping[str, tuple[Progress, ...]]
  ranked: tuple[str, ...]
  conditions: Conditions
  notes: tuple[str, ...]

  def as_text(self) -> str:
    """Returns the notes and the table, as the program prints them."""
    notes = (textwrap.fill(note, _WIDTH) for note in self.notes)
    return "\n".join([*notes, "", as_table(self.rows)])

  def as_data(self) -> dict[str, Any]:
    """Returns all but the curves, ready for JSON."""
    return {
      "benchmark": benchmark_id(),
      "version": __version__,
      "num_seeds": len(self.searches[RANDOM]),
      **dataclasses.asdict(self.conditions),
      "ranked": list(self.ranked),
      "notes": list(self.notes),
      "ranking": [dataclasses.asdict(row) for row in self.rows],
    }

  def curves_as_csv(self) -> str:
    """Returns every search, a line for each trained architecture."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("algorithm", "seed", "trained", "hours", "reward"))
    for name, of_seeds in self.searches.items():
      for seed, progress in enumerate(of_seeds):
        steps = enumerate(zip(progress.hours, progress.returned, strict=True), start=1)
        writer.writerows((name, seed, n, f"{h:.4f}", f"{r:.6f}") for n, (h, r) in steps)
    return text.getvalue()


def rank_algorithms(
  algorithms: Mapping[str, AlgorithmSettings],
  output_dir: Path | str | None = None,
  *,
  num_seeds: int = 20,
  num_trained: int = 300,
  num_workers: int = 10,
  trials_per_update: int = 10,
  baselines: Sequence[str] = tuple(BASELINES),
) -> Ranking:
  """Runs search algorithms on the benchmark and ranks them beside the baselines.

  Args:
    algorithms: settings of the algorithms, by the names that they are to have.
    output_dir: gets `ranking.json`, `searches.csv` and `rewards.png`; None writes nothing.
    num_seeds: searches with each algorithm, seeds 0, 1 and so on.
    num_trained: architectures that each search trains.
    num_workers: workers of the simulated pool.
    trials_per_update: proposals of one update.
    baselines: which of `BASELINES` to rank beside; random search is always one. Searches that are
      not recorded are run, those of PPO for a quarter to half a minute each.

  Raises:
    UserError: a name is that of a baseline, an algorithm fails or proposes what is no architecture
      of the space, or the folder is in use.
  """
  for name in algorithms:
    if name in BASELINES:
      raise UserError(f"{name!r} is the name of a baseline. Give your algorithm another one.")
  conditions = Conditions(num_trained, trials_per_update, num_workers)
  with contextlib.ExitStack() as stack:
    folder = None
    if output_dir is not None:
      folder = stack.enter_context(whole_folder(Path(output_dir), "--output_dir"))
    ranking = _rank(algorithms, conditions, num_seeds, _with_random(baselines))
    if folder is not None:
      _write(ranking, folder)
  return ranking


def _with_random(baselines: Sequence[str]) -> list[str]:
  return [name for name in BASELINES if name == RANDOM or name in baselines]


def _rank(
  algorithms: Mapping[str, AlgorithmSettings],
  conditions: Conditions,
  num_seeds: int,
  baselines: Sequence[str],
) -> Ranking:
  table = read_table()
  seconds = trial_time(table)
  surrogate, space = recorded_surrogate(), SearchSpace()
  known = recorded_searches()
  found: dict[tuple[str, int], Progress] = {}
  # The user's first: if they fail, no time is lost.
  todo = [(name, seed) for name in algorithms for seed in range(num_seeds)]
  for name in baselines:
    for seed in range(num_seeds):
      if recorded := known.find(name, seed, conditions):
        found[name, seed] = recorded
      else:
        todo.append((name, seed))
  if to_run := len(todo) - len(algorithms) * num_seeds:
    say(f"{to_run} searches with baselines are not recorded for these numbers and are run, too.")
  settings = {**algorithms, **{name: BASELINES[name]() for name in baselines}}
  for name, of_user in algorithms.items():
    if note := _repeatability(name, of_user, space, conditions.trials_per_update):
      say(note)
  with progress_bar(len(todo) * conditions.num_trained, "searches", "trial") as bar:
    for done, (name, seed) in enumerate(todo, start=1):
      bar.set_postfix_str(f"{name}, seed {seed}", refresh=False)
      found[name, seed] = search(
        make_watched(name, settings[name], space, seed),
        space,
        surrogate,
        **dataclasses.asdict(conditions),
        seed=seed,
        trial_seconds=seconds,
        on_trained=bar.update,
      )
      # A search that repeats itself trains fewer.
      bar.update(done * conditions.num_trained - bar.n)
  searches = {
    name: tuple(found[name, seed] for seed in range(num_seeds))
    for name in [*algorithms, *baselines]
  }
  rewards = numpy.array([entry.reward for entry in table])
  notes = [
    f"Benchmark {benchmark_id()}: {len(table)} trained architectures, rewards {rewards.min():.3f} "
    f"to {rewards.max():.3f}.",
    f"Surrogate, ten-fold cross-validation: {recorded_fit().as_text()}.",
    f"{num_seeds} searches of {conditions.num_trained} architectures each, "
    f"{conditions.trials_per_update} in an update, noise {conditions.noise:g}.",
    f"Virtual time on {conditions.num_workers} workers: {seconds.source}.",
    *filter(None, [missing_in_words(table)]),
    *_ended_early(searches, conditions.num_trained),
  ]
  rows = tuple(rank(searches, baselines))
  return Ranking(rows, searches, tuple(algorithms), conditions, tuple(notes))


def _repeatability(
  name: str, settings: AlgorithmSettings, space: SearchSpace, count: int
) -> str | None:
  """Returns a sentence if an algorithm proposes something else with the same seed."""
  first, second = (
    [
      tuple(map(int, proposal.choices))
      for proposal in make_watched(name, settings, space, 0).propose(1, count)
    ]
    for _ in range(2)
  )
  if first == second:
    return None
  return (
    f"{name} proposes other architectures when it is made again with the same seed: its results "
    "cannot be repeated, and a search with it that is interrupted goes on as another one."
  )


def _ended_early(searches: Mapping[str, Sequence[Progress]], num_trained: int) -> list[str]:
  notes = []
  for name, of_seeds in searches.items():
    fewest = min(search.num_trained for search in of_seeds)
    if fewest < num_trained:
      notes.append(
        f"{name} trained as few as {fewest} architectures: of twice {num_trained} proposals the "
        "others repeated earlier ones."
      )
  return notes


def _write(ranking: Ranking, folder: Path) -> None:
  conditions, num_seeds = ranking.conditions, len(ranking.searches[RANDOM])
  write_text(folder / "ranking.json", json.dumps(ranking.as_data(), indent=2) + "\n")
  write_text(folder / "searches.csv", ranking.curves_as_csv())
  title = (
    f"means over {num_seeds} seeds, range of {', '.join(ranking.ranked)}; "
    f"noise {conditions.noise:g}"
  )
  ranking_figure(ranking.searches, ranking.ranked, title).savefig(folder / "rewards.png", dpi=110)

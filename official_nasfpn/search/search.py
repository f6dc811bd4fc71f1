"""A search as one object: run it, and ask at any time what it has found."""

import dataclasses
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.architecture.search_space import count_in_words
from official_nasfpn.configuration import Stored
from official_nasfpn.errors import UserError
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.progress import say
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.loop import begun_store, run_search
from official_nasfpn.search.planning import SearchPlan, and_confirmations, plan_of
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.search.report.events import EventLog
from official_nasfpn.search.report.found import (
  found_trial,
  read_overview,
  read_trials,
  sorted_out,
  trial_within,
  warn_of_damage,
)
from official_nasfpn.search.report.results import front_table, results_table, write_results
from official_nasfpn.search.report.trade_offs import TradeOffs, trade_offs
from official_nasfpn.search.store.trial import Trial
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.launchers import (
  LauncherConfig,
  launcher_maker,
  worker_flags,
)
from official_nasfpn.search.workers.local_launcher import LocalLauncher


@dataclasses.dataclass(frozen=True)
class FoundPyramid:
  """A pyramid that a search has found.

  Attributes:
    architecture: the pyramid, for `Detector.architecture`.
    reward: reward of the pyramid's trial; if it was confirmed, the mean over all its seeds.
    trial: number of the trial.
    rewards: the reward of each seed with which the pyramid was trained, the trial's own first; one
      unless it was confirmed (`Search.confirm_top`).
    metrics: what the trial measured beside it, such as `AP` and `latency_ms`.
  """

  architecture: PyramidSpec
  reward: float
  trial: int
  rewards: tuple[float, ...] = ()
  metrics: Mapping[str, object] = dataclasses.field(default_factory=dict, compare=False)


class Search:
  """A search for a feature pyramid, kept in a directory.

  The directory holds everything: a search that was interrupted continues where it stopped, and any
  process can read its results at any time.
  """

  def __init__(
    self,
    search_dir: str | Path,
    recipe: SearchRecipe | None = None,
    store: str | None = None,
  ):
    """Names a search; nothing is read or written yet.

    Args:
      search_dir: directory of the search; `run` creates it.
      recipe: recipe of the search, from `read_recipe`. Default: the recipe in the directory.
      store: database of the trials, `postgresql://user@host/name`, so that workers on other
        machines can evaluate them; the environment variable PGPASSWORD holds the password.
        Default: a file in the directory, or the database that the directory names.
    """
    self.search_dir = Path(search_dir)
    self._recipe = recipe
    self._store = store

  @property
  def recipe(self) -> SearchRecipe:
    """The recipe of the search.

    Raises:
      UserError: none was given, and there is no search in the directory.
    """
    return self._recipe or read_recipe([storage.stored_recipe(self.search_dir)])

  def run(self, workers: LauncherConfig | int = 1) -> list[Trial]:
    """Runs the search to its end, from wherever it was interrupted, with a progress bar.

    It may be interrupted at any moment; calling `run` again continues it.

    Args:
      workers: number of processes on this machine that evaluate trials, or the launcher of workers
        and its settings.

    Returns:
      All trials, by number.

    Raises:
      UserError: the recipe or the data is wrong, the directory holds another search, another
        process is running this search, workers cannot start, or no trial gave a reward.
    """
    begins = not storage.recipe_path(self.search_dir).is_file()
    recipe = proxy_task.resolved(storage.continued_recipe(self.recipe, self.search_dir), begins)
    recipe.search.algorithm.check()
    if begins:
      proxy_task.say_note(recipe, self.search_dir)
    config = LauncherConfig(num_workers=workers) if isinstance(workers, int) else workers
    if config.launcher == "local":
      # Its workers say it in their logs alone.
      warn_of_an_unused_gpu()
    found_by = worker_flags(config.launcher, self.search_dir, self._store)
    make_launcher = launcher_maker(config, self.search_dir, found_by)
    with storage.exclusive(self.search_dir):
      storage.settle_recipe(recipe, self.search_dir)
      events = EventLog(self.search_dir / "events")

      def write_events(store: TrialStore) -> None:
        with storage.search_disk_errors(self.search_dir):
          events.add_missing(store)

      with begun_store(self.search_dir, recipe, self._store) as store:
        run_search(
          recipe.search,
          recipe.space,
          self.search_dir,
          store,
          make_launcher,
          on_update=lambda update, metrics: write_events(store),
        )
        # A process that was killed may have learnt from the last update without writing its event.
        write_events(store)
        trials, damaged = sorted_out(store.trials())
        confirmations, damaged_too = sorted_out(store.confirmations())
        warn_of_damage(store.name, [*damaged, *damaged_too])
      write_results(trials, self.search_dir, confirmations, recipe.search.objectives)
    return trials

  def trials(self) -> list[Trial]:
    """Returns all trials so far, by number; `pandas.DataFrame(search.trials())` is their table.

    Confirmations are not trials of their own: their rewards are a trial's `further_rewards`.

    Raises:
      UserError: there is no search, or another version of this program wrote it.
    """
    return read_trials(self.search_dir, self._store)

  def best(self, rank: int = 1) -> FoundPyramid:
    """Returns the best pyramid so far: of the highest reward, but confirmed ones come first.

    Confirmed pyramids (`Search.confirm_top`) are ranked by the mean reward of all their seeds.

    Args:
      rank: 1 for the best pyramid, 2 for the second best, and so on.

    Raises:
      UserError: there is no search, or fewer trials have a reward.
    """
    return _found_pyramid(found_trial(self.search_dir, rank, self._store))

  def best_within(self, *budgets: str) -> FoundPyramid:
    """Returns the pyramid with the greatest AP so far within budgets; confirmed ones come first.

    Confirmed pyramids (`Search.confirm_top`) are ranked by the mean AP of all their seeds.

    Args:
      *budgets: such as `'20ms'`, `'150M'` multiply-adds, `'2.5Mparams'` or `'3MB'`.

    Raises:
      UserError: a text is no budget, there is no search, its trials have not measured what a budget
        limits, or none is within.
    """
    return _found_pyramid(trial_within(self.search_dir, budgets, self._store))

  def front(self) -> list[FoundPyramid]:
    """Returns the pyramids that no other beats in all of `Search.objectives`, cheapest first.

    Raises:
      UserError: there is no search, or it has one objective.
    """
    found = self._trade_offs(storage.stored_recipe(self.search_dir))
    if found is None:
      raise UserError(
        f"{self.search_dir} has one objective, the reward, so it has no front: `best` is its "
        "result. A search with Search.objectives = ('AP', 'latency') has one."
      )
    return [_found_pyramid(trial) for trial in found.on_front]

  def table(self, num_rows: int = 3) -> str:
    """Returns a table of the best architectures so far as text, best first.

    Args:
      num_rows: number of architectures in the table.

    Raises:
      UserError: there is no search, or another version of this program wrote it.
    """
    overview = read_overview(self.search_dir, num_rows, self._store)
    text = results_table(overview, self.search_dir)
    # A store that was copied without its recipe has a table all the same.
    has_recipe = storage.recipe_path(self.search_dir).is_file()
    found = self._trade_offs(storage.stored_recipe(self.search_dir)) if has_recipe else None
    return f"{text}\n{front_table(found, self.search_dir)}" if found else text

  def _trade_offs(self, recipe: Stored) -> TradeOffs | None:
    """Returns the front; None where there is one objective, without reading the trials."""
    objectives = read_recipe([recipe]).search.objectives
    if len(objectives) == 1:
      return None
    return trade_offs(read_trials(self.search_dir, self._store), objectives)

  def write_report(
    self, output: str | Path | None = None, proxy_check: str | Path | None = None
  ) -> Path:
    """Writes the report on the search as one HTML file, and returns its path.

    Args:
      output: path of the file. Default: `report.html` in the directory.
      proxy_check: folder of a `nasfpn proxy_check` of the search's recipe, which has measured the
        noise of a reward. Default: the noise that confirmations have measured; without two of one
        architecture (`Search.confirm_top`), the report says that the noise is unknown.

    Raises:
      UserError: there is no search, no such check, or the file cannot be written.
    """
    # SciPy's statistics take longer to import than the status of a search takes to print.
    from official_nasfpn.search.report.html.page import write_report

    path = Path(output) if output else self.search_dir / "report.html"
    check_dir = Path(proxy_check) if proxy_check else None
    write_report(self.search_dir, path, now=time.time(), store=self._store, check_dir=check_dir)
    return path


def _found_pyramid(trial: Trial) -> FoundPyramid:
  # Parsed as data: text that others may have written is never executed.
  spec = architecture.from_gin(trial.architecture, where=f"trial {trial.number}")
  assert trial.mean_reward is not None
  return FoundPyramid(spec, trial.mean_reward, trial.number, trial.rewards, trial.metrics)


def dry_run(recipe: SearchRecipe) -> str:
  """Returns the number of trials of a search and the plan of one trial as text; trains nothing.

  Raises:
    UserError: the recipe or its data is wrong.
  """
  recipe = proxy_task.resolved(recipe)
  spec = recipe.space.sample(random.Random(recipe.search.seed))
  confirmations = and_confirmations(recipe.search)
  count = count_in_words(recipe.space.size_unordered)
  trials = f"{recipe.search.num_trials:,} trials of {count} architectures"
  sized = recipe.space.at_every_size(spec)
  if len(sized) == 1:
    return (
      f"{trials}{confirmations}, each like this:\n{proxy_task.plan_of_a_trial(recipe, sized[0])}"
    )
  by_size = sorted(sized, key=lambda each: [size or 0 for size in each.sizes.values()])
  small, large = (proxy_task.plan_of_a_trial(recipe, by_size[place]) for place in (0, -1))
  return f"{trials}{confirmations}, from such small ones:\n{small}\nto such large ones:\n{large}"


def measured_plan(recipe: SearchRecipe, num_workers: int = 1, num_measuring: int = 1) -> SearchPlan:
  """Trains two architectures on each measuring worker, and returns the cost of the whole search.

  Args:
    recipe: recipe of the search.
    num_workers: number of workers in the pool of the search.
    num_measuring: number of workers on this machine that measure at the same time.

  Raises:
    UserError: the recipe or its data is wrong, or no trial gave a reward.
  """
  recipe = proxy_task.resolved(recipe)
  proxy_task.say_note(recipe)
  if recipe.space.has_sizes:
    say("The trials that are measured have random sizes; others take less or more time.")
  measured = dataclasses.replace(
    recipe,
    search=dataclasses.replace(
      recipe.search,
      algorithm=RandomSearch(),
      begin_with=(),
      num_trials=2 * num_measuring,
      trials_per_update=2 * num_measuring,
      trials_in_flight=0,
      trials_per_worker=0,
      early_stopping_quantile=0.0,
      confirm_top=0,
    ),
  )
  with tempfile.TemporaryDirectory() as folder:
    search_dir = Path(folder) / "plan"
    worker = (sys.executable, "-m", "official_nasfpn.worker", f"--search_dir={search_dir}")
    with storage.exclusive(search_dir):
      storage.settle_recipe(measured, search_dir)
      with begun_store(search_dir, measured) as store:
        run_search(
          measured.search,
          measured.space,
          search_dir,
          store,
          lambda store: LocalLauncher(store, search_dir, worker, num_measuring),
        )
        trials = store.trials()
  return plan_of(trials, recipe.search, num_workers)

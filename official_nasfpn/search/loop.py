"""The search loop: proposes architectures, has them evaluated, learns from the rewards, repeats.

The loop may be killed at any moment and run again with the same arguments. Each of its steps is one
transaction of the trial store, and its random draws depend only on the seed and the number of the
update, so the search ends as if it had not been interrupted.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.configuration import Stored
from official_nasfpn.disk import write_text
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal, SearchAlgorithm
from official_nasfpn.search.config import SearchConfig, first_architectures
from official_nasfpn.search.confirmation import (
  Confirmation,
  can_be_confirmed,
  largest_number_of_confirmations,
  missing_confirmations,
)
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.objectives import OBJECTIVES, point_of
from official_nasfpn.search.recipe import SearchRecipe, check_continues, read_recipe
from official_nasfpn.search.store.trial_store import Counts, NewTrial, Trial, TrialStore
from official_nasfpn.search.workers.launcher import Launcher

# How often to look for finished trials: often after progress, ever less often without any.
_SHORTEST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
# A training that diverges means a bad architecture: the reward is that of finding no object.
_DIVERGED_REWARD = 0.0


OnUpdate = Callable[[int, Mapping[str, float]], None]


@contextlib.contextmanager
def begun_store(
  search_dir: Path, recipe: SearchRecipe, url: str | None = None
) -> Iterator[TrialStore]:
  """Opens the trial store of a search for its controller, and keeps other controllers out.

  The directory names the database from now on, but only if it could be opened.

  Args:
    search_dir: directory of the search; the caller holds `storage.exclusive(search_dir)`.
    recipe: recipe of the search.
    url: URL of the database, perhaps with a password. Default: the database that the directory
      names, see `storage.new_store_place`.

  Yields:
    The store, with its tables and the recipe.

  Raises:
    UserError: the directory names another database, the store holds another search, or another
      controller is running.
  """
  storage.check_store(search_dir, url)
  place = url or storage.new_store_place(search_dir)
  if isinstance(place, Path) and not place.is_file():
    storage.check_without_store(search_dir, place.name)
  store = TrialStore(place, recipe.search.lease_seconds, recipe.search.max_attempts)
  try:
    with store.exclusive():
      store.create()
      there = store.begun_recipe()
      if there is None and not store.counts().sampled:
        storage.check_without_store(search_dir, store.name)
      if there is not None:
        stored = Stored(there, f"The recipe in {store.name}")
        check_continues(read_recipe([stored]), recipe, store.name, "--store")
      storage.settle_store(search_dir, url)
      store.begin(recipe.to_gin(), recipe.version, code_fingerprint())
      if count := store.retry_dead():
        say(
          f"{count} trial{'s' if count > 1 else ''} that failed because workers died: tried again, "
          f"as Search.max_attempts = {recipe.search.max_attempts} allows."
        )
      yield store
  finally:
    store.close()


def run_search(
  config: SearchConfig,
  space: SearchSpace,
  search_dir: Path,
  store: TrialStore,
  make_launcher: Callable[[TrialStore], Launcher],
  on_update: OnUpdate | None = None,
) -> None:
  """Runs a search to its end, from wherever it was interrupted.

  Args:
    config: settings of the search.
    space: search space.
    search_dir: directory of the search; the caller holds `storage.exclusive(search_dir)`.
    store: trial store of the search, from `begun_store`.
    make_launcher: makes the launcher; it is called only if trials are left.
    on_update: called after each learning step with the number of the update and its metrics.

  Raises:
    UserError: the directory cannot be written, or workers cannot start.
  """
  with storage.search_disk_errors(search_dir):
    loop = SearchLoop(config, space, search_dir, store, on_update)
    loop.write_missing_files()
    counts = store.counts()
    if loop.is_over(counts):
      return
    launcher = make_launcher(store)
    total, ended = loop.num_trainings(counts), _num_ended(counts)
    with progress_bar(total, "search", "trial", initial=ended) as bar:
      try:
        # Workers and the algorithm take a while to start: let them start at the same time.
        launcher.poll(total - ended)
        pause, shown = 0.0, -1.0
        while not loop.is_over(counts := loop.step()):
          bar.total, ended = loop.num_trainings(counts), _num_ended(counts)
          launcher.poll(bar.total - ended)
          store.release_expired()
          pause = min(1.5 * pause + _SHORTEST_PAUSE_SECONDS / 2, _LONGEST_PAUSE_SECONDS)
          if (done := ended + store.running_progress()) != shown:
            _show(bar, done, store)
            pause, shown = _SHORTEST_PAUSE_SECONDS, done
          time.sleep(pause)
        bar.total = loop.num_trainings(counts)
        _show(bar, _num_ended(counts), store)
      finally:
        launcher.close()


class SearchLoop:
  """The controller of a search, step by step; it has no state that the store does not have.

  Each update proposes `trials_per_update` trials, as long as no more than `trials_in_flight` are
  unfinished. Each update learns from as many trials: those that finish first. If both numbers are
  equal, the algorithm learns from an update before it proposes the next one.

  When the last trial is learnt from, the best are confirmed, if the search is to do so.
  """

  def __init__(
    self,
    config: SearchConfig,
    space: SearchSpace,
    search_dir: Path,
    store: TrialStore,
    on_update: OnUpdate | None = None,
  ):
    """Prepares the loop; the first step does the first work.

    Args:
      config: settings of the search.
      space: search space.
      search_dir: directory to which the architecture of every trial is written.
      store: trial store of the search, from `begun_store`.
      on_update: called after each learning step with the number of the update and its metrics.
    """
    self._config = config
    self._space = space
    self._search_dir = search_dir
    self._store = store
    self._on_update = on_update
    self._algorithm: SearchAlgorithm | None = None
    specs = first_architectures(config, space)
    self._known = [_drawn_uniformly(space, spec) for spec in specs]

  def step(self) -> Counts:
    """Learns from finished trials and proposes new ones while it can; returns the new counts."""
    while True:
      counts = self._store.counts()
      if not self._learn(counts) and not self._propose(counts) and not self._confirm(counts):
        return counts

  def is_over(self, counts: Counts) -> bool:
    """Returns whether all trials are sampled and learnt from, and the best of them confirmed."""
    return (
      self._has_learnt_all(counts) and not counts.confirming and not self._missing_confirmations()
    )

  def num_trainings(self, counts: Counts) -> int:
    """Returns the number of trials and confirmations that there will be, as far as is known."""
    if self._has_learnt_all(counts):
      return self._config.num_trials + counts.confirmations
    planned = largest_number_of_confirmations(self._config)
    return self._config.num_trials + max(counts.confirmations, planned)

  def write_missing_files(self) -> None:
    """Writes the architectures of trials whose folder is missing in the search directory."""
    folder = storage.trial_dir(self._search_dir, 1).parent
    names = os.listdir(folder) if folder.is_dir() else ()
    present = {name for name in names if os.path.isfile(f"{folder}/{name}/architecture.gin")}
    counts = self._store.counts()
    if len(present) < counts.sampled + counts.confirmations:
      for trial in (*self._store.trials(), *self._store.confirmations()):
        if storage.trial_dir(self._search_dir, trial.number).name not in present:
          self._write_architecture(trial.number, trial.architecture)

  def _learn(self, counts: Counts) -> bool:
    """Learns from one update if enough trials are finished; returns whether it did."""
    size = self._config.trials_per_update
    ready = counts.finished - counts.learnt
    # The last update of a search may be smaller.
    is_last = counts.finished == counts.sampled >= self._config.num_trials
    if ready < (1 if is_last else size):
      return False
    algorithm = self._restored_algorithm()
    trials = sorted(
      self._store.finished_and_not_learnt(min(size, ready)), key=lambda trial: trial.number
    )
    outcomes = [
      outcome
      for trial in trials
      if (outcome := _outcome(trial, self._config.objectives)) is not None
    ]
    update = self._store.latest_snapshot()[0] + 1
    metrics = algorithm.learn(update, outcomes)
    numbers = [trial.number for trial in trials]
    self._store.mark_learnt(update, numbers, algorithm.state(), metrics)
    if self._on_update is not None:
      self._on_update(update, metrics)
    return True

  def _propose(self, counts: Counts) -> bool:
    """Proposes the trials of one update if there is room for them; returns whether it did."""
    count = min(self._config.trials_per_update, self._config.num_trials - counts.sampled)
    if count <= 0 or counts.sampled - counts.finished + count > self._config.max_in_flight:
      return False
    update, first = self._store.latest_update() + 1, _next_number(counts)
    proposals = self._restored_algorithm().propose(update, count)
    known = self._known[counts.sampled :]
    proposals = [*known[:count], *proposals[len(known) :]]
    self._add(
      [self._new_trial(first + index, update, proposal) for index, proposal in enumerate(proposals)]
    )
    return True

  def _confirm(self, counts: Counts) -> bool:
    """Proposes the confirmations that are missing at the end; returns whether it did."""
    missing = self._missing_confirmations() if self._has_learnt_all(counts) else []
    if not missing:
      return False
    first = _next_number(counts)
    num_trials = len({confirmation.trial.number for confirmation in missing})
    best, trainings = "the best one" if num_trials == 1 else f"the best {num_trials}", len(missing)
    say(
      f"All trials are done. To tell luck from merit, {best} of them "
      f"{'is' if num_trials == 1 else 'are'} trained again with other seeds: {trainings} "
      f"training{'' if trainings == 1 else 's'}."
    )
    self._add([self._new_confirmation(first + index, one) for index, one in enumerate(missing)])
    return True

  def _has_learnt_all(self, counts: Counts) -> bool:
    return counts.learnt == counts.sampled >= self._config.num_trials

  def _missing_confirmations(self) -> list[Confirmation]:
    if not self._config.confirm_top:
      return []
    candidates = self._store.greatest_rewards(self._config.confirm_top, can_be_confirmed)
    return missing_confirmations(self._config, candidates, self._store.confirmations())

  def _add(self, trials: Sequence[NewTrial]) -> None:
    # Files are written first: a worker may claim a trial as soon as it is in the store.
    for trial in trials:
      self._write_architecture(trial.number, trial.architecture)
    self._store.propose(trials)

  def _restored_algorithm(self) -> SearchAlgorithm:
    """Returns the algorithm in its state after the last learning step."""
    if self._algorithm is None:
      self._algorithm = self._config.algorithm.make(self._space, self._config.seed)
      learnt, snapshot = self._store.latest_snapshot()
      if learnt:
        self._algorithm.restore(snapshot)
    return self._algorithm

  def _new_trial(self, number: int, update: int, proposal: Proposal) -> NewTrial:
    spec = self._space.decode(proposal.choices)
    return NewTrial(
      number=number,
      update=update,
      choices=proposal.choices,
      log_probs=proposal.log_probs,
      architecture_hash=canonical_hash(spec),
      architecture=self._architecture_text(number, update, spec),
    )

  def _new_confirmation(self, number: int, confirmation: Confirmation) -> NewTrial:
    trial, seed_offset = confirmation
    return NewTrial(
      number=number,
      update=trial.update,
      choices=trial.choices,
      log_probs=trial.log_probs,
      architecture_hash=trial.architecture_hash,
      architecture=(
        f"# Search {self._search_dir.name}, trial {number}: trial {trial.number} again, with "
        f"Training.seed + {seed_offset}.\n{trial.architecture}"
      ),
      confirms=trial.number,
      seed_offset=seed_offset,
    )

  def _architecture_text(self, number: int, update: int, spec: PyramidSpec) -> str:
    return (
      f"# Search {self._search_dir.name}, trial {number}, update {update}, "
      f"algorithm {self._config.algorithm_name}.\n{architecture.to_gin(spec)}"
    )

  def _write_architecture(self, number: int, text: str) -> None:
    write_text(storage.trial_dir(self._search_dir, number) / "architecture.gin", text)


def _next_number(counts: Counts) -> int:
  return counts.sampled + counts.confirmations + 1


def _num_ended(counts: Counts) -> int:
  return counts.finished + counts.confirmations - counts.confirming


def _drawn_uniformly(space: SearchSpace, spec: PyramidSpec) -> Proposal:
  """Returns a pyramid as the proposal of an algorithm that has learnt nothing yet."""
  choices = space.encode(spec)
  valid = [sum(space.mask(choices[:index])) for index in range(len(choices))]
  return Proposal(choices, tuple(-math.log(count) for count in valid))


def _outcome(trial: Trial, objectives: Sequence[str]) -> Outcome | None:
  """Returns the outcome from which the algorithm learns; None leaves the trial out."""
  if trial.reward is None and not trial.diverged:
    return None
  proposal = Proposal(trial.choices, trial.log_probs)
  reward = _DIVERGED_REWARD if trial.reward is None else trial.reward
  if len(objectives) == 1:
    return Outcome(proposal, reward)
  if trial.reward is None:
    # It finds nothing, at any cost: every trial that has ended dominates it.
    worst = {name: -math.inf if OBJECTIVES[name].is_cost else 0.0 for name in objectives}
    return Outcome(proposal, reward, tuple(worst.values()))
  point = point_of(trial.metrics, objectives)
  return None if point is None else Outcome(proposal, reward, point)


def _show(bar, done: float, store: TrialStore) -> None:
  if best := store.best(1):
    bar.set_postfix({"best_reward": f"{best[0].mean_reward:.4f}"}, refresh=False)
  # Set the number and add 0, so that the bar itself decides when to draw.
  shown = round(done, 1)
  bar.n = int(shown) if shown == int(shown) else shown
  bar.update(0)

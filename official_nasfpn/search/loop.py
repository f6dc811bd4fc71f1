"""The search loop: propose architectures, have them evaluated, learn from the rewards, again.

The loop may be killed at any moment and run again with the same arguments. Whatever it does is one
transaction of the trial store, and what it draws depends on the seed and the update alone, so the
search ends as if nothing had happened.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.configuration import Stored
from official_nasfpn.disk import write_text
from official_nasfpn.progress import progress_bar
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal, SearchAlgorithm
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.recipe import SearchRecipe, check_continues, read_recipe
from official_nasfpn.search.store.trial_store import Counts, NewTrial, Trial, TrialStore
from official_nasfpn.search.workers.launcher import Launcher

# How often to look for what is finished: at once after something was, ever less often otherwise.
_SHORTEST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
# A diverged training is a bad architecture, and its reward that of one that finds nothing.
_DIVERGED_REWARD = 0.0


OnUpdate = Callable[[int, Mapping[str, float]], None]


@contextlib.contextmanager
def begun_store(
  search_dir: Path, recipe: SearchRecipe, url: str | None = None
) -> Iterator[TrialStore]:
  """Opens the trial store of a search for its controller, and keeps other controllers out.

  Args:
    search_dir: of the search; the caller holds `storage.exclusive(search_dir)`.
    recipe: of the search.
    url: of the database, perhaps with a password; default: where `storage.store_place` says.

  Raises:
    UserError: the store holds another search, or another controller is at work.
  """
  place = url or storage.new_store_place(search_dir)
  store = TrialStore(place, recipe.search.lease_seconds, recipe.search.max_attempts)
  try:
    with store.exclusive():
      store.create()
      if (there := store.begun_recipe()) is not None:
        stored = Stored(there, f"The recipe in {store.name}")
        check_continues(read_recipe([stored]), recipe, store.name, "--store")
      store.begin(recipe.to_gin(), recipe.version, code_fingerprint())
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
  """Runs a search to its end, from wherever it was left.

  Args:
    config: of the search.
    space: that is searched.
    search_dir: where everything is kept; the caller holds `storage.exclusive(search_dir)`.
    store: of the search, created; the caller keeps other controllers out.
    make_launcher: makes what provides workers, if any are needed.
    on_update: given each update that was learnt from, and what was measured.

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
    with progress_bar(config.num_trials, "search", "trial", initial=counts.finished) as bar:
      try:
        # Workers take a while to start, and so does the algorithm: let them do it together.
        launcher.poll(config.num_trials - counts.finished)
        pause, shown = 0.0, -1.0
        while not loop.is_over(counts := loop.step()):
          launcher.poll(config.num_trials - counts.finished)
          store.release_expired()
          pause = min(1.5 * pause + _SHORTEST_PAUSE_SECONDS / 2, _LONGEST_PAUSE_SECONDS)
          if (done := counts.finished + store.running_progress()) != shown:
            _show(bar, done, store)
            pause, shown = _SHORTEST_PAUSE_SECONDS, done
          time.sleep(pause)
        _show(bar, counts.finished, store)
      finally:
        launcher.close()


class SearchLoop:
  """The controller of a search, step by step; it keeps nothing that the store does not have.

  Trials are proposed in updates of `trials_per_update`, as long as no more than `trials_in_flight`
  are unfinished, and learnt from in updates of as many: those that finish first. Where both numbers
  are equal, an update is learnt from before the next is proposed.
  """

  def __init__(
    self,
    config: SearchConfig,
    space: SearchSpace,
    search_dir: Path,
    store: TrialStore,
    on_update: OnUpdate | None = None,
  ):
    """Takes up a search where its store has it; nothing is done yet.

    Args:
      config: of the search.
      space: that is searched.
      search_dir: where the architecture of every trial is written.
      store: of the search, created.
      on_update: given each update that was learnt from, and what was measured.
    """
    self._config = config
    self._space = space
    self._search_dir = search_dir
    self._store = store
    self._on_update = on_update
    self._algorithm: SearchAlgorithm | None = None

  def step(self) -> Counts:
    """Learns from what is finished and proposes what there is room for, and returns what is then.

    A search is over when as many trials as it asks for are sampled, and all of them learnt from.
    """
    while True:
      counts = self._store.counts()
      if not self._learn(counts) and not self._propose(counts):
        return counts

  def is_over(self, counts: Counts) -> bool:
    """Returns whether nothing is left to do."""
    return counts.learnt == counts.sampled >= self._config.num_trials

  def write_missing_files(self) -> None:
    """Writes the architectures of trials whose folder was lost, or never was on this machine."""
    folder = storage.trial_dir(self._search_dir, 1).parent
    there = {path.parent.name for path in folder.glob("*/architecture.gin")}
    if len(there) < self._store.counts().sampled:
      for trial in self._store.trials():
        if storage.trial_dir(self._search_dir, trial.number).name not in there:
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
    trials = sorted(self._store.finished_and_not_learnt(size), key=lambda trial: trial.number)
    outcomes = [
      Outcome(Proposal(trial.choices, trial.log_probs), reward)
      for trial in trials
      if (reward := _learning_reward(trial)) is not None
    ]
    update = self._store.latest_snapshot()[0] + 1
    metrics = algorithm.learn(update, outcomes)
    numbers = [trial.number for trial in trials]
    self._store.mark_learnt(update, numbers, algorithm.state(), metrics)
    if self._on_update is not None:
      self._on_update(update, metrics)
    return True

  def _propose(self, counts: Counts) -> bool:
    """Proposes one update if there is room for it; returns whether it did."""
    count = min(self._config.trials_per_update, self._config.num_trials - counts.sampled)
    if count <= 0 or counts.sampled - counts.finished + count > self._config.max_in_flight:
      return False
    update, first = self._store.latest_update() + 1, counts.sampled + 1
    proposals = self._restored_algorithm().propose(update, count)
    new_trials = [
      self._new_trial(first + index, update, proposal) for index, proposal in enumerate(proposals)
    ]
    # The files first: a worker may claim a trial as soon as it is in the store.
    for trial in new_trials:
      self._write_architecture(trial.number, trial.architecture)
    self._store.propose(new_trials)
    return True

  def _restored_algorithm(self) -> SearchAlgorithm:
    """Returns the algorithm in the state after the last update that was learnt from."""
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

  def _architecture_text(self, number: int, update: int, spec: PyramidSpec) -> str:
    return (
      f"# Search {self._search_dir.name}, trial {number}, update {update}, "
      f"algorithm {self._config.algorithm_name}.\n{architecture.to_gin(spec)}"
    )

  def _write_architecture(self, number: int, text: str) -> None:
    write_text(storage.trial_dir(self._search_dir, number) / "architecture.gin", text)


def _learning_reward(trial: Trial) -> float | None:
  """Returns what the algorithm is told about a finished trial; None leaves it out."""
  if trial.reward is not None:
    return trial.reward
  return _DIVERGED_REWARD if trial.diverged else None


def _show(bar, done: float, store: TrialStore) -> None:
  if best := store.best(1):
    bar.set_postfix({"best_reward": f"{best[0].reward:.4f}"}, refresh=False)
  # The bar itself decides when to draw, so it is shown the number instead of being told to add.
  shown = round(done, 1)
  bar.n = int(shown) if shown == int(shown) else shown
  bar.update(0)

"""The search loop: propose a batch, have it evaluated, learn from it, again.

The loop may be killed at any moment and run again with the same arguments. Whatever it does is one
transaction of the trial store, and what it draws depends on the seed and the update alone, so the
search ends as if nothing had happened.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.disk import write_text
from official_nasfpn.progress import progress_bar
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal, SearchAlgorithm
from official_nasfpn.search.algorithms.making import make_algorithm
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.store.trial_store import NewTrial, Trial, TrialStore
from official_nasfpn.search.workers.local_launcher import Launcher, LocalLauncher

_POLL_SECONDS = 0.2
# A diverged training is a bad architecture, and its reward that of one that finds nothing.
_DIVERGED_REWARD = 0.0


OnUpdate = Callable[[int, Mapping[str, float], Sequence[Trial]], None]


def run_search(
  config: SearchConfig,
  space: SearchSpace,
  search_dir: Path,
  worker_command: Sequence[str],
  num_workers: int,
  on_update: OnUpdate | None = None,
  store_url: str | None = None,
  recipe: str = "",
  resolve: Callable[[str], str] | None = None,
) -> list[Trial]:
  """Runs a search on local workers to its end, from wherever it was left.

  Args:
    config: of the search.
    space: that is searched.
    search_dir: where everything is kept; the caller holds `storage.exclusive(search_dir)`.
    worker_command: starts one worker; `--search_dir`, `--worker_id` and `--parent_pid` are added.
    num_workers: how many of them to keep running.
    on_update: given each update that was learnt from, what was measured, and all trials so far.
    store_url: of the database that trials are in; default: that of the search directory.
    recipe: resolved gin text, for the workers.
    resolve: see `TrialStore.begin`.

  Returns:
    All trials, finished.

  Raises:
    UserError: the directory cannot be written, or workers cannot start.
  """
  place = store_url or storage.new_store_place(search_dir)
  store = TrialStore(place, config.lease_seconds, config.max_attempts)
  with storage.search_disk_errors(search_dir):
    try:
      with store.exclusive():
        store.create()
        store.begin(recipe, code_fingerprint(), resolve)
        _Search(config, space, search_dir, store, on_update).run(worker_command, num_workers)
        return store.trials()
    finally:
      store.close()


class _Search:
  """One controller's run."""

  def __init__(
    self,
    config: SearchConfig,
    space: SearchSpace,
    search_dir: Path,
    store: TrialStore,
    on_update: OnUpdate | None,
  ):
    self._config = config
    self._space = space
    self._search_dir = search_dir
    self._store = store
    self._on_update = on_update
    self._algorithm: SearchAlgorithm | None = None

  def run(self, worker_command: Sequence[str], num_workers: int) -> None:
    trials = self._store.trials()
    self._write_missing_files(trials)
    finished = [trial for trial in trials if trial.is_finished]
    num_trials = self._config.num_trials
    learnt, _ = self._store.latest_snapshot()
    if len(finished) >= num_trials and all(trial.update <= learnt for trial in finished):
      return
    launcher = LocalLauncher(self._store, self._search_dir, worker_command, num_workers)
    with progress_bar(num_trials, "search", "trial", initial=len(finished)) as bar:
      try:
        best = _best_reward(finished)
        update = learnt + 1
        while batch := self._propose(update, launcher):
          batch = self._wait(batch, launcher, bar, best)
          best = max(best, _best_reward(batch))
          self._learn(update, batch)
          update += 1
      finally:
        launcher.close()

  def _propose(self, update: int, launcher: Launcher) -> list[Trial]:
    """Returns the trials of an update, proposed now or earlier; none when the search is over."""
    if batch := self._store.trials(update):
      return batch
    # All earlier updates are complete, so the next number follows from their sizes.
    first = len(self._store.trials()) + 1
    count = min(self._config.trials_per_update, self._config.num_trials - first + 1)
    if count <= 0:
      return []
    # Workers take a while to start, and so does the algorithm: let them do it together.
    launcher.tend(count)
    proposals = self._restored_algorithm().propose(update, count)
    new_trials = [
      self._new_trial(first + index, update, proposal) for index, proposal in enumerate(proposals)
    ]
    # The files first: a worker may claim a trial as soon as it is in the store.
    for trial in new_trials:
      self._write_architecture(trial.number, trial.architecture)
    self._store.propose(new_trials)
    return self._store.trials(update)

  def _wait(self, batch: list[Trial], launcher: Launcher, bar, best: float) -> list[Trial]:
    """Returns the batch when all of it is finished."""
    before = batch[0].number - 1
    later = self._config.num_trials - before - len(batch)
    while True:
      finished = [trial for trial in batch if trial.is_finished]
      running = sum(trial.progress for trial in batch if not trial.is_finished)
      bar.set_postfix(_postfix(max(best, _best_reward(finished)), batch), refresh=False)
      # The bar itself decides when to draw, so it is shown the number instead of being told to add.
      shown = round(float(before + len(finished) + running), 1)
      bar.n = int(shown) if shown.is_integer() else shown
      bar.update(0)
      if len(finished) == len(batch):
        return batch
      launcher.tend(len(batch) - len(finished) + later)
      self._store.release_expired()
      time.sleep(_POLL_SECONDS)
      batch = self._store.trials(batch[0].update)

  def _learn(self, update: int, batch: list[Trial]) -> None:
    algorithm = self._restored_algorithm()
    outcomes = [
      Outcome(Proposal(trial.choices, trial.log_probs), reward)
      for trial in batch
      if (reward := _learning_reward(trial)) is not None
    ]
    metrics = algorithm.learn(update, outcomes)
    self._store.mark_learnt(update, algorithm.state(), metrics)
    if self._on_update is not None:
      self._on_update(update, metrics, self._store.trials())

  def _restored_algorithm(self) -> SearchAlgorithm:
    """Returns the algorithm in the state after the last update that was learnt from."""
    if self._algorithm is None:
      self._algorithm = make_algorithm(self._config, self._space)
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
      f"algorithm {self._config.algorithm}.\n{architecture.to_gin(spec)}"
    )

  def _write_architecture(self, number: int, text: str) -> None:
    write_text(storage.trial_dir(self._search_dir, number) / "architecture.gin", text)

  def _write_missing_files(self, trials: Sequence[Trial]) -> None:
    for trial in trials:
      if not (storage.trial_dir(self._search_dir, trial.number) / "architecture.gin").exists():
        self._write_architecture(trial.number, trial.architecture)


def _learning_reward(trial: Trial) -> float | None:
  """Returns what the algorithm is told about a finished trial; None leaves it out."""
  if trial.reward is not None:
    return trial.reward
  return _DIVERGED_REWARD if trial.diverged else None


def _best_reward(trials: Sequence[Trial]) -> float:
  return max((trial.reward for trial in trials if trial.reward is not None), default=float("-inf"))


def _postfix(best: float, batch: Sequence[Trial]) -> dict[str, object]:
  postfix: dict[str, object] = {"update": batch[0].update}
  if best > float("-inf"):
    postfix["best_reward"] = f"{best:.4f}"
  return postfix

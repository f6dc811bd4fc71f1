"""Simulates a search on thousands of workers: how long do they wait for controller and store?

    python -m benchmarks.simulated_pool --num_workers 100 --num_workers 1000 --num_workers 5000
    python -m benchmarks.simulated_pool --store postgresql://... --num_workers 1000

Time is virtual. Trials take about an hour each, log-normally distributed. Some workers are
preempted in a trial and come back later. Rewards are a closed form of the architecture. The
controller (PPO, 25,000 trials), the trial store and every claim, renewal and report are real: the
time that each of them takes is measured and added to the virtual time of the process that waits.
"""

import concurrent.futures
import dataclasses
import heapq
import itertools
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from benchmarks.stopwatch import Stopwatch, in_words
from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec, SearchSpace
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.loop import SearchLoop
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.trial_worker import pause_seconds

_ALGORITHMS = {
  # Rewards have no noise: with less entropy PPO would soon repeat itself, and workers would have
  # nothing to train.
  "ppo": PPO(entropy_weight=0.02),
  "evolution": Evolution(population_size=100, tournament_size=25),
  "random": RandomSearch(),
}

_NUM_WORKERS = flags.DEFINE_multi_integer("num_workers", [100, 1000, 5000], "Number of workers.")
_NUM_TRIALS = flags.DEFINE_integer("num_trials", 25_000, "Trials of each search.")
_ALGORITHM = flags.DEFINE_enum("algorithm", "ppo", list(_ALGORITHMS), "The search algorithm.")
_TRIAL_SECONDS = flags.DEFINE_float("trial_seconds", 3600.0, "Median duration of a trial.")
_PREEMPTED = flags.DEFINE_float("preempted", 0.1, "Share of attempts whose worker is preempted.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the pool and of the search.")
_STORE = flags.DEFINE_string(
  "store", None, "URL of an empty database; {} stands for the number of workers. Default: SQLite."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the results.")

# Sigma of the logarithm: nine of ten trials take 0.72 to 1.39 times the median.
_SPREAD = 0.2
_TRIALS_PER_UPDATE = 100
# Workers renew a lease four times; a preempted worker is noticed after one lease at most.
_LEASE_SECONDS = 2400.0
# Mean time until a preempted worker is back.
_AWAY_SECONDS = 1800.0
# How often the controller polls the store.
_POLL_SECONDS = 60.0
# When everything is proposed, this share of the workers stays to repeat lost attempts. All others
# leave as soon as they find no trial.
_STAYING_SHARE = 0.02
# Workers arrive evenly within this time.
_ARRIVAL_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of one simulation; see the flags."""

  num_workers: int
  num_trials: int
  algorithm: str
  trial_seconds: float
  preempted: float
  seed: int
  store: str | None

  def search(self) -> SearchConfig:
    """Returns the settings of the search."""
    return SearchConfig(
      algorithm=_ALGORITHMS[self.algorithm],
      num_trials=self.num_trials,
      trials_per_update=_TRIALS_PER_UPDATE,
      # Some trials always wait for the lease of a preempted worker to expire.
      trials_in_flight=round(1.1 * self.num_workers) + _TRIALS_PER_UPDATE,
      seed=self.seed,
      lease_seconds=_LEASE_SECONDS,
      max_attempts=20,
    )


class Pool:
  """A pool of workers in virtual time; callers wait as long as an operation really takes."""

  def __init__(self, settings: Settings, search_dir: Path):
    self.settings = settings
    self.now = 0.0
    url = (
      settings.store.format(settings.num_workers) if settings.store else search_dir / "search.db"
    )
    config = settings.search()
    self.store = TrialStore(url, _LEASE_SECONDS, config.max_attempts, clock=lambda: self.now)
    self.store.create()
    self.loop = SearchLoop(config, SearchSpace(), search_dir, self.store)
    self.controller, self.claims, self.renewals, self.reports = (Stopwatch() for _ in range(4))
    self.worked = self.lost = self.waited = 0.0
    self.num_lost = 0
    self.memory_mb: list[tuple[int, float]] = []
    self._rng = random.Random(settings.seed)
    self._events: list[tuple] = []
    self._ties = itertools.count()
    self._names = itertools.count()
    self._idle: set[str] = set()
    self._counts = None
    self._all_proposed = False

  def run(self) -> None:
    """Runs the search to its end."""
    for _ in range(self.settings.num_workers):
      self._at(self._rng.uniform(0, _ARRIVAL_SECONDS), self._arrive)
    self._at(0.0, self._control)
    with progress_bar(
      self.settings.num_trials, f"{self.settings.num_workers} workers", "trial"
    ) as bar:
      while self._counts is None or not self.loop.is_over(self._counts):
        moment, _, action, arguments = heapq.heappop(self._events)
        # Later than planned if the controller was busy.
        self.now = max(self.now, moment)
        action(*arguments)
        bar.update(self._counts.finished - bar.n if self._counts else 0)

  def _at(self, moment: float, action: Callable, *arguments: object) -> None:
    heapq.heappush(self._events, (moment, next(self._ties), action, arguments))

  def _control(self) -> None:
    self.store.release_expired()
    self._counts = self.controller(self.loop.step)
    # Pessimistic: here no worker gets a trial while the controller computes.
    self.now += self.controller.last
    self._all_proposed = self._counts.sampled >= self.settings.num_trials
    if self._counts.finished // 1000 > len(self.memory_mb) - 1:
      self.memory_mb.append((self._counts.finished, resident_mb()))
    self._at(self.now + _POLL_SECONDS, self._control)

  def _arrive(self) -> None:
    self._claim(f"worker-{next(self._names)}", self.now)

  def _claim(self, worker: str, since: float) -> None:
    trial = self.claims(lambda: self.store.claim(worker))
    if trial is None:
      self._idle.add(worker)
      if self._all_proposed and len(self._idle) > 1 + _STAYING_SHARE * self.settings.num_workers:
        self._idle.remove(worker)
      else:
        self._at(self.now + pause_seconds(self.now - since), self._claim, worker, since)
      return
    self._idle.discard(worker)
    start = self.now + self.claims.last
    # Once everything is proposed, waiting is no overhead.
    if not self._all_proposed:
      self.waited += start - since
    duration = self._rng.lognormvariate(0, _SPREAD) * self.settings.trial_seconds
    is_lost = self._rng.random() < self.settings.preempted
    end = start + duration * (self._rng.random() if is_lost else 1)
    renewal = start + _LEASE_SECONDS / 4
    while renewal < end:
      self._at(renewal, self._renew, trial)
      renewal += _LEASE_SECONDS / 4
    self._at(end, self._vanish if is_lost else self._report, worker, trial, start)

  def _renew(self, trial) -> None:
    self.renewals(lambda: self.store.renew(trial.number, trial.attempt, 0.5))

  def _report(self, worker: str, trial, start: float) -> None:
    reward = closed_form_reward(architecture.from_gin(trial.architecture))
    assert self.reports(lambda: self.store.report_reward(trial.number, trial.attempt, reward))
    self.worked += self.now - start
    self._claim(worker, self.now + self.reports.last)

  def _vanish(self, worker: str, trial, start: float) -> None:
    self.lost += self.now - start
    self.num_lost += 1
    self._at(self.now + self._rng.expovariate(1 / _AWAY_SECONDS), self._arrive)


def simulate(settings: Settings) -> dict:
  """Runs one simulation and returns its results."""
  with tempfile.TemporaryDirectory() as folder:
    search_dir = Path(folder) / "search"
    search_dir.mkdir()
    pool = Pool(settings, search_dir)
    pool.run()
    timeline = pool.store.timeline()
    counts = pool.store.counts()
    pool.store.close()
    rewards = {row.number: row.reward for row in timeline if row.reward is not None}
    updates = pool.controller.seconds
    worked, store_seconds = pool.worked, [pool.claims, pool.renewals, pool.reports]
    asked = sum(sum(stopwatch.seconds) for stopwatch in store_seconds)
    files = [
      path for path in search_dir.rglob("*") if path.is_file() and "search.db" not in path.name
    ]
    return {
      **dataclasses.asdict(settings),
      "days": pool.now / 86400,
      "worker_hours": worked / 3600,
      "lost_hours": pool.lost / 3600,
      "lost_attempts": pool.num_lost,
      "sampled": counts.sampled,
      "unique": counts.unique,
      "trained": counts.done,
      "first_mean_reward": _mean(rewards, range(1, 1001)),
      "last_mean_reward": _mean(rewards, range(settings.num_trials - 999, settings.num_trials + 1)),
      "best_reward": max(rewards.values()),
      "waiting_share": pool.waited / worked,
      "asking_share": asked / worked,
      "overhead_share": (pool.waited + asked) / worked,
      "controller_busy_share": sum(updates) / pool.now,
      "store_busy_share": (asked + sum(updates)) / pool.now,
      "claim": pool.claims.figures(),
      "renewal": pool.renewals.figures(),
      "report": pool.reports.figures(),
      "controller_s": sum(updates),
      "memory_mb": pool.memory_mb,
      "restart_s": _restart_seconds(settings, search_dir),
      "database_mb": sum(p.stat().st_size for p in search_dir.glob("search.db*")) / 1e6,
      "folder_bytes_a_trial": sum(path.stat().st_size for path in files) / counts.sampled,
    }


def closed_form_reward(spec: PyramidSpec) -> float:
  """Returns a reward in [0, 1]: high for cells that pool and whose inputs lie far apart."""
  pooled = sum(cell.op == "global_pool" for cell in spec.cells) / spec.num_cells
  reach = [
    abs(a - b) / (spec.num_inputs + index - 1)
    for index, (a, b) in enumerate(cell.inputs for cell in spec.cells)
  ]
  return 0.5 * pooled + 0.5 * statistics.mean(reach)


def resident_mb() -> float:
  """Returns the resident memory of this process in MB."""
  return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def _mean(rewards: dict[int, float], numbers: range) -> float:
  return statistics.mean(rewards[number] for number in numbers if number in rewards)


def _restart_seconds(settings: Settings, search_dir: Path) -> float:
  """Returns the seconds that a new process needs to resume the search and propose an update."""
  more = dataclasses.replace(settings, num_trials=settings.num_trials + _TRIALS_PER_UPDATE)
  start = time.perf_counter()
  code = (
    "from benchmarks.simulated_pool import Settings, restart; "
    f"restart({more!r}, {str(search_dir)!r})"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
  return time.perf_counter() - start


def restart(settings: Settings, search_dir: str) -> None:
  """Resumes a search and proposes one more update."""
  pool = Pool(settings, Path(search_dir))
  pool.loop.write_missing_files()
  pool.now = 1e9
  assert pool.loop.step().sampled == settings.num_trials


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  # Each in a process of its own, so that its memory can be measured.
  processes = concurrent.futures.ProcessPoolExecutor(
    1, multiprocessing.get_context("spawn"), max_tasks_per_child=1
  )
  results = []
  for num_workers in _NUM_WORKERS.value:
    settings = Settings(
      num_workers=num_workers,
      num_trials=_NUM_TRIALS.value,
      algorithm=_ALGORITHM.value,
      trial_seconds=_TRIAL_SECONDS.value,
      preempted=_PREEMPTED.value,
      seed=_SEED.value,
      store=_STORE.value,
    )
    results.append(processes.submit(simulate, settings).result())
    if _OUTPUT.value:
      Path(_OUTPUT.value).write_text(json.dumps(results, indent=2) + "\n")
    print(_as_text(results[-1]), flush=True)


def _as_text(found: dict) -> str:
  memory = [megabytes for _, megabytes in found["memory_mb"]]
  times = ", ".join(in_words(found[name]) for name in ("claim", "renewal", "report"))
  percent = {
    name: f"{100 * found[f'{name}_share']:.3f} %"
    for name in ("overhead", "waiting", "asking", "controller_busy", "store_busy")
  }
  return "\n".join(
    [
      f"{found['num_workers']:,} workers: {found['sampled']:,} trials, {found['unique']:,} unique, "
      f"{found['lost_attempts']:,} attempts lost, {found['days']:.2f} days",
      f"  overhead              {percent['overhead']} of a worker's work: {percent['waiting']} "
      f"waiting for a trial, {percent['asking']} asking",
      f"  claim, renew, report  {times}",
      f"  busy                  controller {percent['controller_busy']}, store "
      f"{percent['store_busy']} of the time",
      f"  mean reward           {found['first_mean_reward']:.3f} of the first thousand, "
      f"{found['last_mean_reward']:.3f} of the last, best {found['best_reward']:.3f}",
      f"  memory                {memory[min(2, len(memory) - 1)]:.0f} MB early, "
      f"{memory[-1]:.0f} MB at the end",
      f"  restart               {found['restart_s']:.1f} s",
      f"  disk                  database {found['database_mb']:.0f} MB, "
      f"{found['folder_bytes_a_trial']:.0f} bytes a trial in its folder",
    ]
  )


if __name__ == "__main__":
  run_program(main)

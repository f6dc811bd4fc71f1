"""The cost of a whole search, estimated from trials that are measured before it starts."""

import dataclasses
import heapq
import statistics
from collections.abc import Sequence

from official_nasfpn.errors import UserError
from official_nasfpn.progress import duration
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.confirmation import largest_number_of_confirmations
from official_nasfpn.search.report.found import NOTHING_LEARNT
from official_nasfpn.search.store.trial import DONE, Trial


@dataclasses.dataclass(frozen=True)
class SearchPlan:
  """The cost of a search on a pool of workers.

  Attributes:
    config: settings of the search.
    num_workers: number of workers in the pool.
    num_measuring: number of workers that ran at the same time during the measurement.
    first_seconds: duration of a worker's first trial, which also starts TensorFlow.
    seconds: duration of each further trial.
    rewards: rewards of the measured trials.
  """

  config: SearchConfig
  num_workers: int
  num_measuring: int
  first_seconds: float
  seconds: float
  rewards: tuple[float, ...]

  @property
  def worker_hours(self) -> float:
    """Hours of work if every trial is trained to its end; repeated architectures need none."""
    config, per_worker = self.config, self.config.trials_per_worker
    num_trainings = config.num_trials + largest_number_of_confirmations(config)
    starts = -(-num_trainings // per_worker) if per_worker else min(self.num_workers, num_trainings)
    # A worker begins anew with each further seed.
    starts += config.confirm_seeds * min(self.num_workers, config.confirm_top, config.num_trials)
    return (num_trainings * self.seconds + starts * (self.first_seconds - self.seconds)) / 3600

  @property
  def days(self) -> float:
    """Days that the search takes on the pool, including the time that workers wait for trials."""
    num_trainings = self.config.num_trials + largest_number_of_confirmations(self.config)
    mean_seconds = 3600 * self.worker_hours / num_trainings
    return wall_seconds(self.config, self.num_workers, mean_seconds) / 86400

  @property
  def busy_share(self) -> float:
    """The share of the pool's time in which workers are busy, in [0, 1]."""
    return self.worker_hours / (24 * self.days * self.num_workers)

  def as_text(self) -> str:
    """Returns the plan as text for people."""
    config = self.config
    rewards = ", ".join(f"{reward:.3f}" for reward in self.rewards)
    lines = [
      f"measured         {len(self.rewards)} trial{'' if len(self.rewards) == 1 else 's'}, "
      f"{self.num_measuring} at a time, "
      f"rewards {rewards}",
      f"a trial          {duration(self.seconds)}, a worker's first one "
      f"{duration(self.first_seconds)}",
      f"the search       {config.num_trials:,} trials{and_confirmations(config)}: "
      f"{duration(3600 * self.worker_hours)} of one worker if all are trained to their end",
      f"on this pool     {duration(86400 * self.days)} with {self.num_workers} workers, busy "
      f"{100 * self.busy_share:.0f} % of the time",
    ]
    if len(self.rewards) <= self.num_measuring:
      lines.append(
        "                 No worker trained a second one: each is taken to last as long as a first."
      )
    needed = in_flight_that_keeps_busy(config, self.num_workers)
    if needed > config.max_in_flight and self.busy_share < 0.9:
      lines.append(
        f"                 Search.trials_in_flight = {needed} would keep them busy; the controller "
        "then proposes trials before it has learnt from all earlier ones."
      )
    if max(self.rewards) <= 0:
      lines.append(NOTHING_LEARNT)
    return "\n".join(lines)


def and_confirmations(config: SearchConfig) -> str:
  """Returns the words ` and N trainings that confirm the best M`; nothing without confirmations."""
  count = largest_number_of_confirmations(config)
  if not count:
    return ""
  top = min(config.confirm_top, config.num_trials)
  trainings = "1 training that confirms" if count == 1 else f"{count:,} trainings that confirm"
  return f" and {trainings} the best{'' if top == 1 else f' {top:,}'}"


def plan_of(trials: Sequence[Trial], config: SearchConfig, num_workers: int) -> SearchPlan:
  """Returns the cost of a search.

  Args:
    trials: measured trials, two for each worker; those that repeat another one's architecture were
      not trained and tell nothing.
    config: settings of the search.
    num_workers: number of workers in the pool of the search.

  Raises:
    UserError: no trial gave a reward.
  """
  done = sorted((t for t in trials if t.state == DONE), key=lambda trial: trial.started_at)
  if not done:
    raise UserError(
      f"None of the {len(trials)} measured trials gave a reward. The first failed because: "
      f"{trials[0].failure}."
    )
  first = {trial.worker: trial for trial in reversed(done)}
  further = [trial.seconds for trial in done if trial is not first[trial.worker]]
  firsts = [trial.seconds for trial in first.values()]
  return SearchPlan(
    config,
    num_workers,
    num_measuring=len(first),
    first_seconds=statistics.mean(firsts),
    # A fast worker may have taken all further trials before another one was ready; in a small space
    # there may be none.
    seconds=statistics.mean(further or firsts),
    rewards=tuple(trial.reward for trial in done),
  )


def wall_seconds(config: SearchConfig, num_workers: int, seconds: float) -> float:
  """Returns the duration of a search in seconds, if all trials take equally long.

  An update is proposed as soon as the trials in flight leave room for it; confirmations when all
  trials have ended.

  Args:
    config: settings of the search.
    num_workers: number of workers in the pool.
    seconds: duration of a trial.
  """
  workers = [0.0] * num_workers
  in_flight: list[float] = []
  left, now = config.num_trials, 0.0
  while left > 0:
    while len(in_flight) + min(config.trials_per_update, left) > config.max_in_flight:
      now = heapq.heappop(in_flight)
    for _ in range(min(config.trials_per_update, left)):
      end = max(heapq.heappop(workers), now) + seconds
      heapq.heappush(workers, end)
      heapq.heappush(in_flight, end)
      left -= 1
  rounds_of_confirmations = -(-largest_number_of_confirmations(config) // num_workers)
  return max(in_flight) + rounds_of_confirmations * seconds


def in_flight_that_keeps_busy(config: SearchConfig, num_workers: int) -> int:
  """Returns the number of trials in flight at which no worker waits for another."""
  return num_workers + config.trials_per_update

r"""What preemption costs a search: the same one undisturbed, and with workers killed at random.

    python -m benchmarks.preempted_search --output_dir OUT --mean_seconds 30

Flags of `nasfpn search` stand at the end, behind a `--` of their own: `-- --gin_file
gin/quickstart_search.gin --num_workers 2`. `{run}` in them is the name of the run, for searches
that cannot share a place: `--store=postgresql://user@host/search_{run}`. With `--launcher=ray`, all
nodes of the cluster must be on this machine.

A machine that is taken away sends SIGTERM and kills what is left a little later; or it sends
nothing. So, on average once in `--mean_seconds`, one worker that is drawn at random gets SIGTERM
and up to five seconds later SIGKILL, or, in `--without_warning` of the cases, SIGKILL alone.
"""

import contextlib
import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from absl import flags

from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError, run_program
from official_nasfpn.progress import duration
from official_nasfpn.search.search import Search
from official_nasfpn.search.store.trial import Trial

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "For both searches.", required=True)
_MEAN_SECONDS = flags.DEFINE_float(
  "mean_seconds", 30.0, "Mean time between two preemptions.", lower_bound=1.0
)
_WITHOUT_WARNING = flags.DEFINE_float(
  "without_warning", 0.3, "Share of preemptions by SIGKILL alone.", lower_bound=0.0, upper_bound=1.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seeds times and victims of the preemptions.")

_LOOK_SECONDS = 0.25
_LONGEST_GRACE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Run:
  """A search that has ended.

  Attributes:
    seconds: its duration.
    worker_seconds: processor time of all its workers, of lost attempts, too.
    warned: preemptions that began with SIGTERM.
    unwarned: preemptions by SIGKILL alone.
    trials: its trials, by number.
  """

  seconds: float
  worker_seconds: float
  warned: int
  unwarned: int
  trials: Sequence[Trial]


class Workers:
  """The worker processes of a search on this machine, and the processor time that they took."""

  def __init__(self, search_dir: Path):
    self._mark = f"--search_dir={search_dir}"
    self._seconds: dict[tuple[int, float], float] = {}

  def look(self) -> list[psutil.Process]:
    """Returns the workers that are alive."""
    alive = []
    for process in psutil.process_iter():
      try:
        command = process.cmdline()
        if "official_nasfpn.worker" in command and self._mark in command:
          times = process.cpu_times()
          key = (process.pid, process.create_time())
          self._seconds[key] = times.user + times.system
          alive.append(process)
      except psutil.Error:
        continue
    return alive

  @property
  def processor_seconds(self) -> float:
    """Processor time of all workers that were seen, as of the last look."""
    return sum(self._seconds.values())


def main(argv: list[str]) -> None:
  folder = Path(_OUTPUT_DIR.value).resolve()
  for taken in ("search_dir", "help"):
    if any(argument.startswith(f"--{taken}") for argument in argv):
      raise UserError(f"--{taken} cannot stand behind `--`: this program sets it.")
  runs = {}
  for name, mean_seconds in (("undisturbed", None), ("preempted", _MEAN_SECONDS.value)):
    runs[name] = run(folder / name, [a.replace("{run}", name) for a in argv[1:]], mean_seconds)
    print(f"{name}: {duration(runs[name].seconds)}", flush=True)
  print(table(**runs))
  write_text(folder / "runs.json", json.dumps({k: as_data(v) for k, v in runs.items()}, indent=1))


def run(search_dir: Path, arguments: Sequence[str], mean_seconds: float | None) -> Run:
  """Runs a search to its end, and preempts its workers if a mean time between two is given."""
  rng = random.Random(_SEED.value)
  workers = Workers(search_dir)
  command = [sys.executable, "-m", "official_nasfpn", "search", f"--search_dir={search_dir}"]
  begin = time.monotonic()
  controller = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL)
  next_at = begin + rng.expovariate(1 / mean_seconds) if mean_seconds else float("inf")
  kill_at: dict[psutil.Process, float] = {}
  warned = unwarned = 0
  try:
    while controller.poll() is None:
      time.sleep(_LOOK_SECONDS)
      alive, now = workers.look(), time.monotonic()
      if now >= next_at and alive:
        victim = rng.choice(sorted(alive, key=lambda process: process.pid))
        if rng.random() < _WITHOUT_WARNING.value:
          _send(victim, signal.SIGKILL)
          unwarned += 1
        else:
          _send(victim, signal.SIGTERM)
          kill_at[victim] = now + rng.uniform(0, _LONGEST_GRACE_SECONDS)
          warned += 1
        next_at = now + rng.expovariate(1 / mean_seconds)
      for victim in [process for process, at in kill_at.items() if now >= at]:
        _send(victim, signal.SIGKILL)
        del kill_at[victim]
  finally:
    controller.terminate()
    controller.wait()
  if controller.returncode:
    raise UserError(f"The search in {search_dir} has failed; its words are above.")
  seconds = time.monotonic() - begin
  store = next((a.partition("=")[2] for a in arguments if a.startswith("--store=")), None)
  trials = Search(search_dir, store=store).trials()
  return Run(seconds, workers.processor_seconds, warned, unwarned, trials)


def _send(process: psutil.Process, number: signal.Signals) -> None:
  # psutil checks that the number of the process is not another's by now.
  with contextlib.suppress(psutil.NoSuchProcess):
    process.send_signal(number)


def table(undisturbed: Run, preempted: Run) -> str:
  """Returns both runs side by side, and whether they ended alike, as text."""
  pairs = list(zip(undisturbed.trials, preempted.trials, strict=True))
  alike = sum(one.choices == other.choices for one, other in pairs)
  gaps = [abs(a.reward - b.reward) for a, b in pairs if None not in (a.reward, b.reward)]
  same = sum(one.reward == other.reward for one, other in pairs)
  lines = [
    f"{'':30}{'undisturbed':>12}{'preempted':>12}",
    *(
      f"{name:30}{of(undisturbed):>12}{of(preempted):>12}"
      for name, of in {
        "duration": lambda run: duration(run.seconds),
        "processor time of workers": lambda run: duration(run.worker_seconds),
        "preempted with a warning": lambda run: f"{run.warned}",
        "preempted without": lambda run: f"{run.unwarned}",
        "attempts": lambda run: f"{sum(t.attempt for t in run.trials if t.reused_from is None)}",
        "trials that count a death": lambda run: f"{sum(t.deaths > 0 for t in run.trials)}",
        "failed trials": lambda run: f"{sum(t.state == 'failed' for t in run.trials)}",
        "best reward": lambda run: f"{max(t.reward or 0.0 for t in run.trials):.4f}",
      }.items()
    ),
    f"{alike} of {len(pairs)} trials have the same architecture, {same} the same reward; the "
    f"largest difference of rewards is {max(gaps, default=0.0):.4f}.",
  ]
  return "\n".join(lines)


def as_data(run: Run) -> dict:
  """Returns a run as data for JSON."""
  trials = [
    {"number": t.number, "reward": t.reward, "attempt": t.attempt, "deaths": t.deaths}
    for t in run.trials
  ]
  return {**dataclasses.asdict(dataclasses.replace(run, trials=())), "trials": trials}


if __name__ == "__main__":
  run_program(main)

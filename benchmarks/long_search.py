"""What a search of 50,000 trials costs whoever looks at it or continues it: seconds, bytes, memory.

    python -m benchmarks.long_search --folder /tmp/long_search

The trials are proposed and learnt from through the trial store's own interface, with drawn
architectures. Their results are drawn, too, and written in one statement: so many reports would
take half an hour. A folder that holds such a search is measured again. Each measurement is a
process of its own, from its start to its end.
"""

import contextlib
import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

from official_nasfpn import architecture
from official_nasfpn.architecture import SearchSpace, canonical_hash
from official_nasfpn.disk import write_text
from official_nasfpn.progress import progress_bar
from official_nasfpn.search import storage
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.events import EventLog
from official_nasfpn.search.store.trial import NewTrial
from official_nasfpn.search.store.trial_store import TrialStore

_FOLDER = flags.DEFINE_string("folder", None, "Where the search is, or is made.", required=True)
_NUM_TRIALS = flags.DEFINE_integer("num_trials", 50_000, "Trials to make.")

_PER_UPDATE = 20
# Of the trials: some fail, some repeat an earlier architecture.
_FAILED, _REPEATED = 0.02, 0.1
# Of one batch, so that one transaction proposes many updates.
_BATCH = 1000

_CONTROLLER = """
import sys
from pathlib import Path
from official_nasfpn.search import storage
from official_nasfpn.search.loop import SearchLoop, begun_store
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.events import EventLog
search_dir = Path(sys.argv[1])
recipe = read_recipe([storage.stored_recipe(search_dir)])
with storage.exclusive(search_dir), begun_store(search_dir, recipe) as store:
  loop = SearchLoop(recipe.search, recipe.space, search_dir, store)
  loop.write_missing_files()
  assert loop.is_over(store.counts())
  EventLog(search_dir / "events").add_missing(store)
"""


def main(_: list[str]) -> None:
  folder = Path(_FOLDER.value)
  search_dir = folder / "search"
  if not storage.database_path(search_dir).exists():
    # In a process of its own: those measured below begin with the memory of their parent.
    making = multiprocessing.Process(target=make, args=(search_dir, _NUM_TRIALS.value))
    making.start()
    making.join()
    if making.exitcode:
      raise RuntimeError("The search could not be made.")
  report = folder / "report.html"
  program = [sys.executable, "-m"]
  for name, command in {
    "import alone": [sys.executable, "-c", "import official_nasfpn.search.search"],
    "search --status": [*program, "official_nasfpn.search", "--status", "--search_dir", search_dir],
    "report": [*program, "official_nasfpn.report", search_dir, "--output", report],
    "controller start": [sys.executable, "-c", _CONTROLLER, search_dir],
  }.items():
    seconds, processor_seconds, megabytes = measured(list(map(str, command)))
    print(
      f"{name:18} {seconds:6.1f} s, {processor_seconds:5.1f} s of processors, {megabytes:5.0f} MB",
      flush=True,
    )
  print(f"report.html        {report.stat().st_size / 1e6:6.2f} MB")


def measured(command: list[str]) -> tuple[float, float, float]:
  """Returns the seconds that a process takes, those of processors, and its most memory in MB."""
  begin = time.perf_counter()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    raise RuntimeError(f"{command} has failed.")
  seconds = time.perf_counter() - begin
  return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def make(search_dir: Path, num_trials: int) -> None:
  """Makes a finished search."""
  recipe = read_recipe(
    gin_params=[
      f"Search.num_trials = {num_trials}",
      "Search.algorithm = @RandomSearch()",
      f"Search.trials_per_update = {_PER_UPDATE}",
    ]
  )
  search_dir.mkdir(parents=True)
  storage.settle_recipe(recipe, search_dir)
  rng, space = random.Random(0), SearchSpace()
  store = TrialStore(storage.database_path(search_dir))
  store.create()
  store.begin(recipe.to_gin(), recipe.version, code_fingerprint())
  specs = []
  with progress_bar(num_trials, "make", "trial") as bar:
    for first in range(1, num_trials + 1, _BATCH):
      trials = []
      for number in range(first, min(first + _BATCH, num_trials + 1)):
        repeats = specs and rng.random() < _REPEATED
        spec = rng.choice(specs) if repeats else space.sample(rng)
        specs.append(spec)
        update = (number - 1) // _PER_UPDATE + 1
        text = f"# Search {search_dir.name}, trial {number}.\n{architecture.to_gin(spec)}"
        choices = tuple(rng.randrange(8) for _ in range(28))
        log_probs = tuple(-rng.random() for _ in choices)
        trials.append(NewTrial(number, update, choices, log_probs, canonical_hash(spec), text))
        write_text(storage.trial_dir(search_dir, number) / "architecture.gin", text)
        bar.update()
      store.propose(trials)
  _write_results(search_dir, num_trials, rng)
  for update in range(1, -(-num_trials // _PER_UPDATE) + 1):
    numbers = range((update - 1) * _PER_UPDATE + 1, min(update * _PER_UPDATE, num_trials) + 1)
    store.mark_learnt(
      update, [*numbers], b"", {"entropy": 2 - update / num_trials, "baseline": 0.1}
    )
  EventLog(search_dir / "events").write(store.trials(), store.metrics())
  store.close()


def _write_results(search_dir: Path, num_trials: int, rng: random.Random) -> None:
  """Gives every trial that is queued the result of a training of an hour on one of 100 workers."""
  rows = []
  for number in range(1, num_trials + 1):
    diverged = rng.random() < _FAILED
    ap = rng.random() * (0.2 + 0.1 * number / num_trials)
    metrics = {"AP": ap, "multiply_adds": rng.randrange(10**9, 10**10)}
    end = 1.8e9 + 36.0 * number
    rows.append(
      {
        "number": number,
        "state": "failed" if diverged else "done",
        "worker": f"node-{rng.randrange(100)}",
        "reward": None if diverged else ap,
        "metrics": "{}" if diverged else json.dumps(metrics),
        "failure": f"the loss became NaN at step {rng.randrange(1000)}" if diverged else None,
        "diverged": diverged,
        "seconds": (seconds := rng.uniform(3000, 4000)),
        "started_at": end - seconds,
        "finished_at": end,
      }
    )
  setting = ", ".join(f"{name} = :{name}" for name in rows[0] if name != "number")
  with contextlib.closing(sqlite3.connect(storage.database_path(search_dir))) as database, database:
    database.executemany(
      f"UPDATE trials SET attempt = 1, progress = 1, {setting} "
      "WHERE number = :number AND state = 'queued'",
      rows,
    )


if __name__ == "__main__":
  app.run(main)

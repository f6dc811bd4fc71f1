r"""Whether the pyramid that a search finds is better than one that is known, from search to test.

    python -m benchmarks.does_searching_pay --data_dir DATA --backbone_weights FILE \
        --output_dir OUT --figure pays.png

Every algorithm searches with several seeds, at equal numbers of trials, on a part of the training
images that is held out. The best architectures of each search are trained at full length, as are
FPN, NAS-FPN, and architectures that were drawn at random and not chosen. What is reported is AP on
the validation images, once at the end of each training: nothing was chosen by them. Finished work
is not repeated, and an interrupted command continues; `--only_table` shows what is there. Where
there are many processors, `--num_at_once` jobs that share them do more in an hour than one.

`results.json` has all finished searches and trainings. With `--earlier` another machine, which does
not have their folders, goes on from there.
"""

import functools
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from absl import flags

from benchmarks.searched_and_known import (
  BASELINES,
  NOT_CHOSEN,
  Candidate,
  Found,
  draw,
  from_json,
  table,
  to_json,
)
from official_nasfpn.architecture import CATALOG, canonical_hash
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.report.found import best_trials
from official_nasfpn.search.search import Search
from official_nasfpn.search.store.trial import Trial

GIN = Path(__file__).resolve().parent.parent / "gin"
ALGORITHMS = {"PPO": "@PPO()", "evolution": "@Evolution()", "random search": "@RandomSearch()"}

_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Prepared data; its validation images are the test.", required=True
)
_BACKBONE_WEIGHTS = flags.DEFINE_string(
  "backbone_weights", None, "File that all backbones start from; default: what the recipes say."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for everything.", required=True)
_SEARCH_FILE = flags.DEFINE_string(
  "search_file", str(GIN / "finetune_search.gin"), "Recipe of the searches."
)
_FINAL_FILE = flags.DEFINE_string(
  "final_file", str(GIN / "finetune.gin"), "Recipe of the final trainings."
)
_SEARCH_PARAM = flags.DEFINE_multi_string("search_param", [], "Binding for the searches.")
_FINAL_PARAM = flags.DEFINE_multi_string("final_param", [], "Binding for the final trainings.")
_NUM_SEARCHES = flags.DEFINE_integer("num_searches", 3, "Searches by algorithm.", lower_bound=2)
_NUM_FINALISTS = flags.DEFINE_integer("num_finalists", 3, "Best of each search.", lower_bound=1)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Trainings of an architecture.", lower_bound=2)
_NUM_RANDOM = flags.DEFINE_integer("num_random", 6, "Not chosen architectures.", lower_bound=2)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 2, "Workers of a search.", lower_bound=1)
_NUM_AT_ONCE = flags.DEFINE_integer(
  "num_at_once", 1, "Searches or trainings at the same time, each on its cores.", lower_bound=1
)
_EARLIER = flags.DEFINE_string("earlier", None, "results.json of a part that is done.")
_ONLY_TABLE = flags.DEFINE_bool("only_table", False, "Search and train nothing.")
_FIGURE = flags.DEFINE_string("figure", None, "Image of all AP, .png, .svg or .pdf.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  out = Path(_OUTPUT_DIR.value)
  earlier = _read_earlier(Path(_EARLIER.value)) if _EARLIER.value else {}
  done = {(candidate.group, candidate.search) for candidate in earlier}
  if not _ONLY_TABLE.value:
    searches = [(name, seed) for seed in range(_NUM_SEARCHES.value) for name in ALGORITHMS]
    jobs = [functools.partial(_search, *search) for search in searches if search not in done]
    _run_all("searches", "search", jobs)
  candidates = _candidates(earlier)
  if not _ONLY_TABLE.value:
    known = {(c.name, seed) for c, aps in earlier.items() for seed in range(len(aps))}
    # In an order that has a first result of everything before a second of anything.
    trainings = sorted(
      ((c, s) for c in candidates for s in range(_seeds_of(c)) if (c.name, s) not in known),
      key=lambda one: (max(one[0].rank, 1) + one[1], one[0].rank, one[1]),
    )
    # Once for each folder: what two searches have found is one training.
    unique = {_run_dir(*one, out): functools.partial(_train, *one, out) for one in trainings}
    _run_all("trainings", "training", list(unique.values()))
  # What two searches have found stands there twice; only its best rank is trained with all seeds.
  by_length = sorted(earlier.items(), key=lambda item: len(item[1]))
  known_aps = {candidate.name: aps for candidate, aps in by_length}
  found = {c: _aps(c, out, known_aps.get(c.name, ())) for c in candidates}
  print(table(found))
  write_text(out / "results.json", to_json(found))
  if _FIGURE.value:
    draw(found, Path(_FIGURE.value))


def _read_earlier(path: Path) -> Found:
  try:
    return from_json(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"--earlier {path} is no results.json of this program: {error}") from error


def _search_dir(name: str, seed: int) -> Path:
  return Path(_OUTPUT_DIR.value) / "searches" / f"{name.replace(' ', '_')}_{seed}"


def _run_all(what: str, unit: str, jobs: Sequence[Callable[[set[int]], None]]) -> None:
  """Runs jobs, `--num_at_once` of them at a time, each on processors of its own.

  Raises:
    UserError: one has failed; those that run then end first.
  """
  num_at_once = _NUM_AT_ONCE.value
  processors = sorted(os.sched_getaffinity(0))
  if num_at_once > len(processors):
    raise UserError(f"--num_at_once is {num_at_once}, but there are {len(processors)} processors.")
  shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
  for first in range(num_at_once):
    shares.put(set(processors[first::num_at_once]))

  def run(job: Callable[[set[int]], None]) -> None:
    share = shares.get()
    try:
      job(share)
    finally:
      shares.put(share)

  with (
    progress_bar(len(jobs), what, unit) as bar,
    ThreadPoolExecutor(num_at_once) as pool,
  ):
    running = [pool.submit(run, job) for job in jobs]
    try:
      for done in as_completed(running):
        done.result()
        bar.update()
    finally:
      pool.shutdown(cancel_futures=True)


def _search(name: str, seed: int, processors: set[int]) -> None:
  params = (
    f"Search.algorithm = {ALGORITHMS[name]}",
    f"Search.seed = {seed}",
    # What is shared is taught anew for each search: its luck is part of what is compared.
    f"Training.seed = {seed}",
    f"Input.data_dir = {_DATA_DIR.value!r}",
    *_SEARCH_PARAM.value,
  )
  _run(
    "search",
    f"--gin_file={_SEARCH_FILE.value}",
    *(f"--gin_param={param}" for param in params),
    *_weights(),
    f"--search_dir={_search_dir(name, seed)}",
    f"--num_workers={_NUM_WORKERS.value}",
    log=_search_dir(name, seed).with_suffix(".log"),
    processors=processors,
  )


def _train(candidate: Candidate, seed: int, out: Path, processors: set[int]) -> None:
  run = _run_dir(candidate, seed, out)
  if (run / "evaluation.json").is_file():
    return
  architecture = candidate.architecture
  if candidate.reward is not None:
    path = run.parent / "architecture.gin"
    write_text(path, architecture)
    architecture = str(path)
  _run(
    "train",
    f"--gin_file={_FINAL_FILE.value}",
    f"--gin_param=Training.seed = {seed}",
    # Once, at the end: a best evaluation would be chosen by the images of the test.
    "--gin_param=Training.evaluation_epochs = 1e6",
    *(f"--gin_param={param}" for param in _FINAL_PARAM.value),
    *_weights(),
    f"--architecture={architecture}",
    f"--data_dir={_DATA_DIR.value}",
    f"--model_dir={run}",
    log=run.with_suffix(".log"),
    processors=processors,
  )


def _weights() -> list[str]:
  return [f"--backbone_weights={_BACKBONE_WEIGHTS.value}"] if _BACKBONE_WEIGHTS.value else []


def _run(program: str, *arguments: str, log: Path, processors: set[int]) -> None:
  log.parent.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, "-m", "official_nasfpn", program, *arguments]
  with (
    open(log, "a", encoding="utf-8") as file,
    subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process,
  ):
    # Before TensorFlow counts them, which it does a second later.
    os.sched_setaffinity(process.pid, processors)
  if process.returncode:
    raise UserError(f"`nasfpn {program}` has failed; see {log}.")


def _candidates(earlier: Found) -> list[Candidate]:
  """Returns what is trained at full length, as far as the searches have ended."""
  found = [_baseline(name, key) for name, key in BASELINES.items()]
  for name in ALGORITHMS:
    for seed in range(_NUM_SEARCHES.value):
      known = [c for c in earlier if (c.group, c.search) == (name, seed)]
      ranked = enumerate(best_trials(_trials(name, seed)), start=1)
      found += known or [_of_trial(name, seed, rank, trial) for rank, trial in ranked]
  # What a search begins with was not drawn.
  catalog = {canonical_hash(pyramid) for pyramid in CATALOG.values()}
  trials = [t for t in _trials("random search", 0) if t.architecture_hash not in catalog]
  drawn = [c for c in earlier if c.group == NOT_CHOSEN] or [
    _of_trial(NOT_CHOSEN, 0, 0, trial) for trial in trials[: _NUM_RANDOM.value]
  ]
  return [*(c for c in found if c.rank <= _NUM_FINALISTS.value), *drawn]


def _baseline(name: str, key: str) -> Candidate:
  # A search that finds it again, or begins with it, shares its trainings.
  folder = canonical_hash(CATALOG[key]) if key in CATALOG else key
  return Candidate(name, None, 1, folder, key)


def _trials(name: str, seed: int) -> list[Trial]:
  """Returns the trials of a search with a reward, each architecture once; none before its end."""
  search_dir = _search_dir(name, seed)
  if not (search_dir / "result.json").is_file():
    return []
  trials = Search(search_dir).trials()
  return [trial for trial in trials if trial.reward is not None and trial.reused_from is None]


def _of_trial(group: str, seed: int, rank: int, trial: Trial) -> Candidate:
  reward = trial.mean_reward
  return Candidate(group, seed, rank, trial.architecture_hash, trial.architecture, reward)


def _seeds_of(candidate: Candidate) -> int:
  """Returns the number of trainings: all seeds for what decides, one for the others."""
  return _NUM_SEEDS.value if candidate.rank == 1 else 1


def _run_dir(candidate: Candidate, seed: int, out: Path) -> Path:
  # By architecture: what two searches have found is trained once.
  return out / "finals" / candidate.name / f"seed_{seed}"


def _aps(candidate: Candidate, out: Path, known: Sequence[float]) -> tuple[float, ...]:
  """Returns the AP of the finished trainings of an architecture, by seed, up to the first gap."""
  aps = list(known[: _seeds_of(candidate)])
  while len(aps) < _seeds_of(candidate):
    file = _run_dir(candidate, len(aps), out) / "evaluation.json"
    if not file.is_file():
      break
    aps.append(json.loads(file.read_text(encoding="utf-8"))["metrics"]["AP"])
  return tuple(aps)


if __name__ == "__main__":
  run_program(main)

"""Searches to report on, made with the real trial store."""

import contextlib
import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash, to_gin
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore

# What a report must show as it is, and never take for markup.
WORKER = '<img src=x onerror="alert(1)">&amp;'
REASON = "<script>alert(1)</script> NaN\x1b[31m at step {}"

_RECIPE = """
Search.algorithm = @PPO()
Search.num_trials = {num_trials}

Search.seed = 7

Input.data_dir = 'data/<i>cells</i>'

Detector.backbone = 'R-10'
Detector.num_repeats = 2
Detector.num_filters = 32
Detector.image_size = (256, 256)
Detector.separable_convolutions = False
# </script><b>bold</b>
"""


def new_search(
  search_dir: Path,
  num_trials: int,
  specs: Sequence[PyramidSpec | None],
  clock: Callable[[], float] | None = None,
) -> TrialStore:
  """Returns the store of a search whose trials are all proposed, five an update.

  Specs at different places count as different architectures; None repeats the first.
  """
  storage.recipe_path(search_dir).write_text(_RECIPE.format(num_trials=num_trials))
  store = TrialStore(storage.database_path(search_dir), clock=clock)
  store.create()
  store.propose(
    [
      NewTrial(
        number,
        (number + 4) // 5,
        (),
        (),
        f"{canonical_hash(specs[0])}-1" if spec is None else f"{canonical_hash(spec)}-{number}",
        _text(search_dir, number, specs[0] if spec is None else spec),
      )
      for number, spec in enumerate(specs, start=1)
    ]
  )
  return store


def eventful_search(search_dir: Path) -> None:
  """Makes 9 trials: 3 done (one stopped early), 1 reused, 3 failed, 1 running, 1 queued."""
  rng = random.Random(0)
  specs: list[PyramidSpec | None] = [SearchSpace().sample(rng) for _ in range(9)]
  specs[3] = None
  store = new_search(search_dir, 20, specs)
  for number, worker, reward in ((1, WORKER, 0.25), (2, "b", 0.5), (3, WORKER, 0.125)):
    measured = {"AP": reward, "stopped_at": 0.5 if number == 3 else None}
    store.report_reward(number, store.claim(worker).attempt, reward, measured)
  for number, worker, reason in (
    (5, WORKER, REASON.format(7)),
    (6, WORKER, REASON.format(12)),
    (7, "b", "out of memory"),
  ):
    store.report_failure(number, store.claim(worker).attempt, reason)
  measured = {"entropy": 1.5, "approx_kl": 0.01, "clipped_share": 0.125, "baseline": 0.25}
  store.mark_learnt(1, [trial.number for trial in store.trials(1)], b"", measured)
  store.mark_learnt(2, [], b"", measured)
  store.claim("b")
  store.close()


def rewarded_search(search_dir: Path, specs: Sequence[PyramidSpec], seed: int = 0) -> None:
  """Makes a search whose trials all have a reward, drawn at random."""
  store = new_search(search_dir, len(specs), specs)
  rng = random.Random(seed)
  for number in range(1, len(specs) + 1):
    store.report_reward(number, store.claim(f"worker-{number % 3}").attempt, rng.random())
  store.close()


def confirmed_search(search_dir: Path, num_confirmed: int | None = None) -> None:
  """Makes a search of 30 trials, the best five of which are trained with two further seeds.

  The greatest reward, 0.34 of trial 30, becomes a mean of 0.30; trial 28 leads with 0.32. One
  confirmation fails.

  Args:
    search_dir: of the search.
    num_confirmed: how many confirmations have ended; None for all ten.
  """
  rng = random.Random(0)
  store = new_search(search_dir, 30, [SearchSpace().sample(rng) for _ in range(30)])
  with storage.recipe_path(search_dir).open("a") as file:
    file.write("\nSearch.confirm_top = 5\n")
  for number in range(1, 31):
    reward = 0.2 + number / 500 if number <= 25 else 0.28 + number / 500
    store.report_reward(number, store.claim("a").attempt, reward)
  store.mark_learnt(1, range(1, 31), b"", {})
  trials = {trial.number: trial for trial in store.trials()}
  # Of trials 30, 29, 28, 27 and 26, seed after seed.
  rewards = (0.275, 0.295, 0.315, 0.28, 0.27, 0.285, None, 0.309, 0.29, 0.282)
  store.propose(
    [
      NewTrial(
        31 + index,
        trials[confirms].update,
        (),
        (),
        trials[confirms].architecture_hash,
        trials[confirms].architecture,
        confirms,
        1 + index // 5,
      )
      for index, confirms in enumerate((30, 29, 28, 27, 26) * 2)
    ]
  )
  for reward in rewards[:num_confirmed]:
    trial = store.claim("a")
    if reward is None:
      store.report_failure(trial.number, trial.attempt, "out of memory")
    else:
      store.report_reward(trial.number, trial.attempt, reward)
  store.close()


def front_search(
  search_dir: Path, points: Sequence[tuple[float, float]], places: Sequence[str] = ("LiteRT 2",)
) -> None:
  """Makes a search for AP and latency, whose trials are done.

  Args:
    search_dir: existing directory.
    points: AP and latency in milliseconds of each trial.
    places: where latencies were measured, in turn.
  """
  rng = random.Random(0)
  space = SearchSpace()
  store = new_search(search_dir, len(points), [space.sample(rng) for _ in points])
  recipe = storage.recipe_path(search_dir)
  recipe.write_text(
    recipe.read_text().replace("@PPO()", "@Evolution()")
    + "Search.objectives = ('AP', 'latency')\nLatency.runtime = 'litert'\n"
  )
  for number, (ap, latency) in enumerate(points, start=1):
    attempt = store.claim("w").attempt
    measured = {
      "AP": ap,
      "latency_ms": latency,
      "latency_spread_ms": 0.5,
      "latency_on": places[number % len(places)],
    }
    store.report_reward(number, attempt, ap, measured)
  store.close()


def long_search(search_dir: Path, num_trials: int) -> None:
  """Makes a long search whose trials are all done, without the time that workers would take."""
  rng = random.Random(0)
  space = SearchSpace()
  store = new_search(search_dir, num_trials, [space.sample(rng) for _ in range(num_trials)])
  # The trials are reported at once: 25,000 reports would take minutes.
  with contextlib.closing(sqlite3.connect(storage.database_path(search_dir))) as database:
    database.execute(
      "UPDATE trials SET state = 'done', attempt = 1, progress = 1, "
      "worker = 'w' || (number % 100), "
      "reward = 0.3 - 0.2 * (number * 7919 % 25013) / (25013.0 + number), seconds = 3600.5, "
      "started_at = number * 36.0, finished_at = number * 36.0 + 3600.5"
    )
    database.commit()
  for update in range(1, num_trials // 20 + 1):
    store.mark_learnt(update, [], b"", {"entropy": 2 - update / num_trials, "approx_kl": 0.001})
  store.close()


def _text(search_dir: Path, number: int, spec: PyramidSpec) -> str:
  update = (number + 4) // 5
  return (
    f"# Search {search_dir.name}, trial {number}, update {update}, algorithm PPO.\n{to_gin(spec)}"
  )

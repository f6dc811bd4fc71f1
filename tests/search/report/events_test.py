"""The curves of a search: one point an update, for every algorithm, however often it is stopped."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from official_nasfpn.architecture import CATALOG, SearchSpace, to_gin
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.loop import begun_store, run_search
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.proxy.reward import RewardConfig
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.report.events import EventLog, read_events
from official_nasfpn.search.report.found import read_search, read_trials
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.search.workers.local_launcher import LocalLauncher
from official_nasfpn.training.experiment import load_experiment

ROOT = Path(__file__).parents[3]
WORKER = ROOT / "tests" / "search" / "workers" / "closed_form_worker.py"
SPACE = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0)

ALWAYS = {
  "reward/mean",
  "reward/best",
  "trials/unique_share",
  "trials/reused_share",
  "trials/failed",
  "cost/worker_hours",
}
CONTROLLER = {"controller/entropy", "controller/approx_kl", "controller/clipped_share"}


def curves(events_dir: Path) -> dict[str, list[tuple[int, float]]]:
  """Returns (step, value) of every curve, as TensorBoard itself reads them."""
  accumulator = EventAccumulator(str(events_dir), size_guidance={"scalars": 0}).Reload()
  return {
    tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
    for tag in accumulator.Tags()["scalars"]
  }


def search(search_dir: Path, **settings) -> None:
  """Searches from wherever it was left, as the program does."""
  config = SearchConfig(trials_per_update=4, **settings)
  log = EventLog(search_dir / "events")
  command = [sys.executable, str(WORKER), f"--search_dir={search_dir}"]
  recipe = SearchRecipe(load_experiment(), ProxyConfig(), RewardConfig(), config, SPACE)
  with storage.exclusive(search_dir), begun_store(search_dir, recipe) as store:
    run_search(
      config,
      SPACE,
      search_dir,
      store,
      lambda store: LocalLauncher(store, search_dir, command, 1),
      lambda update, metrics: log.write(store.trials(), store.metrics()),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  "algorithm",
  [PPO(hidden_units=8), Evolution(population_size=6), RandomSearch()],
  ids=lambda algorithm: type(algorithm).__name__,
)
def test_one_point_an_update_also_when_it_is_continued(algorithm, tmp_path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  search(tmp_path, algorithm=algorithm, num_trials=8)
  search(tmp_path, algorithm=algorithm, num_trials=16)
  found = curves(tmp_path / "events")
  own = CONTROLLER if isinstance(algorithm, PPO) else set()
  assert own | ALWAYS <= found.keys()
  for tag in found.keys() - {"cost/trials_per_hour"}:
    assert [step for step, _ in found[tag]] == [1, 2, 3, 4], tag
  trials = read_trials(tmp_path)
  rewards = [[t.reward for t in trials if t.update == update] for update in (1, 2, 3, 4)]
  means = [value for _, value in found["reward/mean"]]
  assert means == pytest.approx([sum(batch) / len(batch) for batch in rewards])
  bests = [value for _, value in found["reward/best"]]
  assert bests == pytest.approx([max(map(max, rewards[:end])) for end in (1, 2, 3, 4)])
  reused = sum(trial.state == "reused" for trial in trials)
  assert reused > 0
  assert found["trials/reused_share"][-1][1] == pytest.approx(reused / 16)
  assert found["trials/unique_share"][-1][1] == pytest.approx(1 - reused / 16)
  if algorithm == "ppo":
    measured = read_search(tmp_path).metrics
    assert found["controller/entropy"] == [
      (update, pytest.approx(measured[update]["entropy"])) for update in (1, 2, 3, 4)
    ]


@pytest.fixture
def store(tmp_path):
  """Returns the store of a search with two updates of two trials, the second with a failure."""
  store = TrialStore(tmp_path / "search.db")
  store.create()
  for update, rewards in enumerate(((0.2, 0.4), (0.3, None)), start=1):
    for index, reward in enumerate(rewards):
      number = 2 * update - 1 + index
      text = to_gin(CATALOG["nas_fpn"])
      store.propose([NewTrial(number, update, (), (), str(number), text)])
      attempt = store.claim("a").attempt
      if reward is None:
        store.report_failure(number, attempt, "NaN loss")
      else:
        store.report_reward(number, attempt, reward)
    store.mark_learnt(update, [2 * update - 1, 2 * update], b"", {"baseline": float(update)})
  yield store
  store.close()


def test_what_a_killed_process_left_out_is_added(store, tmp_path):
  events = tmp_path / "events"
  # Learnt and killed before its point was written, twice.
  EventLog(events).write(store.trials(), {1: store.metrics()[1]})
  for _ in range(3):
    EventLog(events).write(store.trials(), store.metrics())
  assert [event.step for event in read_events(events)] == [1, 2]
  assert len(list(events.iterdir())) == 2
  found = curves(events)
  assert found["trials/failed"] == [(1, 0), (2, 1)]
  assert found["controller/baseline"] == [(1, 1), (2, 2)]
  assert found["reward/mean"] == [(1, pytest.approx(0.3)), (2, pytest.approx(0.3))]
  assert found["reward/best"] == [(1, pytest.approx(0.4)), (2, pytest.approx(0.4))]
  assert all(value > 0 for _, value in found["cost/trials_per_hour"])


def test_a_half_written_point_is_written_again(store, tmp_path):
  events = tmp_path / "events"
  EventLog(events).write(store.trials(), store.metrics())
  (file,) = events.iterdir()
  file.write_bytes(file.read_bytes()[:-7])
  EventLog(events).write(store.trials(), store.metrics())
  assert [event.step for event in read_events(events)] == [1, 2]


def test_an_update_whose_trials_are_all_tried_again_gets_no_point(tmp_path):
  """Killed before its point was written, and continued with a greater `Search.max_attempts`."""
  place, events = tmp_path / "search.db", tmp_path / "events"
  with contextlib.closing(TrialStore(place, max_attempts=1)) as store:
    store.create()
    store.propose([NewTrial(1, 1, (), (), "1", to_gin(CATALOG["nas_fpn"]))])
    store.claim("a")
    store.release("a", "worker died (signal 9)")
    store.mark_learnt(1, [1], b"", {"baseline": 1.0})
  with contextlib.closing(TrialStore(place, max_attempts=2)) as store:
    assert store.retry_dead() == 1
    log = EventLog(events)
    log.add_missing(store)
    assert not events.exists()
    store.report_reward(1, store.claim("a").attempt, 0.5)
    store.mark_learnt(2, [1], b"", {"baseline": 2.0})
    log.add_missing(store)
    EventLog(events).add_missing(store)
  assert [event.step for event in read_events(events)] == [2]


def test_nothing_is_written_before_the_first_update(store, tmp_path):
  EventLog(tmp_path / "events").write(store.trials(), {})
  assert not (tmp_path / "events").exists()


def test_the_curves_need_no_tensorflow(store, tmp_path):
  code = f"""
import sys
from pathlib import Path
from official_nasfpn.search.report.events import EventLog
from official_nasfpn.search.report.found import read_search, read_trials
where = Path({str(tmp_path)!r})
EventLog(where / "events").write(read_trials(where), read_search(where).metrics)
sys.exit("tensorflow" in sys.modules)
"""
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
  assert [event.step for event in read_events(tmp_path / "events")] == [1, 2]

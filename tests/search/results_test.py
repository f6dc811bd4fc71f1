"""What a search leaves behind."""

import json
from pathlib import Path

import pytest

from official_nasfpn.architecture import CATALOG, from_gin, to_gin
from official_nasfpn.errors import UserError
from official_nasfpn.search.results import best_trials, results_table, write_results
from official_nasfpn.search.store import NewTrial, Trial, TrialStore


@pytest.fixture
def trials(tmp_path) -> list[Trial]:
  """Returns five trials: rewards 0.25 and 0.5, a reuse of each, and a failure."""
  store = TrialStore(tmp_path / "search.db")
  store.create()
  names = ["fpn_like", "nas_fpn", "nas_fpn", "fpn_like", "failed"]
  for number, name in enumerate(names, start=1):
    spec = CATALOG.get(name, CATALOG["fpn_like"])
    store.propose([NewTrial(number, 1, (), (), name, to_gin(spec))])
  for reward in (0.25, 0.5):
    trial = store.claim("a")
    store.report_reward(trial.number, trial.attempt, reward)
  store.report_failure(5, store.claim("a").attempt, "NaN loss", diverged=True)
  trials = store.trials()
  store.close()
  return trials


def test_the_best_come_first_each_once(trials):
  assert [(trial.number, trial.reward) for trial in best_trials(trials)] == [(2, 0.5), (1, 0.25)]


def test_the_best_architecture_is_written_with_its_provenance(trials, tmp_path):
  write_results(trials, tmp_path)
  text = (tmp_path / "best_architecture.gin").read_text()
  assert text.startswith(
    f"# The best of 5 trials of the search {tmp_path.name}: trial 2, reward 0.5.\n"
  )
  assert from_gin(text) == CATALOG["nas_fpn"]
  for name in ("best_architecture.png", "reward_curve.png"):
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
  result = json.loads((tmp_path / "result.json").read_text())
  assert (result["reward"], result["trial"]) == (0.5, 2)
  assert [result[n] for n in ("sampled", "unique", "trained", "failed")] == [5, 3, 2, 1]


def test_the_table_tells_what_happened(trials, tmp_path):
  lines = results_table(trials, tmp_path).splitlines()
  assert lines[0].startswith("5 architectures sampled, 3 unique, 2 trained, 1 failed")
  assert lines[2].split()[:3] == ["1", "0.5000", "2"]
  assert lines[3].split()[:3] == ["2", "0.2500", "1"]
  assert Path(lines[2].split()[-1]) == tmp_path / "trials" / "000002" / "architecture.gin"


def test_a_search_without_any_reward_ends_with_the_reason(trials, tmp_path):
  with pytest.raises(UserError, match=r"None of the 1 trials .* because: NaN loss"):
    write_results(trials[4:], tmp_path)

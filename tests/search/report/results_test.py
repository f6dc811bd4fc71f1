"""What a search leaves behind."""

import contextlib
import dataclasses
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import official_nasfpn
from official_nasfpn.architecture import CATALOG, from_gin, to_gin
from official_nasfpn.errors import UserError
from official_nasfpn.reporting.code_version import code_version
from official_nasfpn.search.report import results
from official_nasfpn.search.report.found import (
  best_trials,
  found_architecture,
  read_trials,
)
from official_nasfpn.search.report.results import overview_of, results_table, write_results
from official_nasfpn.search.report.reward_curve import figure_of_rewards
from official_nasfpn.search.store.trial_store import NewTrial, Trial, TrialStore
from tests.search.report.searches import new_search


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
    f"# Architecture nas_fpn; official_nasfpn {code_version()}.\n"
  )
  assert from_gin(text) == CATALOG["nas_fpn"]
  for name in ("best_architecture.png", "reward_curve.png"):
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
  result = json.loads((tmp_path / "result.json").read_text())
  assert (result["reward"], result["trial"]) == (0.5, 2)
  assert [result[n] for n in ("sampled", "unique", "trained", "failed")] == [5, 3, 2, 1]


def test_the_curve_shows_what_happened(trials):
  rewards, counts = figure_of_rewards(trials, "title").axes
  assert rewards.get_ylim() == (0, pytest.approx(0.525))
  assert rewards.lines[0].get_xydata().tolist() == [[1, 0.25], [2, 0.5], [3, 0.5], [4, 0.25]]
  assert {line.get_label(): line.get_ydata().tolist() for line in counts.lines} == {
    "sampled": [1, 2, 3, 4, 5],
    "unique": [1, 2, 2, 2, 3],
    "trained": [1, 2, 2, 2, 2],
  }


def test_lines_that_coincide_are_one_sentence(trials):
  figure = figure_of_rewards(trials[:2])
  assert len(figure.axes) == 1
  assert results._title(trials[:2], "s") == (
    "Search s: 2 architectures, all different, all trained"
  )
  assert results._title(trials, "s") == "Search s: 5 trials"
  assert results._title(trials[:1], "s") == "Search s: 1 trial"


def test_a_curve_of_one_trial_has_axes(trials):
  (axes,) = figure_of_rewards(trials[:1]).axes
  assert axes.get_xlim() == (0, 2)
  assert axes.get_ylim() == (0, pytest.approx(1.05 * 0.25))


def test_the_table_tells_what_happened(trials, tmp_path):
  lines = results_table(overview_of(trials), tmp_path).splitlines()
  assert lines[0].startswith("5 architectures sampled, 3 unique, 2 trained, 1 failed")
  assert lines[2].split()[:3] == ["1", "0.5000", "2"]
  assert lines[3].split()[:3] == ["2", "0.2500", "1"]
  assert Path(lines[2].split()[-1]) == tmp_path / "trials" / "000002" / "architecture.gin"


def test_the_store_counts_what_the_trials_say(trials, tmp_path):
  with contextlib.closing(TrialStore(tmp_path / "search.db")) as store:
    for num_best in (0, 1, 2, 3):
      assert store.overview(num_best) == overview_of(trials, num_best)


class TestNothingLearnt:
  @pytest.fixture
  def zeros(self, trials) -> list[Trial]:
    """Returns the trials, whose rewards are all 0."""
    return [
      dataclasses.replace(trial, reward=None if trial.reward is None else 0.0) for trial in trials
    ]

  def test_the_table_says_so_and_why_that_may_be(self, zeros, trials, tmp_path):
    table = results_table(overview_of(zeros), tmp_path)
    lines = table.splitlines()
    assert lines[1].startswith("Nothing was learnt: no trial found an object")
    for setting in ("Training.epochs", "Detector.anchor_size", "Detector.score_threshold"):
      assert setting in table
    rows = lines[lines.index(next(line for line in lines if "architecture" in line.split()[-1:])) :]
    assert [row.split()[0] for row in rows[1:]] == ["-", "-"]
    assert max(map(len, lines[:-3])) <= 100
    assert "Nothing was learnt" not in results_table(overview_of(trials), tmp_path)

  def test_a_search_that_goes_on_has_learnt_nothing_so_far(self, zeros, tmp_path):
    queued = {"state": "queued", "reward": None, "finished_at": None}
    zeros.append(dataclasses.replace(zeros[0], number=6, **queued))
    assert "\nSo far nothing was learnt: " in results_table(overview_of(zeros), tmp_path)

  def test_none_is_called_the_best(self, zeros, tmp_path):
    write_results(zeros, tmp_path)
    text = (tmp_path / "best_architecture.gin").read_text()
    assert text.startswith(
      f"# No trial of the search {tmp_path.name} has a reward above 0, so none is the best of 5: "
      "this is merely trial 1, reward 0.\n"
    )
    # Whoever goes on has a pyramid all the same.
    assert from_gin(text) == CATALOG["fpn_like"]
    assert json.loads((tmp_path / "result.json").read_text())["nothing_learnt"] is True

  def test_training_takes_an_architecture_with_a_warning(self, trials, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database, database:
      database.execute("UPDATE trials SET reward = 0 WHERE number = 1")
    code = (
      "import sys; from official_nasfpn import train; "
      "train._architecture_binding(sys.argv[1], None)"
    )
    for rank, warned in ((1, False), (2, True)):
      process = subprocess.run(
        [sys.executable, "-c", code, f"{tmp_path}#{rank}"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
      )
      assert ("#2: trial 1 found no object (its reward is 0)" in process.stderr) == warned

  def test_one_reward_above_0_is_something(self, zeros, tmp_path):
    zeros[0] = dataclasses.replace(zeros[0], reward=1e-6)
    assert "Nothing was learnt" not in results_table(overview_of(zeros), tmp_path)
    write_results(zeros, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["nothing_learnt"] is False

  def test_failures_alone_are_another_matter(self, zeros, tmp_path):
    assert "Nothing was learnt" not in results_table(overview_of(zeros[4:]), tmp_path)


def test_a_search_without_any_reward_ends_with_the_reason(trials, tmp_path):
  with pytest.raises(UserError, match=r"None of the 1 trials .* because: NaN loss"):
    write_results(trials[4:], tmp_path)


def test_the_version_names_the_commit_where_there_is_one(monkeypatch):
  repository = Path(__file__).parents[3]
  if not (repository / ".git").exists() or not shutil.which("git"):
    pytest.skip("not a clone")
  head = subprocess.run(
    ["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
  ).stdout.strip()
  commit = code_version().split("commit ")[1].removesuffix("-dirty")
  assert len(commit) >= 7
  assert head.startswith(commit)
  monkeypatch.setenv("PATH", "")
  assert code_version() == official_nasfpn.__version__


class TestWhatIsFound:
  def test_by_rank(self, trials, tmp_path):
    assert found_architecture(str(tmp_path)) == CATALOG["nas_fpn"]
    assert found_architecture(f"{tmp_path}#2") == CATALOG["fpn_like"]
    assert read_trials(tmp_path) == trials

  def test_a_folder_with_a_rank_in_its_name_is_that_folder(self, trials, tmp_path):
    for name, best in (("bccd", "panet"), ("bccd#2", "nas_fpn")):
      (tmp_path / name).mkdir()
      store = new_search(tmp_path / name, 2, [CATALOG["fpn_like"], CATALOG[best]])
      for reward in (0.25, 0.5):
        trial = store.claim("a")
        store.report_reward(trial.number, trial.attempt, reward)
      store.close()
    assert found_architecture(f"{tmp_path}/bccd#2") == CATALOG["nas_fpn"]
    assert found_architecture(f"{tmp_path}/bccd#2#1") == CATALOG["nas_fpn"]
    assert found_architecture(f"{tmp_path}/bccd#2#2") == CATALOG["fpn_like"]
    assert found_architecture(f"{tmp_path}/bccd#1") == CATALOG["panet"]

  @pytest.mark.parametrize("rank", [0, 3])
  def test_a_rank_that_is_not_there(self, trials, tmp_path, rank):
    with pytest.raises(UserError, match=f"there is no rank {rank}; 2 trials have a reward"):
      found_architecture(f"{tmp_path}#{rank}")

  def test_no_search(self, tmp_path):
    with pytest.raises(UserError, match=r"There is no search in .*: it has no search\.db"):
      found_architecture(str(tmp_path))

  def test_a_text_that_does_more_than_bind_an_architecture_is_refused(self, trials, tmp_path):
    for line in ("import os", "include '/etc/passwd'", "Training.epochs = 1"):
      text = f"{to_gin(CATALOG['nas_fpn'])}\n{line}\n"
      with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database, database:
        database.execute("UPDATE trials SET architecture = ?", (text,))
      with pytest.raises(UserError, match="trial 2: an architecture"):
        found_architecture(str(tmp_path))

  def test_training_takes_it(self, trials, tmp_path, shapes_data, run_program):
    recipe = Path(__file__).parents[3] / "gin" / "quickstart.gin"
    arguments = ["--gin_file", recipe, "--data_dir", shapes_data]
    plans = [
      run_program("train", *arguments, "--dry_run", "--architecture", which)
      for which in (f"{tmp_path}#2", "fpn_like", tmp_path)
    ]
    assert [plan.returncode for plan in plans] == [0, 0, 0], plans[0].stderr
    assert plans[0].stdout == plans[1].stdout != plans[2].stdout
    plan = run_program("train", *arguments, "--dry_run", "--architecture", f"{tmp_path}#3")
    assert "there is no rank 3" in plan.stderr

  def test_the_table_at_any_time(self, trials, tmp_path, run_program):
    process = run_program("search", "--search_dir", tmp_path, "--status", "--top_k", "1")
    assert process.returncode == 0, process.stderr
    assert process.stdout == results_table(overview_of(trials, 1), tmp_path) + "\n"

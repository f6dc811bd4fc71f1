"""What is said and returned of a search whose best were trained again with other seeds."""

import json

import pytest

from official_nasfpn.architecture import from_gin
from official_nasfpn.search.report.found import found_architecture, found_trial, read_search
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.report.results import overview_of, write_results
from official_nasfpn.search.search import Search
from official_nasfpn.search.storage import database_path
from official_nasfpn.search.store.trial_store import TrialStore
from tests.reporting.parsed_page import parsed, tile
from tests.search.report.searches import confirmed_search

FAILED = (
  "1 confirmation failed and is left out of the means: number 37, of trial 29 (out of memory)."
)


@pytest.fixture
def search_dir(tmp_path):
  confirmed_search(tmp_path)
  return tmp_path


def test_the_table_shows_mean_seeds_deviation_and_the_first_reward(search_dir):
  lines = Search(search_dir).table(6).splitlines()
  assert lines[0].startswith("30 architectures sampled, 30 unique, 30 trained, 0 failed")
  assert lines[1].split()[:5] == ["rank", "reward", "seeds", "deviation", "first"]
  rows = [line.split()[:6] for line in lines[2:8]]
  assert rows[0] == ["1", "0.3200", "3", "0.0142", "0.3360", "28"]
  assert [row[5] for row in rows] == ["28", "29", "27", "30", "26", "25"]
  # The greatest first reward is fourth, and what is not confirmed comes last.
  assert rows[3][1:5] == ["0.3000", "3", "0.0350", "0.3400"]
  assert rows[5][1:5] == ["0.2500", "1", "-", "0.2500"]
  assert lines[8] == (
    "The best, trial 28: first reward 0.3360, confirmed 0.3200 +- 0.0142 over 3 seeds."
  )
  assert lines[9] == FAILED


def test_a_search_without_confirmations_has_the_table_it_had(tmp_path):
  confirmed_search(tmp_path, num_confirmed=0)
  assert Search(tmp_path).table(2).splitlines()[1].split() == [
    *("rank", "reward", "trial", "seconds", "architecture")
  ]


def test_who_looks_meanwhile_is_told_that_the_ranking_may_change(tmp_path):
  confirmed_search(tmp_path, num_confirmed=3)
  assert Search(tmp_path).table(1).splitlines()[-1] == (
    "7 confirmations of the best with other seeds are not finished: the ranking may change."
  )
  write_report(tmp_path, tmp_path / "report.html", now=0)
  texts = parsed(tmp_path / "report.html").texts
  assert tile(texts, "confirmations") == "3 of 10"
  assert "finished" not in texts
  assert any(
    text.endswith("7 confirmations have not ended: the ranks may change.") for text in texts
  )


def test_what_is_returned_is_the_best_by_the_mean(search_dir):
  found = Search(search_dir).best()
  assert (found.trial, found.rewards) == (28, (0.336, 0.315, 0.309))
  assert found.reward == pytest.approx(0.32)
  assert Search(search_dir).best(6).rewards == (0.25,)
  trial = found_trial(search_dir)
  assert trial.number == 28
  # As `nasfpn train --architecture SEARCH` takes it.
  assert found_architecture(str(search_dir)) == found.architecture == from_gin(trial.architecture)
  assert found_architecture(f"{search_dir}#4") == Search(search_dir).best(4).architecture


def test_the_files_hold_all_rewards(search_dir):
  found = read_search(search_dir)
  write_results(found.trials, search_dir, found.confirmations)
  text = (search_dir / "best_architecture.gin").read_text()
  assert text.splitlines()[:2] == [
    f"# The best of 30 trials of the search {search_dir.name}: trial 28, reward 0.32.",
    "# Trained again: first reward 0.3360, confirmed 0.3200 +- 0.0142 over 3 seeds.",
  ]
  assert from_gin(text) == Search(search_dir).best().architecture
  result = json.loads((search_dir / "result.json").read_text())
  assert (result["trial"], result["reward"]) == (28, pytest.approx(0.32))
  assert (result["first_reward"], result["num_seeds"]) == (0.336, 3)
  assert result["deviation"] == pytest.approx(0.01418, abs=1e-5)
  assert result["confirmed"][3] == {"trial": 30, "rewards": [0.34, 0.275, 0.285]}
  assert (result["sampled"], result["failed"], result["failed_confirmations"]) == (30, 0, 1)


def test_the_store_counts_what_trials_and_confirmations_say(search_dir):
  found = read_search(search_dir)
  store = TrialStore(database_path(search_dir))
  for num_best in (0, 1, 4, 9):
    assert store.overview(num_best) == overview_of(found.trials, num_best, found.confirmations)
  store.close()


def test_the_page_ranks_by_the_mean_and_says_the_luck(search_dir):
  report = search_dir / "report.html"
  write_report(search_dir, report, now=0)
  texts = parsed(report).texts
  assert tile(texts, "best reward") == "0.3200"
  assert tile(texts, "confirmations") == "10 of 10"
  assert "finished" in texts
  (verdict,) = [text for text in texts if text.startswith("Of 30 trials with a reward")]
  assert "Trial 28 leads: first reward 0.3360, confirmed 0.3200 ± 0.0142 over 3 seeds." in verdict
  assert "(the noise of one reward is 0.0069)" in verdict
  assert "is not known" not in verdict
  assert FAILED in texts
  first = texts.index("further rewards") + 1
  assert texts[first : first + 7] == [
    *("1", "28", "0.3200", "3", "0.0142", "0.3360", "0.3150, 0.3090")
  ]
  # Confirmations are no trials of their own: no link leads to a row that is not there.
  tags = parsed(report).tags
  rows = {attributes["id"] for _, attributes in tags if "id" in attributes}
  links = {a["href"][1:] for tag, a in tags if tag == "a" and a["href"].startswith("#trial-")}
  assert links <= rows

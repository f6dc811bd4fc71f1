"""The report as a file: what it says, of which searches, and what it costs to write."""

import contextlib
import random
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from official_nasfpn.architecture import (
  CATALOG,
  SearchSpace,
  pyramid_multiply_adds,
  pyramid_parameters,
  unconsumed_inputs,
)
from official_nasfpn.errors import UserError
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.report.html.drawing import draw_pyramid_svg
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.report.html.table import trial_rows
from official_nasfpn.search.report.summary import cost_by_worker, group_failures, summarize
from official_nasfpn.search.storage import stored_recipe
from tests.reporting.parsed_page import parsed, tile
from tests.search.report.searches import WORKER, eventful_search, long_search, new_search

ROOT = Path(__file__).parents[3]


@pytest.fixture
def search_dir(tmp_path):
  eventful_search(tmp_path)
  return tmp_path


def test_the_program_writes_one_file_beside_the_search(search_dir, run_program):
  before = {path.name for path in search_dir.iterdir()}
  trials = read_trials(search_dir)
  result = run_program("report", "--search_dir", search_dir)
  assert result.returncode == 0, result.stderr
  assert result.stdout == f"{search_dir / 'report.html'}\n"
  assert {path.name for path in search_dir.iterdir()} == before | {"report.html"}
  assert read_trials(search_dir) == trials
  other = search_dir / "folder" / "other.html"
  assert run_program("report", "--search_dir", search_dir, "--output", other).returncode == 0
  assert other.is_file()


def test_it_says_what_a_person_asks_first(search_dir):
  report = search_dir / "report.html"
  write_report(search_dir, report, now=2_000_000_000)
  texts = parsed(report).texts
  assert search_dir.name in texts
  assert tile(texts, "best reward") == "0.5000"
  # Without the one that was stopped.
  assert tile(texts, "median reward") == "0.3750"
  assert texts[texts.index("0.3750") + 1] == "of trials trained to the end"
  assert tile(texts, "trials sampled") == "9 of 20"
  assert "3 trained (1 stopped early), 1 reused, 3 failed, 1 in training, 1 waiting" in texts
  assert tile(texts, "unique architectures") == "8"
  assert tile(texts, "algorithm") == "PPO"
  assert tile(texts, "seed") == "7"
  assert tile(texts, "dataset") == str(Path("data/<i>cells</i>").resolve())
  assert tile(texts, "detector") == "R-10, 2 @ 32"
  assert tile(texts, "image") == "256 x 256 pixels"
  assert any("AP (as COCO counts it" in text and "part holdout" in text for text in texts)
  said = (
    "The best reward of a whole training, 0.5000 of trial 2, is 0.1250 above the median of 2 "
    "trials (1 that was stopped early is left out)."
  )
  assert any(text.startswith(said) for text in texts)
  assert f"nasfpn search --search_dir {search_dir}" in texts
  assert "stopped" in texts  # The lease of the running trial is long over.
  assert "Entropy of a decision, nats (at most 1.43)" in texts
  assert "Search.num_trials = 20" in report.read_text()


def test_nothing_in_it_is_loaded_from_elsewhere(search_dir):
  report = search_dir / "report.html"
  write_report(search_dir, report, now=0)
  text = report.read_text()
  for tag, attributes in parsed(report).tags:
    assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
    assert not {"src", "srcset", "data", "action", "background"} & attributes.keys(), tag
    assert attributes.get("href", "#").startswith("#"), attributes
  # A name, not an address: what an SVG made by a script needs.
  assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
  assert "url(" not in text
  assert "@import" not in text


def test_texts_of_the_store_are_never_markup(search_dir):
  report = search_dir / "report.html"
  write_report(search_dir, report, now=0)
  content = parsed(report)
  assert WORKER in content.texts
  # Control characters are shown in the page and in the rows of its script.
  assert not any(hidden in report.read_text() for hidden in ("\x1b", r"\u001b"))
  assert r"NaN\\x1b[31m at step 7" in report.read_text()
  assert [tag for tag, _ in content.tags].count("script") == 2
  assert all(tag not in ("img", "b") for tag, _ in content.tags)
  assert not any(name.startswith("on") for _, attributes in content.tags for name in attributes)


def test_failures_are_grouped_by_reason(search_dir):
  groups = group_failures(read_trials(search_dir))
  assert [(group.reason, group.alike, group.trials) for group in groups] == [
    ("<script>alert(1)</script> NaN\x1b[31m at step 7", True, (5, 6)),
    ("out of memory", False, (7,)),
  ]
  write_report(search_dir, search_dir / "report.html", now=0)
  texts = parsed(search_dir / "report.html").texts
  at = texts.index(r"<script>alert(1)</script> NaN\x1b[31m at step 7")
  assert texts[at + 1 : at + 6] == ["and alike", "2", "5", ",", "6"]


def test_the_cost_of_every_worker(search_dir):
  trials = read_trials(search_dir)
  costs = {cost.worker: cost for cost in cost_by_worker(trials)}
  assert {name: (cost.done, cost.failed) for name, cost in costs.items()} == {
    WORKER: (2, 2),
    "b": (1, 1),
  }
  summary = summarize(trials, 20, now=0)
  assert sum(cost.hours for cost in costs.values()) == pytest.approx(summary.worker_hours)


def test_a_pause_does_not_slow_the_estimate(tmp_path):
  """Two trials of an hour each, two at a time, a night, and two more: four in two hours."""
  now = 0.0
  specs = [CATALOG["nas_fpn"]] * 4
  store = new_search(tmp_path, num_trials=10, specs=specs, clock=lambda: now)
  for begin in (0.0, 50_000.0):
    now = begin
    claimed = [store.claim(worker) for worker in ("a", "b")]
    now = begin + 3600
    for trial in claimed:
      assert store.renew(trial.number, trial.attempt, 0.99)
      assert store.report_reward(trial.number, trial.attempt, 0.5)
  summary = summarize(store.trials(), 10, now=100_000)
  store.close()
  assert summary.trials_per_hour == pytest.approx(2)
  assert summary.hours_left == pytest.approx(3)
  assert summary.worker_hours == pytest.approx(4)
  assert summary.worker_hours_left == pytest.approx(6)


def test_a_search_without_a_trial_yet(tmp_path):
  new_search(tmp_path, num_trials=10, specs=[]).close()
  write_report(tmp_path, tmp_path / "report.html", now=0)
  texts = parsed(tmp_path / "report.html").texts
  assert "not begun" in texts
  assert tile(texts, "trials sampled") == "0 of 10"
  assert "time left" not in texts
  assert "No architecture has been proposed yet." in texts


def test_a_finished_search_has_nothing_left(tmp_path):
  store = new_search(tmp_path, num_trials=1, specs=[CATALOG["nas_fpn"]])
  store.report_reward(1, store.claim("a").attempt, 0.25)
  store.close()
  write_report(tmp_path, tmp_path / "report.html", now=0)
  texts = parsed(tmp_path / "report.html").texts
  assert "finished" in texts
  assert "time left" not in texts


def test_a_trial_whose_text_is_no_architecture_is_still_listed(search_dir):
  with contextlib.closing(sqlite3.connect(search_dir / "search.db")) as database:
    database.execute("UPDATE trials SET architecture = 'import os' WHERE number = 2")
    database.commit()
  write_report(search_dir, search_dir / "report.html", now=0)
  report = parsed(search_dir / "report.html")
  assert tile(report.texts, "best reward") == "0.5000"
  assert {"id": "trial-2"} in [attributes for _, attributes in report.tags]


def test_measured_multiply_adds_count_only_where_all_have_them(tmp_path):
  specs = [CATALOG["nas_fpn"], CATALOG["panet"]]
  store = new_search(tmp_path, num_trials=3, specs=specs)
  store.report_reward(1, store.claim("a").attempt, 0.5, {"multiply_adds": 3_250_000_000})
  recipe = read_recipe([stored_recipe(tmp_path)])
  measured = trial_rows(store.trials(), recipe)
  assert [row.multiply_adds for row in measured] == [3_250_000_000, None]
  write_report(tmp_path, tmp_path / "report.html", now=0)
  texts = parsed(tmp_path / "report.html").texts
  note = "Multiply-adds are of the whole detector on one image, parameters of one pyramid."
  assert note in texts
  assert "3,250.0" in texts
  store.report_reward(2, store.claim("a").attempt, 0.25)
  rows = trial_rows(store.trials(), recipe)
  store.close()
  assert [row.multiply_adds for row in rows] == [
    pyramid_multiply_adds(spec, 32, (256, 256)) for spec in specs
  ]
  assert [row.parameters for row in rows] == [pyramid_parameters(spec, 32) for spec in specs]


def with_rewards(search_dir, rewards):
  """Makes a search whose trials have these rewards, and returns the texts and text of its page."""
  rng = random.Random(0)
  store = new_search(search_dir, len(rewards), [SearchSpace().sample(rng) for _ in rewards])
  for reward in rewards:
    trial = store.claim("a")
    store.report_reward(trial.number, trial.attempt, reward)
  store.close()
  report = search_dir / "report.html"
  write_report(search_dir, report, now=0)
  return parsed(report).texts, report.read_text()


def test_where_nothing_was_learnt_no_trial_is_above_another(tmp_path):
  texts, page = with_rewards(tmp_path, [0.0] * 40)
  assert any(text.startswith("Nothing was learnt: none of 40 trials found") for text in texts)
  assert not any("How often the best" in text for text in texts)
  assert any(text.startswith("Equal rewards lie within and outside of the best") for text in texts)
  recipe = read_recipe([stored_recipe(tmp_path)])
  assert {row.rank for row in trial_rows(read_trials(tmp_path), recipe)} == {None}
  assert "Trials that no other beats" not in page
  assert "The best is" not in page


@pytest.mark.parametrize(("num_above_0", "is_told"), [(4, False), (9, False), (10, True)])
def test_the_best_quarter_is_told_only_where_rewards_make_one(tmp_path, num_above_0, is_told):
  rewards = [*([0.0] * (40 - num_above_0)), *((n + 1) / 100 for n in range(num_above_0))]
  texts, _ = with_rewards(tmp_path, rewards)
  assert any("How often the best 10 of 40" in text for text in texts) == is_told
  said = "they do not say which are the best 10 of 40 architectures."
  assert any(text.endswith(said) for text in texts) != is_told
  # What has a reward has a rank all the same.
  recipe = read_recipe([stored_recipe(tmp_path)])
  ranks = [row.rank for row in trial_rows(read_trials(tmp_path), recipe)]
  assert ranks == [*range(1, 41)]


def test_whether_it_learns_is_read_off_before_any_trial_is_stopped(tmp_path):
  store = new_search(tmp_path, 31, [CATALOG["nas_fpn"]] * 31)
  for number in range(1, 32):
    trial = store.claim("a")
    store.measure(number, trial.attempt, 0.34, 0.1 + number / 1000)
    stopped = {"stopped_at": 0.34} if number > 20 else {}
    store.report_reward(number, trial.attempt, 0.1 if stopped else 0.3, stopped)
  store.close()
  # A damaged row costs no more than its trial.
  with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database:
    database.execute("UPDATE measurements SET value = 'much' WHERE trial = 31")
    database.commit()
  write_report(tmp_path, tmp_path / "report.html", now=0)
  said = (
    "(11 that were stopped early are left out). How far two trainings of one architecture differ "
    "is not known here, so rewards that lie close together may differ by chance. The controller "
    "learns: the median reward after 34% of the training, before any was stopped, rose from 0.1055 "
    "in the first third of the trials to 0.1255 in the last."
  )
  assert any(text.endswith(said) for text in parsed(tmp_path / "report.html").texts)


@pytest.mark.parametrize("missing", ["search.db", "recipe.gin"])
def test_no_search_is_one_clear_line(search_dir, missing, run_program):
  (search_dir / missing).unlink()
  result = run_program("report", "--search_dir", search_dir)
  assert result.returncode == 1
  assert result.stderr.startswith(f"error: There is no search in {search_dir}: it has no {missing}")
  assert not (search_dir / "report.html").exists()


def test_an_output_that_cannot_be_written(search_dir):
  (search_dir / "file").touch()
  with pytest.raises(UserError, match="choose another --output"):
    write_report(search_dir, search_dir / "file" / "report.html", now=0)


def test_a_drawing_in_the_report_has_every_layer():
  svg = draw_pyramid_svg(CATALOG["nas_fpn"], "NAS-FPN")
  for text in ("C3", "C7", "P3", "P7", "sum", "GP", "1/8", "1/128"):
    assert f">{text}</text>" in svg
  added = sum(map(len, unconsumed_inputs(CATALOG["nas_fpn"])))
  assert svg.count("<g><path") == 2 * CATALOG["nas_fpn"].num_cells
  assert svg.count('<g class="added"><path') == added
  assert 'aria-label="NAS-FPN"' in svg


@pytest.mark.minutes
@pytest.mark.slow
def test_25_000_trials_give_a_bounded_file_in_bounded_memory(tmp_path):
  long_search(tmp_path, 25_000)
  code = f"""
import re
from pathlib import Path
from official_nasfpn.search.report.html.drawing import draw_pyramid_svg
from official_nasfpn.search.report.html.page import write_report
where = Path({str(tmp_path)!r})
write_report(where, where / "report.html", now=0)
# Not getrusage: its maximum has the size of the process that started this one.
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
  run = subprocess.run(
    [sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
  )
  assert (tmp_path / "report.html").stat().st_size < 15e6
  assert int(run.stdout) < 1_500_000  # KiB
  texts = parsed(tmp_path / "report.html").texts
  assert tile(texts, "trials sampled") == "25,000 of 25,000"

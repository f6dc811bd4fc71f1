"""The front of a search with several objectives: in numbers, words, files and on the page."""

import json
import random
import re

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.architecture import CATALOG, SearchSpace, from_gin
from official_nasfpn.errors import UserError
from official_nasfpn.search import front
from official_nasfpn.search.report.found import (
  found_architecture,
  names_search,
  read_search,
  read_trials,
)
from official_nasfpn.search.report.html.page import render_report
from official_nasfpn.search.report.results import write_results
from official_nasfpn.search.report.trade_offs import sentences, trade_offs
from official_nasfpn.search.search import Search
from official_nasfpn.search.store.trial import NewTrial
from tests.search.report.searches import front_search, new_search, rewarded_search

AIMS = ("AP", "latency")
# On the front are trials 2, 4 and 5; 1 equals 4 but for its latency, 6 repeats 5.
POINTS = [(0.3, 21.0), (0.1, 10.0), (0.05, 12.0), (0.3, 20.0), (0.4, 30.0), (0.4, 30.0)]
STRANGE = "LiteRT\x1b[31m <b>2</b>"


@pytest.fixture(scope="module")
def search_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("front") / "at@home"
  path.mkdir()
  front_search(path, POINTS)
  write_results(read_trials(path), path, objectives=AIMS)
  return path


def test_the_front_is_ordered_by_cost_and_its_volume_is_counted_by_hand(search_dir):
  found = trade_offs(read_trials(search_dir), AIMS)
  assert [trial.number for trial in found.on_front] == [2, 4, 5]
  # The box goes from 10 ms to 30 + a tenth of 20 ms. Shares: 1 for 10 ms, 12/22, 2/22.
  assert found.reference == {"AP": 0.0, "latency_ms": pytest.approx(32.0)}
  assert found.hypervolume == pytest.approx(0.1 + 0.2 * 12 / 22 + 0.1 * 2 / 22)
  assert found.volumes[0] == pytest.approx(0.3 * 11 / 22)
  assert (np.diff(found.volumes) >= 0).all()


def test_one_objective_has_no_front(search_dir):
  assert trade_offs(read_trials(search_dir), ("AP",)) is None


def test_the_table_and_the_result_have_the_front(search_dir):
  table = Search(search_dir).table()
  assert "3 of 6 trials are on the front of AP and latency; its hypervolume is 0.2182" in table
  rows = re.findall(
    r"^ +([\d.]+) +([\d.]+ ms \(spread 0.50\)) +(\d) .*architecture.gin$", table, re.M
  )
  assert [int(number) for _, _, number in rows] == [2, 4, 5]
  assert "latency on LiteRT 2" in table
  result = json.loads((search_dir / "result.json").read_text())
  assert result["objectives"] == ["AP", "latency"]
  assert [point["trial"] for point in result["front"]] == [2, 4, 5]
  assert result["front"][1]["latency_ms"] == 20.0
  assert result["front"][1]["latency_spread_ms"] == 0.5
  assert result["hypervolume"] == pytest.approx(0.2182, abs=1e-4)
  with Image.open(search_dir / "front.png") as image:
    assert image.size == (1320, 504)


def test_a_status_computes_no_curve(search_dir, monkeypatch):
  monkeypatch.setattr(front, "hypervolumes", None)
  assert "its hypervolume is 0.2182" in Search(search_dir).table()


def test_python_has_the_front_and_the_best_within(search_dir):
  search = Search(search_dir)
  assert [found.trial for found in search.front()] == [2, 4, 5]
  assert search.front()[0].metrics["latency_ms"] == 10.0
  assert search.best_within("25ms").trial == 4
  assert search.best().trial == 5


def test_a_budget_is_kept_by_the_best_after_confirmations(tmp_path, capsys):
  """As with `Reward.cost`, which may be confirmed: trial 1 was lucky, 3 was not tried again."""
  aps = (0.5, 0.45, 0.48, 0.1, 0.45)
  rng = random.Random(0)
  store = new_search(tmp_path, 3, [SearchSpace().sample(rng) for _ in range(3)])
  store.propose([NewTrial(3 + n, 1, (), (), str(n), "", n, seed_offset=1) for n in (1, 2)])
  for ap in aps:
    trial = store.claim("w")
    reward = ap - (0.1 if trial.number == 3 else 0.0)
    store.report_reward(trial.number, trial.attempt, reward, {"AP": ap, "latency_ms": 15.0})
  store.close()
  search = Search(tmp_path)
  assert search.best().trial == 2
  assert search.best_within("20ms") == search.best()
  assert "trial 2, AP 0.4500 over 2 seeds, latency 15.00 ms." in capsys.readouterr().err


def test_train_takes_the_greatest_ap_within_a_budget(search_dir, capsys):
  trials = read_trials(search_dir)
  assert found_architecture(f"{search_dir}@20ms") == from_gin(trials[3].architecture)
  said = capsys.readouterr().err
  assert "trial 4, AP 0.3000, latency 20.00 ms (spread 0.50) on LiteRT 2" in said
  assert found_architecture(f"{search_dir}@0.015s") == from_gin(trials[1].architecture)
  # Without a budget it is the best, and the @ in the folder's name is none.
  assert found_architecture(str(search_dir)) == from_gin(trials[4].architecture)
  assert found_architecture(f"{search_dir}#2") == from_gin(trials[5].architecture)
  assert not names_search("nas_fpn")


@pytest.mark.parametrize(
  ("budget", "message"),
  [
    ("@5ms", r"no architecture is within @5ms; the least latency is 10.00 ms, of trial 2\."),
    ("@150M", r"no trial has measured its multiply-adds, .*\('AP', 'multiply_adds'\)"),
    ("@20", "@20 is no budget: write a number above 0 and its unit, as @20ms"),
    ("@25ms@3MB", "no trial has measured its file size"),
    ("@25ms@9ms", "that keeps @25ms is within @9ms"),
  ],
)
def test_a_budget_that_cannot_be_kept_is_one_sentence(search_dir, budget, message):
  with pytest.raises(UserError, match=message) as refusal:
    found_architecture(f"{search_dir}{budget}")
  assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
  ("budgets", "message"),
  [
    # Trial 1 alone keeps @200M, trial 2 alone @20ms.
    ("@5ms@200M", "that keeps @200M is within @5ms; the least latency is 50.00 ms, of trial 1."),
    ("@200M@5ms", "that keeps @200M is within @5ms; the least latency is 50.00 ms, of trial 1."),
    ("@20ms@100M", "that keeps @20ms is within @100M; the least .* is 500.0 M, of trial 2."),
    ("@100M@20ms", "that keeps @20ms is within @100M; the least .* is 500.0 M, of trial 2."),
    # Where not one of them is kept, the last is not blamed for it.
    ("@5ms@100M", "is within @5ms; the least latency is 10.00 ms, of trial 2."),
    ("@100M@5ms", "is within @100M; the least .* is 150.0 M, of trial 1."),
    ("@5ms@20ms@100M", "that keeps @20ms is within @5ms; the least .* is 10.00 ms, of trial 2."),
  ],
)
def test_of_several_budgets_the_one_is_named_that_those_within_the_others_miss(
  tmp_path, budgets, message
):
  store = new_search(tmp_path, 2, [CATALOG["nas_fpn"], CATALOG["panet"]])
  for ap, latency, multiply_adds in ((0.3, 50.0, 150e6), (0.4, 10.0, 500e6)):
    measured = {"AP": ap, "latency_ms": latency, "multiply_adds": multiply_adds}
    trial = store.claim("w")
    store.report_reward(trial.number, trial.attempt, ap, measured)
  store.close()
  with pytest.raises(UserError, match=rf": no architecture {message}$") as refusal:
    found_architecture(f"{tmp_path}{budgets}")
  assert len(str(refusal.value).splitlines()) == 1


def test_a_search_for_the_reward_has_no_front_to_give(tmp_path, search_dir):
  rewarded_search(tmp_path, [from_gin(t.architecture) for t in read_trials(search_dir)[:2]])
  with pytest.raises(UserError, match="one objective, the reward, so it has no front"):
    Search(tmp_path).front()
  assert "front" not in Search(tmp_path).table()


@pytest.mark.parametrize(
  ("points", "said"),
  [
    ([], "No trial has measured AP and latency yet"),
    ([(0.3, 20.0)], r"one point, trial 1 \(AP 0.3000, latency 20.00 ms\): it is the only one"),
    ([(0.3, 20.0), (0.2, 25.0)], "one point, trial 1 .* none of 2 trials is better in anything"),
    ([(0.3, 20.4), (0.2, 20.0)], "Its one step in latency is smaller than the"),
    ([(0.3, 20.4), (0.2, 20.0), (0.4, 30.0)], "Of its 2 steps in latency, 1 is smaller than the"),
  ],
)
def test_what_speaks_against_a_front_is_said(tmp_path, points, said):
  front_search(tmp_path, points)
  found = trade_offs(read_trials(tmp_path), AIMS)
  assert re.search(said, " ".join(sentences(found)))


def test_latencies_of_several_places_are_not_compared_in_silence(tmp_path):
  front_search(tmp_path, POINTS, (STRANGE, "ONNX Runtime"))
  texts = " ".join(sentences(trade_offs(read_trials(tmp_path), AIMS)))
  assert r"cannot be compared: LiteRT\x1b[31m <b>2</b>; ONNX Runtime." in texts
  page = page_of(tmp_path)
  assert "\x1b" not in page
  assert "<b>2</b>" not in page


def test_the_page_has_the_front_to_click_on_and_the_hypervolume(search_dir):
  page = page_of(search_dir)
  links = re.findall(r'<a href="#trial-(\d)" class="front" aria-label="([^"]*)"', page)
  assert [int(number) for number, _ in links] == [2, 4, 5]
  assert links[1][1] == "trial 4: AP 0.3000, latency 20.00 ms (spread 0.50)"
  assert "Hypervolume over trials" in page
  assert "Latency on LiteRT 2." in page
  assert "Reward over multiply-adds" not in page
  assert f"--architecture {search_dir}@20ms" in page
  # A search with several objectives would refuse it.
  assert "confirm_top = 5" not in page


def page_of(search_dir) -> str:
  recipe = Search(search_dir).recipe
  return render_report(search_dir, read_search(search_dir), recipe, None, now=0.0)

"""The report as a page: opened in a real browser, with its script and without."""

import dataclasses
import json
import random

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace, from_gin, to_gin
from official_nasfpn.search.report.found import best_trials, read_trials
from official_nasfpn.search.report.html import table
from official_nasfpn.search.report.html.page import write_report
from tests.reporting.browser import chromium, open_browser
from tests.search.report.searches import (
  WORKER,
  eventful_search,
  front_search,
  rewarded_search,
)

ROWS = "document.querySelector('#trials tbody').innerHTML"
DRAWN = "!document.querySelector('button.thumbnail:empty')"
COLUMN = """[...document.querySelectorAll('#trials tbody tr')]
  .map((row) => row.cells[{}].textContent)"""
STATE, REWARD, UPDATE, TRIAL = 3, 4, 2, 1


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """Returns an empty page of a browser."""
  if chromium() is None:
    pytest.skip("no Chromium here (on Debian: apt install chromium)")
  with open_browser(tmp_path_factory.mktemp("profile")) as page:
    yield page


@pytest.fixture(scope="module")
def eventful(tmp_path_factory):
  """Returns the report of a search in which all kinds of things happened."""
  search_dir = tmp_path_factory.mktemp("eventful")
  eventful_search(search_dir)
  write_report(search_dir, search_dir / "report.html", now=0)
  return search_dir / "report.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
  """Returns the report of a search of 130 trials, more than two pages of the table."""
  rng = random.Random(1)
  search_dir = tmp_path_factory.mktemp("many")
  rewarded_search(search_dir, [SearchSpace().sample(rng) for _ in range(130)])
  write_report(search_dir, search_dir / "report.html", now=0)
  return search_dir / "report.html"


def column(page, index) -> list[str]:
  return page.evaluate(COLUMN.format(index))


def header(index) -> str:
  return f"#trials th:nth-child({index + 1}) button"


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_network_errors_or_a_wide_page(page, eventful, width, dark):
  page.open(eventful, width=width, dark=dark)
  assert page.problems == []
  assert page.requests == [eventful.resolve().as_uri()]
  assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
  assert page.evaluate("document.querySelector('#trials').scrollWidth") > 300
  background = page.evaluate("getComputedStyle(document.body).backgroundColor")
  channels = [int(number) for number in background.strip("rgb()").split(",")]
  assert (max(channels) < 64) == dark


def test_what_the_store_says_is_shown_and_not_run(page, eventful):
  page.open(eventful)
  assert page.problems == []
  assert WORKER in column(page, 9)
  assert page.evaluate("document.querySelectorAll('img, b, i:not([class])').length") == 0
  page.click("#trial-5 button.thumbnail")
  facts = page.evaluate("document.getElementById('large-facts').textContent")
  assert r"<script>alert(1)</script> NaN\x1b[31m at step 7" in facts


def test_a_point_of_the_front_leads_to_its_trial(page, tmp_path):
  front_search(tmp_path, [(0.3, 21.0), (0.1, 10.0), (0.3, 20.0), (0.4, 30.0)] * 20)
  write_report(tmp_path, tmp_path / "report.html", now=0)
  page.open(tmp_path / "report.html")
  assert page.problems == []
  page.click('a.front[href="#trial-2"]')
  assert page.evaluate("document.activeElement.id") == "trial-2"


def test_all_drawings_and_charts_can_be_seen(page, eventful):
  page.open(eventful)
  page.wait_for(DRAWN)
  boxes = page.evaluate(
    """[...document.querySelectorAll('svg')].map((svg) => {
      const place = svg.getBoundingClientRect(), drawn = svg.getBBox();
      return [place.width, place.height, drawn.width, drawn.height];
    })"""
  )
  # The best one, two that were the best, a thumbnail a trial; 3 charts, 4 of the controller.
  assert len(boxes) == 1 + 2 + 9 + 3 + 4
  assert all(min(box) > 20 for box in boxes)
  # Every part of a drawing is inside of it.
  assert page.evaluate(
    """[...document.querySelectorAll('svg.pyramid')].every((svg) => {
      const view = svg.viewBox.baseVal, drawn = svg.getBBox();
      return drawn.x >= 0 && drawn.y >= 0 && drawn.x + drawn.width <= view.width &&
        drawn.y + drawn.height <= view.height;
    })"""
  )


@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_of_a_chart_leaves_it_or_meets_another(page, eventful, width):
  page.open(eventful, width=width)
  outside, overlaps = page.evaluate(
    """(() => {
      let outside = 0, overlaps = 0;
      for (const svg of document.querySelectorAll("svg.chart")) {
        const card = svg.closest("section").getBoundingClientRect();
        const boxes = [...svg.querySelectorAll("text")]
          .map((text) => text.getBoundingClientRect()).filter((box) => box.width);
        boxes.forEach((a, index) => {
          outside += a.left < card.left || a.right > card.right;
          for (const b of boxes.slice(index + 1)) {
            overlaps += a.left < b.right - 1 && b.left < a.right - 1 &&
              a.top < b.bottom - 4 && b.top < a.bottom - 4;
          }
        });
      }
      return [outside, overlaps];
    })()"""
  )
  assert (outside, overlaps) == (0, 0)


def test_a_phone_shows_the_columns_that_fit_and_the_rest_on_touch(page, many):
  page.open(many, width=390)
  page.wait_for(DRAWN)
  shown = page.evaluate(
    """[...document.querySelectorAll("#trials th")]
      .filter((header) => header.checkVisibility()).map((header) => header.textContent)"""
  )
  assert shown == ["rank", "trial", "state", "reward", "architecture"]
  box = "document.getElementById('trials-box')"
  assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
  page.click("#trials tbody tr button.thumbnail")
  facts = page.evaluate("document.getElementById('large-facts').textContent")
  assert "multiply-adds" in facts
  assert "worker worker-" in facts


class TestTheScriptAgreesWithPython:
  def test_on_the_first_rows(self, page, eventful):
    page.open(eventful)
    page.wait_for(DRAWN)
    by_script = page.evaluate(ROWS)
    page.open(eventful, scripts=False)
    assert page.evaluate(ROWS) == by_script

  @pytest.mark.slow
  @pytest.mark.parametrize(
    "space", [SearchSpace(), SearchSpace(3, 6, 11, intermediate_levels=(4,)), SearchSpace(3, 4, 0)]
  )
  def test_on_drawings(self, page, tmp_path, space):
    rng = random.Random(3)
    specs = [space.sample(rng) for _ in range(25)]
    specs += [dataclasses.replace(specs[0], num_repeats=3, num_filters=n) for n in (None, 64)]
    rewarded_search(tmp_path, specs)
    write_report(tmp_path, tmp_path / "report.html", now=0)
    page.open(tmp_path / "report.html")
    assert page.problems == []
    page.wait_for(DRAWN)
    by_script = page.evaluate(ROWS)
    page.open(tmp_path / "report.html", scripts=False)
    assert page.evaluate(ROWS) == by_script

  def test_on_the_gin_text(self, page, tmp_path):
    specs = [spec for spec in CATALOG.values() if spec.max_level == 7]
    specs += [dataclasses.replace(specs[0], num_repeats=3, num_filters=n) for n in (None, 64)]
    rewarded_search(tmp_path, specs)
    write_report(tmp_path, tmp_path / "report.html", now=0)
    page.open(tmp_path / "report.html")
    for trial in read_trials(tmp_path):
      page.click(f"#trial-{trial.number} button.thumbnail")
      assert page.evaluate("document.querySelector('dialog').open")
      text = page.evaluate("document.getElementById('large-gin').textContent")
      assert text == trial.architecture
      assert from_gin(text) == specs[trial.number - 1]
      assert to_gin(specs[trial.number - 1]) in text
      page.click("dialog form button")
      assert not page.evaluate("document.querySelector('dialog').open")


class TestTheTable:
  def test_a_click_on_a_header_sorts_and_another_reverses(self, page, many):
    page.open(many)
    rewards = sorted((t.reward for t in read_trials(many.parent)), reverse=True)
    assert column(page, REWARD) == [f"{reward:.4f}" for reward in rewards[:50]]
    page.click(header(REWARD))
    assert column(page, REWARD) == [f"{reward:.4f}" for reward in rewards[:-51:-1]]
    assert page.evaluate("document.querySelectorAll('#trials th[aria-sort]').length") == 1
    sort = f"document.querySelector({header(REWARD)!r}).parentNode.ariaSort"
    assert page.evaluate(sort) == "ascending"
    page.click(header(REWARD))
    assert page.evaluate(sort) == "descending"
    assert column(page, REWARD) == [f"{reward:.4f}" for reward in rewards[:50]]
    # Rows and what is in them stay together.
    ranking = best_trials(read_trials(many.parent))
    assert column(page, TRIAL) == [str(trial.number) for trial in ranking[:50]]

  def test_the_keyboard_sorts(self, page, many):
    page.open(many)
    page.evaluate(f"document.querySelector({header(TRIAL)!r}).focus()")
    page.press("Enter")
    assert column(page, TRIAL) == [str(number) for number in range(1, 51)]
    page.press("Enter")
    assert column(page, TRIAL) == [str(number) for number in range(130, 80, -1)]

  def test_every_column_sorts_and_what_has_no_value_comes_last(self, page, eventful):
    page.open(eventful)
    num_columns = page.evaluate("document.querySelectorAll('#trials th button').length")
    assert num_columns == 11
    for index in range(num_columns):
      for _ in range(2):
        page.click(header(index))
        texts = column(page, index)
        assert len(texts) == 9
        missing = [text == "—" for text in texts]
        assert missing == sorted(missing)
    assert page.problems == []

  def test_a_filter_by_state(self, page, eventful):
    page.open(eventful)
    for state, count in (("failed", 3), ("stopped early", 1), ("running", 1), ("", 9)):
      page.evaluate(
        f"""(() => {{
          const select = document.getElementById("state");
          select.value = {json.dumps(state)};
          select.dispatchEvent(new Event("change"));
        }})()"""
      )
      states = column(page, STATE)
      assert len(states) == count
      assert all(text.startswith(state) for text in states)

  def test_pages(self, page, many):
    page.open(many)
    seen = column(page, TRIAL)
    for _ in range(2):
      page.click("#next")
      seen += column(page, TRIAL)
    assert sorted(map(int, seen)) == list(range(1, 131))
    assert page.evaluate("document.getElementById('range').textContent") == "101–130 of 130"  # noqa: RUF001
    assert page.evaluate("document.getElementById('next').disabled")
    page.click("#previous")
    assert column(page, TRIAL) == seen[50:100]

  def test_further_rows_come_as_one_scrolls(self, page, many):
    page.open(many)
    scroll = "(() => { const b = document.getElementById('trials-box'); b.scrollTop = 1e9; })()"
    for shown in (100, 130):
      page.evaluate(scroll)
      page.wait_for(f"document.querySelectorAll('#trials tbody tr').length === {shown}")
      assert page.evaluate("document.getElementById('range').textContent") == f"1–{shown} of 130"  # noqa: RUF001
    assert len(set(column(page, TRIAL))) == 130
    page.wait_for(DRAWN)
    assert page.evaluate("document.querySelectorAll('button.thumbnail svg').length") == 130
    page.click(header(REWARD))
    assert len(column(page, TRIAL)) == 50

  def test_packed_data_makes_the_same_table(self, page, many, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_PACKED_BYTES", 0)
    write_report(many.parent, tmp_path / "report.html", now=0)
    assert "data-packed" in (tmp_path / "report.html").read_text()
    page.open(tmp_path / "report.html")
    page.wait_for("document.getElementById('range').textContent === '1–50 of 130'")  # noqa: RUF001
    page.wait_for(DRAWN)
    by_packed = page.evaluate(ROWS)
    assert page.problems == []
    page.open(many)
    page.wait_for(DRAWN)
    assert page.evaluate(ROWS) == by_packed

  def test_a_point_of_the_chart_leads_to_its_row(self, page, many):
    page.open(many)
    worst = best_trials(read_trials(many.parent))[-1].number
    assert str(worst) not in column(page, TRIAL)
    page.click(f'svg a[href="#trial-{worst}"] circle')
    assert str(worst) in column(page, TRIAL)
    assert page.evaluate("document.activeElement.id") == f"trial-{worst}"
    top, bottom = page.evaluate(
      """(() => {
        const box = document.activeElement.getBoundingClientRect();
        return [box.top, window.innerHeight - box.bottom];
      })()"""
    )
    assert min(top, bottom) >= 0


def test_without_javascript_there_are_figures_and_the_first_rows(page, many):
  page.open(many, scripts=False)
  ranking = best_trials(read_trials(many.parent))
  assert column(page, TRIAL) == [str(trial.number) for trial in ranking[:50]]
  charts = "[...document.querySelectorAll('svg.chart')].map((svg) => svg.clientHeight)"
  heights = page.evaluate(charts)
  assert len(heights) == 2
  assert min(heights) > 100
  assert page.evaluate("document.querySelectorAll('#trials svg.pyramid').length") == 50
  assert not page.evaluate("document.getElementById('controls').checkVisibility()")

"""The report of a run opened in a real browser."""

import pytest

from official_nasfpn.training.report.run_report import write_run_report
from tests.reporting.browser import chromium, open_browser
from tests.training.report.runs import QUOTED, SCRIPT, hostile_data, made_run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """Returns an empty page of a browser."""
  if chromium() is None:
    pytest.skip("no Chromium here (on Debian: apt install chromium)")
  with open_browser(tmp_path_factory.mktemp("profile")) as page:
    yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
  """Returns the report of a run whose names are meant to do harm."""
  folder = tmp_path_factory.mktemp("hostile")
  return write_run_report(made_run(folder / "run", hostile_data(folder)).path)


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_network_errors_or_a_wide_page(page, report, width, dark):
  page.open(report, width=width, dark=dark)
  assert page.problems == []
  assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
  assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
  background = page.evaluate("getComputedStyle(document.body).backgroundColor")
  channels = [int(number) for number in background.strip("rgb()").split(",")]
  assert (max(channels) < 64) == dark


def test_pictures_and_charts_can_be_seen_and_names_are_text(page, report):
  page.open(report)
  page.wait_for("[...document.images].every((image) => image.complete)")
  widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
  assert len(widths) >= 2
  assert min(widths) >= 300
  heights = page.evaluate("[...document.querySelectorAll('svg.chart')].map((e) => e.clientHeight)")
  assert len(heights) >= 5
  names = page.evaluate(
    "[...document.querySelectorAll('table td:first-child')].map((cell) => cell.textContent)"
  )
  assert {SCRIPT, QUOTED} <= set(names)
  assert page.problems == []

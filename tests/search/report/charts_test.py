"""Charts as data: axes that do not enlarge noise, lines that can be seen."""

import numpy as np
import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.reporting.chart import HEIGHT, WIDTH, Link, Series, make_chart
from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.report.html import charts
from official_nasfpn.search.report.reward_curve import reward_curve
from official_nasfpn.search.report.summary import summarize
from tests.search.report.searches import eventful_search

SPACE = SearchSpace()


def places(path):
  """Returns the points of a path, [N, 2]."""
  points = path.removeprefix("M").removesuffix("h0").replace("h0M", "L").split("L")
  return np.array([point.split() for point in points], float)


def tick_values(ticks):
  return [float(text) for _, text in ticks]


@pytest.fixture
def trials(tmp_path):
  eventful_search(tmp_path)
  return read_trials(tmp_path)


def test_curves_of_the_controller_have_their_natural_range():
  """An entropy that wanders from 1.43021 to 1.43028 is no collapse."""
  metrics = {
    update: {"entropy": 1.43021 + 1e-5 * update, "approx_kl": 1e-6 * update, "clipped_share": 0.0}
    for update in range(1, 9)
  }
  curves = charts.controller_charts(metrics, SPACE, reward_curve([]))
  assert [chart.title.split(",")[0] for chart in curves] == [
    "Entropy of a decision", "KL divergence of an update", "Share of clipped ratios",
  ]  # fmt: skip
  entropy, kl, clipped = curves
  assert tick_values(entropy.y_ticks)[0] == 0
  assert tick_values(kl.y_ticks)[-1] == 0.02
  assert tick_values(clipped.y_ticks)[-1] == 0.5
  for chart in curves:
    assert np.ptp(places(chart.paths[0][1])[:, 1]) < 1


def test_one_update_makes_no_curve():
  assert charts.controller_charts({1: {"entropy": 1.0}}, SPACE, reward_curve([])) == []


def test_rewards_begin_at_0_and_those_level_with_the_best_are_marked(trials):
  noise = Noise(0.05, 0.1, 0.0, 0.8, 6, 3)
  curve, summary = reward_curve(trials), summarize(trials, 20, 0.0)
  chart = charts.reward_chart(curve, summary, noise)
  assert tick_values(chart.y_ticks)[0] == 0
  # The best is 0.5, and 1.96 * sqrt(2) * 0.05 below it lies the end of the band.
  zero = float(chart.y_ticks[0][0])
  half = next(float(place) for place, text in chart.y_ticks if text == "0.5")
  ends = [0.5 * (zero - place) / (zero - half) for place in chart.band]
  assert ends == pytest.approx([0.5, 0.5 - 1.96 * 2**0.5 * 0.05], abs=0.002)
  assert chart.legend[-1] == ("band", "not to be told from the best")
  assert charts.reward_chart(curve, summary, None).band is None


def test_lines_that_coincide_are_drawn_once(trials):
  def labels(shown):
    chart = charts.counts_chart(reward_curve(shown), summarize(shown, 20, 0.0))
    return chart and [label for _, label in chart.legend]

  assert labels(trials) == ["sampled", "unique", "trained"]
  assert labels(trials[4:]) is None  # None of them is trained.
  assert labels([*trials[:3], trials[4]]) == ["sampled", "trained"]
  assert labels(trials[:3]) is None


def test_one_point_is_seen():
  one = np.array([3.0])
  for kind in ("line", "steps", "dashed"):
    chart = make_chart("", "", "", "", [Series("x", kind, "first", one, one)], whole_x=True)
    assert chart.paths[0][0] == "dots first"
    assert chart.paths[0][1].endswith("h0")


def test_an_axis_spans_what_is_asked_for():
  x, y = np.array([14.98, 15.08]), np.array([0.1, 0.2])
  chart = make_chart("", "", "", "", [Series("x", "dots", "first", x, y)], x_span=1.5)
  ticks = tick_values(chart.x_ticks)
  assert ticks[0] < 14.6
  assert ticks[-1] > 15.4
  near = places(chart.paths[0][1])[:, 0]
  assert np.ptp(near) < 0.1 * WIDTH


def test_what_is_no_number_is_left_out_and_nothing_is_no_chart():
  x, y = np.array([1.0, 2.0, 3.0]), np.array([0.1, np.nan, np.inf])
  chart = make_chart("", "", "", "", [Series("x", "dots", "first", x, y)])
  assert chart.paths[0][1].count("M") == 1
  assert make_chart("", "", "", "", [Series("x", "dots", "first", x[1:], y[1:])]) is None


def test_everything_lies_inside_of_the_picture():
  x, y = np.arange(50.0), np.linspace(0.00001, 0.00007, 50)
  links = [Link(60.0, 0.0001, "trial-1", "far", True)]
  chart = make_chart("", "", "", "", [Series("x", "line", "first", x, y)], links)
  left, right, top, bottom = chart.box
  points = places(chart.paths[0][1])
  assert (points >= (left, top)).all()
  assert (points <= (right, bottom)).all()
  assert left <= float(chart.links[0][0]) <= right < WIDTH
  assert top <= float(chart.links[0][1]) <= bottom < HEIGHT

"""The time of a trial: assumed, or a line over multiply-adds."""

import dataclasses

import pytest

from official_nasfpn.architecture import pyramid_multiply_adds
from official_nasfpn.benchmark.trial_time import trial_time
from tests.benchmark.drawn_tables import drawn_table


def billions(spec):
  return pyramid_multiply_adds(spec, 32, (256, 256)) / 1e9


def test_without_seconds_every_trial_takes_as_long():
  table = drawn_table(25)
  seconds = trial_time(table)
  assert {seconds(entry.spec) for entry in table} == {135.0}
  assert seconds.source == "135 s for each trial, an assumption"


def test_with_seconds_cheap_pyramids_are_quicker():
  table = drawn_table(30)
  timed = [dataclasses.replace(e, seconds=100 + 500 * billions(e.spec)) for e in table]
  seconds = trial_time(timed)
  for entry in timed:
    assert seconds(entry.spec) == pytest.approx(entry.seconds, rel=1e-6)
  assert "fitted to the seconds of 30 trainings" in seconds.source
  # Never quicker or slower than what was measured.
  inner = sorted(timed, key=lambda entry: entry.seconds)[5:-5]
  bounded = trial_time(inner)
  assert min(bounded(entry.spec) for entry in timed) == inner[0].seconds
  assert max(bounded(entry.spec) for entry in timed) == inner[-1].seconds


def test_a_few_seconds_are_too_few():
  table = drawn_table(30)
  timed = [dataclasses.replace(entry, seconds=50.0) for entry in table[:19]]
  assert trial_time([*timed, *table[19:]])(table[0].spec) == 135.0

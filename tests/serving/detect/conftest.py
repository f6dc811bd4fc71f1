"""What the tests of `detect` share."""

import functools

import pytest

from official_nasfpn.serving.detect import detection_run
from official_nasfpn.serving.detectors.loading import load_detector

_load_once = functools.cache(load_detector)


@pytest.fixture(autouse=True)
def _detectors_are_loaded_once(monkeypatch):
  """Loading takes seconds each time; that `detect` loads is held by tests of the program."""
  monkeypatch.setattr(detection_run, "load_detector", _load_once)

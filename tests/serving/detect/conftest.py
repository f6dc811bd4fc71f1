"""What the tests of `detect` share."""

import functools

import pytest

from official_nasfpn.serving.detect import detection_run
from official_nasfpn.serving.detectors.detector import Detector

_load_once = functools.cache(Detector)


@pytest.fixture(autouse=True)
def _detectors_are_loaded_once(monkeypatch):
  """Loading takes seconds each time; that `detect` loads is held by tests of the program."""
  monkeypatch.setattr(detection_run, "Detector", _load_once)

"""Fixtures for tests of `detect`."""

import functools

import pytest

from official_nasfpn.serving.detect import detection_run
from official_nasfpn.serving.detectors.detector import Detector

_load_once = functools.cache(Detector)


@pytest.fixture(autouse=True)
def _detectors_are_loaded_once(monkeypatch):
  """Caches loaded detectors: loading takes seconds, and tests of the program cover it."""
  monkeypatch.setattr(detection_run, "Detector", _load_once)

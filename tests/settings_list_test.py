"""The list of settings: complete, right, fresh in the documentation, and quick."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from official_nasfpn import configuration, settings_list

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "settings.md"
ALL = (*settings_list.TRAINING, *settings_list.SEARCH)


@pytest.fixture(scope="module")
def listed():
  groups = list(settings_list.groups(ALL))
  return {setting.name: setting for group in groups for setting in group.settings}


def test_every_setting_of_every_class_is_listed(listed):
  fields = {
    f"{name}.{field.name}"
    for cls, name in configuration._NAMES.items()
    if cls.__module__.startswith("official_nasfpn.")
    for field in dataclasses.fields(cls)
  }
  assert listed.keys() == fields
  assert all(setting.meaning for setting in listed.values())


@pytest.mark.parametrize(
  ("name", "type_in_words", "default", "meaning"),
  [
    ("Training.batch_size", "int > 0", "64", "images per train step over all replicas."),
    ("Training.momentum", "float >= 0 and < 1", "0.9", "of stochastic gradient descent."),
    ("Training.schedule", "'step' or 'cosine'", "'step'", "`cosine` (to zero)"),
    ("Detector.num_classes", "int > 0 or None", "None", "label map's number"),
    ("Detector.image_size", "(int > 0, int > 0)", "(640, 640)", "height and width"),
    ("Detector.aspect_ratios", "tuple of (float > 0) not empty", "(0.5, 1.0, 2.0)", "anchors"),
    ("Detector.architecture", "PyramidSpec or Baseline", "'nas_fpn'", "catalogue name"),
    ("PyramidSpec.cells", "tuple of (MergingCell)", "()", "in which they are built"),
    ("Search.early_stopping_shares", "tuple of (float > 0 and < 1)", "(0.34, 0.67)", "compared"),
    ("Search.algorithm", "PPO or Evolution or RandomSearch", "@PPO()", "of its own"),
    ("Evolution.tournament_size", "int > 0", "10", "becomes a parent"),
    ("Reward.target", "float > 0 or None", "None", "multiply-adds"),
  ],
)
def test_a_setting(listed, name, type_in_words, default, meaning):
  setting = listed[name]
  assert (setting.type, setting.default) == (type_in_words, default)
  assert meaning in setting.meaning


def test_defaults_are_bindings_that_recipes_take(listed):
  bindings = [
    f"{setting.name} = {setting.default}"
    for setting in listed.values()
    # A spec without cells is none.
    if not setting.name.startswith("PyramidSpec.")
  ]
  configuration.parse(gin_params=bindings)


def test_the_page_is_fresh():
  assert DOCUMENTATION.read_text(encoding="utf-8") == settings_list.as_markdown() + "\n", (
    "run: nasfpn settings > docs/settings.md"
  )


@pytest.mark.parametrize(("program", "setting"), [("train", "Input"), ("search", "Search")])
def test_programs_list_settings_without_tensorflow(program, setting):
  module = {"train": "official_nasfpn.train", "search": "official_nasfpn.search.__main__"}[program]
  code = (
    "import runpy, sys, atexit\n"
    "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
    "sys.argv = ['program', '--list_settings']\n"
    f"runpy.run_module({module!r}, run_name='__main__')"
  )
  finished = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
  )
  lines = finished.stdout.splitlines()
  assert lines[-1] == "False"
  assert any(line.startswith(f"{setting}: ") for line in lines)
  assert "  Training.batch_size = 64  (int > 0)" in lines

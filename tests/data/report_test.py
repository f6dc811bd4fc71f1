"""What a person reads of a dataset: problems, and what its parts are for."""

import re
from pathlib import Path

import pytest

from official_nasfpn import configuration
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import PARTS, DatasetInfo, Part
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.report import Report, parts_table, report_table


def test_reports_add_up_and_keep_three_examples():
  first, second = Report(), Report()
  for name in "abcd":
    first.note("images_missing", name)
  second.note("images_missing", "e")
  second.note("boxes_clipped", "f")
  first.add(second)
  assert first.to_json() == {
    "images_missing": {"count": 5, "examples": ["a", "b", "c"]},
    "boxes_clipped": {"count": 1, "examples": ["f"]},
  }


@pytest.mark.parametrize(
  ("text", "line"),
  [
    ("a.jpg", "a.jpg"),
    ("猫 👩‍🚀", "猫 👩‍🚀"),
    ("a\nb\x1b[2J", "a\\nb\\x1b[2J"),
    ("\ud83d", "\\ud83d"),
    ("x" * 300, "x" * 200 + "..."),
  ],
)
def test_examples_are_short_and_in_one_line(text, line):
  report = Report()
  report.note("images_missing", text)
  assert report.to_json()["images_missing"]["examples"] == [line]
  assert line.encode()


def test_table_says_what_was_done_about_each_problem():
  report = Report()
  for name in "abcd":
    report.note("images_missing", name)
  assert report_table(report.to_json()) == (
    "       4 image files not found: left out  (a, b, c, ...)\n"
  )
  assert report_table({}) == "No problems found.\n"


def info_of(num_images, source=("train",), fraction=0.2):
  parts = {name: Part(count, 7 * count, "images", ()) for name, count in num_images.items()}
  settings = {"validation_fraction": fraction}
  return DatasetInfo(Path("data"), LabelMap(()), {key: {} for key in source}, settings, parts, {})


def test_every_part_says_what_it_is_for_and_how_all_images_can_be_learnt():
  table = parts_table(info_of({"train": 85, "holdout": 21, "val": 26}))
  _, train, holdout, val, *notes = table.splitlines()
  assert train.split()[:4] == ["train", "85", "595", "0"]
  assert train.endswith("training: in the trials of a search, and of the final detector")
  assert holdout.endswith("rewards of a search; also training of the final detector")
  assert val.endswith("evaluation, never trained on")
  assert "share of 0.2 of the images, split off since there are no --val_annotations" in notes[0]
  assert "trains on train and holdout, 106 of 132 images" in notes[1]
  assert InputConfig().train_parts == ("train", "holdout")
  # The binding that it tells is one.
  binding = re.search(r'--gin_param "(Input\.[^"]*)"', notes[1])[1]
  configuration.parse(gin_params=[binding])
  everything = configuration.from_bindings(InputConfig)
  assert everything.train_parts == PARTS
  assert "the AP is of images that were trained on" in everything.note()
  assert InputConfig().note() is None


def test_a_validation_part_that_was_given_is_not_explained():
  parts = {"train": 80, "holdout": 20, "val": 50}
  assert len(parts_table(info_of(parts, source=("train", "val"))).splitlines()) == 4


def test_parts_without_images_say_what_cannot_be_done():
  table = parts_table(info_of({"train": 1, "holdout": 0, "val": 0}))
  assert "nothing can be evaluated: train with --mode train." in table
  assert "a search has nothing to measure rewards on" in table

"""The contact sheet of a training's images."""

import dataclasses

import numpy as np
import pytest
from PIL import ImageColor

from official_nasfpn.data import training_preview as preview_lib
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.drawing import PALETTE
from official_nasfpn.data.training_preview import training_preview

SIZE = (64, 96)


@pytest.fixture
def config(shapes_info):
  return InputConfig(data_dir=str(shapes_info.data_dir))


def test_every_augmentation_of_the_recipe_has_a_row_and_the_training_two(
  config, shapes_info, monkeypatch
):
  drawn = []

  def titled_rows(rows, **options):
    drawn.extend(rows)
    return drawing(rows, **options)

  drawing = preview_lib.titled_rows
  monkeypatch.setattr(preview_lib, "titled_rows", titled_rows)
  config = dataclasses.replace(config, mosaic=0.5, mixup=0.25, color_jitter=0.4)
  preview = training_preview(config, SIZE, 0, shapes_info.label_map)
  assert [title for title, _ in drawn] == [
    "Scale and flip alone",
    "Input.mosaic alone; the recipe has 0.5",
    "Input.mixup alone; the recipe has 0.25",
    "Input.color_jitter alone; the recipe has 0.4",
    "As trained",
    "As trained, the next images",
  ]
  captions = [[caption.split("; ")[0] for caption, _ in row] for _, row in drawn]
  assert captions[:4] == [[name] * 4 for name in ("scale and flip", "mosaic", "mixup", "colours")]
  # Colours are changed in every image of the training, the rest in some.
  assert all("colours" in name for name in captions[4] + captions[5])
  assert len(set(captions[4] + captions[5])) > 1
  assert preview.sheet.width == 4 * (360 + 12) + 12
  assert preview.sheet.height > 6 * 240
  assert preview.num_images == 64
  assert preview.num_boxes > 64
  assert preview.num_left_out == 0
  assert preview.as_text().endswith("and Input.max_num_boxes leaves out none")


def test_boxes_are_drawn_and_those_without_a_place_are_counted(config, shapes_info):
  few = dataclasses.replace(config, max_num_boxes=1)
  preview = training_preview(few, SIZE, 0, shapes_info.label_map)
  assert 40 < preview.num_boxes <= 64
  assert preview.num_left_out > 40
  assert f"{preview.num_left_out:,} more that Input.max_num_boxes" in preview.as_text()
  pixels = np.asarray(preview.sheet)
  colors = [ImageColor.getrgb(color) for color in PALETTE[:4]]
  assert sum(int((pixels == color).all(-1).sum()) for color in colors) > 500

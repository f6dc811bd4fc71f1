"""Pictures with boxes, checked by their pixels."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor

from official_nasfpn.data.detections import Detections
from official_nasfpn.data.drawing import (
  PALETTE,
  _overlap,
  _place_label,
  contact_sheet,
  draw_boxes,
  draw_detections,
)

NAMES = ["ant", "bee"]


def detections(boxes, scores, classes):
  """Returns what a detector gives, with the classes' indices for their ids; best first."""
  return Detections(
    boxes=np.array(boxes, np.float32).reshape(-1, 4),
    scores=np.array(scores, np.float32),
    classes=np.array(classes, np.int32),
    category_ids=np.array(classes, np.int64),
    labels=tuple(NAMES[index] for index in classes),
  )


def count(picture, color):
  return int((np.asarray(picture) == ImageColor.getrgb(color)).all(-1).sum())


def test_a_box_is_drawn_around_its_pixels_in_the_colour_of_its_class():
  image = Image.new("RGB", (700, 700))
  picture = draw_detections(image, detections([[300, 100, 400, 250]], [0.9], [1]))
  assert picture.size == image.size
  pixels = np.asarray(picture)
  frame = (pixels == ImageColor.getrgb(PALETTE[1])).all(-1)
  # To the right of the label, and below it, only the box is left.
  assert np.flatnonzero(frame[:, 240])[[0, -1]].tolist() == [300, 399]
  assert np.flatnonzero(frame[350])[[0, -1]].tolist() == [100, 249]
  assert not pixels[350, 150].any()
  assert count(image, "black") == 700 * 700


def test_weak_detections_are_not_drawn():
  image = Image.new("RGB", (700, 700))
  found = detections([[10, 10, 50, 50], [300, 100, 400, 250]], [0.31, 0.29], [1, 0])
  picture = draw_detections(image, found, min_score=0.3)
  assert count(picture, PALETTE[0]) == 0
  assert count(picture, PALETTE[1]) > 0


def test_small_pictures_are_enlarged_with_their_boxes():
  picture = draw_detections(Image.new("L", (160, 80)), detections([[40, 20, 60, 80]], [0.9], [0]))
  assert picture.size == (640, 320)
  frame = (np.asarray(picture) == ImageColor.getrgb(PALETTE[0])).all(-1)
  assert np.flatnonzero(frame[200])[[0, -1]].tolist() == [80, 319]


@pytest.mark.parametrize(
  "box", [[-50, -50, 900, 900], [0, 0, 0, 0], [699, 699, 700, 700], [690, 650, 720, 800]]
)
def test_boxes_at_and_beyond_the_border_are_drawn_inside(box):
  picture = draw_detections(Image.new("RGB", (700, 700)), detections([box], [0.9], [0]))
  assert count(picture, PALETTE[0]) > 50


def test_nothing_found_leaves_the_picture_as_it_is():
  image = Image.new("RGB", (700, 500), "teal")
  assert draw_detections(image, detections([], [], [])).tobytes() == image.tobytes()


def test_labels_of_neighbours_do_not_hide_one_another():
  patches = []
  for box in [(100, 100, 300, 300), (110, 105, 310, 290), (90, 98, 200, 320), (100, 100, 300, 300)]:
    patches.append(_place_label((80, 20), box, patches, [], (700, 700)))
  assert not any(_overlap(*pair) for pair in itertools.combinations(patches, 2))


def test_a_label_goes_where_it_hides_no_other_box():
  box, other = (100, 300, 300, 400), (100, 270, 180, 299)
  assert _place_label((80, 20), box, [], [], (700, 700))[1] == 280
  assert _place_label((80, 20), box, [], [other], (700, 700))[1] == 401


def test_every_box_can_be_seen_however_many_labels_there_are():
  """Small boxes in a row, each nearer to the next than a label is high."""
  image = Image.new("RGB", (700, 700))
  boxes = [[100 + 12 * row, 100, 110 + 12 * row, 112] for row in range(8)]
  pixels = np.asarray(draw_boxes(image, np.array(boxes), range(8), NAMES * 4))
  for row, (ymin, xmin, ymax, xmax) in enumerate(boxes):
    frame = pixels[ymin:ymax, xmin:xmax].copy()
    frame[2:-2, 2:-2] = 0
    is_colored = (frame == ImageColor.getrgb(PALETTE[row])).all(-1)
    assert is_colored.sum() > 30, row


def test_a_box_does_not_run_through_the_text_of_a_label():
  image = Image.new("RGB", (700, 700))
  text = detections([[300, 100, 400, 250]], [0.9], [0])
  alone = np.asarray(draw_detections(image, text))
  both = detections([[300, 100, 400, 250], [290, 110, 600, 500]], [0.9, 0.8], [0, 1])
  beside = np.asarray(draw_detections(image, both))
  letters = (alone == ImageColor.getrgb("white")).all(-1)
  assert letters.sum() > 50
  assert (beside[letters] == 255).all()


def test_a_contact_sheet_holds_every_picture_in_a_cell_of_one_size():
  colors = ["red", "lime", "blue", "yellow", "cyan"]
  sizes = [(100, 50), (50, 100), (200, 100), (100, 50), (100, 50)]
  images = [Image.new("RGB", size, color) for size, color in zip(sizes, colors, strict=True)]
  sheet = contact_sheet(images, columns=3, cell_width=60, gap=4)
  assert sheet.size == (4 + 3 * 64, 4 + 2 * 34)
  assert sheet.getpixel((34, 19)) == ImageColor.getrgb("red")
  assert sheet.getpixel((34 + 64, 19 + 34)) == ImageColor.getrgb("cyan")
  # Tall and narrow, so its cell shows to its sides.
  assert count(sheet, "lime") == 15 * 30

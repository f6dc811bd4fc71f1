"""Images of rectangles whose class is their colour: a box can be held against its pixels."""

import numpy as np
import tensorflow as tf

from official_nasfpn.data.augmentation.views import Photo, View

COLORS = np.array(
  [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]], np.uint8
)


def photo(height, width, *rectangles):
  """Returns a black image with rectangles (class, ymin, xmin, ymax, xmax) and their boxes."""
  image = np.zeros((height, width, 3), np.uint8)
  for kind, *(top, left, bottom, right) in rectangles:
    image[top:bottom, left:right] = COLORS[kind]
  boxes = np.array([rectangle[1:] for rectangle in rectangles], np.float32).reshape(-1, 4)
  return Photo(
    tf.constant(image),
    tf.constant(boxes / np.float32([height, width] * 2)),
    tf.constant([rectangle[0] for rectangle in rectangles], tf.int32),
  )


def view_of(photo):
  """Returns the whole image as it is."""
  size = tf.cast(tf.shape(photo.image)[:2], tf.float32)
  return View(tf.cast(photo.image, tf.float32), photo.boxes * tf.tile(size, [2]), photo.classes)


def seed(number):
  return tf.constant([7, number], tf.int64)


def bounds(image, kind):
  """Returns where a class's colour is, to about a pixel; None where it is not."""
  rows, columns = np.nonzero((np.abs(image - np.float32(COLORS[kind])) < 110).all(-1))
  if not len(rows):
    return None
  return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def iou(one, other):
  begin, end = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
  shared = np.prod(np.maximum(end - begin, 0))
  return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def assert_boxes_frame_their_colors(view, tolerance=1.5):
  """Checks a view in which every class has at most one object; returns how many boxes it has."""
  image, boxes, classes = (values.numpy() for values in view)
  assert np.isfinite(image).all()
  assert (image >= 0).all()
  assert (image <= 255).all()
  assert (boxes[:, :2] >= 0).all()
  assert (boxes[:, 2:] <= image.shape[:2]).all()
  assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
  for box, kind in zip(boxes, classes, strict=True):
    found = bounds(image, kind)
    assert found is not None, (box, kind)
    np.testing.assert_allclose(found, box, atol=tolerance)
    if (box[2:] - box[:2]).min() > 30:
      assert iou(found, box) > 0.9
  return len(boxes)


def four_photos():
  """Four images of several shapes, six classes in them, each once."""
  return [
    photo(200, 300, (0, 20, 30, 120, 130), (1, 110, 180, 190, 290)),
    photo(240, 160, (2, 60, 20, 180, 140)),
    photo(150, 150, (3, 10, 60, 100, 140)),
    photo(180, 260, (4, 30, 10, 130, 90), (5, 60, 150, 160, 250)),
  ]

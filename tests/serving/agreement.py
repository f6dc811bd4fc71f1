"""When two runtimes have found the same in an image."""

import numpy as np

PIXELS = 1.0
SCORE = 1e-3


def assert_same_detections(found, expected, at_least=1):
  """Compares the detections of one image, to 1 pixel and a score of 1e-3.

  Args:
    found: `boxes` [n, 4], `scores` [n] and `classes` [n].
    expected: the same; in any order, since near ties may be sorted otherwise.
    at_least: how many there must be for the comparison to mean something.
  """
  assert len(expected["scores"]) >= at_least
  assert len(found["scores"]) == len(expected["scores"])
  free = np.ones(len(found["scores"]), bool)
  for box, score, class_ in zip(
    expected["boxes"], expected["scores"], expected["classes"], strict=True
  ):
    far = np.abs(found["boxes"] - box).max(axis=1)
    matches = free & (found["classes"] == class_) & (np.abs(found["scores"] - score) <= SCORE)
    far = np.where(matches, far, np.inf)
    best = int(far.argmin())
    assert far[best] <= PIXELS, f"{box} {score} of class {class_}: the next is {far[best]} away"
    free[best] = False


def of_image(outputs, image):
  """Returns the detections of one image of a batch, without the padding."""
  count = int(outputs["num_detections"][image])
  return {name: np.asarray(outputs[name][image][:count]) for name in ("boxes", "scores", "classes")}

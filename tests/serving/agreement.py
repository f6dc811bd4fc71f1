"""Compares the detections of two runtimes."""

import numpy as np

PIXELS = 1.0
SCORE = 1e-3


def assert_same_detections(found, expected, at_least=1):
  """Asserts that detections of one image agree: boxes within 1 pixel, scores within 1e-3.

  Args:
    found: `boxes` [n, 4], `scores` [n] and `classes` [n].
    expected: the same arrays; the order may differ, since near ties may be sorted differently.
    at_least: the least number of detections for which the comparison means something.
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

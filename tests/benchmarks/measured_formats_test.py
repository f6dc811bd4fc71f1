"""The table and the figure of export formats, with detectors that are made up."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.measured_formats import Measured, draw, shares_of_same_boxes, table_text

ROW = Measured("SavedModel", 0.4, 0.7, 16.7, 1.0, 23.7)


def detector(*scores, shift=0.0):
  """Returns a detector of as many boxes as scores, in every image, moved by some pixels."""
  boxes = np.arange(4.0 * len(scores)).reshape(1, -1, 4) + shift
  outputs = {"scores": np.array([scores]), "boxes": boxes, "classes": np.ones((1, len(scores)))}
  return lambda images: outputs


def test_the_share_of_same_boxes_is_of_clear_detections():
  scores = (0.9, 0.5, 0.2)
  detectors = {
    "SavedModel": detector(*scores),
    "moved": detector(*scores, shift=2.0),
    "one": detector(0.9, 0.4, 0.2),
  }
  shares = shares_of_same_boxes(detectors, [b"", b""])
  assert shares == {"SavedModel": 1.0, "moved": 0.0, "one": 0.5}


def test_without_a_clear_detection_the_table_has_a_dash():
  detectors = {"SavedModel": detector(0.2), "ONNX": detector(0.2)}
  shares = shares_of_same_boxes(detectors, [b""])
  assert shares == {"SavedModel": None, "ONNX": None}
  rows = [dataclasses.replace(ROW, name=name, same=same) for name, same in shares.items()]
  assert table_text({"R-50": rows}).splitlines()[2:] == [
    "| R-50 | SavedModel | 0.4000 | 0.7000 | 16.7 | - | 23.7 |",
    "| R-50 | ONNX | 0.4000 | 0.7000 | 16.7 | - | 23.7 |",
  ]
  assert "| 100.0 % |" in table_text({"R-50": [ROW]})


@pytest.mark.parametrize(("worst", "span"), [(0.39, 4.0), (0.25, 16.0)])
def test_every_format_lies_within_the_axes(worst, span, tmp_path, monkeypatch):
  drawn = []
  save = Figure.savefig
  monkeypatch.setattr(
    Figure, "savefig", lambda self, *args, **more: drawn.append(self) or save(self, *args, **more)
  )
  rows = [ROW, dataclasses.replace(ROW, name="TFLite int8", ap=worst)]
  draw({"R-50": rows, "R-18": rows[:1]}, tmp_path / "formats.png")
  for axes in drawn[0].axes:
    low, high = axes.get_ylim()
    points = [point for points in axes.collections for point in points.get_offsets()[:, 1]]
    assert low < min(points) <= max(points) < high
    assert high - low >= 4 - 1e-9
  assert np.diff(drawn[0].axes[0].get_ylim())[0] == pytest.approx(span, abs=0.6)

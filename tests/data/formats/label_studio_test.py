"""Shapes of Label Studio."""

import numpy as np
import pytest

from tests.data.formats.small import boxes_read, label_studio_shape, picture


class TestEllipsesOfLabelStudio:
  def _box(self, tmp_path, size=(400, 200), **value):
    picture(tmp_path / "a.png", size)
    found, report = boxes_read(label_studio_shape(tmp_path / "a.json", "a.png", **value))
    ((box,),) = found[""].values()
    assert report.count("boxes_of_rotated") == 1
    return box

  @pytest.mark.parametrize("rotation", [1, 45, 90, 180, -30])
  def test_the_box_of_a_circle_does_not_move(self, tmp_path, rotation):
    box = self._box(tmp_path, x=25, y=50, radiusX=10, radiusY=20, rotation=rotation)
    assert box == pytest.approx([60, 60, 80, 80])

  def test_a_quarter_turn_exchanges_the_sides(self, tmp_path):
    # 80 pixels by 20 around (200, 100).
    box = self._box(tmp_path, x=50, y=50, radiusX=10, radiusY=5, rotation=90)
    assert box == pytest.approx([190, 60, 20, 80])

  def test_the_box_lies_close_around_all_points(self, tmp_path):
    turn = np.linspace(0, 2 * np.pi, 10_000)
    x, y, angle = 40 * np.cos(turn), 10 * np.sin(turn), np.deg2rad(30)
    x, y = (
      200 + x * np.cos(angle) - y * np.sin(angle),
      100 + x * np.sin(angle) + y * np.cos(angle),
    )
    box = self._box(tmp_path, x=50, y=50, radiusX=10, radiusY=5, rotation=30)
    assert box == pytest.approx([x.min(), y.min(), np.ptp(x), np.ptp(y)], abs=1e-3)

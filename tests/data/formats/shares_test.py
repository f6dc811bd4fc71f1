"""Shares and percents of an image's sides are of the sides that training sees."""

import json

import pytest

from tests.data.formats.small import boxes_read, label_studio_shape, picture
from tests.data.formats.written import write
from tests.decompression_bomb import decompression_bomb


class TestSharesOfAnImagesSides:
  @pytest.fixture(params=["yolo", "csv", "label_studio"])
  def given(self, request, tmp_path):
    """The lower right quarter of a.png, in each format that has shares."""
    if request.param == "yolo":
      write(tmp_path / "classes.txt", "cell\n")
      write(tmp_path / "a.txt", "0 0.75 0.75 0.5 0.5\n")
      return tmp_path
    if request.param == "csv":
      text = "filename,label,xmin,ymin,xmax,ymax\na.png,cell,0.5,0.5,1,1\n"
      return write(tmp_path / "boxes.csv", text)
    return label_studio_shape(tmp_path / "a.json", "a.png", x=50, y=50, width=50, height=50)

  def test_of_an_image_beyond_pillows_limit(self, tmp_path, given):
    (tmp_path / "a.png").write_bytes(decompression_bomb(14_000, 13_000))
    found, report = boxes_read(given)
    assert found == {"": {"a.png": [[7_000, 6_500, 7_000, 6_500]]}}
    assert "boxes_without_size" not in report.to_json()

  def test_of_an_image_whose_size_cannot_be_read(self, tmp_path, given):
    (tmp_path / "a.png").write_bytes(b"<html>404</html>")
    found, report = boxes_read(given)
    assert found == {"": {"a.png": []}}
    assert report.count("boxes_without_size") == 1

  def test_of_a_photograph_that_is_turned(self, tmp_path, given):
    picture(tmp_path / "a.png", (40, 20), orientation=6)
    assert boxes_read(given)[0] == {"": {"a.png": [[10, 20, 10, 20]]}}


@pytest.mark.parametrize(
  ("stated", "expected"),
  # As it is shown, as it lies in the file, a scaled copy.
  [((300, 400), (150, 200, 75, 100)), ((400, 300), (200, 150, 100, 75)),
   ((150, 200), (150, 200, 75, 100))],
)  # fmt: skip
def test_stated_sizes_of_a_turned_photograph(tmp_path, stated, expected):
  picture(tmp_path / "a.jpg", (400, 300), orientation=6)
  text = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,{},{},cell,.5,.5,.75,.75\n"
  table = write(tmp_path / "boxes.csv", text.format(*stated))
  assert boxes_read(table)[0] == {"": {"a.jpg": [list(expected)]}}
  row = {"original_width": stated[0], "original_height": stated[1], "type": "rectanglelabels"}
  row["value"] = {"x": 50, "y": 50, "width": 25, "height": 25, "rectanglelabels": ["cell"]}
  task = {"data": {"image": "a.jpg"}, "annotations": [{"result": [row]}]}
  file = write(tmp_path / "a.json", json.dumps([task]))
  assert boxes_read(file)[0] == {"": {"a.jpg": [list(expected)]}}

"""How cells of a table are spelt."""

import pytest

from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.report import Report
from tests.data.formats.small import boxes_read, picture
from tests.data.formats.written import write


@pytest.mark.parametrize(
  ("spelt", "is_crowd"),
  [("1", 1), ("TRUE", 1), ("true", 1), ("1.0", 1), ("0", 0), ("FALSE", 0), ("0.0", 0), ("", 0),
   ("-1", 0)],
)  # fmt: skip
def test_crowds_of_a_table(tmp_path, spelt, is_crowd):
  picture(tmp_path / "a.png")
  text = f"filename,label,xmin,ymin,xmax,ymax,IsGroupOf\na.png,cell,1,2,3,4,{spelt}\n"
  (split,) = read_annotations(write(tmp_path / "a.csv", text), None, None, Report())
  assert [row["iscrowd"] for row in split.content["annotations"]] == [is_crowd]


def test_what_is_neither_a_crowd_nor_none_is_said(tmp_path):
  picture(tmp_path / "a.png")
  text = "filename,label,xmin,ymin,xmax,ymax,iscrowd\na.png,cell,1,2,3,4,perhaps\n"
  found, report = boxes_read(write(tmp_path / "a.csv", text))
  assert found == {"": {"a.png": []}}
  assert report.to_json()["boxes_malformed"]["examples"] == ["a.csv, line 2: 'perhaps'"]


@pytest.mark.parametrize(
  "spelt", ["[.5, .5, .25, .25]", "[5e-1 0.5 25e-2 2.5E-1]", "(.5,.5,+.25,.25)", "0.5 0.5 .25 .25"]
)
def test_numbers_of_a_box_in_one_cell(tmp_path, spelt):
  picture(tmp_path / "a.png", (40, 20))
  text = f'filename,label,bbox\na.png,cell,"{spelt}"\n'
  assert boxes_read(write(tmp_path / "a.csv", text))[0] == {"": {"a.png": [[20, 10, 10, 5]]}}

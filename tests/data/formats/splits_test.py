"""Which split is trained on, and which images a list of VOC names."""

import json

import pytest

from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.formats.source import read_source
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from tests.data.formats.small import boxes_read, picture
from tests.data.formats.written import coco, voc_xml, write


class TestSplits:
  @pytest.fixture
  def voc(self, tmp_path):
    for stem in ("a", "b", "c", "e"):
      picture(tmp_path / "JPEGImages" / f"{stem}.png")
      text = voc_xml("e.png").replace("e.png", f"{stem}.png")
      write(tmp_path / "Annotations" / f"{stem}.xml", text)
    return tmp_path

  def _list(self, voc, name, *stems):
    write(voc / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))

  def _splits(self, voc):
    found, report = boxes_read(voc)
    return {name: [file[0] for file in boxes] for name, boxes in found.items()}, report

  def test_trainval_is_trained_on(self, voc):
    self._list(voc, "trainval", "a", "b")
    self._list(voc, "test", "c")
    found, report = self._splits(voc)
    assert found == {"train": ["a", "b"], "test": ["c"]}
    assert report.count("images_unlisted") == 1
    source = read_source(voc, None, None, None, None, Report())
    assert [split.name for split in source.splits] == ["train", "test"]

  def test_trainval_leaves_the_others_as_they_are(self, voc):
    for name, stems in (("train", "a"), ("val", "b"), ("test", "c"), ("trainval", "abce")):
      self._list(voc, name, *stems)
    found, report = self._splits(voc)
    assert found == {"train": ["a", "e"], "val": ["b"], "test": ["c"]}
    # An image to test on that is listed to train on, too.
    assert report.to_json()["images_in_two_splits"]["examples"] == ["c: test and train"]

  @pytest.mark.parametrize("name", ["val", "test"])
  def test_a_lone_split_to_measure_on_is_not_trained_on(self, voc, name):
    self._list(voc, name, "a")
    sentence = f"has the split {name} and none to train on; give the one to train on"
    with pytest.raises(UserError, match=sentence):
      read_source(voc, None, None, None, None, Report())
    with pytest.raises(UserError, match=sentence):
      read_source(voc, None, voc, None, None, Report())

  def test_a_file_that_is_given_is_of_no_split_whatever_its_name(self, tmp_path):
    picture(tmp_path / "a.png")
    table = write(tmp_path / "test.csv", "filename,label,xmin,ymin,xmax,ymax\na.png,cell,1,2,3,4\n")
    assert read_source(table, None, None, None, None, Report()).train.num_images == 1
    with pytest.raises(UserError, match="has the split test and none to train on"):
      read_source(tmp_path, None, None, None, None, Report())
    table.unlink()
    file = write(tmp_path / "val.json", json.dumps(coco(["a.png"])))
    assert read_source(file, None, None, None, None, Report()).train.num_images == 1
    with pytest.raises(UserError, match="has the split val and none to train on"):
      read_source(tmp_path, None, None, None, None, Report())

  def test_a_split_that_is_left_out_has_the_ids_of_the_others(self, voc, tmp_path):
    self._list(voc, "train", "a", "b")
    self._list(voc, "test", "c")
    write(voc / "Annotations" / "c.xml", voc_xml("b.png").replace("b.png", "c.png"))
    table = "filename,label,xmin,ymin,xmax,ymax\na.png,an earlier class,1,2,3,4\n"
    val = write(tmp_path / "val" / "boxes.csv", table)
    picture(val.parent / "a.png")
    source = read_source(voc, None, val, None, None, Report())
    (left_out,) = source.others
    assert left_out.name == "test"
    assert left_out.content["categories"] == source.train.content["categories"]
    names = {row["id"]: row["name"] for row in left_out.content["categories"]}
    assert "an earlier class" in names.values()
    assert [names[row["category_id"]] for row in left_out.content["annotations"]] == ["dust"]

  def test_names_that_end_like_a_list_of_one_class(self, voc):
    for stem in ("scan", "scan 1", "scan 0", "scan -1"):
      write(voc / "Annotations" / f"{stem}.xml", voc_xml("e.png"))
    self._list(voc, "train", "scan 1", "scan 0", "a  1", "b -1")
    self._list(voc, "val", "scan")
    found = [
      row["file_name"]
      for split in read_annotations(voc, None, None, Report())
      for row in split.content["images"]
    ]
    assert len(found) == 5

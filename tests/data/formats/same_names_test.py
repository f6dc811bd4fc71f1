"""Images that have the same name in several folders."""

import json

import pytest

from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.report import Report
from tests.data.formats.small import boxes_read, label_studio_shape, picture
from tests.data.formats.written import voc_xml, write


class TestImagesOfTheSameName:
  @pytest.fixture
  def folder(self, tmp_path):
    for split, width in (("train", 100), ("val", 200)):
      picture(tmp_path / "images" / split / "001.png", (width, 100))
    return tmp_path

  @pytest.mark.parametrize(
    "address",
    [
      "/data/local-files/?d={}/001.png",
      "/data/local-files/?d=datasets%2Fmine%2F{}%2F001.png",
      "s3://bucket/photos/{}/001.png",
      "D:\\photos\\{}\\001.png",
      "/data/upload/1/{}/0a1b2c3d-001.png",
    ],
  )
  def test_label_studio_tells_them_apart_by_folders(self, folder, address):
    tasks = []
    for split in ("train", "val"):
      value = {"x": 50, "y": 0, "width": 50, "height": 100, "rectanglelabels": [split]}
      image = {"image": address.format(split)}
      tasks.append({"data": image, "annotations": [{"result": [{"value": value}]}]})
    file = write(folder / "a.json", json.dumps(tasks))
    expected = {"train/001.png": [[50, 0, 50, 100]], "val/001.png": [[100, 0, 100, 100]]}
    assert boxes_read(file)[0] == {"": expected}

  def test_what_label_studio_puts_before_an_uploaded_name_is_not_any_dash(self, tmp_path):
    picture(tmp_path / "photo.png")
    report = boxes_read(
      label_studio_shape(tmp_path / "a.json", "my-photo.png", x=1, y=1, width=9, height=9)
    )
    assert report[0] == {"": {"my-photo.png": []}}

  def test_voc_tells_them_apart_by_folders(self, folder):
    for split in ("train", "val"):
      text = voc_xml("a.png").replace("a.png", "001.png")
      write(folder / "labels" / split / "001.xml", text)
    found = boxes_read(folder)[0]
    assert {split: list(boxes) for split, boxes in found.items()} == {
      "train": ["001.png"], "val": ["001.png"],
    }  # fmt: skip
    splits = read_annotations(folder, None, None, Report())
    assert [split.images_dir.name for split in splits] == ["train", "val"]

  def test_yolo_tells_them_apart_by_folders(self, folder):
    (folder / "images").rename(folder / "photos")
    write(folder / "classes.txt", "cell\n")
    for split, line in (("train", "0 0.25 0.5 0.5 1\n"), ("val", "0 0.75 0.5 0.5 1\n")):
      write(folder / "text" / split / "001.txt", line)
    assert boxes_read(folder)[0] == {
      "train": {"001.png": [[0, 0, 50, 100]]},
      "val": {"001.png": [[100, 0, 100, 100]]},
    }

  def test_an_image_without_labels_gets_none_of_another_split(self, folder):
    write(folder / "classes.txt", "cell\n")
    write(folder / "labels" / "val" / "001.txt", "0 0.75 0.5 0.5 1\n")
    found, report = boxes_read(folder)
    assert found == {"train": {"001.png": []}, "val": {"001.png": [[100, 0, 100, 100]]}}
    assert report.count("images_without_labels") == 1

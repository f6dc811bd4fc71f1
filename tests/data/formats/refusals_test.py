"""What a format cannot mean is refused in a sentence, or counted and said."""

import json

import pytest

from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.formats.source import read_source
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from tests.data.formats import written
from tests.data.formats.written import write

NAMES = "names: [cell, dust]\n"


def refusal(path, format_name=None):
  with pytest.raises(UserError) as error:
    read_annotations(path, None, format_name, Report())
  message = str(error.value)
  assert "\n" not in message
  return message


@pytest.fixture
def folder(tmp_path):
  written.draw(tmp_path)
  return tmp_path


def _boxes(splits):
  return [row["bbox"] for split in splits for row in split.content["annotations"]]


def test_entities_of_xml_are_refused_not_expanded(folder):
  bomb = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'
  write(folder / "a.xml", f"<?xml version='1.0'?>{bomb}")
  assert "declares the XML entity 'a'" in refusal(folder, "voc")
  outside = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'
  write(folder / "a.xml", outside)
  assert "declares the XML entity 'x'" in refusal(folder, "voc")
  # A bare document type is harmless.
  write(folder / "a.xml", f"<!DOCTYPE annotation>{written.voc_xml('a.png')}")
  (split,) = read_annotations(folder, None, "voc", Report())
  assert len(split.content["annotations"]) == 2


def test_broken_xml_names_the_file_and_the_line(folder):
  write(folder / "a.xml", "<annotation><object></annotation>")
  assert "a.xml is not XML: mismatched tag: line 1" in refusal(folder, "voc")


def test_rotated_boxes_of_voc_and_cvat(folder):
  box = "<object><name>x</name><robndbox><cx>1</cx></robndbox></object>"
  write(folder / "a.xml", f"<annotation><filename>a.png</filename>{box}</annotation>")
  assert "rotated boxes (<robndbox>)" in refusal(folder)
  xml = written.cvat().replace('occluded="0"', 'occluded="0" rotation="12.5"', 1)
  write(folder / "a.xml", xml)
  assert "rotated boxes" in refusal(folder / "a.xml")


def test_rotated_boxes_of_yolo(folder):
  write(folder / "data.yaml", NAMES)
  write(folder / "a.txt", "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n")
  assert "rotated boxes (YOLO-OBB" in refusal(folder)
  # Upright ones are boxes, and an outline of another number of points shows that all are outlines.
  write(folder / "a.txt", "0 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5\n")
  (split,) = read_annotations(folder, None, None, Report())
  assert _boxes([split]) == [[16.0, 12.0, 32.0, 12.0]]
  write(folder / "a.txt", "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n1 0.5 0.1 0.9 0.5 0.5 0.9\n")
  assert len(_boxes(read_annotations(folder, None, None, Report()))) == 2


@pytest.mark.parametrize(
  ("labels", "expected"),
  [
    ("0 20 20 10 10\n", "a.txt has pixels, 20 20 10 10, where YOLO has shares"),
    ("0 0.5 0.5 0.1 0.1 0.93\n", "line 1, has six numbers, which is a detection with its score"),
  ],
)
def test_numbers_that_are_not_yolos(folder, labels, expected):
  write(folder / "data.yaml", NAMES)
  write(folder / "a.txt", labels)
  assert expected in refusal(folder, "yolo")


def test_yolo_without_names_says_where_to_write_them(folder):
  write(folder / "a.txt", "0 0.5 0.5 0.1 0.1\n")
  assert f"write them into {folder / 'classes.txt'}" in refusal(folder)


def test_yolo_counts_what_has_no_partner(folder):
  write(folder / "data.yaml", NAMES)
  write(folder / "a.txt", "0 0.5 0.5 0.1 0.1\n1 nonsense\n7 0.5 0.5 0.1 0.1\n")
  write(folder / "gone.txt", "0 0.5 0.5 0.1 0.1\n")
  write(folder / "b.txt", "")
  report = Report()
  read_annotations(folder, None, None, report)
  assert report.count("labels_without_image") == 1
  # c d.jpg and e.png; b.png has an empty file, which says that nothing is in it.
  assert report.count("images_without_labels") == 2
  assert report.count("boxes_unreadable") == 1


def test_a_folder_that_data_yaml_names_must_be_there(folder):
  write(folder / "data.yaml", f"train: train/images\n{NAMES}")
  message = refusal(folder)
  assert "there is no 'train/images', its 'train'" in message
  assert "--images" in message


def test_keypoints_of_yolo_are_boxes(folder):
  write(folder / "data.yaml", f"kpt_shape: [2, 3]\n{NAMES}")
  write(folder / "a.txt", "0 0.5 0.5 0.25 0.5 0.4 0.4 2 0.6 0.6 2\n")
  assert _boxes(read_annotations(folder, None, None, Report())) == [[24.0, 12.0, 16.0, 24.0]]


def test_columns_that_are_not_known_are_listed(folder):
  write(folder / "a.csv", "picture,what,where\na.png,cell,here\n")
  message = refusal(folder / "a.csv")
  assert "its columns are not known: picture, what, where." in message
  assert "filename, class, xmin, ymin, xmax, ymax" in message


def test_rows_of_a_table_that_are_no_box_are_counted(folder):
  text = (
    "filename,class,xmin,ymin,xmax,ymax\na.png,cell,1,2,3,4\na.png,cell,1,x,3,4\n,cell,1,2,3,4\n"
  )
  report = Report()
  splits = read_annotations(write(folder / "a.csv", text), None, None, report)
  assert _boxes(splits) == [[1, 2, 2, 2]]
  assert report.count("boxes_unreadable") == 2
  assert report.count("images_unlisted") == 3


def test_a_rotated_box_of_label_studio_is_the_upright_one_around_it(folder):
  # A square of 10 pixels, turned by 45 degrees around its corner at (32, 24).
  value = {
    "x": 50, "y": 50, "width": 100 * 10 / 64, "height": 100 * 10 / 48, "rotation": 45,
    "rectanglelabels": ["cell"],
  }  # fmt: skip
  row = {"type": "rectanglelabels", "original_width": 64, "original_height": 48, "value": value}
  task = {"data": {"image": "/data/local-files/?d=x/a.png"}, "annotations": [{"result": [row]}]}
  report = Report()
  splits = read_annotations(write(folder / "a.json", json.dumps([task])), None, None, report)
  half = 10 / 2**0.5
  assert _boxes(splits)[0] == pytest.approx([32 - half, 24, 2 * half, 2 * half])
  assert report.count("boxes_of_rotated") == 1


def test_an_unknown_format_names_the_nearest(folder):
  assert "did you mean 'yolo'?" in refusal(folder, "yolov8")


def test_a_known_format_that_is_not_read_says_how_to_convert_it(folder):
  write(folder / "a.json", json.dumps({"version": "5", "shapes": [], "imagePath": "a.png"}))
  message = refusal(folder)
  assert "annotations must be one of COCO JSON, Pascal VOC, YOLO, CSV" in message
  assert "labelme2coco" in message


def test_the_images_of_a_coco_json_are_not_guessed_from_elsewhere(tmp_path):
  write(tmp_path / "a" / "all.json", json.dumps(written.coco(written.IMAGES)))
  message = refusal(tmp_path / "a" / "all.json")
  assert "are not beside it (the first is 'a.png')" in message


def test_a_test_split_validates_where_there_is_no_other_and_is_left_out_otherwise(tmp_path):
  for name, split in (("a.png", "train"), ("b.png", "test"), ("c d.jpg", "valid")):
    write(tmp_path / split / "_annotations.coco.json", json.dumps(written.coco([name])))
    write(tmp_path / split / name, "")
  report = Report()
  source = read_source(tmp_path, None, None, None, None, report)
  assert [split.name for split in source.splits] == ["train", "val"]
  assert report.count("images_test_unused") == 1
  (tmp_path / "valid" / "_annotations.coco.json").unlink()
  report = Report()
  source = read_source(tmp_path, None, None, None, None, report)
  assert [split.name for split in source.splits] == ["train", "test"]
  assert report.count("images_test_as_val") == 1


def test_two_folders_of_voc_get_the_same_ids_for_the_same_names(tmp_path):
  for folder, name in (("one", "c d.jpg"), ("two", "b.png")):
    written.draw(tmp_path / folder)
    write(tmp_path / folder / f"{name[:-4]}.xml", written.voc_xml(name))
  source = read_source(tmp_path / "one", None, tmp_path / "two", None, None, Report())
  names = {row["id"]: row["name"] for row in source.train.content["categories"]}
  assert source.val.content["categories"] == source.train.content["categories"]
  labels = [names[row["category_id"]] for row in source.val.content["annotations"]]
  assert labels == ["dust"]


@pytest.mark.parametrize("text", [";", ",,,\n,,\n", " ; \n"])
def test_a_table_of_separators_alone(folder, text):
  write(folder / "a.csv", text)
  assert "has separators and nothing between them" in refusal(folder / "a.csv", "csv")


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_two_lines_that_are_nested_too_deeply(folder, name):
  write(folder / name, "[" * 5000 + "\n" + "[" * 5000 + "\n")
  assert refusal(folder / name)

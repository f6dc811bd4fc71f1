"""Other formats than COCO JSON are recognised, with a way to convert them."""

import json
import struct
import zipfile

import pytest

from official_nasfpn.data.coco_json import coco_dataset, parse_coco_json
from official_nasfpn.data.foreign_formats import refuse_foreign_annotations, refuse_foreign_images
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError

COCO = {
  "images": [{"id": 1, "file_name": "a.jpg"}],
  "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
  "categories": [{"id": 1, "name": "cell"}],
}
VOC = """<annotation verified="yes">
  <filename>a.jpg</filename>
  <object><name>cell</name><bndbox><xmin>1</xmin></bndbox></object>
</annotation>"""
YOLO = "0 0.5 0.5 0.25 0.125\n12 0.1 0.2 0.3 0.4\n"
DATA_YAML = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cell', 'dust']\n"
LABELME = {"version": "5.2.1", "flags": {}, "shapes": [], "imagePath": "a.jpg", "imageData": None}
VIA = {"a.jpg10248": {"filename": "a.jpg", "size": 10248, "regions": [], "file_attributes": {}}}
RESULT = {"image_id": 1, "category_id": 1, "score": 0.5}


def tfrecord(*records):
  # The checksums are not looked at.
  return b"".join(struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records)


def write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
  return path


def refusal(path):
  with pytest.raises(UserError) as error:
    coco_dataset(parse_coco_json(path), path, Report())
  message = str(error.value)
  assert message.startswith(f"{path} is ")
  assert "annotations must be COCO JSON. " in message
  assert "\n" not in message
  return message


@pytest.mark.parametrize(
  ("name", "content", "expected"),
  [
    ("a.xml", VOC, ["Pascal VOC", "nasfpn prepare --annotations"]),
    ("a.xml", "\ufeff<?xml version='1.0'?>\n" + VOC, ["Pascal VOC"]),
    ("annotations.xml", "<annotations><version>1.1</version></annotations>", ["CVAT"]),
    ("feed.xml", "<rss></rss>", ["is XML"]),
    ("a.json", "<!DOCTYPE html>\n<html>Sign in</html>", ["a web page", "download it again"]),
    ("a.txt", YOLO, ["YOLO", "nasfpn prepare --annotations"]),
    ("a.txt", "3 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n", ["YOLO"]),
    ("data.yaml", DATA_YAML, ["YOLO"]),
    ("data.yaml", "names:\n  0: cell\npath: ../cells\n", ["YOLO"]),
    ("1.txt", "Car 0.00 0 -1.57 614.2 181.8 727.3 284.8 1 1 3 1 2 9 -1.6\n", ["KITTI"]),
    ("classes.txt", "cell\ndust\n", ["a text file"]),
    ("train.txt", "images/a.jpg\nimages/b.PNG\n", ["a list of image files"]),
    ("map.pbtxt", "item {\n  id: 1\n}\n", ["label map of TensorFlow"]),
    (
      "boxes.csv",
      "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,c,1,1,2,2\n",
      ["CSV"],
    ),
    ("boxes", "a.jpg;1;2;3;4\n", ["CSV"]),
    ("README.md", "Cells, dust, fibres, and more\n\nby us\n", ["a text file"]),
    ("train.tfrecord-00000-of-00001", tfrecord(b"x" * 99, b"y" * 7), ["TFRecord"]),
    ("train.record", tfrecord(*[b"z"] * 200), ["TFRecord", "COCO JSON that it was made from"]),
    ("a.json", LABELME, ["LabelMe", "labelme2coco"]),
    ("via.json", VIA, ["VIA", "Export Annotations (COCO format)"]),
    ("via.json", {"_via_settings": {}, "_via_img_metadata": VIA}, ["VIA"]),
    ("r.json", [{**RESULT, "bbox": [1, 2, 3, 4]}], ["COCO results", "instances_*.json"]),
    ("r.json", [{**RESULT, "segmentation": {"size": [9, 9], "counts": "x"}}], ["COCO results"]),
    ("r.json", [{"image_id": 1, "caption": "A cell."}], ["COCO results"]),
    (
      "ls.json",
      [{"id": 1, "data": {}, "annotations": []}],
      ["Label Studio", "nasfpn prepare --annotations"],
    ),
    ("d2.json", [{"file_name": "a.jpg", "annotations": []}], ["Detectron2"]),
    ("ml.json", [{"image": "a.jpg", "annotations": []}], ["CreateML"]),
    ("bdd.json", [{"name": "a.jpg", "labels": []}], ["BDD100K"]),
    ("map.json", {"type": "FeatureCollection", "features": []}, ["GeoJSON"]),
    ("info.json", {"images": [], "categories": []}, ["image_info", "instances_*.json"]),
    (
      "lvis.json",
      {**COCO, "images": [{"id": 1, "coco_url": "http://images.org/train2017/1.jpg"}]},
      ["LVIS", "coco_url"],
    ),
    ("lines.json", '{"a": 1}\n{"a": 2}\n', ["JSON Lines"]),
    ("nothing.json", b"", ["an empty file"]),
    ("blank.json", b"\xef\xbb\xbf\r\n  ", ["an empty file"]),
    ("lfs.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ["git lfs pull"]),
    ("a.jpg", b"\xff\xd8\xff\xe0\0\0", ["is an image", "--images"]),
    ("a.tar.gz", b"\x1f\x8b\x08\0", ["a gzip archive", "`tar -xf"]),
    ("a.parquet", b"PAR1\0\0", ["Parquet"]),
    ("a.mat", b"\x07\0\0\0\x01\0\0\0\xff", ["a binary file"]),
  ],
)
def test_a_file_of_another_format_is_named(tmp_path, name, content, expected):
  message = refusal(write(tmp_path / name, content))
  for text in expected:
    assert text in message


def coco_with(**annotation):
  return {**COCO, "annotations": [{"id": 1, "image_id": 1, **annotation}]}


@pytest.mark.parametrize(
  ("content", "expected"),
  [
    (coco_with(file_name="a.png", segments_info=[]), "panoptic2detection_coco_format"),
    ({**coco_with(caption="A cell."), "categories": []}, "captions, which have no boxes"),
    (coco_with(category_id=1, keypoints=[1, 1, 2], num_keypoints=1), "keypoints without boxes"),
  ],
)
def test_annotations_of_coco_that_are_no_boxes(tmp_path, content, expected):
  assert expected in refusal(write(tmp_path / "a.json", content))


def test_keypoints_with_boxes_are_boxes(tmp_path):
  content = coco_with(category_id=1, bbox=[1, 2, 3, 4], keypoints=[1, 1, 2], num_keypoints=1)
  path = write(tmp_path / "a.json", content)
  dataset = coco_dataset(parse_coco_json(path), path, Report())
  assert len(dataset.images[0].annotations) == 1


def test_a_json_that_is_deeper_than_any_dataset_is_refused(tmp_path):
  with pytest.raises(UserError, match="is not JSON"):
    parse_coco_json(write(tmp_path / "deep.json", "[" * 100_000))


@pytest.mark.parametrize(
  ("files", "expected"),
  [
    ({"Annotations/a.xml": VOC, "JPEGImages/a.jpg": b"", "ImageSets/a.txt": "a\n"}, "Pascal VOC"),
    ({"data.yaml": DATA_YAML, "labels/a.txt": YOLO, "images/a.jpg": b""}, "YOLO"),
    ({"images/a.jpg": b"", "labels/a.txt": "", "labels/b.txt": YOLO}, "YOLO"),
    ({"classes.txt": "cell\n", "a.txt": YOLO, "a.jpg": b""}, "YOLO"),
    ({"a.json": LABELME, "b.json": LABELME, "a.jpg": b""}, "LabelMe"),
    ({"via_export_json.json": VIA, "a.jpg": b""}, "VIA"),
    ({"train.tfrecord-00000-of-00002": tfrecord(b"x"), "notes.txt": "x\n"}, "TFRecord"),
    ({"boxes.csv": "image,x,y,w,h\n", "README.md": "# Cells\n"}, "CSV"),
    ({"dataset.json": "{}", "label_map.json": "{}", "val.json": COCO}, "prepared already"),
    ({"a/1.jpg": b"", "b/2.png": b""}, "a folder of 2 images without boxes"),
    ({"notes.md": "# Cells\n"}, "a folder without a COCO JSON in it"),
    ({"cells.zip": b"PK\x03\x04"}, "Unpack it, `unzip "),
    ({}, "an empty folder"),
  ],
)
def test_a_folder_is_told_by_what_lies_in_it(tmp_path, files, expected):
  folder = tmp_path / "my data"
  folder.mkdir()
  for name, content in files.items():
    write(folder / name, content)
  message = refusal(folder)
  assert expected in message
  if "nasfpn prepare" in message:
    assert f"--annotations '{folder}' " in message


def test_the_one_coco_json_in_a_folder_is_named(tmp_path):
  write(tmp_path / "info.json", {"images": [], "categories": []})
  write(tmp_path / "results.json", [{**RESULT, "bbox": [1, 2, 3, 4]}])
  write(tmp_path / "annotations" / "captions.json", coco_with(caption="A cell."))
  file = write(tmp_path / "annotations" / "instances.json", COCO)
  assert f"The one in it is {file}: give that file." in refusal(tmp_path)
  other = write(tmp_path / "other.json", COCO)
  message = refusal(tmp_path)
  assert f"There are 2 in it: give one of {other}, {file}." in message


def test_the_one_json_in_a_zip_is_named(tmp_path):
  file = tmp_path / "export.zip"
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("train/_annotations.coco.json", json.dumps(COCO))
    archive.writestr("train/a.jpg", b"")
  message = refusal(file)
  assert "a zip archive" in message
  assert "give 'train/_annotations.coco.json' in it" in message
  assert f"`unzip {file}`" in message


@pytest.mark.parametrize("address", ["https://example.org/a.json", "s3://cells/a.json"])
def test_an_address_is_to_be_downloaded_first(address):
  with pytest.raises(UserError, match="is an address; download"):
    refuse_foreign_annotations(address)
  with pytest.raises(UserError, match=r"--images: .* is an address; download"):
    refuse_foreign_images("images", address)


@pytest.mark.parametrize(
  ("name", "content", "expected"),
  [
    ("photos.zip", b"PK\x03\x04", "is a zip archive, not a folder of images. Unpack it, `unzip "),
    ("photos.tar", b"ustar\0", "is a binary file, not a folder"),
    ("a.png", b"\x89PNG", "is an image, not a folder of images. Give the folder that it lies in"),
    ("a.json", "{}", "Give annotations to --val_annotations, and here the folder."),
    ("list.txt", "a.jpg\n", "is a list of image files, not a folder of images."),
    ("x", b"", "is an empty file, not a folder of images."),
  ],
)
def test_what_is_no_folder_of_images_is_named(tmp_path, name, content, expected):
  file = write(tmp_path / name, content)
  with pytest.raises(UserError) as error:
    refuse_foreign_images("val_images", file)
  assert str(error.value).startswith(f"--val_images: {file} is ")
  assert expected in str(error.value)


def test_a_folder_of_images_and_coco_json_are_fine(tmp_path):
  refuse_foreign_images("images", tmp_path)
  refuse_foreign_annotations(write(tmp_path / "a.json", COCO))
  refuse_foreign_annotations(tmp_path / "missing.json")

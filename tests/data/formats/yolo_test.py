"""What data.yaml says of images and classes."""

import pytest

from official_nasfpn.data.coco_json import clean_boxes, coco_dataset
from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from tests.data.formats.small import boxes_read, picture
from tests.data.formats.written import write


class TestYoloWithImagesElsewhere:
  """`--images`, and the entries of data.yaml for training and validation."""

  def _given(self, root, entries):
    for name in ("a", "b", "c", "d"):
      write(root / "labels" / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    return write(root / "data.yaml", f"{entries}\nnames: [cell]\n")

  def _splits(self, given, images):
    found, report = boxes_read(given, images)
    return {name: sorted(boxes) for name, boxes in found.items()}, report

  def test_lists(self, tmp_path):
    given = self._given(tmp_path / "yolo", "train: train.txt\nval: val.txt")
    write(given.parent / "train.txt", "./images/a.png\n/home/x/images/b.png\n")
    write(given.parent / "val.txt", "./images/c.png\n")
    for name in ("a", "b", "c", "d"):
      picture(tmp_path / "photos" / f"{name}.png")
    found, report = self._splits(given, tmp_path / "photos")
    assert found == {"train": ["a.png", "b.png"], "val": ["c.png"]}
    assert report.to_json()["images_unlisted"]["examples"] == ["d.png"]

  @pytest.mark.parametrize(
    ("entries", "folders"),
    [
      ("train: images/train\nval: images/val", ("train", "val")),
      ("train: images/train\nval: images/val", ("images/train", "images/val")),
      ("train: ../train/images\nval: ../valid/images", ("train/images", "valid/images")),
      ("train: /content/mine/one\nval: /content/mine/two", ("one", "two")),
      ("path: ../datasets/mine\ntrain: [one, other]\nval: two\ntest:", ("one", "two")),
      ("train: one\nval: two\ntest: gone", ("one", "two")),
    ],
  )
  def test_folders(self, tmp_path, entries, folders):
    given = self._given(tmp_path / "yolo", entries)
    picture(tmp_path / "photos" / folders[0] / "a.png")
    picture(tmp_path / "photos" / folders[1] / "c.png")
    (tmp_path / "photos" / "other").mkdir()
    found, report = self._splits(given, tmp_path / "photos")
    assert found == {"train": ["a.png"], "val": ["c.png"]}
    assert report.count("splits_missing") == ("gone" in entries)

  def test_one_entry_may_be_the_folder_itself(self, tmp_path):
    given = self._given(tmp_path / "yolo", "train: ../train/images")
    picture(tmp_path / "photos" / "a.png")
    assert self._splits(given, tmp_path / "photos")[0] == {"train": ["a.png"]}

  def test_a_folder_of_another_layout_is_read_by_its_own_and_that_is_said(self, tmp_path):
    given = self._given(tmp_path / "yolo", "train: train/images\nval: valid/images")
    picture(tmp_path / "photos" / "images" / "a.png")
    picture(tmp_path / "photos" / "valid" / "c.png")
    found, report = self._splits(given, tmp_path / "photos")
    assert found == {"": ["a.png"], "val": ["c.png"]}
    assert report.count("splits_missing") == 2

  def test_half_a_layout_is_refused(self, tmp_path):
    given = self._given(tmp_path / "yolo", "train: one\nval: two")
    picture(tmp_path / "photos" / "one" / "a.png")
    with pytest.raises(UserError, match=r"there is no 'two', its 'val', in .*photos"):
      boxes_read(given, tmp_path / "photos")


@pytest.mark.parametrize(
  ("names", "index", "expected"),
  [
    ("['1', '2']", 2, None),
    ("['1', '2']", 1, "2"),
    ("[cat, dog, cat]", 2, "cat (2)"),
    ("[cat, dog, cat]", 0, "cat (0)"),
    ("{3: cat, 7: dog}", 7, "dog"),
  ],
)
def test_classes_of_yolo_are_indices_not_names(tmp_path, names, index, expected):
  picture(tmp_path / "a.png")
  write(tmp_path / "data.yaml", f"names: {names}\n")
  write(tmp_path / "a.txt", f"{index} 0.5 0.5 0.5 0.5\n")
  (split,) = read_annotations(tmp_path, None, None, Report())
  report = Report()
  dataset = coco_dataset(split.content, tmp_path, report)
  (image,) = dataset.images
  boxes = clean_boxes(image.annotations, (40, 20), dataset.label_map, report, "a.png")
  found = [dataset.label_map.name(box.class_index) for box in boxes]
  assert found == ([] if expected is None else [expected])
  assert report.count("boxes_unknown_category") == (expected is None)

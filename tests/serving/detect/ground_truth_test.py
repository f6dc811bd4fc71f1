"""Annotated images are found by their names, and never guessed."""

import json
from pathlib import Path

import pytest

from official_nasfpn.data.image_files import find_image_file
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.ground_truth import GroundTruth


def annotations(folder, *names):
  path = folder / "all.json"
  images = [{"id": id_, "file_name": name} for id_, name in enumerate(names, start=1)]
  content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
  path.write_text(json.dumps(content))
  return GroundTruth(path)


NAMES = ["a.jpg", "deep/a.jpg", "deep\\a.jpg", "./a.jpg", "deep//a.jpg", "/my/deep/a.jpg"]
ELSEWHERE = ["train/a.jpg", "/home/me/a.jpg", "C:\\data\\a.jpg", "../images/a.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_in_names_may_be_written_in_any_way(tmp_path, capsys, name):
  (image,) = annotations(tmp_path, name, "b.jpg").find_images([Path("/my/deep/a.jpg")])
  assert image.id == 1
  assert not capsys.readouterr().err


@pytest.mark.parametrize("name", ELSEWHERE)
def test_folders_that_are_not_there_are_left_out_and_it_is_said(tmp_path, capsys, name):
  (image,) = annotations(tmp_path, name, "b.jpg").find_images([Path("/my/deep/a.jpg")])
  assert image.id == 1
  assert f"/my/deep/a.jpg, annotated as {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*NAMES[:-1], *ELSEWHERE])
def test_what_is_prepared_under_a_name_is_found_under_it(tmp_path, name):
  file = tmp_path / "deep" / "a.jpg"
  file.parent.mkdir()
  file.touch()
  assert any(find_image_file(folder, name) for folder in (tmp_path, file.parent))
  assert annotations(tmp_path, name).find_images([file])


def test_of_several_images_of_a_last_part_none_is_guessed(tmp_path, capsys):
  truth = annotations(tmp_path, "train/a.jpg", "val/a.jpg", "b.jpg")
  (image,) = truth.find_images([Path("/my/a.jpg"), Path("/my/b.jpg")])
  assert image.id == 3
  assert "1 of the images are left out" in capsys.readouterr().err
  with pytest.raises(UserError, match=r"none of the images; .*: 1 of the images are left out"):
    truth.find_images([Path("/my/a.jpg")])
  # Where folders tell them apart they do.
  assert [i.id for i in truth.find_images([Path("/my/val/a.jpg"), Path("/my/train/a.jpg")])] == [
    2,
    1,
  ]


def test_of_several_files_of_a_last_part_none_is_guessed(tmp_path, capsys):
  truth = annotations(tmp_path, "train/a.jpg", "b.jpg")
  (image,) = truth.find_images([Path("/my/a.jpg"), Path("/your/a.jpg"), Path("/my/b.jpg")])
  assert image.id == 2
  assert "2 of the images are left out" in capsys.readouterr().err
  # A file of that name whose image is known leaves nothing to guess.
  (image,) = truth.find_images([Path("/my/a.jpg"), Path("/my/train/a.jpg")])
  assert image.path == Path("/my/train/a.jpg")
  said = capsys.readouterr().err
  assert "last part of their names" not in said
  assert "1 of the 2 images are left out, because " in said
  assert "all.json does not annotate them; the first is /my/a.jpg." in said


def test_an_image_of_several_ids_is_refused_by_its_last_part_too(tmp_path):
  truth = annotations(tmp_path, "train/a.jpg", "train/a.jpg")
  with pytest.raises(UserError, match=r"a\.jpg is the image of 2 ids"):
    truth.find_images([Path("/my/a.jpg")])


def test_an_image_of_several_ids_is_refused(tmp_path):
  truth = annotations(tmp_path, "a.jpg", "b.jpg", "a.jpg")
  with pytest.raises(UserError, match=r"a\.jpg is the image of 2 ids in .*, 1 and 3"):
    truth.find_images([Path("/my/a.jpg")])
  assert len(truth.find_images([Path("/my/b.jpg")])) == 1


def written(folder, **content):
  """Returns annotations of two images, 200 x 100 and 20 x 10 pixels, and of classes 1 and 2."""
  path = folder / "all.json"
  images = [
    {"id": 1, "file_name": "a.jpg", "width": 200, "height": 100},
    {"id": 2, "file_name": "b.jpg", "width": 20, "height": 10},
  ]
  categories = [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]
  path.write_text(json.dumps({"images": images, "categories": categories, **content}))
  return GroundTruth(path)


def test_what_is_dropped_or_mended_is_reported_once(tmp_path):
  boxes = [
    (1, [10, 10, 20, 20]),
    (1, [10, 10, "wide", 20]),
    (1, [300, 10, 20, 20]),
    (2, [10, 10, 20, 20]),
    (7, [10, 10, 20, 20]),
  ]
  rows = [
    {"id": id_, "image_id": 1, "category_id": category_id, "bbox": box}
    for id_, (category_id, box) in enumerate(boxes)
  ]
  truth = written(tmp_path, annotations=[*rows, {"id": 9, "image_id": 3, "category_id": 1}])
  ants = LabelMap((Category(1, "ant"),))
  truth.check_categories(ants)
  assert len(truth.boxes(1, (200, 100), ants)[0]) == 1
  truth.evaluate([], {1: (200, 100), 2: (40, 20)}, ants)
  report = truth.report.to_json()
  assert {problem: found["count"] for problem, found in report.items()} == {
    "images_other_size": 1,
    "images_without_boxes": 1,
    "boxes_unknown_image": 1,
    "boxes_unknown_category": 1,
    "boxes_other_category": 1,
    "boxes_malformed": 1,
    "boxes_outside": 1,
  }
  assert report["images_other_size"]["examples"] == ["b.jpg: 20x10 in the JSON, 40x20 in the file"]
  assert report["boxes_other_category"]["examples"] == ["'bee' in a.jpg"]


# As of a dataset whose ids are text, and numbers given to them in their order.
BY_TEXT = LabelMap(
  (Category(1, "ant", "n1"), Category(2, "bee", "n2"), Category(3, "bee (3)", "n3"))
)


def with_texts(folder, *categories):
  rows = [{"id": text, "name": name} for text, name in categories]
  box = {"id": 1, "image_id": 1, "category_id": categories[-1][0], "bbox": [10, 10, 20, 20]}
  return written(folder, categories=rows, annotations=[box])


def test_annotations_of_some_of_the_classes_are_of_the_same_texts(tmp_path):
  truth = with_texts(tmp_path, ("n3", "bee"))
  truth.check_categories(BY_TEXT)
  assert truth.boxes(1, (200, 100), BY_TEXT)[1].tolist() == [2]
  row = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.9}
  assert truth.evaluate([row], {1: (200, 100)}, BY_TEXT).metrics["AP"] == pytest.approx(1.0)
  assert not truth.report.to_json()

  other = with_texts(tmp_path, ("n1", "wasp"))
  with pytest.raises(UserError, match="calls category n1 'wasp', the detector calls it 'ant'"):
    other.check_categories(BY_TEXT)
  other = with_texts(tmp_path, ("m1", "ant"), ("m2", "bee"))
  with pytest.raises(UserError, match=r"none of the detector's category ids \['n1', 'n2', 'n3'\]"):
    other.check_categories(BY_TEXT)


def test_numbers_and_texts_of_the_same_classes_agree(tmp_path):
  # Texts of a dataset that were all numbers but for one, which is not here.
  numbers = LabelMap((Category(1, "ant", "3"), Category(2, "bee", "5"), Category(3, "cat", "x")))
  truth = with_texts(tmp_path, ("3", "ant"), ("5", "bee"))
  truth.check_categories(numbers)
  assert truth.boxes(1, (200, 100), numbers)[1].tolist() == [1]
  # The numbers that were given to the texts.
  truth = written(tmp_path, annotations=[])
  truth.check_categories(BY_TEXT)

"""Annotated images are found by their names, and never guessed."""

import json
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.ground_truth import GroundTruth


def annotations(folder, *names):
  path = folder / "all.json"
  images = [{"id": id_, "file_name": name} for id_, name in enumerate(names, start=1)]
  content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
  path.write_text(json.dumps(content))
  return GroundTruth(path)


@pytest.mark.parametrize("name", ["a.jpg", "deep/a.jpg", "deep\\a.jpg"])
def test_folders_in_names_may_be_written_in_any_way(tmp_path, name):
  (image,) = annotations(tmp_path, name, "b.jpg").find_images([Path("/my/deep/a.jpg")])
  assert image.id == 1


def test_an_image_of_several_ids_is_refused(tmp_path):
  truth = annotations(tmp_path, "a.jpg", "b.jpg", "a.jpg")
  with pytest.raises(UserError, match=r"a\.jpg is the image of 2 ids in .*, 1 and 3"):
    truth.find_images([Path("/my/a.jpg")])
  assert len(truth.find_images([Path("/my/b.jpg")])) == 1

"""The table of published weights: what it says is what the publishers' own code says."""

import collections

import pytest
from tf_keras.src.applications import mobilenet_v2, resnet

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import BACKBONES
from official_nasfpn.modeling.imagenet_weights import (
  PUBLISHED_FILES,
  is_imagenet,
  published_file,
)


def test_names_and_files_are_there_once_and_backbones_at_all():
  fetched = [file for file in PUBLISHED_FILES if file.url]
  for attribute in ("name", "file", "url"):
    count = collections.Counter(getattr(file, attribute) for file in fetched)
    assert set(count.values()) == {1}
  assert {file.backbone for file in PUBLISHED_FILES} <= BACKBONES.keys()


@pytest.mark.parametrize("depth", [50, 101])
def test_resnets_of_keras_are_where_keras_has_them(depth):
  file = published_file(f"imagenet:keras/resnet{depth}", f"R-{depth}")
  name = f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
  assert (file.file, file.url) == (name, f"{resnet.BASE_WEIGHTS_PATH}{name}")
  # The first one is of the file with a classifier.
  assert file.checksum == ("md5", resnet.WEIGHTS_HASHES[f"resnet{depth}"][1])


def test_the_mobilenet_of_keras_is_where_keras_has_it():
  file = published_file("imagenet", "MobileNetV2")
  assert file.url == f"{mobilenet_v2.BASE_WEIGHT_PATH}{file.file}"
  assert file.checksum_text == "none published"


def test_what_imagenet_means_has_a_checksum_and_needs_no_pytorch():
  for name in ("R-18", "R-34", "R-50", "R-101"):
    file = published_file("imagenet", name)
    assert file.checksum
    assert not file.needs_torch


def test_a_backbone_of_a_library_gets_a_file_of_it():
  for name in ("R-101-torch", "R-50-keras", "MobileNetV2-keras"):
    assert published_file("imagenet", name).backbone == name


def test_the_name_of_a_file_of_torchvision_begins_its_checksum():
  for file in PUBLISHED_FILES:
    if file.needs_torch:
      assert file.checksum_text == f"SHA-256 begins with {file.file[:-4].partition('-')[2]}"


@pytest.mark.parametrize(
  ("setting", "backbone", "message"),
  [
    ("imagenet", "R-10", r"no published weights for Detector\.backbone = 'R-10'\. There are for "),
    ("imagenet:keras/resnet5", "R-50", r"Did you mean imagenet:keras/resnet50\?"),
    ("imagenet:keras/resnet50", "R-18", r"is of R-50-keras, not of .*R-18.*there is imagenet:timm"),
    ("imagenet:keras/resnet50", "R-50-torch", "is of R-50-keras, not of"),
    ("imagenet:kerashub/resnet_18_imagenet", "R-18", "there is no such file"),
  ],
)
def test_what_is_not_there_is_refused(setting, backbone, message):
  with pytest.raises(UserError, match=message):
    published_file(setting, backbone)


def test_a_path_is_no_name():
  assert is_imagenet("imagenet")
  assert is_imagenet("imagenet:keras/resnet50")
  assert not is_imagenet("imagenet.h5")
  assert not is_imagenet("./imagenet")

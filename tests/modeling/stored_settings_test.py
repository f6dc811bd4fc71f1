"""A checkpoint is restored only into the architecture that it was saved from."""

import dataclasses
import json

import pytest
import tensorflow as tf

from official_nasfpn.architecture import CATALOG, Fpn, MergingCell
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig, build_detector
from official_nasfpn.modeling.stored_settings import StoredSettings

CONFIG = DetectorConfig(
  backbone="R-10",
  backbone_width=0.25,
  num_filters=16,
  num_repeats=1,
  head_num_convs=1,
  image_size=(128, 128),
)


def rewired(spec):
  """Returns the spec with another first cell; all weights keep their shapes."""
  first, *others = spec.cells
  other = "sum" if first.op == "global_pool" else "global_pool"
  return dataclasses.replace(spec, cells=(MergingCell(first.inputs, first.level, other), *others))


def swapped(spec):
  """Returns the spec with the inputs of its second cell, a sum, the other way round."""
  first, second, *others = spec.cells
  second = dataclasses.replace(second, inputs=second.inputs[::-1])
  return dataclasses.replace(spec, cells=(first, second, *others))


@pytest.mark.parametrize(
  ("changes", "name"),
  [
    ({"architecture": rewired(CATALOG["nas_fpn"])}, "architecture"),
    ({"anchor_size": 3.0}, "anchor_size = 4.0, and the settings say 3.0"),
    ({"aspect_ratios": (0.5, 1.0, 3.0)}, "aspect_ratios"),
    ({"norm_epsilon": 1e-3}, "norm_epsilon"),
    ({"architecture": Fpn()}, "architecture"),
  ],
  ids=str,
)
def test_other_settings_are_refused(changes, name):
  text = StoredSettings(CONFIG).serialize()
  other = StoredSettings(dataclasses.replace(CONFIG, **changes))
  with pytest.raises(UserError, match=rf"trained with Detector\.{name}"):
    other.deserialize(text)


NAS_FPN = CATALOG["nas_fpn"]


@pytest.mark.parametrize(
  ("stored", "ours", "said"),
  [
    (NAS_FPN, CATALOG["panet"], r"= nas_fpn, and the settings say panet\."),
    (NAS_FPN, rewired(NAS_FPN), r"= nas_fpn, and the settings say [0-9a-f]{16}\."),
    (Fpn(), NAS_FPN, r"= fpn, and the settings say nas_fpn\."),
    (Fpn(), Fpn(max_level=6), r"= fpn, and the settings say Fpn\(min_level=3, max_level=6"),
    (
      dataclasses.replace(NAS_FPN, num_filters=16),
      dataclasses.replace(NAS_FPN, num_filters=32),
      r"= nas_fpn at 16 filters, and the settings say nas_fpn at 32 filters\.",
    ),
    (
      NAS_FPN,
      swapped(NAS_FPN),
      r"= nas_fpn with MergingCell\(inputs=\(1, 5\), level=4, op='sum'\) as cell 1, and the "
      r"settings say nas_fpn with MergingCell\(inputs=\(5, 1\), level=4, op='sum'\) as cell 1\.",
    ),
  ],
)
def test_another_architecture_is_named(stored, ours, said):
  theirs, own = (dataclasses.replace(CONFIG, architecture=each) for each in (stored, ours))
  with pytest.raises(UserError, match=said):
    StoredSettings(own).deserialize(StoredSettings(theirs).serialize())


def test_an_architecture_of_another_version_is_shown_as_it_is():
  text = json.dumps({"architecture": '{"version": 99, "cells": ' + "[" * 80})
  with pytest.raises(
    UserError, match=r'= {"version": 99, "cells": \.\.\., and the .* say nas_fpn\.'
  ):
    StoredSettings(CONFIG).deserialize(text)


def test_what_to_do_is_said_of_flags_too():
  other = StoredSettings(dataclasses.replace(CONFIG, anchor_size=2.0))
  with pytest.raises(UserError, match=r"Leave out what other files or flags say of Detector; if"):
    other.deserialize(StoredSettings(CONFIG).serialize())


def test_settings_of_use_alone_may_differ():
  other = dataclasses.replace(
    CONFIG, image_size=(256, 128), score_threshold=0.2, nms_iou_threshold=0.6, max_detections=7
  )
  StoredSettings(other).deserialize(StoredSettings(CONFIG).serialize())


def test_settings_of_another_version_do_not_count():
  StoredSettings(CONFIG).deserialize('{"a_setting_of_tomorrow": 3}')


def test_a_checkpoint_of_another_wiring_is_refused(tmp_path):
  path = tf.train.Checkpoint(model=build_detector(CONFIG, 2)).save(str(tmp_path / "ckpt"))
  same = tf.train.Checkpoint(model=build_detector(CONFIG, 2))
  same.read(path).assert_existing_objects_matched()
  config = dataclasses.replace(CONFIG, architecture=rewired(CATALOG["nas_fpn"]))
  other = tf.train.Checkpoint(model=build_detector(config, 2))
  with pytest.raises(UserError, match=r"does not fit the settings: "):
    other.read(path)

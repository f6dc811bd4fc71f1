"""A checkpoint is restored only into the architecture that it was saved from."""

import dataclasses

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


@pytest.mark.parametrize(
  ("changes", "name"),
  [
    ({"architecture": rewired(CATALOG["nas_fpn"])}, "architecture"),
    ({"anchor_size": 3.0}, "anchor_size = 4.0, .* says 3.0"),
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
  with pytest.raises(UserError, match=r"does not fit the config\.gin"):
    other.read(path)

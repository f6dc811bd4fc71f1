"""A new kind of pyramid, added as WORKSPACE.md says, works in a detector like the others."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn import configuration, describe
from official_nasfpn.architecture import BASELINES, Fpn, pyramid_name
from official_nasfpn.architecture.baselines import Baseline
from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig, build_detector, detector_size, measure_size
from official_nasfpn.modeling.layer_sizes import LayerCounter, Size
from official_nasfpn.modeling.pyramid_size import PyramidSize
from official_nasfpn.modeling.pyramid_stack import PyramidLayer
from official_nasfpn.modeling.pyramids import PYRAMIDS, PyramidKind
from official_nasfpn.modeling.stored_settings import StoredSettings
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment


@configuration.configurable("Separate")
@configuration.settings
class Separate(Baseline):
  """Separate levels: a baseline that shows what connecting them is worth.

  Attributes:
    min_level: the lowest level.
    max_level: the highest level, one of the backbone's.
  """

  min_level: int = 3
  max_level: int = 5


class SeparateLevels(PyramidLayer):
  """Projects every map to the same width, and does nothing else."""

  def __init__(self, config, name="pyramid"):
    super().__init__(config.architecture, num_repeats=1, name=name)
    self.projections = {
      str(level): tf_keras.layers.Conv2D(config.num_filters, 1) for level in self.spec.levels
    }

  def call(self, features, training=None, drop=None, last_repeat=None):
    return [{level: layer(features[level]) for level, layer in self.projections.items()}]


def check(config):
  if config.num_repeats != 1:
    raise ValueError("a Separate cannot be stacked: set Detector.num_repeats = 1.")


def size(config, given):
  counter = LayerCounter()
  maps = {
    level: counter.convolution(given[level], config.num_filters, 1, bias=True, norm=False)
    for level in map(str, config.architecture.levels)
  }
  return PyramidSize(Size(), counter.size, maps)


@pytest.fixture(autouse=True)
def _added(monkeypatch):
  monkeypatch.setitem(BASELINES, "separate", Separate())
  monkeypatch.setitem(PYRAMIDS, Separate, PyramidKind(check, SeparateLevels, size, False))
  yield
  configuration.parse()


SMALL = {
  "backbone": "R-10",
  "backbone_width": 0.125,
  "num_filters": 16,
  "num_repeats": 1,
  "head_num_convs": 1,
  "image_size": (96, 64),
}


def test_a_recipe_names_it_and_keeps_its_settings():
  configuration.parse(gin_params=["Detector.architecture = 'separate'\nDetector.num_repeats = 1"])
  assert configuration.from_bindings(DetectorConfig).architecture == Separate()
  configuration.parse(
    gin_params=[
      "Detector.architecture = @Separate()\nSeparate.max_level = 4\nDetector.num_repeats = 1"
    ]
  )
  config = configuration.from_bindings(DetectorConfig)
  assert config.architecture == Separate(3, 4)
  configuration.parse(gin_params=[configuration.to_gin(config)])
  assert configuration.from_bindings(DetectorConfig) == config


def test_it_is_built_counted_and_described():
  config = DetectorConfig(architecture="separate", **SMALL)
  detector = build_detector(config, 3)
  (outputs,) = detector(tf.zeros([2, 96, 64, 3]))
  assert {level: map.shape for level, map in outputs["box_deltas"].items()} == {
    "3": (2, 12, 8, 36), "4": (2, 6, 4, 36), "5": (2, 3, 2, 36)
  }  # fmt: skip
  measured = measure_size(detector)
  assert measured == detector_size(config, 3)
  assert measured["pyramid"].parameters == (16 + 32 + 64) * 16 + 3 * 16
  assert describe.describe(config, 3)["architecture"] == pyramid_name(Separate()) == "separate"


def test_its_checkpoints_are_its_own(tmp_path):
  config = DetectorConfig(architecture="separate", **SMALL)
  path = tf.train.Checkpoint(model=build_detector(config, 3)).save(str(tmp_path / "ckpt"))
  same = build_detector(config, 3)
  tf.train.Checkpoint(model=same).restore(path).assert_consumed()
  kernel = tf.train.load_variable(
    path, "model/pyramid/projections/3/kernel/.ATTRIBUTES/VARIABLE_VALUE"
  )
  np.testing.assert_array_equal(same.pyramid.projections["3"].kernel, kernel)
  with pytest.raises(UserError, match=r"trained with Detector\.architecture"):
    StoredSettings(dataclasses.replace(config, architecture=Fpn(3, 5))).deserialize(
      StoredSettings(config).serialize()
    )


def test_what_it_cannot_do_is_refused():
  with pytest.raises(UserError, match="a Separate cannot be stacked"):
    configuration.build(DetectorConfig, architecture="separate", **{**SMALL, "num_repeats": 2})
  config = DetectorConfig(architecture="separate", **SMALL)
  with pytest.raises(UserError, match="DropBlock does not work on Separate"):
    Experiment(config, InputConfig(), TrainingConfig(drop_block_rate=0.1))
  with pytest.raises(ValueError, match="only merging cells can be wired, and Separate has none"):
    build_detector(config, 3, wired=True)


def test_one_that_is_not_in_the_table_is_refused(monkeypatch):
  monkeypatch.delitem(PYRAMIDS, Separate)
  with pytest.raises(UserError, match=r"of type Separate; there are PyramidSpec, Fpn, Ssdlite\.$"):
    configuration.build(DetectorConfig, architecture=Separate(), **SMALL)


def test_every_baseline_is_in_the_table():
  assert {type(baseline) for baseline in BASELINES.values()} < PYRAMIDS.keys()

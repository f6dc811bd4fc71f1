"""Fixtures for tests of training."""

import pytest
import tensorflow as tf

from official_nasfpn.modeling.config import DetectorConfig


@pytest.fixture
def install_gpus(monkeypatch):
  """Returns a function that makes TensorFlow list GPUs, given as (name, compute capability)."""

  def install(*gpus):
    names = ("device_name", "compute_capability")
    details = [{key: value for key, value in zip(names, gpu, strict=True) if value} for gpu in gpus]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(len(gpus))))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)

  return install


@pytest.fixture
def tiny_detector():
  """Returns the settings of a detector that trains in seconds."""
  return DetectorConfig(
    backbone="R-10",
    backbone_width=0.25,
    architecture="fpn",
    num_filters=16,
    num_repeats=1,
    head_num_convs=1,
    image_size=(128, 128),
    norm_momentum=0.9,
  )


@pytest.fixture
def weights():
  """Returns a function from a `RunFolder` to the model's weights in its newest checkpoint."""

  def read(folder):
    reader = tf.train.load_checkpoint(folder.latest_checkpoint())
    return {
      name: reader.get_tensor(name)
      for name in reader.get_variable_to_shape_map()
      if name.startswith("model/")
      and name.endswith("VARIABLE_VALUE")
      and "OPTIMIZER_SLOT" not in name
    }

  return read

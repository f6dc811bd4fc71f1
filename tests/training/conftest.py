"""Fixtures for tests of training."""

import pytest
import tensorflow as tf


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

"""Fixtures for tests of training."""

import pytest
import tensorflow as tf


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

"""Two virtual CPU devices for all tests, so that distributed training runs everywhere."""

import os

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _two_devices():
  # Only where a test module has imported TensorFlow already: importing it costs seconds.
  import sys

  if tf := sys.modules.get("tensorflow"):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
    )

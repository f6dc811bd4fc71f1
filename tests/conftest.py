"""What tests of several rooms share; two CPU devices, so that distributed training runs here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _two_devices():
  # Only where a test module has imported TensorFlow already: importing it costs seconds.
  if tf := sys.modules.get("tensorflow"):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
    )


@pytest.fixture(scope="session")
def run_program():
  """Returns a function that runs a program to its end, as a person does; also a benchmark."""

  def run(name, *arguments, package="official_nasfpn", launcher=()):
    return subprocess.run(
      [*launcher, sys.executable, "-m", f"{package}.{name}", *map(str, arguments)],
      cwd=Path(__file__).parents[1],
      capture_output=True,
      text=True,
      check=False,
      timeout=400,
    )

  return run


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory):
  """Returns the folder of a prepared dataset of 48 drawn images, not to be written to."""
  # Imported here: tests of the programs' flags need no TensorFlow.
  from official_nasfpn.data.preparation import Settings, prepare_dataset
  from official_nasfpn.data.shapes import ShapesConfig

  directory = tmp_path_factory.mktemp("shapes") / "data"
  prepare_dataset(ShapesConfig(num_images=48), directory, Settings(), num_threads=2)
  return directory

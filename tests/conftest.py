"""What tests of several rooms share; two CPU devices, so that distributed training runs here."""

import collections
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program_process import REPOSITORY, ProgramProcess

PROGRAM_SECONDS = 400
# Some tens of megabytes of graphs.
MANY_OBJECTS = 200_000

os.environ["TF_USE_LEGACY_KERAS"] = "1"
# What XLA makes of a train step is compared in numbers, not in speed: compiling it well takes long.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


# Each of these takes minutes.
LONGEST_FILES = (
  "readme_test.py",
  "consumers_test.py",
  "ray_launcher_test.py",
  "shared_proxy_test.py",
  "model_file_test.py",
  "runner_test.py",
  "multi_worker_test.py",
  "postgres_faults_test.py",
  "outage_test.py",
  "wired_pyramid_test.py",
)


def pytest_collection_modifyitems(items):
  """Puts the longest files first, so that no process is left with one at the end."""
  slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: (item.path.name not in LONGEST_FILES, -slow[item.path]))


@pytest.fixture(scope="session", autouse=True)
def _two_devices():
  # Only where a test module has imported TensorFlow already: importing it costs seconds.
  if tf := sys.modules.get("tensorflow"):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
    )


@pytest.fixture
def no_file_above():
  """Makes every write beyond so many bytes fail, as a full disk does."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def pytest_terminal_summary(terminalreporter):
  """Prints what `counts_test.py` has counted."""
  reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
  for name, value in sorted(pair for report in reports for pair in report.user_properties):
    if name.startswith("counted: "):
      terminalreporter.write_line(f"{name}: {value:,}")


# Graphs are millions of objects in cycles. The collector would look through all of them again and
# again, a fifth of the time of all tests. Here it looks at what a module's tests leave behind.
def pytest_configure():
  gc.disable()


def pytest_collection_finish():
  gc.freeze()


@pytest.fixture(autouse=True)
def _garbage_goes_when_there_is_much():
  yield
  if gc.get_count()[0] > MANY_OBJECTS:
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _graphs_of_a_module_end_with_it():
  yield
  if tf_keras := sys.modules.get("tf_keras"):
    tf_keras.backend.clear_session()
  gc.collect()
  # What is left is there for other modules, too.
  gc.freeze()


@pytest.fixture(scope="session")
def run_program():
  """Returns a function that runs a program to its end, as a person does; also a benchmark."""

  def run(name, *arguments, package="official_nasfpn", launcher=()):
    module = f"{package}.{name}"
    if not launcher:
      process = ProgramProcess(module, arguments)
      code = process.wait(PROGRAM_SECONDS)
      return subprocess.CompletedProcess(module, code, process.stdout, process.stderr)
    return subprocess.run(
      [*launcher, sys.executable, "-m", module, *map(str, arguments)],
      cwd=REPOSITORY,
      capture_output=True,
      text=True,
      check=False,
      timeout=PROGRAM_SECONDS,
    )

  return run


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory):
  """Returns the folder of a prepared dataset of 48 drawn images, not to be written to."""
  # Imported here: tests of the programs' flags need no TensorFlow.
  from official_nasfpn.data.preparation import prepare_dataset
  from official_nasfpn.data.shapes import ShapesConfig

  directory = tmp_path_factory.mktemp("shapes") / "data"
  prepare_dataset(directory, shapes=ShapesConfig(num_images=48), num_threads=2)
  return directory


@pytest.fixture(scope="session")
def real_data():
  """The folder of the real datasets, bccd and coco_val128."""
  default = Path(__file__).parents[2] / "shared" / "data"
  folder = Path(os.environ.get("NASFPN_TEST_DATA", default))
  if not (folder / "bccd").is_dir():
    pytest.skip(f"no real datasets in {folder}; NASFPN_TEST_DATA names their folder")
  return folder

"""What is said of an NVIDIA GPU that TensorFlow cannot use, from files as on such machines."""

import subprocess
import sys

import pytest
import tensorflow as tf

from official_nasfpn import gpus, installation
from official_nasfpn.gpus import OLDEST_DRIVER, unused_gpu, warn_of_an_unused_gpu
from tests.program_process import REPOSITORY

# As drivers of several years write it.
VERSIONS = {
  "535.183.01": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 "
  "UTC 2024\nGCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n",
  "570.86.15": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  "
  "(dvs-builder@U16-I3-B14-01-3)  Thu Jan 23 22:51:48 UTC 2025\nGCC version:  12.3.0\n",
  "470.57.02": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC "
  "2021\nGCC version:  gcc version 7.5.0 (Ubuntu 7.5.0-3ubuntu1~18.04)\n",
}


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
  warn_of_an_unused_gpu.cache_clear()
  yield
  warn_of_an_unused_gpu.cache_clear()


@pytest.fixture
def root(tmp_path):
  """Returns a function that lays out the files of a machine with a GPU and this driver."""

  def lay_out(version="570.86.15", device="nvidia0"):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(VERSIONS[version])
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / device).touch()
    (tmp_path / "dev/nvidiactl").touch()
    return tmp_path

  return lay_out


def test_missing_libraries_are_named_with_the_command_that_brings_them(root):
  # TensorFlow is installed here without them.
  problem = unused_gpu(root())
  assert problem == (
    "This machine has an NVIDIA GPU, but TensorFlow cannot use it and computes on the processor: "
    "nvidia-cublas-cu12 and others are missing; pip install 'official-nasfpn[cuda]' brings them."
  )


def test_an_old_driver_is_named_with_the_oldest_that_serves(root):
  problem = unused_gpu(root("470.57.02"))
  assert "driver 470.57.02 is too old for CUDA 12; install driver 525.60.13 or" in problem
  assert "pip install" not in problem


def test_what_the_cause_may_be_when_all_is_there(root, monkeypatch):
  monkeypatch.setattr(gpus, "missing_cuda_libraries", list)
  assert "TF_CPP_MIN_LOG_LEVEL=0" in unused_gpu(root("535.183.01"))


@pytest.mark.parametrize(
  ("version", "is_old"),
  [("525.60.12", True), (OLDEST_DRIVER, False), ("525.105.17", False), ("90.1", True)],
)
def test_versions_are_compared_by_their_numbers(version, is_old):
  assert ("too old" in gpus._remedy(version)) == is_old


def test_linux_on_windows_has_a_driver_of_unknown_version(tmp_path):
  (tmp_path / "usr/lib/wsl/lib").mkdir(parents=True)
  (tmp_path / "usr/lib/wsl/lib/libcuda.so.1").touch()
  assert "official-nasfpn[cuda]" in unused_gpu(tmp_path)


def test_nothing_is_said_without_a_gpu(root, tmp_path):
  assert unused_gpu(tmp_path / "nothing") is None
  # A container that was given no GPU.
  assert unused_gpu(root(device="nvidia-uvm")) is None


@pytest.mark.parametrize("hidden", ["", " ", "-1", "NoDevFiles"])
def test_nothing_is_said_where_gpus_are_hidden_on_purpose(hidden, root, monkeypatch):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
  assert unused_gpu(root()) is None


@pytest.mark.parametrize("chosen", ["0", "1,0", "GPU-8932f937"])
def test_it_is_said_where_a_gpu_is_chosen(chosen, root, monkeypatch):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
  assert unused_gpu(root())


def test_nothing_is_said_where_tensorflow_uses_it(root, monkeypatch):
  monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
  assert unused_gpu(root()) is None


def test_it_is_said_once_on_standard_error(root, monkeypatch, capsys):
  machine = root()
  monkeypatch.setattr(gpus, "unused_gpu", lambda: unused_gpu(machine))
  for _ in range(2):
    warn_of_an_unused_gpu()
  printed, said = capsys.readouterr()
  assert printed == ""
  assert said.splitlines() == [f"warning: {unused_gpu(machine)}"]


def test_the_libraries_are_those_of_tensorflows_extra():
  missing = installation.missing_cuda_libraries()
  assert {"nvidia-cudnn-cu12", "nvidia-cuda-nvcc-cu12", "nvidia-nccl-cu12"} <= set(missing)
  assert all(name.startswith("nvidia-") for name in missing)


def test_a_machine_without_a_gpu_does_not_import_tensorflow_to_find_out(tmp_path):
  code = (
    "import sys; from pathlib import Path; from official_nasfpn.gpus import unused_gpu; "
    f"unused_gpu(Path({str(tmp_path)!r})); sys.exit('tensorflow' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


class TestEveryWayToCompute:
  """Each says it before it computes."""

  @pytest.fixture
  def said(self, root, monkeypatch, capsys):
    machine = root()
    monkeypatch.setattr(gpus, "unused_gpu", lambda: unused_gpu(machine))
    return lambda: capsys.readouterr().err.count("This machine has an NVIDIA GPU")

  def test_a_strategy(self, said):
    from official_nasfpn.training.strategies import build_strategy

    build_strategy("one_device")
    assert said() == 1

  def test_a_trial(self, said):
    from official_nasfpn.training.config import TrainingConfig
    from official_nasfpn.training.runner import configure_tensorflow

    configure_tensorflow(TrainingConfig())
    assert said() == 1

  def test_a_search_with_workers_on_this_machine(self, said, shapes_data, tmp_path):
    from official_nasfpn import LauncherConfig, Search, UserError, read_recipe

    params = [f"Input.data_dir = {str(shapes_data)!r}"]
    recipe = read_recipe(["gin/quickstart.gin"], params)
    # In a folder of something else it ends before a worker starts.
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError):
      Search(tmp_path, recipe).run()
    assert said() == 1
    warn_of_an_unused_gpu.cache_clear()
    with pytest.raises(UserError):
      Search(tmp_path, recipe, "postgresql://nobody@localhost:1/no").run(
        LauncherConfig(launcher="none")
      )
    assert said() == 0

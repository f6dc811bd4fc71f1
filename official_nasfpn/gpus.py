"""Says when the machine has an NVIDIA GPU that TensorFlow cannot use, and what to do.

TensorFlow itself says it in its log alone, which this package silences.
"""

import functools
import os
import re
from pathlib import Path

from official_nasfpn.installation import install_command, missing_cuda_libraries
from official_nasfpn.progress import say

# Of CUDA 12 on Linux, by its release notes ("CUDA minor version compatibility"). TensorFlow 2.20 is
# built for it.
OLDEST_DRIVER = "525.60.13"


@functools.cache
def warn_of_an_unused_gpu() -> None:
  """Writes one line to standard error, once a process, if TensorFlow cannot use the GPU."""
  if problem := unused_gpu():
    say(f"warning: {problem}")


def unused_gpu(root: Path = Path("/")) -> str | None:
  """Returns why TensorFlow cannot use this machine's NVIDIA GPU, and the remedy, as a sentence.

  Args:
    root: where `proc`, `dev` and `usr` are.

  Returns:
    None if TensorFlow uses a GPU, there is none, or CUDA_VISIBLE_DEVICES hides them.
  """
  # CUDA takes the numbers up to the first that names no device.
  if re.match(r"\s*(-|NoDevFiles|$)", os.environ.get("CUDA_VISIBLE_DEVICES", "0")):
    return None
  driver = _driver(root)
  if driver is None:
    return None
  # Not before: importing it takes seconds.
  import tensorflow as tf

  if tf.config.list_physical_devices("GPU"):
    return None
  return (
    "This machine has an NVIDIA GPU, but TensorFlow cannot use it and computes on the processor: "
    + _remedy(driver)
  )


def _driver(root: Path) -> str | None:
  """Returns the version of NVIDIA's driver, "" if it is unknown; None if there is no GPU."""
  # Linux on Windows has no file with the version.
  if (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
    return ""
  # A container that was given no GPU sees the driver all the same.
  if not list((root / "dev").glob("nvidia[0-9]*")):
    return None
  try:
    text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
  except OSError:
    return None
  found = re.search(r"\s(\d+(\.\d+)+)\s", text)
  return found[1] if found else ""


def _remedy(driver: str) -> str:
  if driver and _numbers(driver) < _numbers(OLDEST_DRIVER):
    return (
      f"its driver {driver} is too old for CUDA 12; install driver {OLDEST_DRIVER} or a later one."
    )
  if missing := missing_cuda_libraries():
    return f"{missing[0]} and others are missing; {install_command('cuda')} brings them."
  return "with TF_CPP_MIN_LOG_LEVEL=0 in the environment TensorFlow's log says why."


def _numbers(version: str) -> tuple[int, ...]:
  return tuple(map(int, version.split(".")))

"""Checks which packages are installed, and says which extra brings a missing one.

The core needs the dependencies in `pyproject.toml`. Everything else needs one of its extras, and
says which before any work is done.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from typing import NamedTuple

from official_nasfpn.errors import UserError

DISTRIBUTION = "official-nasfpn"
# TensorFlow reads it when it is imported.
ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
# As in pyproject.toml. Model Garden 2.20 works with no older and no newer one.
TENSORFLOW = "2.20"
_TENSORFLOW_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu")


class _Extra(NamedTuple):
  """The package and the extra that bring a module.

  Attributes:
    package: its name for pip.
    extra: the extra of this project.
  """

  package: str
  extra: str


_BROUGHT_BY = {
  "ai_edge_litert": _Extra("ai-edge-litert", "tflite"),
  "cv2": _Extra("opencv-python-headless", "video"),
  "grpc": _Extra("grpcio", "serving"),
  "onnx": _Extra("onnx", "onnx"),
  "onnxruntime": _Extra("onnxruntime", "onnx"),
  "pg8000": _Extra("pg8000", "postgres"),
  "ray": _Extra("ray", "ray"),
  "requests": _Extra("requests", "serving"),
  "sklearn": _Extra("scikit-learn", "benchmark"),
  "tensorflow_addons": _Extra("tensorflow-addons", "addons"),
  "tensorflow_serving": _Extra("tensorflow-serving-api", "serving"),
  "tf2onnx": _Extra("tf2onnx", "onnx"),
}


def require(what: str, *modules: str, otherwise: str = "") -> None:
  """Checks that modules are installed, without importing them.

  Args:
    what: what the user asked for, the subject of the error message.
    *modules: the modules needed; each belongs to an extra.
    otherwise: a sentence that says how to do without.

  Raises:
    UserError: a module is missing.
  """
  for module in modules:
    if not is_installed(module):
      package, extra = _BROUGHT_BY[module]
      advice = f"{what} needs the package {package}: {install_command(extra)}."
      raise UserError(f"{advice} {otherwise}".strip())


def install_command(extra: str) -> str:
  """Returns the command that installs an extra."""
  return f"pip install '{DISTRIBUTION}[{extra}]'"


def is_installed(module: str) -> bool:
  """Returns whether a top-level module can be imported."""
  if sys.modules.get(module):
    return True
  try:
    spec = importlib.util.find_spec(module)
  except ImportError:
    return False
  # Any folder of that name, an output folder `onnx` for instance, would pass for a package.
  return spec is not None and spec.origin is not None


def check_tensorflow() -> None:
  """Checks the installed version of TensorFlow, without importing it.

  Raises:
    UserError: Model Garden does not work with it.
  """
  for distribution in _TENSORFLOW_DISTRIBUTIONS:
    try:
      version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
      continue
    if version.split(".")[:2] != TENSORFLOW.split("."):
      raise UserError(
        f"official_nasfpn needs TensorFlow {TENSORFLOW}, and {version} is installed: "
        f"pip install 'tensorflow=={TENSORFLOW}.*'."
      )
    return


def use_onednn() -> bool:
  """Makes TensorFlow train with oneDNN on any x86 processor; call it before importing TensorFlow.

  TensorFlow leaves it off where there is no AVX-512, and a train step takes 1.3 times as long. A
  person's own TF_ENABLE_ONEDNN_OPTS counts. Programs that detect in single images do not call this,
  nor do workers that time them: there a request takes 8 times as long with it
  (docs/performance.md).

  Returns:
    Whether this has set the variable, so that other processes may do without.
  """
  is_set = platform.machine().lower() in ("x86_64", "amd64") and ONEDNN_VARIABLE not in os.environ
  if is_set:
    os.environ[ONEDNN_VARIABLE] = "1"
  return is_set


def missing_cuda_libraries() -> list[str]:
  """Returns the packages of TensorFlow's extra `and-cuda` that are not installed."""
  missing = []
  try:
    lines = importlib.metadata.requires("tensorflow") or []
  except importlib.metadata.PackageNotFoundError:
    return ["tensorflow"]  # Another build of it, as tensorflow-cpu.
  for line in lines:
    package = re.match(r"[\w-]+", line)
    if package and 'extra == "and-cuda"' in line:
      try:
        importlib.metadata.version(package[0])
      except importlib.metadata.PackageNotFoundError:
        missing.append(package[0])
  return missing


def missing_dependency(error: ModuleNotFoundError) -> UserError | None:
  """Returns the error for a missing dependency of the core; None if all are installed."""
  module = (error.name or "").partition(".")[0]
  if not module or is_installed(module):
    return None
  return UserError(
    f"The package {module} is not installed: pip install {DISTRIBUTION} brings all that is needed."
  )

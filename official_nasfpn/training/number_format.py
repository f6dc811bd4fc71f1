"""The number format of a detector: stated by the recipe, or chosen for the device.

`Training.compute_dtype = 'auto'` is resolved on the machine that computes, every time. Run folders
and searches store 'auto' itself, so they do not depend on the machine that began them.
"""

import dataclasses
import functools
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

_CPU_INFO = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16 numbers: x86's AVX-512 and AMX, and Arm's.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# NVIDIA's Ampere is the first of its architectures that has them.
_BFLOAT16_CAPABILITY = (8, 0)
_ADVICE = "Write Training.compute_dtype = 'auto', which takes what the device is good at."


@dataclasses.dataclass(frozen=True)
class NumberFormat:
  """A number format, and why it is taken.

  Attributes:
    compute_dtype: the precision policy, `float32` or `mixed_bfloat16`.
    reason: half a sentence for a person.
    warning: a sentence, if the format is a bad one for the device.
  """

  compute_dtype: str
  reason: str
  warning: str | None = None

  def __str__(self) -> str:
    return f"computes in {self.compute_dtype.removeprefix('mixed_')}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class _Device:
  """Whether a device computes in bfloat16, and the words for messages about it."""

  has_bfloat16: bool
  finding: str
  cost_of_bfloat16: str = ""


def number_format(stated: str) -> NumberFormat:
  """Chooses the number format for this process's devices and the current strategy.

  Args:
    stated: `Training.compute_dtype`; taken as it is, unless it is `auto`.
  """
  device = _device()
  if stated == "auto":
    return NumberFormat("mixed_bfloat16" if device.has_bfloat16 else "float32", device.finding)
  warning = None
  if stated == "mixed_bfloat16" and not device.has_bfloat16:
    warning = (
      f"Training.compute_dtype = 'mixed_bfloat16', but {device.finding}: "
      f"{device.cost_of_bfloat16}. {_ADVICE}"
    )
  return NumberFormat(stated, f"as Training.compute_dtype = {stated!r} says", warning)


def settled_compute_dtype(stated: str) -> str:
  """Returns the precision policy for `Training.compute_dtype`; warns once if it is a bad one."""
  settled = number_format(stated)
  if settled.warning:
    _warn_once(settled.warning)
  return settled.compute_dtype


def has_bfloat16_units(cpu_info: str) -> bool:
  """Returns whether the text of Linux' /proc/cpuinfo is of a processor with bfloat16 units."""
  for line in cpu_info.splitlines():
    key, _, value = line.partition(":")
    # x86 has "flags", Arm "Features".
    if key.strip().lower() in ("flags", "features"):
      return not _BFLOAT16_FLAGS.isdisjoint(value.split())
  return False


def _device() -> _Device:
  # TensorFlow must not be asked for its TPUs here: it would start its devices, and what has started
  # them joins no cluster.
  if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
    return _Device(True, "TPUs have bfloat16 units")
  gpus = tf.config.list_physical_devices("GPU")
  if gpus:
    return _of_gpus([tf.config.experimental.get_device_details(gpu) for gpu in gpus])
  return _of_processor()


def _of_gpus(details: Sequence[Mapping[str, Any]]) -> _Device:
  """Returns the abilities of the weakest GPU, which decides for all."""
  weakest = min(details, key=lambda each: each.get("compute_capability") or (0, 0))
  name, capability = weakest.get("device_name", "the GPU"), weakest.get("compute_capability")
  cost = "it is computed by way of float32 and gains nothing"
  if capability is None:
    return _Device(False, f"{name} does not say whether it has bfloat16 units", cost)
  has_bfloat16 = tuple(capability) >= _BFLOAT16_CAPABILITY
  version = ".".join(map(str, capability))
  return _Device(
    has_bfloat16,
    f"{name}, of compute capability {version}, has {'' if has_bfloat16 else 'no '}bfloat16 units",
    cost,
  )


def _of_processor() -> _Device:
  # Measured with R-18, 3 @ 64 at 256 pixels on two cores of an AMD EPYC.
  cost = "a train step takes seven to ten times as long as in float32"
  try:
    text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
  except OSError:
    return _Device(False, f"{platform.system()} does not say whether it has bfloat16 units", cost)
  has_bfloat16 = has_bfloat16_units(text)
  return _Device(
    has_bfloat16, f"this processor has {'' if has_bfloat16 else 'no '}bfloat16 units", cost
  )


@functools.cache
def _warn_once(warning: str) -> None:
  print(f"warning: {warning}", file=sys.stderr, flush=True)

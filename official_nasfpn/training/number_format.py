"""The number format of a detector: stated by the recipe, or chosen for the device.

`Training.compute_dtype = 'auto'` is resolved on the machine that computes, every time. Run folders
and searches store 'auto' itself, so they do not depend on the machine that began them.
"""

import contextlib
import dataclasses
import functools
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from official_nasfpn.errors import UserError

_CPU_INFO = Path("/proc/cpuinfo")
# Instructions that multiply bfloat16 numbers: x86's AVX-512 and AMX, and Arm's.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# The compute capabilities of NVIDIA's Ampere, the first architecture with units for bfloat16 and
# TF32, and of Volta, the first with units for float16.
_AMPERE = (8, 0)
_VOLTA = (7, 0)
_ADVICE = "Write Training.compute_dtype = 'auto', which takes what the device is good at."


@dataclasses.dataclass(frozen=True)
class NumberFormat:
  """A number format, and why it is taken.

  Attributes:
    compute_dtype: the precision policy, `float32`, `mixed_bfloat16` or `mixed_float16`.
    reason: half a sentence for a person.
    warning: a sentence, if the format is a bad one for the device.
    tf32: whether the device multiplies float32 numbers as TF32, which has 10 bits of mantissa.
  """

  compute_dtype: str
  reason: str
  warning: str | None = None
  tf32: bool = False

  def __str__(self) -> str:
    name = self.compute_dtype.removeprefix("mixed_")
    return f"computes in {name}{', multiplies in TF32' if self.tf32 else ''}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class _Device:
  """What a device is good at, and the words for messages about it.

  Attributes:
    compute_dtype: the precision policy to take.
    finding: why, as half a sentence.
    costs: what another policy costs there, as half a sentence; by policy.
    has_tf32: whether it has units for TF32.
  """

  compute_dtype: str
  finding: str
  costs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  has_tf32: bool = False


def number_format(stated: str) -> NumberFormat:
  """Chooses the number format for this process's devices and the current strategy.

  Args:
    stated: `Training.compute_dtype`; taken as it is, unless it is `auto`.

  Raises:
    UserError: the strategy cannot compute in it.
  """
  device = _device()
  warning = None
  if stated == "auto":
    compute_dtype, reason = device.compute_dtype, device.finding
  else:
    compute_dtype, reason = stated, f"as Training.compute_dtype = {stated!r} says"
    if stated == "mixed_float16" and _is_on_tpus():
      raise UserError(f"Training.compute_dtype = 'mixed_float16' is not for TPUs. {_ADVICE}")
    if cost := device.costs.get(stated):
      warning = f"Training.compute_dtype = {stated!r}, but {device.finding}: {cost}. {_ADVICE}"
  tf32 = (
    compute_dtype == "float32"
    and device.has_tf32
    and tf.config.experimental.tensor_float_32_execution_enabled()
  )
  return NumberFormat(compute_dtype, reason, warning, tf32)


def settled_compute_dtype(stated: str) -> str:
  """Returns the precision policy for `Training.compute_dtype`; warns once if it is a bad one."""
  settled = number_format(stated)
  if settled.warning:
    _warn_once(settled.warning)
  return settled.compute_dtype


@contextlib.contextmanager
def keras_policy_kept() -> Iterator[None]:
  """Restores the caller's precision policy of Keras, which a training sets for its detector."""
  former = tf_keras.mixed_precision.global_policy()
  try:
    yield
  finally:
    tf_keras.mixed_precision.set_global_policy(former)


def has_bfloat16_units(cpu_info: str) -> bool:
  """Returns whether the text of Linux' /proc/cpuinfo is of a processor with bfloat16 units."""
  for line in cpu_info.splitlines():
    key, _, value = line.partition(":")
    # x86 has "flags", Arm "Features".
    if key.strip().lower() in ("flags", "features"):
      return not _BFLOAT16_FLAGS.isdisjoint(value.split())
  return False


def _is_on_tpus() -> bool:
  # TensorFlow must not be asked for its TPUs here: it would start its devices, and what has started
  # them joins no cluster.
  return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def _device() -> _Device:
  if _is_on_tpus():
    return _Device("mixed_bfloat16", "TPUs have bfloat16 units")
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
    costs = {"mixed_bfloat16": cost}
    return _Device("float32", f"{name} does not say whether it has bfloat16 units", costs)
  card = f"{name}, of compute capability {'.'.join(map(str, capability))}, has"
  if tuple(capability) >= _AMPERE:
    return _Device("mixed_bfloat16", f"{card} bfloat16 units", has_tf32=True)
  if tuple(capability) >= _VOLTA:
    finding = f"{card} no bfloat16 units, but has float16 units"
    return _Device("mixed_float16", finding, {"mixed_bfloat16": cost})
  costs = {"mixed_bfloat16": cost, "mixed_float16": cost}
  return _Device("float32", f"{card} no bfloat16 units and no float16 units", costs)


def _of_processor() -> _Device:
  # Measured with R-18, 3 @ 64 at 256 and 128 pixels on two cores of an AMD EPYC.
  float16 = {"mixed_float16": "a train step takes forty times as long as in float32"}
  costs = {
    "mixed_bfloat16": "a train step takes seven to ten times as long as in float32",
    **float16,
  }
  try:
    text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
  except OSError:
    return _Device(
      "float32", f"{platform.system()} does not say whether it has bfloat16 units", costs
    )
  if has_bfloat16_units(text):
    return _Device("mixed_bfloat16", "this processor has bfloat16 units", float16)
  return _Device("float32", "this processor has no bfloat16 units", costs)


@functools.cache
def _warn_once(warning: str) -> None:
  print(f"warning: {warning}", file=sys.stderr, flush=True)

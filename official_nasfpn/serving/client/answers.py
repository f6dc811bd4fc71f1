"""What a model server answers, checked before anything is made of it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from official_nasfpn.data.detections import BATCH_ARRAYS, BUDGET_ARRAYS, ArraySpec
from official_nasfpn.serving.client.transport import Failure, FailureKind

ARRAYS: Mapping[str, ArraySpec] = {**BATCH_ARRAYS, **BUDGET_ARRAYS}
# Of one image, whatever the export: its arrays then take a few megabytes at most.
MAX_DETECTIONS = 100_000


def from_json(name: str, values: Any) -> np.ndarray:
  """Returns one of `ARRAYS` from nested lists; strings as an array of objects.

  Raises:
    ValueError: they hold something else than the array does.
    OverflowError: a number is beyond the array's type.
  """
  # Of objects: as strings each would take the memory of the longest.
  array = np.array(values, object)
  dtype, most_axes = ARRAYS[name].dtype, 1 + max(len(spec.shape) for spec in ARRAYS.values())
  if array.ndim > most_axes:
    raise ValueError(f"{name} has {array.ndim} axes")
  if issubclass(dtype, np.str_):
    allowed: tuple[type, ...] = (str,)
  else:
    allowed = (int, float) if issubclass(dtype, np.floating) else (int,)
  # Not isinstance: a bool is an int.
  if not all(type(value) in allowed for value in array.flat):
    raise ValueError(f"{name} holds something else than {dtype.__name__}")
  if issubclass(dtype, np.str_):
    return array
  with np.errstate(over="ignore"):  # What becomes infinite is refused below.
    return array.astype(dtype)


def checked(outputs: Mapping[str, np.ndarray], num_images: int) -> dict[str, np.ndarray]:
  """Returns the arrays of `ARRAYS` in a server's outputs.

  Args:
    outputs: by name; there may be others.
    num_images: number of images that were sent.

  Raises:
    Failure: they are not what an export gives: other shapes or types, a number of detections that
      cannot be, scores beyond [0, 1], or values that are no finite numbers.
  """
  missing = sorted(set(BATCH_ARRAYS) - set(outputs))
  if missing:
    raise _foreign(f"there is no {missing[0]}")
  arrays = {name: outputs[name] for name in ARRAYS if name in outputs}
  most = arrays["boxes"].shape[1] if arrays["boxes"].ndim == 3 else 0
  if not num_images or most > MAX_DETECTIONS:
    raise _foreign(f"boxes is {list(arrays['boxes'].shape)}")
  for name, array in arrays.items():
    check_shape(name, array.shape, num_images, most)
  num_detections = arrays["num_detections"]
  if (num_detections < 0).any() or (num_detections > most).any():
    wrong = num_detections[(num_detections < 0) | (num_detections > most)][0]
    raise _foreign(f"num_detections is {wrong} of {most} rows")
  for name in ("boxes", "scores", "expected_ms"):
    if name in arrays and not np.isfinite(arrays[name]).all():
      raise _foreign(f"{name} has values that are no finite numbers")
  lowest = {"scores": 0, "classes": 0, "exit": 1, "expected_ms": 0}
  for name, least in lowest.items():
    if name in arrays and (arrays[name] < least).any():
      raise _foreign(f"{name} has values below {least}")
  if (arrays["scores"] > 1).any():
    raise _foreign("scores has values above 1")
  return arrays


def check_shape(name: str, shape: tuple[int, ...], num_images: int, most: int | None) -> None:
  """Raises a `Failure` unless an array of `ARRAYS` has a shape that it can have.

  Args:
    name: of the array.
    shape: its shape.
    num_images: number of images that were sent.
    most: the number of rows that all arrays have for an image; None if it is not known yet.
  """
  free = [num_images, most]
  wanted = [free[axis] if size is None else size for axis, size in enumerate(ARRAYS[name].shape)]
  fits = len(shape) == len(wanted) and all(
    size == want if want is not None else 0 <= size <= MAX_DETECTIONS
    for size, want in zip(shape, wanted, strict=True)
  )
  # Also of what is not a tensor at all: a product beyond any memory.
  if not fits or math.prod(shape) > 4 * MAX_DETECTIONS * num_images:
    expected = ", ".join("n" if want is None else str(want) for want in wanted)
    raise _foreign(f"{name} is {list(shape)}, not [{expected}]")


def _foreign(problem: str) -> Failure:
  return Failure(FailureKind.FOREIGN, f"its outputs are not those of an export: {problem}")

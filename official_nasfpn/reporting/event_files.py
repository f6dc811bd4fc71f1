"""TensorBoard's event files, read without TensorFlow, whose import takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.util.tensor_util import make_ndarray


def read_events(events_dir: Path) -> Iterator[Event]:
  """Yields the points in all event files, file by file; half-written ones are left out."""
  for path in sorted(events_dir.glob("events.out.tfevents.*")):
    reader = PyRecordReader_New(str(path))
    while True:
      try:
        reader.GetNext()
      except (errors.OutOfRangeError, errors.DataLossError):
        break  # The end, or where a process was killed as it wrote.
      event = Event.FromString(reader.record())
      if event.HasField("summary"):
        yield event


def read_scalars(events_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns all curves in a folder: steps, ascending, and values, both [N], by name.

  Where a job was resumed at an earlier step, what it wrote later counts.

  Args:
    events_dir: with event files; need not exist.
  """
  curves: dict[str, dict[int, tuple[float, float]]] = {}
  for event in read_events(events_dir):
    for value in event.summary.value:
      number = _scalar(value)
      if number is None:
        continue
      points = curves.setdefault(value.tag, {})
      if event.step not in points or points[event.step][0] <= event.wall_time:
        points[event.step] = (event.wall_time, number)
  return {
    name: (
      np.array(sorted(points), np.int64),
      np.array([points[step][1] for step in sorted(points)], np.float64),
    )
    for name, points in curves.items()
  }


def _scalar(value) -> float | None:
  """Returns the number of a summary; None where it is a picture or the like."""
  kind = value.WhichOneof("value")
  if kind == "simple_value":
    return float(value.simple_value)
  # TensorFlow 2 writes numbers as tensors without dimensions; pictures have one.
  if kind == "tensor" and not value.tensor.tensor_shape.dim:
    array = make_ndarray(value.tensor)
    return float(array) if np.issubdtype(array.dtype, np.number) else None
  return None

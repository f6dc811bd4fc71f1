"""How long each exit of a detector takes on this machine, measured when it is exported."""

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from official_nasfpn.data.stored_images import stored_images
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.export_folder import ExitLatency
from official_nasfpn.training.experiment import Experiment

_NUM_IMAGES = 8
_ROUNDS = 30
_MIN_ROUNDS = 3
_MAX_SECONDS = 30.0


def sample_images(experiment: Experiment) -> tuple[list[bytes], str]:
  """Returns encoded images like those that the detector will get, and their source as text.

  They are the first of the evaluation part, or of a part that was trained on if that has none;
  where the run's data is not at hand, drawn shapes as large as the network's input.
  """
  try:
    dataset = DatasetInfo.load(experiment.input.data_dir or "")
    for part in (experiment.input.evaluation_part, *experiment.input.train_parts):
      records = stored_images(dataset, [part])
      if images := [encoded for _, encoded in itertools.islice(records, _NUM_IMAGES)]:
        return images, f"part {part!r} of {dataset.data_dir}"
  # It is not there, or may not be read.
  except (UserError, OSError):
    pass
  return drawn_images(experiment.detector, _NUM_IMAGES), "drawn shapes"


def measure_exits(
  functions: Mapping[int, Callable], images: Sequence[bytes]
) -> tuple[ExitLatency, ...]:
  """Times every exit, one image after another.

  The exits take turns, so that whatever else the machine does slows all of them.

  Args:
    functions: by exit number, each takes `image_bytes`.
    images: encoded, taken in turn.
  """
  times = {number: [] for number in functions}
  for detect in functions.values():
    for _ in range(2):  # The first call optimises the graph; the second may still be slow.
      detect(tf.constant(images[:1]))
  end = time.perf_counter() + _MAX_SECONDS
  with progress_bar(_ROUNDS, "time the exits", "round") as bar:
    for round_ in range(_ROUNDS):
      if round_ >= _MIN_ROUNDS and time.perf_counter() > end:
        break
      image = tf.constant([images[round_ % len(images)]])
      for number, detect in functions.items():
        start = time.perf_counter()
        detect(image)["scores"].numpy()
        times[number].append(1000 * (time.perf_counter() - start))
      bar.update()
  return tuple(
    ExitLatency(number, float(np.median(ms)), float(np.percentile(ms, 90)))
    for number, ms in times.items()
  )


def drawn_images(config: DetectorConfig, num_images: int) -> list[bytes]:
  """Returns encoded images of drawn shapes, as large as the network's input."""
  shapes = ShapesConfig(num_images=num_images, image_size=max(config.image_size))
  with tempfile.TemporaryDirectory() as folder:
    write_shapes_dataset(folder, shapes, seed=0)
    return [path.read_bytes() for path in sorted(Path(folder, "images").iterdir())]

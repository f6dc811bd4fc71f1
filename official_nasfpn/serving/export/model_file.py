"""From a run folder to a model of another runtime: one file, and what is needed to understand it.

OUT/model.onnx        for ONNX Runtime, or
OUT/model.tflite      for TensorFlow Lite, float32 or float16, or full-integer (int8)
OUT/label_map.json    classes, and the dataset's own category ids
OUT/config.gin        every setting of the run, resolved
OUT/export.json       which checkpoint of which run this is, the exit, and the precision

What the files take and give stands in `portable.py`; `onnx_detector.py` and `tflite_detector.py`
run them.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from official_nasfpn import folders
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.preprocessing import fit_pixels
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.detector import Detector
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.export.onnx_file import require_onnx, to_onnx
from official_nasfpn.serving.export.record import RECORD_FILE, export_record, is_exported
from official_nasfpn.serving.export.restore import restore_detector
from official_nasfpn.serving.export.stored_images import stored_images
from official_nasfpn.serving.export.tflite_file import to_tflite_float, to_tflite_int8
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder

MODEL_FILES = {"onnx": "model.onnx", "tflite": "model.tflite"}

# TensorFlow's guide asks for a hundred to some hundreds.
_NUM_CALIBRATION_IMAGES = 200


@dataclasses.dataclass(frozen=True)
class FileFormat:
  """What is made of a detector.

  Attributes:
    name: the runtime's format.
    precision: of weights, and in int8 of all that is computed.
    exit: of an anytime detector, the exit to export; None takes the last.
  """

  name: Literal["onnx", "tflite"]
  precision: Literal["float32", "float16", "int8"] = "float32"
  exit: int | None = None


def export_file(folder: RunFolder, output_dir: Path, file_format: FileFormat) -> bool:
  """Converts the newest checkpoint of a run folder.

  Args:
    folder: of the run. Nothing else is needed, but for int8 the run's data, to calibrate with.
    output_dir: new, or holding this export.
    file_format: what to make.

  Returns:
    False if `output_dir` held this very export already.

  Raises:
    UserError: a package is missing, the folder is no run or has no checkpoint, the checkpoint does
      not fit the settings, there is no such exit or precision, the data is not there, `output_dir`
      holds something else, or it cannot be written.
  """
  if file_format.name == "onnx" and file_format.precision != "float32":
    raise UserError(
      f"ONNX models are exported in float32; --precision {file_format.precision} is for "
      "--format tflite."
    )
  if file_format.name == "onnx":
    require_onnx()
  experiment, label_map = folder.load()
  # Neither format knows bfloat16.
  training = dataclasses.replace(experiment.training, compute_dtype="float32")
  experiment = dataclasses.replace(experiment, training=training)
  checkpoint = folder.latest_checkpoint()
  detector = restore_detector(experiment, label_map, checkpoint)
  exit_number = file_format.exit or detector.exits[-1]
  if exit_number not in detector.exits:
    numbers = ", ".join(map(str, detector.exits))
    raise UserError(f"--exit {exit_number}: {folder.path} can be exported at exit {numbers}.")
  record = export_record(
    folder,
    checkpoint,
    format=file_format.name,
    precision=file_format.precision,
    exit=exit_number,
  )
  if folders.is_claimed(output_dir, RECORD_FILE, RECORD_FILE, "--output_dir"):
    if is_exported(output_dir, output_dir / RECORD_FILE, record):
      return False
    raise UserError(
      f"{output_dir} is an export of an earlier checkpoint. Give --output_dir a new folder."
    )
  content = _convert(detector, experiment, file_format, exit_number)
  with folders.whole_folder(output_dir, "--output_dir") as unfinished:
    (unfinished / MODEL_FILES[file_format.name]).write_bytes(content)
    shutil.copy(folder.label_map_file, unfinished)
    shutil.copy(folder.config_file, unfinished)
    text = json.dumps(record, indent=2) + "\n"
    (unfinished / RECORD_FILE).write_text(text, encoding="utf-8")
  return True


def _convert(
  detector: Detector, experiment: Experiment, file_format: FileFormat, exit_number: int
) -> bytes:
  config = experiment.detector
  if file_format.name == "onnx":
    return to_onnx(detector, config, exit_number)
  if file_format.precision == "int8":
    images = _calibration_images(experiment)
    return to_tflite_int8(detector, config, exit_number, images)
  return to_tflite_float(detector, config, exit_number, half=file_format.precision == "float16")


def _calibration_images(experiment: Experiment) -> Iterator[np.ndarray]:
  """Returns images of the training data, as the network gets them in evaluation."""
  try:
    dataset = DatasetInfo.load(experiment.input.data_dir or "")
  except UserError as error:
    raise UserError(f"int8 is calibrated with images of the run's own data: {error}") from error
  parts = experiment.input.train_parts
  count = min(_NUM_CALIBRATION_IMAGES, dataset.num_images(parts))

  def images() -> Iterator[np.ndarray]:
    with progress_bar(count, "calibrate", "image") as bar:
      for _, (_, encoded) in zip(range(count), stored_images(dataset, parts), strict=False):
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        yield fit_pixels(image, experiment.detector.image_size)[0].numpy()
        bar.update()

  return images()

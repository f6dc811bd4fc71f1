"""From a run folder to an export of one file, for another runtime.

`serving/export_folder.py` lists the files of the folder, `portable.py` describes inputs and outputs
of the model; the runtimes in `serving/detectors/` run it.
"""

import dataclasses
import json
import shutil
from pathlib import Path

from official_nasfpn import folders
from official_nasfpn.errors import UserError
from official_nasfpn.serving.checksums import write_checksums
from official_nasfpn.serving.export.record import export_record, is_exported
from official_nasfpn.serving.export.tflite_file import calibration_data
from official_nasfpn.serving.export_folder import RECORD_FILE
from official_nasfpn.serving.formats import CALIBRATION_IMAGES, ExportFormat
from official_nasfpn.training.restore import restore_detector
from official_nasfpn.training.run_folder import RunFolder


def export_file(
  folder: RunFolder,
  checkpoint: str,
  output_dir: Path,
  format_: ExportFormat,
  precision: str,
  exit_number: int,
  calibration_images: int = CALIBRATION_IMAGES,
) -> bool:
  """Converts a checkpoint of a run.

  Args:
    folder: the run. Its data is needed for int8 alone, to calibrate with.
    checkpoint: path prefix.
    output_dir: new, or holding this export.
    format_: what to make, with a conversion to `precision`.
    precision: the precision of the weights; in int8 of the computation, too.
    exit_number: the exit to export; the detector must have it.
    calibration_images: for int8, the number of training images to calibrate with, at most.

  Returns:
    False if `output_dir` held this very export already.

  Raises:
    UserError: the folder is no run, the checkpoint does not fit the settings,
      the data is not there, `output_dir` holds something else, or it cannot be written.
  """
  experiment, label_map = folder.load()
  # No format of files knows bfloat16.
  training = dataclasses.replace(experiment.training, compute_dtype="float32")
  experiment = dataclasses.replace(experiment, training=training)
  # Of what the conversion takes beside the detector.
  options = {"calibration_images": calibration_images} if precision == "int8" else {}
  record = export_record(
    folder,
    checkpoint,
    format=format_.name,
    precision=precision,
    exit=exit_number,
    **options,
  )
  if folders.is_claimed(output_dir, RECORD_FILE, RECORD_FILE, "--output_dir"):
    if is_exported(output_dir, output_dir / RECORD_FILE, record):
      return False
    raise UserError(
      f"{output_dir} is an export of an earlier checkpoint. Give --output_dir a new folder."
    )
  if precision == "int8":
    calibration_data(experiment)
  detector = restore_detector(experiment, label_map, checkpoint)
  content = format_.load_conversion(precision)(detector, experiment, exit_number, **options)
  with folders.whole_folder(output_dir, "--output_dir") as unfinished:
    (unfinished / format_.model_file).write_bytes(content)
    shutil.copy(folder.label_map_file, unfinished)
    shutil.copy(folder.config_file, unfinished)
    text = json.dumps(record, indent=2) + "\n"
    (unfinished / RECORD_FILE).write_text(text, encoding="utf-8")
    write_checksums(unfinished)
  return True

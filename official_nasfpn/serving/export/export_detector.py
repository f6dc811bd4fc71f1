"""From the run folder of a training to an export, in any format."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.report import note_on_no_evaluation
from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.serving.checksums import SUMS_FILE, check_files, sha256_of
from official_nasfpn.serving.export_folder import ExitLatency, find_export
from official_nasfpn.serving.formats import CALIBRATION_IMAGES, FORMATS, ExportFormat, find_format
from official_nasfpn.training.checkpoint_files import refuse_pattern
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder

if TYPE_CHECKING:
  from official_nasfpn.serving.export.check import Check


@dataclass(frozen=True)
class Export:
  """An export that was made, or was there already.

  Attributes:
    path: the folder of the model; of a SavedModel EXPORT/1 or later.
    version: the number of a SavedModel's folder; 1 for other formats.
    format: its name.
    precision: the precision of a file; the number format of a SavedModel.
    num_bytes: the size of all of its files.
    is_new: False if it was there already, from the same checkpoint, settings and choices.
    exit_latency: the time of every exit of an anytime detector's SavedModel; empty for others.
    has_warm_up: whether it holds requests for TensorFlow Serving to warm up with.
    check: its AP beside that of the training, if `check` was asked for.
    sums_sha256: the SHA-256 of its file of sums, which stands for all of its files; None for an
      export of a version that wrote none.
  """

  path: Path
  version: int
  format: str
  precision: str
  num_bytes: int
  is_new: bool
  exit_latency: tuple[ExitLatency, ...]
  has_warm_up: bool
  check: "Check | None"
  sums_sha256: str | None = None


def export_detector(
  run_dir: str | os.PathLike[str],
  output_dir: str | os.PathLike[str],
  format: str = "saved_model",
  precision: str = "float32",
  exit_number: int | None = None,
  check: bool = False,
  last: bool = False,
  calibration_images: int | None = None,
) -> Export:
  """Exports a run. What is wrong is said before the checkpoint is read.

  Args:
    run_dir: the run folder of a training. Nothing else is needed, but for int8 the run's data, to
      calibrate with; where it is at hand, the exits of an anytime detector are timed with it.
    output_dir: becomes the folder of the model. It is new, or holds this export; a SavedModel may
      be added to those of earlier checkpoints of the run, each in a numbered folder.
    format: one of `serving.formats.FORMATS`.
    precision: the precision of a file's weights; in "int8" of the computation, too. A SavedModel
      has the number format of its run.
    exit_number: the exit of an anytime detector to put into a file; None takes the last. A
      SavedModel has them all.
    check: whether the export is then evaluated on the run's evaluation images; its AP must be the
      run's, and in int8 not much less: `Check.allowed_loss`.
    last: export the newest checkpoint, and not that of the best evaluation by
      `Training.best_metric`.
    calibration_images: for int8, the number of training images to calibrate with, at most; None
      for 200.

  Raises:
    UserError: there is no such format, precision or exit, a package is missing, the folder is no
      run or has no checkpoint, the checkpoint does not fit the settings, the data is not there,
      `output_dir` holds something else or cannot be written, or the check fails.
  """
  format_, run, output_dir = find_format(format), RunFolder(Path(run_dir)), Path(output_dir)
  _check_choice(format_, precision, exit_number)
  if calibration_images is not None and precision != "int8":
    raise UserError("--calibration_images is for --precision int8.")
  if calibration_images is not None and calibration_images < 1:
    raise UserError(f"--calibration_images is {calibration_images}: give 1 or more.")
  format_.require_conversion()
  if not format_.conversions:
    refuse_pattern(output_dir, "--output_dir")  # A SavedModel keeps its variables as a checkpoint.
  if check:
    format_.require_runtime(f"--check of --format {format}")
  experiment = run.load()[0]
  if check:
    _check_evaluation(experiment)
  config = experiment.detector
  _check_exit(config, run, exit_number)
  # Imported here: TensorFlow takes seconds to start.
  import tensorflow as tf

  from official_nasfpn.serving.export.check import check_export
  from official_nasfpn.serving.export.model_file import export_file
  from official_nasfpn.serving.export.saved_model import export_saved_model
  from official_nasfpn.serving.export.warm_up import WARM_UP_FILE

  # Where a checkpoint does not fit, TensorFlow would list every optimizer slot around the error.
  tf.get_logger().setLevel("ERROR")
  checkpoint = run.latest_checkpoint() if last else run.checkpoint_to_use()
  if format_.conversions:
    path = output_dir
    exit_number = exit_number or config.num_repeats
    is_new = export_file(
      run,
      checkpoint,
      output_dir,
      format_,
      precision,
      exit_number,
      calibration_images or CALIBRATION_IMAGES,
    )
  else:
    path, is_new = export_saved_model(run, checkpoint, output_dir)
  if not is_new:
    check_files(path)
  folder = find_export(path)
  record = folder.record()
  sums = path / SUMS_FILE
  compute_dtype = record.get("compute_dtype") or run.load()[0].training.compute_dtype
  return Export(
    path=path,
    version=folder.version,
    format=format,
    precision=record.get("precision") or compute_dtype,
    num_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    is_new=is_new,
    exit_latency=folder.exit_latency(),
    has_warm_up=(path / WARM_UP_FILE).is_file(),
    check=check_export(path, run) if check else None,
    sums_sha256=sha256_of(sums) if sums.is_file() else None,
  )


def _check_choice(format_: ExportFormat, precision: str, exit_number: int | None) -> None:
  """Refuses a precision that the format does not have, and an exit where it has all."""
  if not format_.conversions:
    if precision != "float32" or exit_number is not None:
      others = " and ".join(row.name for row in FORMATS.values() if row.conversions)
      raise UserError(f"--precision and --exit are for --format {others}.")
  elif precision not in format_.conversions:
    having = [row.name for row in FORMATS.values() if precision in row.conversions]
    advice = (
      f"--precision {precision} is for --format {' and '.join(having)}"
      if having
      else f"the nearest is --precision {nearest_name(precision, format_.conversions)}"
    )
    raise UserError(
      f"--format {format_.name} exports in {', '.join(format_.conversions)}; {advice}."
    )


def _check_evaluation(experiment: Experiment) -> None:
  """Refuses --check where there is nothing to evaluate on."""
  dataset = DatasetInfo.load(experiment.input.data_dir or "")
  if note := note_on_no_evaluation(dataset, experiment.input.evaluation_part):
    raise UserError(f"{dataset.data_dir}: {note} Leave --check out.")


def _check_exit(config: DetectorConfig, run: RunFolder, exit_number: int | None) -> None:
  exits = range(config.num_repeats - config.num_exits + 1, config.num_repeats + 1)
  if exit_number is not None and exit_number not in exits:
    numbers = ", ".join(map(str, exits))
    raise UserError(f"--exit {exit_number}: {run.path} can be exported at exit {numbers}.")

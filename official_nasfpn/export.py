r"""Exports a trained detector: as a SavedModel, as ONNX, or for TensorFlow Lite.

    nasfpn export --model_dir RUN --output_dir EXPORT
    nasfpn export --model_dir RUN --output_dir ONNX --format onnx
    nasfpn export --model_dir RUN --output_dir LITE --format tflite \
        --precision int8

The run folder says everything. The weights of the best evaluation are taken, by
Training.best_metric, or else those of the newest checkpoint. EXPORT/1 is the SavedModel, and a
later checkpoint of the same run becomes EXPORT/2, as TensorFlow Serving wants them. The inputs
and outputs of a SavedModel are described in `serving/export/saved_model.py`, those of the other
formats in `serving/export/portable.py`.
"""

import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.installation import install_command
from official_nasfpn.serving.formats import CALIBRATION_IMAGES, FORMATS, PRECISIONS

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Run folder of a training.")
flags.DEFINE_string(
  "output_dir", None, "Folder of the model; new, or of earlier exports of this run."
)
flags.DEFINE_string("format", "saved_model", f"One of {', '.join(FORMATS)}.")
flags.DEFINE_string(
  "precision",
  "float32",
  f"Precision of an ONNX or TensorFlow Lite file, one of {', '.join(PRECISIONS)}; ONNX has "
  "float32 alone. int8 is full-integer, calibrated with the run's training images.",
)
flags.DEFINE_integer(
  "exit",
  None,
  "The exit of an anytime detector to put into an ONNX or TensorFlow Lite file; the last if not "
  "given. A SavedModel has them all.",
)
flags.DEFINE_bool(
  "check",
  False,
  "Evaluate the export on the run's evaluation images; fail if its AP is not the run's, or in int8 "
  "less by more than is allowed, which is printed.",
)
flags.DEFINE_integer(
  "calibration_images",
  None,
  f"For int8: training images to calibrate with, at most; {CALIBRATION_IMAGES} if not given.",
  lower_bound=1,
)
flags.DEFINE_bool(
  "last", False, "Export the newest checkpoint, and not that of the best evaluation."
)
flags.mark_flags_as_required(["model_dir", "output_dir"])


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  from official_nasfpn.serving.export.export_detector import export_detector
  from official_nasfpn.training.number_format import number_format
  from official_nasfpn.training.run_folder import RunFolder

  start = time.monotonic()
  export = export_detector(
    FLAGS.model_dir,
    FLAGS.output_dir,
    FLAGS.format,
    FLAGS.precision,
    FLAGS.exit,
    FLAGS.check,
    FLAGS.last,
    FLAGS.calibration_images,
  )
  if not export.is_new:
    print(f"{export.path} is the export of this checkpoint already; nothing to do.")
  else:
    taken_s = time.monotonic() - start
    print(f"Exported {FLAGS.model_dir} to {export.path} in {taken_s:.1f} s.")
    print(f"  {export.format} in {export.precision}, {export.num_bytes / 1e6:.1f} MB")
    print(f"  SHA-256 of its SHA256SUMS: {export.sums_sha256}")
    stated = RunFolder(Path(FLAGS.model_dir)).load()[0].training.compute_dtype
    if export.format == "saved_model" and stated == "auto":
      print(f"  It {number_format(stated)}.")
    for latency in export.exit_latency:
      print(
        f"  exit {latency.exit}: {latency.median_ms:.1f} ms an image, nine of ten within "
        f"{latency.p90_ms:.1f} ms"
      )
    if export.format == "saved_model" and not export.has_warm_up:
      print(
        "  Without warm-up requests for TensorFlow Serving, which need the package "
        f"tensorflow-serving-api: {install_command('serving')}."
      )
  if export.check:
    print(export.check.table())


if __name__ == "__main__":
  run_program(main)

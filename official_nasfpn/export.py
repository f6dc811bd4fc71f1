r"""Exports a trained detector: as a SavedModel, as ONNX, or for TensorFlow Lite.

    nasfpn export --model_dir RUN --output_dir EXPORT
    nasfpn export --model_dir RUN --output_dir ONNX --format onnx
    nasfpn export --model_dir RUN --output_dir LITE --format tflite \
        --precision int8

The run folder says everything; the newest checkpoint is taken. EXPORT/1 is the SavedModel, and a
later checkpoint of the same run becomes EXPORT/2, as TensorFlow Serving wants them. What a
SavedModel takes and gives stands in `serving/export/saved_model.py`, for the other formats in
`serving/export/model_file.py`.
"""

import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.installation import install_command, require

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Run folder of a training.")
flags.DEFINE_string(
  "output_dir", None, "Folder of the model; new, or of earlier exports of this run."
)
flags.DEFINE_enum(
  "format", "saved_model", ["saved_model", "onnx", "tflite"], "What to make of the detector."
)
flags.DEFINE_enum(
  "precision",
  "float32",
  ["float32", "float16", "int8"],
  "Of --format tflite. int8 is full-integer, calibrated with the run's training images.",
)
flags.DEFINE_integer(
  "exit",
  None,
  "Of an anytime detector, the exit to put into an ONNX or TensorFlow Lite file; the last if not "
  "given. A SavedModel has them all.",
)
flags.DEFINE_bool(
  "check",
  False,
  "Then evaluate the export on the run's evaluation images; its AP must be the run's.",
)
flags.mark_flags_as_required(["model_dir", "output_dir"])


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  _require_packages()
  import tensorflow as tf

  from official_nasfpn.training.run_folder import RunFolder

  # Where a checkpoint does not fit, TensorFlow would list every optimizer slot around the error.
  tf.get_logger().setLevel("ERROR")

  folder, output_dir = RunFolder(Path(FLAGS.model_dir)), Path(FLAGS.output_dir)
  export = _export_saved_model if FLAGS.format == "saved_model" else _export_file
  path = export(folder, output_dir)
  if FLAGS.check:
    from official_nasfpn.serving.export.check import check_export

    print(check_export(path, folder).table())


def _require_packages() -> None:
  if FLAGS.format == "onnx":
    require("--format onnx", "tf2onnx", "onnx")
  runtime = {"onnx": "onnxruntime", "tflite": "ai_edge_litert"}.get(FLAGS.format)
  if FLAGS.check and runtime:
    require(f"--check of --format {FLAGS.format}", runtime)


def _export_saved_model(folder, output_dir: Path) -> Path:
  from official_nasfpn.serving.export.saved_model import export_run
  from official_nasfpn.training.number_format import number_format

  if FLAGS.precision != "float32" or FLAGS.exit is not None:
    raise UserError("--precision and --exit are for --format onnx and tflite.")
  start = time.monotonic()
  export = export_run(folder, output_dir)
  _print_outcome(export.path, export.is_new, start)
  stated = folder.load()[0].training.compute_dtype
  if stated == "auto":
    print(f"  It {number_format(stated)}.")
  for latency in export.exit_latency:
    print(
      f"  exit {latency.exit}: {latency.median_ms:.1f} ms an image, nine of ten within "
      f"{latency.p90_ms:.1f} ms"
    )
  if not export.has_warm_up:
    print(
      "  Without warm-up requests for TensorFlow Serving, which need the package "
      f"tensorflow-serving-api: {install_command('serving')}."
    )
  return export.path


def _export_file(folder, output_dir: Path) -> Path:
  from official_nasfpn.serving.export.model_file import FileFormat, export_file

  start = time.monotonic()
  is_new = export_file(folder, output_dir, FileFormat(FLAGS.format, FLAGS.precision, FLAGS.exit))
  _print_outcome(output_dir, is_new, start)
  return output_dir


def _print_outcome(path: Path, is_new: bool, start: float) -> None:
  if is_new:
    print(f"Exported {FLAGS.model_dir} to {path} in {time.monotonic() - start:.1f} s.")
  else:
    print(f"{path} is the export of this checkpoint already; nothing to do.")


if __name__ == "__main__":
  run_program(main)

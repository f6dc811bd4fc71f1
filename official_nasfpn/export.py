"""Exports a trained detector as a SavedModel that takes encoded images.

    python -m official_nasfpn.export --model_dir RUN --output_dir EXPORT

The run folder says everything; the newest checkpoint is taken. EXPORT/1 is the SavedModel, and a
later checkpoint of the same run becomes EXPORT/2, as TensorFlow Serving wants them. What it takes
and gives stands in `serving/saved_model.py`.
"""

import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Run folder of a training.")
flags.DEFINE_string(
  "output_dir", None, "Folder of the model; new, or of earlier exports of this run."
)
flags.DEFINE_bool(
  "check",
  False,
  "Then evaluate the SavedModel on the run's evaluation images; its AP must be the run's.",
)
flags.mark_flags_as_required(["model_dir", "output_dir"])


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  import tensorflow as tf

  from official_nasfpn.serving.saved_model import export_run
  from official_nasfpn.training.run_folder import RunFolder

  # Where a checkpoint does not fit, TensorFlow would list every optimizer slot around the error.
  tf.get_logger().setLevel("ERROR")

  folder, output_dir = RunFolder(Path(FLAGS.model_dir)), Path(FLAGS.output_dir)
  start = time.monotonic()
  export = export_run(folder, output_dir)
  if export.is_new:
    _print(export, time.monotonic() - start)
  else:
    print(f"{export.path} is the export of this checkpoint already; nothing to do.")
  if FLAGS.check:
    from official_nasfpn.serving.check import check_export

    print(check_export(export.path, folder).table())


def _print(export, seconds: float) -> None:
  print(f"Exported {FLAGS.model_dir} to {export.path} in {seconds:.1f} s.")
  for latency in export.exit_latency:
    print(
      f"  exit {latency.exit}: {latency.median_ms:.1f} ms an image, nine of ten within "
      f"{latency.p90_ms:.1f} ms"
    )
  if not export.has_warm_up:
    print(
      "  Without warm-up requests for TensorFlow Serving: tensorflow-serving-api is not installed."
    )


if __name__ == "__main__":
  run_program(main)

"""Exports a trained detector as a SavedModel that takes encoded images.

    python -m official_nasfpn.export --model_dir RUN --output_dir EXPORT

The run folder says everything; the newest checkpoint is taken. EXPORT is the SavedModel itself; for
TensorFlow Serving name it MODEL/1. What it takes and gives stands in `serving/saved_model.py`.
"""

import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Run folder of a training.")
flags.DEFINE_string("output_dir", None, "Folder that becomes the SavedModel; must be new.")
flags.mark_flags_as_required(["model_dir", "output_dir"])


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  import tensorflow as tf

  from official_nasfpn.serving.saved_model import export_run
  from official_nasfpn.training.run_folder import RunFolder

  # Where a checkpoint does not fit, TensorFlow would list every optimizer slot around the error.
  tf.get_logger().setLevel("ERROR")

  output_dir = Path(FLAGS.output_dir)
  start = time.monotonic()
  if export_run(RunFolder(Path(FLAGS.model_dir)), output_dir):
    print(f"Exported {FLAGS.model_dir} to {output_dir} in {time.monotonic() - start:.1f} s.")
  else:
    print(f"{output_dir} is the export of this checkpoint already; nothing to do.")


if __name__ == "__main__":
  run_program(main)

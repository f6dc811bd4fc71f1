"""Detects objects in images and videos, draws them, and writes them as COCO results.

    nasfpn detect --export_dir EXPORT --images PHOTOS --output_dir OUT
    nasfpn detect --export_dir EXPORT --output_dir OUT a.jpg 'b/*.png' c.mp4

Boxes are in pixels of the upright image: an EXIF orientation is applied, as `prepare_data` does.
With --annotations, only annotated images are taken, under the ids of the COCO JSON, and AP is
computed; videos are left out. The files of OUT are listed in `serving/detect/detection_folder.py`.
"""

from pathlib import Path

from absl import flags

from official_nasfpn.errors import UserError, run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("export_dir", None, "Folder that export wrote, in any format.")
flags.DEFINE_alias("saved_model", "export_dir")  # Its older name.
flags.DEFINE_multi_string(
  "images", [], "File, folder or glob pattern; may be given several times, or without --images."
)
flags.DEFINE_string("output_dir", None, "Folder for pictures and results; must be new.")
flags.DEFINE_float(
  "score_threshold", 0.3, "Weaker detections are not drawn.", lower_bound=0.0, upper_bound=1.0
)
flags.DEFINE_string(
  "annotations", None, "COCO JSON: only the --images that it annotates are taken; AP is computed."
)
flags.DEFINE_integer(
  "exit", None, "The exit of an anytime detector to take; the last if not given."
)
flags.DEFINE_float(
  "budget_ms",
  None,
  "Milliseconds for a batch, for anytime detectors: the last exit that is fast enough is taken, by "
  "the times measured at export. If none is, the first is taken, with a message.",
  lower_bound=0.0,
)
flags.DEFINE_bool("all_exits", False, "Draw the boxes of every exit side by side.")
flags.DEFINE_bool("compare", False, "Draw the annotated boxes beside the detected ones.")
flags.register_multi_flags_validator(
  ["exit", "budget_ms"],
  lambda values: None in values.values(),
  "--exit and --budget_ms exclude each other.",
)
flags.DEFINE_integer("batch_size", 8, "Images or frames detected together.", lower_bound=1)
flags.mark_flags_as_required(["export_dir", "output_dir"])


def main(argv: list[str]) -> None:
  from official_nasfpn.serving.detect.detection_folder import DetectionRequest
  from official_nasfpn.serving.detect.detection_run import run_detection
  from official_nasfpn.serving.detect.image_files import find_files

  patterns = [*FLAGS.images, *argv[1:]]
  if not patterns:
    raise UserError("No images: give files, folders or glob patterns with --images.")
  output_dir = Path(FLAGS.output_dir)
  request = DetectionRequest(
    export_dir=Path(FLAGS.export_dir),
    images=tuple(find_files(patterns, excluding=output_dir)),
    score_threshold=FLAGS.score_threshold,
    annotations=Path(FLAGS.annotations) if FLAGS.annotations else None,
    exit=FLAGS.exit,
    budget_ms=FLAGS.budget_ms,
    all_exits=FLAGS.all_exits,
    compare=FLAGS.compare,
  )
  summary = run_detection(request, output_dir, FLAGS.batch_size)
  if not summary.is_new:
    print(f"{output_dir} holds these detections already; nothing to do.")
  videos = f"{summary.num_videos} videos of {summary.num_frames} frames, "
  print(
    f"{summary.num_images} images, {videos if summary.num_videos else ''}{summary.num_drawn} boxes "
    f"with a score of {FLAGS.score_threshold:g} or more: {output_dir}"
  )
  if summary.budget:
    print(summary.budget.sentence())
  if summary.skipped:
    print(f"{len(summary.skipped)} files skipped, not whole images or videos:")
    for file, reason in summary.skipped:
      print(f"  {file}: {reason}")
  if summary.evaluation:
    print(f"Evaluated with {FLAGS.annotations}:")
    print(summary.evaluation.table())


if __name__ == "__main__":
  run_program(main)

"""Runs a detector over a video and writes down what it detects, frame by frame.

NAME.mp4    the frames with boxes
NAME.jsonl  a line of JSON for each frame, written last: where it is, the video is done

    {"frame": 12, "seconds": 0.48, "detections": [{"category_id": 4, "bbox": [...], "score": 0.9}]}

With a budget there is `"exit"`, the exit taken. Frames count from 0; `category_id` is text where
the dataset's ids are; `bbox` is (x, y, width, height) in pixels, as in COCO's results. Lines,
because hours of video need not fit into memory.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.text_ids import with_text_category_ids
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.detect.detection import (
  Detect,
  DetectedImage,
  detect_images,
  exit_row,
  result_rows,
)
from official_nasfpn.serving.detect.video_files import VideoReader, VideoWriter


@dataclass(frozen=True)
class VideoSummary:
  """The outcome for a video.

  Attributes:
    num_frames: number of frames processed.
    num_drawn: number of boxes drawn on them.
  """

  num_frames: int
  num_drawn: int


def detect_video(
  path: Path,
  detect: Detect,
  label_map: LabelMap,
  draw: Callable[[DetectedImage], Image.Image],
  batch_size: int,
  picture: Path,
) -> None:
  """Writes the two files of a video, unless they are there.

  Args:
    path: the video.
    detect: what to run.
    label_map: the detector's classes.
    draw: makes the picture of a frame; all of one size.
    batch_size: frames sent to the detector together.
    picture: the .mp4 file to write; the .jsonl file gets its name.

  Raises:
    BrokenVideoError: it is no video, or does not go on to its end, or no video can be made of its
      pictures; nothing is left of it.
    UserError: a file cannot be written.
  """
  results = results_file(picture)
  if results.is_file():
    return
  unfinished = [file.with_name(f".{file.name}") for file in (picture, results)]
  try:
    with (
      VideoReader(path) as reader,
      progress_bar(reader.num_frames, f"detect {path.name}", "frame") as bar,
      VideoWriter(unfinished[0], reader.fps) as writer,
      unfinished[1].open("w", encoding="utf-8") as lines,
    ):
      for found in detect_images(detect, reader.frames(), batch_size):
        writer.write(draw(found))
        row = {
          "frame": found.source.number,
          "seconds": found.source.seconds,
          **exit_row(found),
          "detections": with_text_category_ids(result_rows(found), label_map),
        }
        lines.write(json.dumps(row) + "\n")
        bar.update()
    unfinished[0].replace(picture)
    unfinished[1].replace(results)
  finally:
    for file in unfinished:
      file.unlink(missing_ok=True)


def results_file(picture: Path) -> Path:
  """Returns the file with the detections of a video."""
  return picture.with_suffix(".jsonl")


def summarize_video(results: Path, score_threshold: float) -> VideoSummary:
  """Counts frames and boxes.

  Args:
    results: the .jsonl file of a video.
    score_threshold: weaker detections were not drawn.
  """
  num_frames = num_drawn = 0
  with results.open(encoding="utf-8") as lines:
    for line in lines:
      num_frames += 1
      num_drawn += sum(row["score"] >= score_threshold for row in json.loads(line)["detections"])
  return VideoSummary(num_frames, num_drawn)

"""One run of `detect`: images and videos to pictures, COCO results and AP."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from official_nasfpn.data.detections import split_batch
from official_nasfpn.data.drawing import MIN_SIDE, draw_boxes, draw_detections, side_by_side
from official_nasfpn.data.image_encoding import decoded_picture
from official_nasfpn.data.report import report_table
from official_nasfpn.data.text_ids import with_text_ids
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.serving.detect.budget import use_of_budget
from official_nasfpn.serving.detect.detection import (
  Detect,
  DetectedImage,
  InputImage,
  detect_files,
  exit_row,
  result_rows,
)
from official_nasfpn.serving.detect.detection_folder import (
  DetectionRequest,
  DetectionSummary,
  claim,
  holds_answer,
  output_errors,
  read_summary,
  write_json,
)
from official_nasfpn.serving.detect.ground_truth import GroundTruth
from official_nasfpn.serving.detect.video_detection import (
  detect_video,
  results_file,
  summarize_video,
)
from official_nasfpn.serving.detect.video_files import (
  BrokenVideoError,
  is_video,
  require_opencv,
)
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export_folder import find_export

# What libjpeg writes at most, in width and in height.
_JPEG_SIDE = 65_500


def run_detection(
  request: DetectionRequest, output_dir: Path, batch_size: int = 8
) -> DetectionSummary:
  """Detects, draws, writes COCO results and evaluates, unless `output_dir` holds all that already.

  Args:
    request: what to do.
    output_dir: new, or filled by the same request.
    batch_size: images sent to the detector together.

  Raises:
    UserError: the export or the annotations are not usable, no image or video is, a package is
      missing, the detector has no such exit, `output_dir` holds something else, or the disk is
      full.
  """
  if request.compare and not request.annotations:
    raise UserError("Nothing to compare with: give --annotations, a COCO JSON of the images.")
  if batch_size < 1:
    raise UserError(f"--batch_size is {batch_size}: give 1 or more.")
  truth = GroundTruth(request.annotations) if request.annotations else None
  images, videos = _inputs(request, truth)
  if videos:
    require_opencv()
  find_export(request.export_dir).format.require_runtime(f"The export {request.export_dir}")
  if holds_answer(output_dir, request, batch_size):
    return read_summary(output_dir, request.score_threshold)
  detector = Detector(request.export_dir)
  _check_exits(detector, request)
  if truth:
    truth.check_categories(detector.label_map)
  claim(output_dir, request, batch_size)

  paths = [*(image.path for image in images), *videos]
  pictures = dict(zip(paths, (output_dir / name for name in picture_names(paths)), strict=True))
  detect = _choose(detector, request)
  draw = functools.partial(_draw, detector=detector, truth=truth, request=request)
  skipped: list[dict] = []
  with output_errors(output_dir):
    image_rows, results, sizes = _detect_images(images, detect, draw, batch_size, pictures, skipped)
    video_rows = _detect_videos(videos, detector, request, draw, batch_size, pictures, skipped)
    if not image_rows and not video_rows:
      reason = f" {skipped[0]['file']}: {skipped[0]['reason']}." if skipped else ""
      raise UserError(
        f"None of the {len(paths)} files is an image or a video that can be used.{reason}"
      )
    content = {"images": image_rows, "videos": video_rows, "skipped": skipped}
    if request.budget_ms is not None:
      most = max(len(image_rows), *(row["num_frames"] for row in video_rows), 1)
      use = use_of_budget(detector.exit_latency, request.budget_ms, min(batch_size, most))
      content["budget"] = dataclasses.asdict(use)
    if truth:
      evaluation = truth.evaluate(results, sizes, detector.label_map)
      write_text(output_dir / "evaluation.json", evaluation.to_json())
      report = truth.report.to_json()
      taken = set(paths)
      left_out = [str(path) for path in request.images if path not in taken]
      content["annotations"] = {"left_out": left_out, "report": report}
      if report:
        say(f"In {truth.path}:\n{report_table(report).rstrip()}")
    write_json(output_dir / "images.json", content)
    texts = truth.text_ids if truth else {}
    write_json(output_dir / "detections.json", with_text_ids(results, texts, detector.label_map))
  return read_summary(output_dir, request.score_threshold, is_new=True)


def picture_names(paths: Sequence[Path]) -> list[str]:
  """Returns a different file name for every picture, after its file's name where possible."""
  taken, names = set(), []
  for path in paths:
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    suffix = ".mp4" if is_video(path) else suffix
    name, number = f"{path.stem}{suffix}", 1
    while name.lower() in taken:
      number += 1
      name = f"{path.stem}-{number}{suffix}"
    taken.add(name.lower())
    names.append(name)
  return names


def _inputs(
  request: DetectionRequest, truth: GroundTruth | None
) -> tuple[list[InputImage], list[Path]]:
  """Returns the images and the videos of a request."""
  images = [path for path in request.images if not is_video(path)]
  videos = [path for path in request.images if is_video(path)]
  if truth is None:
    return [InputImage(path, id_) for id_, path in enumerate(images, start=1)], videos
  if not images:
    raise UserError("--annotations and --compare are for images, and there are videos only.")
  if videos:
    say(
      f"{len(videos)} videos are left out, because --annotations and --compare are for images; the "
      f"first is {videos[0]}."
    )
  return truth.find_images(images), []


def _detect_images(
  images: Sequence[InputImage],
  detect: Detect,
  draw: Callable[[DetectedImage], Image.Image],
  batch_size: int,
  pictures: Mapping[Path, Path],
  skipped: list[dict],
) -> tuple[list[dict], list[dict], dict[int, tuple[int, int]]]:
  """Returns a row for each image, COCO results, and width and height by image id."""
  rows, results, sizes = [], [], {}
  if not images:
    return rows, results, sizes
  with progress_bar(len(images), "detect", "image") as bar:

    def skip(image: InputImage, reason: str) -> None:
      skipped.append({"file": str(image.path), "reason": reason})
      bar.update()

    for found in detect_files(detect, images, batch_size, skip):
      id_, picture = found.source.id, pictures[found.source.path]
      size = _save(draw(found), picture)
      results += [{"image_id": id_, **row} for row in result_rows(found)]
      row = {"id": id_, "file": str(found.source.path), "picture": picture.name, **size}
      rows.append({**row, **exit_row(found)})
      sizes[id_] = (found.encoded.width, found.encoded.height)
      bar.update()
  _say_what_was_shrunk(rows)
  return rows, results, sizes


def _save(picture: Image.Image, path: Path) -> dict[str, tuple[int, int]]:
  """Writes a picture; of one that is too large for its format, returns its size until then."""
  if path.suffix != ".jpg":
    picture.save(path)
    return {}
  size = picture.size
  # Smaller rather than in another format, which would make a file of gigabytes.
  picture.thumbnail((_JPEG_SIDE, _JPEG_SIDE))
  picture.save(path, quality=92)
  return {} if picture.size == size else {"shrunk_from": size}


def _say_what_was_shrunk(rows: Sequence[Mapping[str, Any]]) -> None:
  shrunk = [row for row in rows if "shrunk_from" in row]
  if shrunk:
    width, height = shrunk[0]["shrunk_from"]
    say(
      f"{len(shrunk)} of the pictures were made smaller, since a JPEG has at most {_JPEG_SIDE:,} "
      f"pixels a side; the first, {shrunk[0]['picture']}, was {width:,} x {height:,}. Boxes in "
      "detections.json are in the pixels of the images."
    )


def _detect_videos(
  videos: Sequence[Path],
  detector: Detector,
  request: DetectionRequest,
  draw: Callable[[DetectedImage], Image.Image],
  batch_size: int,
  pictures: Mapping[Path, Path],
  skipped: list[dict],
) -> list[dict]:
  """Returns a row for each video; videos that an interrupted run has finished are not repeated."""
  detect = _choose(detector, request)
  # A frame keeps its size.
  draw_frame = functools.partial(draw, min_side=1)
  rows = []
  for video in videos:
    picture = pictures[video]
    try:
      detect_video(video, detect, detector.label_map, draw_frame, batch_size, picture)
    except BrokenVideoError as error:
      skipped.append({"file": str(video), "reason": str(error)})
      continue
    summary = summarize_video(results_file(picture), request.score_threshold)
    row = {"file": str(video), "picture": picture.name, "results": results_file(picture).name}
    rows.append({**row, "num_frames": summary.num_frames, "num_drawn": summary.num_drawn})
  return rows


def _check_exits(detector: Detector, request: DetectionRequest) -> None:
  """Refuses an exit that is not there, and a choice where there is none."""
  if request.all_exits and not detector.exits:
    raise UserError(f"{detector.path} has one exit only, so there is nothing to draw beside it.")
  detector.check_choice(request.exit, request.budget_ms)


def _choose(detector: Detector, request: DetectionRequest) -> Detect:
  """Returns the function that detects as the request wants it."""
  return lambda encoded: split_batch(detector(encoded, request.exit, request.budget_ms))


def _draw(
  found: DetectedImage,
  detector: Detector,
  truth: GroundTruth | None,
  request: DetectionRequest,
  min_side: int = MIN_SIDE,
) -> Image.Image:
  """Returns the picture of an image that the request asks for."""
  size = found.encoded.width, found.encoded.height
  panels: list[tuple[str, Image.Image]] = []
  image = decoded_picture(found.encoded.data)
  if request.compare:
    boxes, classes = truth.boxes(found.source.id, size, detector.label_map)
    names = [detector.label_map.name(index) for index in classes]
    panels.append(("annotated", draw_boxes(image, boxes, classes, names, min_side)))
  detections = {"detected": found.detections}
  if request.all_exits:
    detections = {
      f"exit {latency.exit}, {latency.median_ms:.0f} ms": split_batch(
        detector([found.encoded.data], latency.exit)
      )[0]
      for latency in detector.exit_latency
    }
  panels += [
    (title, draw_detections(image, of_exit, request.score_threshold, min_side))
    for title, of_exit in detections.items()
  ]
  return panels[0][1] if len(panels) == 1 else side_by_side(panels)

"""One run of `detect` and the folder it fills.

OUT/request.json      what was asked for; the same request finds its answer here
OUT/NAME.jpg, .png    the images with boxes
OUT/images.json       image ids, files and pictures; the files that were skipped, and why
OUT/evaluation.json   AP, where annotations were given
OUT/detections.json   COCO results, written last: where it is, the folder is complete
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.detection import (
  DetectedImage,
  InputImage,
  coco_result_rows,
  detect_files,
  detect_one,
)
from official_nasfpn.serving.drawing import draw_detections, side_by_side
from official_nasfpn.serving.ground_truth import GroundTruth
from official_nasfpn.serving.saved_detector import SavedDetector, fingerprint
from official_nasfpn.training.coco_evaluation import EvaluationResult


@dataclass(frozen=True)
class DetectionRequest:
  """What to detect and how to show it.

  Attributes:
    saved_model: folder of the SavedModel.
    images: the image files.
    score_threshold: weaker detections are not drawn; `detections.json` has them all.
    annotations: COCO JSON: gives image ids and the AP; files that it does not know are left out.
    exit: of an anytime detector, the one to take; None takes the last.
    budget_ms: milliseconds for a batch, in which the last exit that is fast enough is taken.
    all_exits: whether every exit's boxes are drawn beside those that are written down.
    compare: whether the annotated boxes are drawn beside those.
  """

  saved_model: Path
  images: tuple[Path, ...]
  score_threshold: float = 0.3
  annotations: Path | None = None
  exit: int | None = None
  budget_ms: float | None = None
  all_exits: bool = False
  compare: bool = False


@dataclass(frozen=True)
class DetectionSummary:
  """What a run found.

  Attributes:
    num_images: images that were looked at.
    num_drawn: boxes drawn.
    skipped: files that are no whole images, and why.
    evaluation: where annotations were given.
    is_new: False where the folder held all of this already.
  """

  num_images: int
  num_drawn: int
  skipped: tuple[tuple[str, str], ...]
  evaluation: EvaluationResult | None
  is_new: bool


def run_detection(
  request: DetectionRequest, output_dir: Path, batch_size: int = 8
) -> DetectionSummary:
  """Detects, draws, writes COCO results and evaluates; or finds all that in `output_dir`.

  Args:
    request: what to do.
    output_dir: new, or filled by the same request.
    batch_size: images sent to the detector together.

  Raises:
    UserError: the SavedModel or the annotations are not usable, no image is, the detector has no
      such exit, `output_dir` holds something else, or the disk is full.
  """
  if request.compare and not request.annotations:
    raise UserError("Nothing to compare with: give --annotations, a COCO JSON of the images.")
  truth = GroundTruth(request.annotations) if request.annotations else None
  images = (
    truth.find_images(request.images)
    if truth
    else [InputImage(path, id_) for id_, path in enumerate(request.images, start=1)]
  )
  if _claim(output_dir, _to_json(request)):
    return _read_summary(output_dir, request.score_threshold)
  detector = SavedDetector(request.saved_model)
  if request.all_exits and not detector.exits:
    raise UserError(f"{detector.path} has one exit only, so there is nothing to draw beside it.")
  if truth:
    truth.check_categories(detector.label_map)

  results, rows, sizes, skipped = [], [], {}, []
  paths = [image.path for image in images]
  names = dict(zip(paths, picture_names(paths), strict=True))
  with progress_bar(len(images), "detect", "image") as bar, _output_errors(output_dir):

    def skip(image: InputImage, reason: str) -> None:
      skipped.append({"file": str(image.path), "reason": reason})
      bar.update()

    for found in detect_files(_choose(detector, request), images, batch_size, skip):
      name = names[found.source.path]
      _save_picture(found, detector, truth, request, output_dir / name)
      results += coco_result_rows(found)
      rows.append({"id": found.source.id, "file": str(found.source.path), "picture": name})
      sizes[found.source.id] = (found.encoded.width, found.encoded.height)
      bar.update()
    if not rows:
      raise UserError(f"None of the {len(images)} files is an image that can be read.")
    _write_json(output_dir / "images.json", {"images": rows, "skipped": skipped})
    if truth:
      evaluation = truth.evaluate(results, sizes, detector.label_map)
      write_text(output_dir / "evaluation.json", evaluation.to_json())
    _write_json(output_dir / "detections.json", results)
  return _read_summary(output_dir, request.score_threshold, is_new=True)


def picture_names(paths: Sequence[Path]) -> list[str]:
  """Returns a different file name for every picture, after its image's name where possible."""
  taken, names = set(), []
  for path in paths:
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    name, number = f"{path.stem}{suffix}", 1
    while name.lower() in taken:
      number += 1
      name = f"{path.stem}-{number}{suffix}"
    taken.add(name.lower())
    names.append(name)
  return names


def _choose(
  detector: SavedDetector, request: DetectionRequest
) -> Callable[[Sequence[bytes]], dict[str, np.ndarray]]:
  """Returns the function that detects as the request wants it."""
  if request.budget_ms is not None:
    return lambda encoded: detector.detect_within(encoded, request.budget_ms)
  return lambda encoded: detector(encoded, request.exit)


def _save_picture(
  found: DetectedImage,
  detector: SavedDetector,
  truth: GroundTruth | None,
  request: DetectionRequest,
  path: Path,
) -> None:
  names = [category.name for category in detector.label_map.categories]
  panels = {}
  if request.compare:
    size = found.encoded.width, found.encoded.height
    panels["annotated"] = truth.boxes(found.source.id, size, detector.label_map)
  if request.all_exits:
    for latency in detector.exit_latency:
      title = f"exit {latency['exit']}, {latency['median_ms']:.0f} ms"
      panels[title] = detect_one(detector, found.encoded.data, latency["exit"])
  else:
    panels["detected"] = found.detections
  with Image.open(io.BytesIO(found.encoded.data)) as image:
    drawn = [
      (title, draw_detections(image, boxes, names, request.score_threshold))
      for title, boxes in panels.items()
    ]
  picture = drawn[0][1] if len(drawn) == 1 else side_by_side(drawn)
  picture.save(path, **({"quality": 92} if path.suffix == ".jpg" else {}))


def _to_json(request: DetectionRequest) -> dict:
  """Returns what makes two requests the same; files count by path, size and time."""

  def file(path: Path) -> list:
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]

  return {
    "saved_model": str(request.saved_model.absolute()),
    "saved_model_sha256": fingerprint(request.saved_model),
    "score_threshold": request.score_threshold,
    "annotations": file(request.annotations) if request.annotations else None,
    "exit": request.exit,
    "budget_ms": request.budget_ms,
    "all_exits": request.all_exits,
    "compare": request.compare,
    "images": [file(path) for path in request.images],
  }


def _claim(output_dir: Path, request: dict) -> bool:
  """Makes the folder this request's; returns whether it holds the answer already."""
  file = output_dir / "request.json"
  if file.is_file():
    try:
      stored = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
      stored = {}
    if stored != request:
      changed = [key for key in request if stored.get(key) != request[key]]
      raise UserError(
        f"{output_dir} holds other detections ({', '.join(changed)} differ). Give --output_dir a "
        "new folder."
      )
    return (output_dir / "detections.json").is_file()
  if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
    raise UserError(
      f"{output_dir} exists and holds something else. Give --output_dir a new folder."
    )
  with _output_errors(output_dir):
    output_dir.mkdir(parents=True, exist_ok=True)
    _write_json(file, request)
  return False


def _read_summary(
  output_dir: Path, score_threshold: float, is_new: bool = False
) -> DetectionSummary:
  images = json.loads((output_dir / "images.json").read_text(encoding="utf-8"))
  results = json.loads((output_dir / "detections.json").read_text(encoding="utf-8"))
  evaluation = None
  if (file := output_dir / "evaluation.json").is_file():
    evaluation = EvaluationResult(**json.loads(file.read_text(encoding="utf-8")))
  return DetectionSummary(
    num_images=len(images["images"]),
    num_drawn=sum(row["score"] >= score_threshold for row in results),
    skipped=tuple((row["file"], row["reason"]) for row in images["skipped"]),
    evaluation=evaluation,
    is_new=is_new,
  )


def _write_json(path: Path, content: object) -> None:
  write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _output_errors(output_dir: Path) -> Iterator[None]:
  with disk_errors(
    output_dir, "Make room or give another --output_dir; the same command goes on from here."
  ):
    yield

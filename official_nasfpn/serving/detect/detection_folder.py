"""The folder that one run of `detect` fills.

OUT/request.json      what was asked for; the same request finds its answer here
OUT/NAME.jpg, .png    the images with boxes
OUT/NAME.mp4, .jsonl  the videos with boxes, and the detections in each frame (`video_detection.py`)
OUT/images.json       image ids, files and pictures; videos; the files that were skipped, and why;
                      with a budget, whether it is met, and the exit taken of every image; with
                      annotations, the files left out, and what was dropped or mended in them
OUT/evaluation.json   AP, where annotations were given
OUT/detections.json   COCO results of the images, written last: where it is, the folder is complete
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from official_nasfpn import folders
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.serving.detect.budget import BudgetUse
from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.training.coco_evaluation import EvaluationResult

_REQUEST_FILE = "request.json"


@dataclass(frozen=True)
class DetectionRequest:
  """A request: what to detect, and how to show it.

  Attributes:
    export_dir: folder of the export, in any format.
    images: the image and video files.
    score_threshold: weaker detections are not drawn; `detections.json` has them all.
    annotations: COCO JSON: gives image ids and the AP; files that it does not know, and videos, are
      left out.
    exit: the exit of an anytime detector to take; None takes the last.
    budget_ms: milliseconds for a batch, in which the last exit that is fast enough is taken.
    all_exits: whether every exit's boxes are drawn beside those that are written down.
    compare: whether the annotated boxes are drawn beside those.
  """

  export_dir: Path
  images: tuple[Path, ...]
  score_threshold: float = 0.3
  annotations: Path | None = None
  exit: int | None = None
  budget_ms: float | None = None
  all_exits: bool = False
  compare: bool = False


@dataclass(frozen=True)
class DetectionSummary:
  """The outcome of a run.

  Attributes:
    num_images: number of images processed.
    num_videos: number of videos processed.
    num_frames: frames of all of them.
    num_drawn: boxes drawn on all of these.
    skipped: files that are not whole images or videos, or videos of which none can be made, each
      with the reason.
    evaluation: where annotations were given.
    budget: the exit that a budget bought for the largest batch; None without a budget.
    is_new: False if the folder was complete already.
  """

  num_images: int
  num_videos: int
  num_frames: int
  num_drawn: int
  skipped: tuple[tuple[str, str], ...]
  evaluation: EvaluationResult | None
  budget: BudgetUse | None
  is_new: bool


def holds_answer(output_dir: Path, request: DetectionRequest, batch_size: int) -> bool:
  """Returns whether a folder holds the answer to a request already; writes nothing.

  Args:
    output_dir: new, or filled by the same request.
    request: what to do.
    batch_size: images sent to the detector together; it matters where they share a budget.

  Raises:
    UserError: it holds something else.
  """
  if not folders.is_claimed(output_dir, _REQUEST_FILE, "detections", "--output_dir"):
    return False
  wanted = _to_json(request, batch_size)
  try:
    stored = parse_json((output_dir / _REQUEST_FILE).read_text(encoding="utf-8"))
  except ValueError:
    stored = {}
  if stored != wanted:
    changed = [key for key in wanted if stored.get(key) != wanted[key]]
    raise UserError(
      f"{output_dir} holds other detections ({', '.join(changed)} differ). Give --output_dir a "
      "new folder."
    )
  return (output_dir / "detections.json").is_file()


def claim(output_dir: Path, request: DetectionRequest, batch_size: int) -> None:
  """Claims a folder for a request.

  Raises:
    UserError: it holds something else, or cannot be written.
  """
  text = _as_text(_to_json(request, batch_size))
  if not folders.claim(output_dir, _REQUEST_FILE, text, "detections", "--output_dir"):
    holds_answer(output_dir, request, batch_size)


def read_summary(
  output_dir: Path, score_threshold: float, is_new: bool = False
) -> DetectionSummary:
  """Returns the summary of a complete folder.

  Args:
    output_dir: the folder.
    score_threshold: its request's.
    is_new: whether it was completed just now.
  """
  images = parse_json((output_dir / "images.json").read_text(encoding="utf-8"))
  results = parse_json((output_dir / "detections.json").read_text(encoding="utf-8"))
  evaluation = None
  if (file := output_dir / "evaluation.json").is_file():
    evaluation = EvaluationResult(**parse_json(file.read_text(encoding="utf-8")))
  # Folders from before there were videos have no list of them.
  videos = images.get("videos", [])
  budget = images.get("budget")
  return DetectionSummary(
    num_images=len(images["images"]),
    num_videos=len(videos),
    num_frames=sum(video["num_frames"] for video in videos),
    num_drawn=sum(row["score"] >= score_threshold for row in results)
    + sum(video["num_drawn"] for video in videos),
    skipped=tuple((row["file"], row["reason"]) for row in images["skipped"]),
    evaluation=evaluation,
    budget=BudgetUse(**budget) if budget else None,
    is_new=is_new,
  )


def write_json(path: Path, content: object) -> None:
  """Writes a file of the folder in one move."""
  write_text(path, _as_text(content))


def _as_text(content: object) -> str:
  return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


@contextmanager
def output_errors(output_dir: Path) -> Iterator[None]:
  """Turns what a full or unwritable disk raises within the block into a `UserError`."""
  with disk_errors(
    output_dir, "Make room or give another --output_dir; the same command goes on from here."
  ):
    yield


def _to_json(request: DetectionRequest, batch_size: int) -> dict:
  """Returns what identifies a request; files are compared by path, size and time."""

  def file(path: Path) -> list:
    try:
      status = path.stat()
    except OSError:
      # A link to nothing, for example, which is skipped with the reason.
      return [str(path.absolute()), None, None]
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]

  # Images of one batch share a budget, so its size matters only then.
  shared = {} if request.budget_ms is None else {"batch_size": batch_size}
  return {
    # The names that these have had from the beginning: older folders are still recognised.
    "saved_model": str(request.export_dir.absolute()),
    "saved_model_sha256": find_export(request.export_dir).fingerprint(),
    "score_threshold": request.score_threshold,
    "annotations": file(request.annotations) if request.annotations else None,
    "exit": request.exit,
    "budget_ms": request.budget_ms,
    "all_exits": request.all_exits,
    "compare": request.compare,
    "images": [file(path) for path in request.images],
    **shared,
  }

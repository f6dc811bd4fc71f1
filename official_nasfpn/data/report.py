"""Counts and examples of problems in a dataset, for people and for `dataset.json`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from official_nasfpn.data.dataset_info import PARTS, DatasetInfo
from official_nasfpn.printable import one_line

# Every problem, in the order in which it is reported, and what was done about it.
PROBLEMS = {
  "images_missing": "image files not found: left out",
  "images_broken": "image files that cannot be read or decoded: left out",
  "images_ambiguous_file": "images whose folders are not there, and whose name alone is another "
  "image's, too: left out",
  "images_backslashes": "images found with / for every \\ in their names",
  "images_duplicate_id": "images that are in the JSON more than once: kept once",
  "images_ambiguous_id": "ids that stand for several files: left out with all of their boxes",
  "images_same_file": "images with the file of another image: kept, in the same part",
  "images_holdout_trained_on": "holdout images whose pixels are in train, too: kept, and the "
  "rewards of a search are too high",
  "images_val_trained_on": "val images whose pixels are in train or holdout, too: kept, and the AP "
  "on val is too high",
  "images_no_size": "images whose width and height in the JSON are none: the file's size is used",
  "images_other_size": "images of another size than the JSON says: the file's size is used",
  "images_turned": "images turned upright as their EXIF orientation says",
  "images_reencoded": "images in a format TensorFlow cannot read well: stored as PNG",
  "images_without_boxes": "images without boxes: kept as background",
  "images_many_boxes": "images with more than 100 boxes: kept, see Input.max_num_boxes",
  "images_without_labels": "images without a file of labels: kept as background",
  "images_unlisted": "images in the folder that the annotations do not name: left out",
  "images_in_two_splits": "images that the annotations put into two splits: kept in the first",
  "images_annotated_twice": "images that several people annotated: the first one's boxes are taken",
  "images_test_as_val": "images of a test split: taken for validation, since there is no other",
  "images_test_unused": "images of a test split: left out, neither trained on nor evaluated",
  "images_in_no_split": "images beside the folders of splits: left out",
  "splits_missing": "splits that the annotations name and that are not there",
  "labels_without_image": "files of labels without an image: left out",
  "boxes_voc_from_1": "boxes read as VOC's pixels, the first being 1 and the last inside the box",
  "boxes_voc_from_0": "boxes read as edges, since some begin at 0 where VOC begins at 1",
  "boxes_shares": "boxes read as shares of the image's sides, since none is a pixel or more",
  "boxes_without_size": "boxes in shares of an image whose size cannot be read: dropped",
  "boxes_of_rotated": "rotated boxes of which the upright box around them is taken",
  "boxes_difficult": "boxes marked difficult: kept like all others",
  "boxes_unreadable": "annotations that are no box: dropped",
  "boxes_unknown_image": "boxes of an image that is not in the JSON: dropped",
  "boxes_unknown_category": "boxes of a category that is not in the JSON: dropped",
  "boxes_other_category": "boxes of a category that the detector does not have: left out",
  "boxes_malformed": "boxes that are not four finite numbers, or whose iscrowd is none: dropped",
  "boxes_from_outlines": "polygons and masks without a box: the box around them is taken",
  "boxes_no_area": "boxes of zero area: dropped",
  "boxes_outside": "boxes outside the image: dropped",
  "boxes_clipped": "boxes beyond the image border: clipped",
  "boxes_crowd": "crowd boxes: kept for evaluation, not trained on",
  "categories_cleaned": "category names without text, or with line breaks or control characters: "
  "renamed",
  "categories_same_name": "categories with the name of another one: renamed",
}
_NUM_EXAMPLES = 3
_LONGEST_EXAMPLE = 200

_PURPOSES = {
  "train": "training: in the trials of a search, and of the final detector",
  "holdout": "rewards of a search; also training of the final detector",
  "val": "evaluation, never trained on",
}


class Report:
  """Counts problems of one dataset and remembers the first examples of each."""

  def __init__(self) -> None:
    self._counts: Counter[str] = Counter()
    self._examples: dict[str, list[str]] = {}

  def note(self, problem: str, example: str) -> None:
    """Counts one occurrence of a problem, one of `PROBLEMS`."""
    assert problem in PROBLEMS, problem
    self._counts[problem] += 1
    examples = self._examples.setdefault(problem, [])
    if len(examples) < _NUM_EXAMPLES:
      is_longer = len(example) > _LONGEST_EXAMPLE
      examples.append(one_line(f"{example[:_LONGEST_EXAMPLE]}..." if is_longer else example))

  def count(self, problem: str) -> int:
    """Returns how often a problem occurred."""
    return self._counts[problem]

  def add(self, other: "Report") -> None:
    """Adds the counts and examples of another report."""
    self._counts.update(other._counts)
    for problem, examples in other._examples.items():
      known = self._examples.setdefault(problem, [])
      known.extend(examples[: _NUM_EXAMPLES - len(known)])

  @classmethod
  def from_json(cls, content: Mapping[str, Any]) -> "Report":
    """Returns the report that `to_json` has returned."""
    report = cls()
    for problem, found in content.items():
      report._counts[problem] = found["count"]
      report._examples[problem] = list(found["examples"])
    return report

  def to_json(self) -> dict[str, Any]:
    """Returns {problem: {"count": int, "examples": [str, ...]}} of the problems that occurred."""
    return {
      problem: {"count": self._counts[problem], "examples": self._examples[problem]}
      for problem in PROBLEMS
      if self._counts[problem]
    }


def report_table(report: dict[str, Any]) -> str:
  """Returns the text a person reads of a report in the form of `Report.to_json`."""
  if not report:
    return "No problems found.\n"
  lines = []
  for problem, found in report.items():
    examples = ", ".join(found["examples"])
    more = ", ..." if found["count"] > len(found["examples"]) else ""
    lines.append(f"{found['count']:8d} {PROBLEMS[problem]}  ({examples}{more})")
  return "\n".join(lines) + "\n"


def parts_table(info: DatasetInfo) -> str:
  """Returns a table of the parts: their sizes, what they are for, and how they came about."""
  lines = [f"{'part':8s} {'images':>8s} {'boxes':>8s} {'shards':>8s}  what for"]
  for name, part in info.parts.items():
    counts = f"{part.num_images:8d} {part.num_boxes:8d} {len(part.shards):8d}"
    lines.append(f"{name:8s} {counts}  {_PURPOSES[name]}")
  total, trained = info.num_images(PARTS), info.num_images(("train", "holdout"))
  if note := note_on_no_evaluation(info, "val"):
    lines.append(note)
  elif "val" not in info.source:
    lines += [
      f"val is a share of {info.settings['validation_fraction']:g} of the images, split off since "
      "there are no --val_annotations (--validation_fraction).",
      f"`nasfpn train` trains on train and holdout, {trained} of {total} images. To train on "
      f"all {total} at the very end: --mode train --gin_param \"Input.train_parts = ('train', "
      "'holdout', 'val')\", in a new --model_dir. Nothing is left to evaluate it on.",
    ]
  if not info.num_images(("holdout",)):
    lines.append("holdout has no images, so a search has nothing to measure rewards on.")
  return "\n".join(lines)


def note_on_no_evaluation(info: DatasetInfo, part: str) -> str | None:
  """Returns what cannot be done where there is nothing to evaluate on; None if there is."""
  if info.num_images((part,)):
    return None
  return (
    f"{part} has no images, so nothing can be evaluated: train with --mode train. An export cannot "
    "be checked then, and the times of its exits are of training images."
  )


def note_on_shared_pixels(info: DatasetInfo, part: str) -> str | None:
  """Returns how many images to evaluate on are trained on, too; None if there are none."""
  count = info.report.get(f"images_{part}_trained_on", {}).get("count", 0)
  if not count:
    return None
  return (
    f"warning: {count:,} of the {info.num_images((part,)):,} images of {part} have the pixels of "
    f"images that are trained on: the AP on {part} is too high. {info.data_dir}/dataset.json names "
    "some of them."
  )

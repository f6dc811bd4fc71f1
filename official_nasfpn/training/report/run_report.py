"""Writes the report of a run: from what is in its folder, and the data for its pictures."""

import time
from pathlib import Path

from official_nasfpn.data.dataset_info import DatasetInfo, is_prepared
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.reporting.event_files import read_scalars
from official_nasfpn.training.analysis.analysis import Analysis, analyse
from official_nasfpn.training.analysis.boxes import EvaluatedBoxes, EvaluatedWith, load_boxes
from official_nasfpn.training.checkpoint_files import newest_checkpoint, step_of
from official_nasfpn.training.coco_evaluation import EvaluationResult
from official_nasfpn.training.experiment import Experiment, with_data
from official_nasfpn.training.report.coco_tables import coco_tables
from official_nasfpn.training.report.html.page import Evaluated, Pictures, render_report
from official_nasfpn.training.report.pictures import choose, draw_pictures, score_images
from official_nasfpn.training.run_folder import RunFolder


def write_run_report(
  model_dir: str | Path,
  output: str | Path | None = None,
  *,
  data_dir: str | Path | None = None,
) -> Path:
  """Writes what a detector has learnt as one HTML file, and returns its path.

  The last evaluation of the run is shown, whose boxes are in the run folder. Where they are not, as
  in folders of version 0.1, the newest checkpoint is evaluated first. The data is read for pictures
  alone; without it there are none, and the page says so.

  Args:
    model_dir: the run folder, of a training that goes on or has ended.
    output: path of the file. Default: `report.html` in the run folder.
    data_dir: the prepared data, where it has moved since. Default: where it was then.

  Raises:
    UserError: this is no run folder, its files are damaged, there is no data in `data_dir`, or the
      file cannot be written.
  """
  folder = RunFolder(Path(model_dir))
  experiment, _ = folder.load()
  if data_dir is not None:
    experiment = with_data(experiment, data_dir)
    DatasetInfo.load(experiment.input.data_dir)
  path = Path(output) if output else folder.path / "report.html"
  why_not = _evaluate_if_needed(folder, experiment)
  evaluated = None
  if not why_not:
    boxes, made_with = load_boxes(folder.boxes_file)
    data = experiment.input.data_dir if data_dir is not None else made_with.data_dir
    evaluated = _look_at(boxes, made_with, data)
  text = render_report(
    folder.path,
    experiment,
    evaluated,
    why_not,
    _result(folder, evaluated.made_with.step if evaluated else None),
    read_scalars(folder.path / "train"),
    read_scalars(folder.path / "validation"),
    newest_step(folder.checkpoints),
    newest_step(folder.best),
    time.time(),
  )
  with disk_errors(path, "The run is untouched: choose another --output."):
    write_text(path, text)
  return path


def newest_step(checkpoints: Path) -> int | None:
  """Returns the train step of a folder's newest checkpoint, None without one; no TensorFlow."""
  checkpoint = newest_checkpoint(checkpoints)
  return step_of(checkpoint) if checkpoint else None


def _evaluate_if_needed(folder: RunFolder, experiment: Experiment) -> str:
  """Makes sure that the run folder has evaluated boxes; returns why it has not, else nothing."""
  if folder.boxes_file.is_file():
    return ""
  if newest_step(folder.checkpoints) is None:
    return "This run has no checkpoint yet, so there is nothing to evaluate."
  if not is_prepared(experiment.input.data_dir):
    return (
      "This run has not been evaluated by this version of the program, and its data, "
      f"{experiment.input.data_dir}, is not there: give --data_dir the folder that it is in now."
    )
  from official_nasfpn.training.training import evaluate_detector

  say(f"{folder.path} has no evaluated boxes yet: its newest checkpoint is evaluated first")
  advice = "Give the run folder's owner this command, or copy the folder."
  with disk_errors(folder.path, advice):
    evaluate_detector(folder.path, experiment=experiment)
  return ""


def _look_at(boxes: EvaluatedBoxes, made_with: EvaluatedWith, data_dir: str) -> Evaluated:
  with progress_bar(3, "analyse", "part") as bar:
    analysis = analyse(boxes)
    bar.update()
    # At COCO's size half a minute.
    bar.set_description("AP by class and size")
    tables = coco_tables(boxes)
    bar.update()
    bar.set_description("draw pictures")
    pictures = _pictures(boxes, made_with.part, analysis, data_dir)
    bar.update()
  return Evaluated(boxes, made_with, analysis, tables, pictures)


def _pictures(boxes: EvaluatedBoxes, part: str, analysis: Analysis, data_dir: str) -> Pictures:
  if not is_prepared(data_dir):
    return Pictures(
      (),
      (),
      f"There are no pictures, because the data is not in {data_dir} any more: with --data_dir, "
      "which says where it is now, there are.",
    )
  try:
    dataset = DatasetInfo.load(data_dir)
    if dataset.label_map != boxes.label_map:
      raise UserError(f"the data in {data_dir} has other classes.")
    worst, best = choose(score_images(boxes, analysis.errors))
    # In turns, so that a page that is full has some of both.
    order = [score for pair in zip(worst, best, strict=False) for score in pair]
    order += worst[len(best) :] + best[len(worst) :]
    drawn = draw_pictures(dataset, part, boxes, analysis.errors, order)
  except UserError as error:
    return Pictures((), (), f"There are no pictures: {error}")
  bad = {score.image for score in worst}
  note = (
    f"{len(drawn)} of {len(boxes.image_ids):,} images: annotated boxes left, detected ones right "
    f"(below it on a phone), with a score of {analysis.errors.threshold:.3f} or more. What is "
    "wrong says so."
  )
  if len(drawn) < len(order):
    note += f" {len(order) - len(drawn)} more would have made the page too large, or are missing."
  return Pictures(
    worst=[picture for picture in drawn if picture.score.image in bad],
    best=[picture for picture in drawn if picture.score.image not in bad],
    note=note,
  )


def _result(folder: RunFolder, step: int | None) -> EvaluationResult | None:
  """Returns the evaluation of a train step, or any if it is None; also one of an earlier version.

  While a training goes on, that of its best weights is newer than `evaluation.json`.
  """
  for file in (folder.evaluation_file, folder.best_evaluation_file):
    if (content := folder.evaluation(file)) is None:
      continue
    try:
      result = EvaluationResult(**content)
    except TypeError as error:
      raise folder.damaged_evaluation(error, file) from error
    if step is None or result.step in (None, step):
      return result
  return None

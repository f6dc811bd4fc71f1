"""Trains a detector, evaluates one, plans a training: what `nasfpn train` does, from Python.

    experiment = load_experiment(["gin/quickstart.gin"], ["Input.data_dir = 'data/mine'"])
    run = train_detector(experiment, "runs/mine")
    print(run.evaluation.metrics["AP"], run.evaluation.class_ap)

What is wrong with experiment, data or folder is said before TensorFlow is imported, which takes
seconds.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from official_nasfpn.data.dataset_info import is_prepared
from official_nasfpn.data.report import note_on_no_evaluation, note_on_shared_pixels
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say
from official_nasfpn.training.anchors.fit import note_on_anchors
from official_nasfpn.training.backbone_source import kind_of
from official_nasfpn.training.checkpoint_files import step_of
from official_nasfpn.training.coco_evaluation import EvaluationResult, require_defined
from official_nasfpn.training.experiment import Experiment, open_dataset, settle_backbone
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.start_weights import check_start
from official_nasfpn.training.strategies import (
  build_strategy,
  check_batches,
  check_strategy,
  is_chief,
)

if TYPE_CHECKING:
  from official_nasfpn.data.training_preview import TrainingPreview
  from official_nasfpn.training.plan import Plan


@dataclasses.dataclass(frozen=True)
class DetectorRun:
  """A trained detector, and what a call of `train_detector` or `evaluate_detector` found.

  Attributes:
    model_dir: the run folder.
    steps: train steps that the detector has taken, in this call and before.
    seconds: wall time of the call.
    evaluation: COCO's metrics, AP by class and more; None where nothing was evaluated.
  """

  model_dir: Path
  steps: int
  seconds: float
  evaluation: EvaluationResult | None


def train_detector(
  experiment: Experiment,
  model_dir: str | Path,
  *,
  evaluate: bool = True,
  distribution_strategy: str = "one_device",
  tpu: str | None = None,
) -> DetectorRun:
  """Trains a detector to its last step, from the newest checkpoint of the folder if there is one.

  Progress is shown on standard error. The run folder gets the settings, checkpoints, TensorBoard's
  curves, `train.log` and `evaluation.json`. The seed of the experiment becomes that of Python,
  NumPy and TensorFlow.

  Args:
    experiment: all settings, `Input.data_dir` among them.
    model_dir: the run folder; new, or of this same experiment. All machines of a cluster must see
      it.
    evaluate: evaluate every `Training.evaluation_epochs`, and at the end.
    distribution_strategy: one of `strategies.STRATEGIES`. With `multi_worker_mirrored` every
      machine makes this call, and TF_CONFIG says which of them it is.
    tpu: name or address of the TPU, or `local`, for the strategy `tpu`.

  Returns:
    The same on all machines of a cluster; its first one writes the files.

  Raises:
    UserError: the data is missing, damaged or of other classes, the weights to start from are not
      there or of another network, the folder belongs to something else, `Training.best_metric` is
      undefined on the data, the devices cannot share a batch evenly, the disk is full, a machine of
      the cluster was lost, `Training.jit_compile` is True and the devices cannot.
      `TrainingDiverged` where the loss became NaN or infinite; `OutOfMemory` where a batch does not
      fit; `GpuLost` where a GPU failed.
  """
  start = time.monotonic()
  folder = RunFolder(Path(model_dir))
  begins = not folder.config_file.is_file()
  folder.check_classes(experiment.input.data_dir)
  experiment, dataset = open_dataset(folder.continued(experiment), begins)
  check_strategy(distribution_strategy, tpu)
  folder.check(experiment)
  if begins and experiment.training.start_from:
    check_start(experiment.training.start_from)
  part = experiment.input.evaluation_part
  if evaluate:
    if note := note_on_no_evaluation(dataset, part):
      raise UserError(f"{dataset.data_dir}: {note}")
    require_defined(experiment.training.best_metric, dataset, part)
    _say_note(experiment.input.note())
    _say_note(note_on_shared_pixels(dataset, part))
  elif begins:
    _say_note(note_on_no_evaluation(dataset, part))
  if begins and is_chief():
    where = f"--model_dir {shlex.quote(str(model_dir))}"
    _say_note(note_on_anchors(experiment.anchor_setting, dataset, where))
  # Only the devices tell what they can. Those of a cluster must be set up before anything is built.
  strategy = build_strategy(distribution_strategy, tpu)
  check_batches(experiment.training, strategy, evaluates=evaluate)
  if experiment.training.jit_compile is True:
    from official_nasfpn.training.compilation import compilation

    compilation(experiment, 0, strategy)
  if begins and experiment.training.backbone_weights:
    from official_nasfpn.training.backbone_weights import check_backbone_weights

    check_backbone_weights(experiment.detector, experiment.training.backbone_weights)
  # In a cluster the chief makes the folder, for all.
  if is_chief() or folder.config_file.is_file():
    folder.claim(experiment, dataset.label_map)

  import tensorflow as tf

  from official_nasfpn.data.damaged_data import damage_named
  from official_nasfpn.training import runner
  from official_nasfpn.training.lost_gpu import gpu_errors
  from official_nasfpn.training.number_format import keras_policy_kept

  advice = "The checkpoints written before are whole: make room, and the same command goes on."
  try:
    with keras_policy_kept():
      damaged = "The checkpoints written before are whole: the same command then goes on."
      lost = "The checkpoints written before are whole: the same command goes on from the newest."
      with disk_errors(folder.path, advice), damage_named(dataset, damaged), gpu_errors(lost):
        evaluation, steps = runner.train(experiment, dataset, folder, strategy, evaluate)
      if evaluate and evaluation is None:  # All steps were taken before.
        with damage_named(dataset):
          evaluation = runner.evaluate(experiment, dataset, folder, strategy)
  except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
    # What the others are told when one is gone; a cluster cannot go on without it.
    raise UserError(
      "A worker of the cluster was lost, so this one stopped too. The checkpoints written before "
      "are whole: start the same command on all of them again, and they go on from the newest. "
      f"TensorFlow says: {error.message.splitlines()[0]}"
    ) from error
  _write_evaluation(folder, evaluation)
  return DetectorRun(folder.path, steps, time.monotonic() - start, evaluation)


def evaluate_detector(
  model_dir: str | Path,
  *,
  experiment: Experiment | None = None,
  distribution_strategy: str = "one_device",
  tpu: str | None = None,
) -> DetectorRun:
  """Evaluates a run with the weights that an export has, and writes `evaluation.json` there.

  They are the best known by `Training.best_metric`, or the newest.

  Args:
    model_dir: the run folder, which says everything.
    experiment: settings to take instead of those in the folder, for example another
      `Input.data_dir` where the data has moved, or another `Detector.score_threshold`.
    distribution_strategy: one of `strategies.STRATEGIES`.
    tpu: name or address of the TPU, or `local`, for the strategy `tpu`.

  Raises:
    UserError: this is no run folder, it has no checkpoint, or its data is missing, damaged or of
      other classes.
  """
  start = time.monotonic()
  folder = RunFolder(Path(model_dir))
  settings = folder.continued(experiment) if experiment else folder.load()[0]
  folder.check_classes(settings.input.data_dir)
  experiment, dataset = open_dataset(settings, begins=False)
  check_strategy(distribution_strategy, tpu)
  _say_note(experiment.input.note())
  _say_note(note_on_shared_pixels(dataset, experiment.input.evaluation_part))
  checkpoint = folder.checkpoint_to_use()

  from official_nasfpn.data.damaged_data import damage_named
  from official_nasfpn.training import runner
  from official_nasfpn.training.number_format import keras_policy_kept

  strategy = build_strategy(distribution_strategy, tpu)
  check_batches(experiment.training, strategy, trains=False)
  with keras_policy_kept(), damage_named(dataset):
    evaluation = runner.evaluate(experiment, dataset, folder, strategy)
  _write_evaluation(folder, evaluation)
  return DetectorRun(folder.path, step_of(checkpoint), time.monotonic() - start, evaluation)


def plan_training(
  experiment: Experiment,
  *,
  evaluate: bool = True,
  distribution_strategy: str = "one_device",
  tpu: str | None = None,
) -> Plan:
  """Returns what a training would do and cost: steps, learning rates, multiply-adds, memory.

  Builds the detector and reads a batch of the data; trains and writes nothing.

  Args:
    experiment: all settings. Where its `Input.data_dir` holds no data, that of COCO is assumed.
    evaluate: whether the training would be evaluated, too.
    distribution_strategy: one of `strategies.STRATEGIES`, whose devices would share a batch.
    tpu: name or address of the TPU, or `local`, for the strategy `tpu`.

  Raises:
    UserError: the data is damaged or of other classes, the weights to start from are not there or
      of another network, `Training.best_metric` is undefined on the data, or the devices cannot
      share a batch evenly.
  """
  check_strategy(distribution_strategy, tpu)
  dataset = None
  experiment = settle_backbone(experiment)
  if is_prepared(experiment.input.data_dir):
    experiment, dataset = open_dataset(experiment)
    _say_note(experiment.input.note())
    part = experiment.input.evaluation_part
    no_evaluation = note_on_no_evaluation(dataset, part)
    _say_note(no_evaluation)
    _say_note(note_on_shared_pixels(dataset, part))
    if evaluate and not no_evaluation:
      require_defined(experiment.training.best_metric, dataset, part)
  say("building the detector, to estimate its memory; a large one takes minutes")
  from official_nasfpn.training import plan
  from official_nasfpn.training.backbone_weights import check_backbone_weights

  strategy = build_strategy(distribution_strategy, tpu)
  check_batches(experiment.training, strategy, evaluates=evaluate)
  weights = experiment.training.backbone_weights
  # A plan fetches nothing.
  if weights and kind_of(weights) != "published":
    check_backbone_weights(experiment.detector, weights)
  data = plan.count_data(experiment, dataset) if dataset else plan.assume_coco(experiment)
  return plan.make_plan(experiment, data, strategy)


def preview_training(experiment: Experiment) -> TrainingPreview:
  """Returns a contact sheet of the images that a training begins with, augmented as it would be.

  Trains and writes nothing; `sheet.save("preview.jpg")` does.

  Args:
    experiment: all settings, `Input.data_dir` among them.

  Raises:
    UserError: the data is missing, damaged or of other classes.
  """
  experiment, dataset = open_dataset(experiment)
  from official_nasfpn.data.damaged_data import damage_named
  from official_nasfpn.data.training_preview import training_preview

  with damage_named(dataset):
    return training_preview(
      experiment.input,
      experiment.detector.image_size,
      experiment.training.seed,
      dataset.label_map,
    )


def _say_note(note: str | None) -> None:
  if note and is_chief():
    say(note)


def _write_evaluation(folder: RunFolder, evaluation: EvaluationResult | None) -> None:
  if evaluation and is_chief():
    write_text(folder.evaluation_file, evaluation.to_json())

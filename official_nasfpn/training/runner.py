"""Runs a training or an evaluation with Model Garden's trainer and Orbit's controller."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orbit
import tensorflow as tf
import tf_keras
from official.core import base_trainer, config_definitions

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.modeling.detector_parts import factors_by_weight
from official_nasfpn.modeling.wired_pyramid import Wiring
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.training.analysis.analysis import analyse
from official_nasfpn.training.analysis.boxes import EvaluatedWith, save_boxes
from official_nasfpn.training.best_checkpoint import (
  BestCheckpoint,
  evaluation_is_due,
  out_of_patience,
  read_history,
)
from official_nasfpn.training.checkpoint_files import newest_checkpoint, step_of, tell_tensorflow
from official_nasfpn.training.coco_evaluation import EvaluationResult
from official_nasfpn.training.compilation import compilation
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.evaluated_under import conditions_of
from official_nasfpn.training.evaluator import Evaluator
from official_nasfpn.training.experiment import Experiment, model_name
from official_nasfpn.training.memory import memory_errors
from official_nasfpn.training.narration import Narration, where_and_how
from official_nasfpn.training.number_format import settled_compute_dtype
from official_nasfpn.training.optimizer import build_optimizer, num_steps, steps_of
from official_nasfpn.training.restore import checkpoint_errors, restore_detector
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import distribute_batches, is_chief
from official_nasfpn.training.task import DetectionTask
from official_nasfpn.training.validation_pictures import ValidationPictures
from official_nasfpn.training.weight_average import averaged_weights, begin_average


def train(
  experiment: Experiment,
  dataset: DatasetInfo,
  folder: RunFolder,
  strategy: tf.distribute.Strategy,
  evaluate_on_the_way: bool = False,
) -> tuple[EvaluationResult | None, int]:
  """Trains to the last step, from the newest checkpoint of the run folder if there is one.

  Progress is reported on standard error and in the folder's `train.log`.

  Args:
    experiment: all settings, with the number of classes settled.
    dataset: the prepared data.
    folder: claimed for this experiment; checkpoints, TensorBoard's curves and pictures go there.
    strategy: where to run.
    evaluate_on_the_way: evaluate every `Training.evaluation_epochs`, and at the end; first of all
      what was to be evaluated when the training was interrupted.

  Returns:
    The best evaluation by `Training.best_metric`, or the last one, if there was one; and the train
    step that was reached.

  Raises:
    TrainingDiverged: the loss became NaN or infinite; nothing was saved since.
    OutOfMemory: a batch does not fit.
    UserError: `Training.jit_compile` is True, and XLA cannot compile for the strategy's devices.
  """
  config = experiment.training
  num_images = dataset.num_images(experiment.input.train_parts)
  total = num_steps(config, num_images)
  checkpoint = newest_checkpoint(folder.checkpoints)
  first_step = step_of(checkpoint) if checkpoint else 0
  interval = steps_of(config.evaluation_epochs, config, num_images)
  history = read_history(folder, first_step) if evaluate_on_the_way else []
  is_due = evaluate_on_the_way and evaluation_is_due(history, first_step, interval, total)
  if first_step >= total and not is_due:
    if is_chief():
      say(f"{folder.path} is trained to its last step, {first_step:,}; nothing is left to train")
    return None, first_step

  if evaluate_on_the_way and out_of_patience(history, config):
    if is_chief():
      say(f"{folder.path} has ended at step {first_step:,}, out of patience: nothing is left to do")
    return None, first_step

  compiled = compilation(experiment, total - first_step, strategy)
  narration = Narration(first_step, total, speaks=is_chief())
  with contextlib.ExitStack() as stack:
    written = folder
    if not is_chief():
      # All workers must take part in saving; only the chief's files are kept.
      written = RunFolder(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    # Orbit prints every loop on standard output, through the middle of the progress bar.
    stack.enter_context(output_to(written.path / "train.log"))
    stack.callback(narration.close)
    narration.begin(experiment, dataset, strategy, folder.path, compiled)
    if is_due:
      narration.say(f"step {first_step:,} has not been evaluated: that comes first")
    narration.compiling()
    trainer = build_trainer(experiment, dataset, strategy, first_step, compiled.jit_compile)
    evaluator = None
    if evaluate_on_the_way:
      pictures = ValidationPictures(experiment, dataset) if is_chief() else None
      with strategy.scope():
        evaluator = Evaluator(experiment, dataset, trainer.model, pictures, keeps_boxes=True)
    with strategy.scope():
      if checkpoint:
        # Orbit does so, too, but only on the chief: the others' managers look into empty folders.
        with checkpoint_errors(checkpoint):
          trainer.checkpoint.restore(checkpoint).expect_partial()
      else:
        trainer.task.initialize(trainer.model)
        begin_average(trainer.optimizer, trainer.model)
      best = BestCheckpoint(folder, trainer.model, config, first_step, written)
    # Orbit restores what the manager takes for the newest; files may have been deleted.
    tell_tensorflow(written.checkpoints)
    manager = tf.train.CheckpointManager(
      trainer.checkpoint,
      directory=str(written.checkpoints),
      max_to_keep=config.checkpoints_to_keep,
      step_counter=trainer.global_step,
      checkpoint_interval=steps_of(config.checkpoint_epochs, config, num_images),
      # Only the chief's folder has a checkpoint to count the interval from. Machines that do not
      # save at the same steps would wait for one another for ever.
      last_checkpoint_step=first_step,
    )

    def now() -> int:
      return int(trainer.global_step.numpy())

    def train_to(stop: int) -> None:
      advice = "That is another training: give --model_dir a new folder."
      # One step alone, as a sign of life, then to the end of what would have been the first loop.
      for step in (first_step + 1, first_step + config.steps_per_loop, stop):
        if now() < step <= stop:
          with memory_errors(
            "Training.batch_size", config.batch_size, strategy, config.micro_batches, advice
          ):
            controller.train(step, checkpoint_at_completion=False)

    controller = orbit.Controller(
      global_step=trainer.global_step,
      trainer=trainer,
      evaluator=evaluator,
      strategy=strategy,
      train_actions=[
        lambda logs: trainer.task.nan_guard.check(strategy),
        make_plain,
        lambda logs: narration.step(logs, now()),
      ],
      eval_actions=[make_plain, lambda figures: narration.evaluated(figures, now())],
      steps_per_loop=config.steps_per_loop,
      checkpoint_manager=manager,
      summary_dir=str(folder.path / "train") if is_chief() else None,
      eval_summary_dir=str(folder.path / "validation") if is_chief() else None,
    )
    stops = range(first_step + (0 if is_due else interval), total, interval) if evaluator else ()
    for stop in (*stops, total):
      train_to(stop)
      if not evaluator:
        continue
      narration.evaluating()
      with strategy.scope(), averaged_weights(trainer.optimizer):
        controller.evaluate()
        if best.offer(_analysed(evaluator, experiment, dataset, stop)):
          _keep_boxes(evaluator, experiment, folder, stop)
      if best.is_over():
        narration.say(
          f"{config.best_metric} has not risen in {config.patience} evaluations: the training ends"
        )
        break
    controller.save_checkpoint()
    return best.evaluation, now()


def evaluate(
  experiment: Experiment, dataset: DatasetInfo, folder: RunFolder, strategy: tf.distribute.Strategy
) -> EvaluationResult:
  """Evaluates a run with the weights that an export has: the best known, or the newest.

  Args:
    experiment: all settings, with the number of classes settled.
    dataset: the prepared data.
    folder: with at least one checkpoint.
    strategy: where to run.
  """
  checkpoint = folder.checkpoint_to_use()
  if is_chief():
    say(f"evaluates {model_name(experiment)}, {checkpoint}, on {dataset.data_dir}")
    say(where_and_how(experiment, strategy))
  with strategy.scope():
    configure_tensorflow(experiment.training)
    model = restore_detector(experiment, dataset.label_map, checkpoint)
    evaluator = Evaluator(experiment, dataset, model, keeps_boxes=True)
  num_images = dataset.num_images((experiment.input.evaluation_part,))
  num_batches = -(-num_images // experiment.training.evaluation_batch_size)
  with progress_bar(num_batches, "evaluate", "batch") as bar:
    evaluator.run(on_batch=bar.update)
  step = step_of(checkpoint)
  _keep_boxes(evaluator, experiment, folder, step)
  return _analysed(evaluator, experiment, dataset, step)


def _analysed(
  evaluator: Evaluator, experiment: Experiment, dataset: DatasetInfo, step: int
) -> EvaluationResult:
  """Returns the last evaluation, of the weights of a train step, with its errors by kind."""
  assert evaluator.last_result
  assert evaluator.last_boxes
  summary = analyse(evaluator.last_boxes).summary()
  return dataclasses.replace(
    evaluator.last_result,
    step=step,
    analysis=summary,
    conditions=conditions_of(experiment, dataset),
  )


def _keep_boxes(evaluator: Evaluator, experiment: Experiment, folder: RunFolder, step: int) -> None:
  """Keeps the boxes of the last evaluation in the run folder, for reports."""
  assert evaluator.last_boxes
  if is_chief():
    made_with = EvaluatedWith(
      step=step,
      data_dir=experiment.input.data_dir,
      part=experiment.input.evaluation_part,
      score_threshold=experiment.detector.score_threshold,
      max_detections=experiment.detector.max_detections,
    )
    save_boxes(folder.boxes_file, evaluator.last_boxes, made_with)


def configure_tensorflow(config: TrainingConfig) -> None:
  """Sets options of the whole process: the number format, and a reproducible order of sums.

  Call it in the scope of the training's strategy, whose devices decide the number format.
  """
  warn_of_an_unused_gpu()
  tf_keras.mixed_precision.set_global_policy(settled_compute_dtype(config.compute_dtype))
  # TensorFlow's rewriting of sums follows addresses in memory: of eight traces of one train step
  # five summed a gradient in one order and three in another. Without it the steps take as long.
  tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def build_trainer(
  experiment: Experiment,
  dataset: DatasetInfo,
  strategy: tf.distribute.Strategy,
  first_step: int,
  jit_compile: bool,
  wiring: Wiring | None = None,
) -> base_trainer.Trainer:
  """Builds task, detector, optimizer and data, and Model Garden's trainer over them.

  Args:
    experiment: all settings, with the number of classes settled.
    dataset: the prepared data.
    strategy: where to run.
    first_step: the train step that training goes on from.
    jit_compile: whether XLA compiles the train step.
    wiring: variables of the architecture that is trained; None trains the experiment's own.
  """
  config = experiment.training
  with strategy.scope():
    configure_tensorflow(config)
    task = DetectionTask(experiment, dataset, first_step, jit_compile, wiring)
    model = task.build_model()
    num_images = dataset.num_images(experiment.input.train_parts)
    optimizer = build_optimizer(
      config,
      num_images,
      model.trainable_variables,
      factors_by_weight(model, config.learning_rate_factors),
    )
    begin_average(optimizer, model)
    return base_trainer.Trainer(
      config_definitions.ExperimentConfig(),
      task,
      model,
      optimizer,
      evaluate=False,
      train_dataset=distribute_batches(strategy, task.build_inputs),
    )


def make_plain(logs: dict[str, Any]) -> None:
  """Turns what Orbit is about to print, and to write as curves, into Python's numbers."""
  logs.update({name: float(value) for name, value in logs.items()})


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
  """Appends what is printed on standard output to a file."""
  with path.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
    yield

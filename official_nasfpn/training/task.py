"""The detection task: what one train step and one evaluation step of a detector do."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras
from official.core import base_task

from official_nasfpn.data import input_pipeline
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import anchors as anchors_lib
from official_nasfpn.modeling.detections import detect_in_images
from official_nasfpn.modeling.detector import Detector, build_detector
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.training import targets
from official_nasfpn.training.coco_evaluation import (
  EvaluationResult,
  coco_results,
  evaluate_coco_results,
  of_all_exits,
)
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.nan_guard import NanGuard
from official_nasfpn.training.optimizer import num_steps
from official_nasfpn.training.train_step import loss_names, train_step


class DetectionTask(base_task.Task):
  """Model Garden's task protocol for a detector with a searched pyramid.

  Args:
    experiment: all settings.
    dataset: the prepared data that training or evaluation reads.
    first_step: the train step that training goes on from; fixes which images come next.
  """

  def __init__(self, experiment: Experiment, dataset: DatasetInfo, first_step: int = 0):
    super().__init__(params=experiment, name="detection")
    self._dataset = dataset
    self._first_step = first_step
    self._num_classes = dataset.label_map.num_classes
    self._num_steps = num_steps(
      experiment.training, dataset.num_images(experiment.input.train_parts)
    )
    self._anchors = tf.constant(anchors_lib.flat_anchors(experiment.detector))
    # In a cluster of equal workers each host is given the detections of its own devices only; were
    # they not gathered, the chief would report the AP of its share of the images.
    self._gathers = isinstance(
      tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy
    )
    self.losses = loss_names(experiment.detector.num_exits)
    self.nan_guard = NanGuard(self.losses)
    self.last_result: EvaluationResult | None = None
    self.on_evaluation_step = lambda: None
    # Is given what every exit detected in a whole evaluation, in COCO's result format.
    self.on_detections = lambda exits: None

  def build_model(self) -> Detector:
    """Builds the detector, with initial weights that the seed fixes."""
    tf_keras.utils.set_random_seed(self.task_config.training.seed)
    return build_detector(self.task_config.detector, self._num_classes)

  def initialize(self, model: Detector) -> None:
    """Reads the backbone's weights from `Training.backbone_checkpoint`, if there is one.

    Args:
      model: the detector.

    Raises:
      UserError: there is no such checkpoint, or it is not of this backbone.
    """
    config = self.task_config
    path = config.training.backbone_checkpoint
    if path is None:
      return
    where = f"Training.backbone_checkpoint = {path!r}"
    if not tf.io.gfile.exists(f"{path}.index"):
      raise UserError(
        f"{where}: there is no such checkpoint. Give the path of its .index file without that "
        "ending."
      )
    try:
      status = tf.train.Checkpoint(backbone=model.backbone).read(path)
      # A classifier in the checkpoint may be left over; all of ours must be found.
      status.expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
      # Nothing follows this error, but TensorFlow would list every weight that was not read.
      tf.get_logger().setLevel("ERROR")
      raise UserError(
        f"{where} does not fit Detector.backbone = {config.detector.backbone!r}: "
        f"{str(error).splitlines()[0]}"
      ) from error

  def build_inputs(
    self, training: bool, input_context: tf.distribute.InputContext | None = None
  ) -> tf.data.Dataset:
    """Returns the batches of training, or of one evaluation.

    Args:
      training: which of the two.
      input_context: which share of the data this host reads.
    """
    experiment = self.task_config
    image_size, config = experiment.detector.image_size, experiment.training
    if training:
      return input_pipeline.train_dataset(
        experiment.input,
        image_size,
        config.batch_size,
        seed=config.seed,
        first_step=self._first_step,
        input_context=input_context,
      )
    return input_pipeline.evaluation_dataset(
      experiment.input, image_size, config.evaluation_batch_size, input_context
    )

  def build_metrics(self, training: bool = True) -> list[tf_keras.metrics.Metric]:
    """Returns the means of the loss terms; evaluation has its metrics in `reduce_aggregated_logs`.

    Args:
      training: whether the metrics are for train steps.
    """
    return [tf_keras.metrics.Mean(name) for name in self.losses] if training else []

  def train_step(
    self,
    inputs: Mapping[str, tf.Tensor],
    model: Detector,
    optimizer: tf_keras.optimizers.Optimizer,
    metrics: list[tf_keras.metrics.Metric],
  ) -> dict[str, tf.Tensor]:
    """Updates the weights from one replica's share of a batch.

    Args:
      inputs: a batch of `data.input_pipeline.train_dataset`.
      model: the detector.
      optimizer: sums gradients over replicas.
      metrics: from `build_metrics`.

    Returns:
      The global batch's total loss, float32, under the task's `loss`.
    """
    config = self.task_config.training
    anchor_targets = targets.assign_targets(
      self._anchors, inputs["boxes"], inputs["classes"], config.match_iou
    )
    drop = self._drop(optimizer.iterations)
    losses = train_step(
      lambda: model(inputs["image"], training=True, drop=drop),
      anchor_targets,
      model.trainable_variables,
      optimizer,
      config,
      self.nan_guard,
    )
    # They are shares of the global batch's losses, and metrics average over replicas.
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    for metric in metrics:
      metric.update_state(losses[metric.name] * num_replicas)
    return {self.loss: losses["total_loss"] * num_replicas}

  def _drop(self, step: tf.Tensor) -> Drop | None:
    """Returns what this replica drops at a train step, if DropBlock is on."""
    config = self.task_config.training
    if config.drop_block_rate == 0:
      return None
    progress = tf.minimum(tf.cast(step, tf.float32) / self._num_steps, 1.0)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    drop = Drop(config.drop_block_rate * progress, tf.constant([config.seed, 0]))
    return drop.part(tf.cast(step, tf.int32)).part(replica)

  def validation_step(
    self, inputs: Mapping[str, tf.Tensor], model: Detector, metrics=None
  ) -> dict[str, tf.Tensor]:
    """Detects objects in one replica's share of an evaluation batch.

    Args:
      inputs: a batch of `data.input_pipeline.evaluation_dataset`.
      model: the detector.
      metrics: unused.

    Returns:
      `exits`, for every exit the detections with boxes in pixels of the original images, and
      `image_id` int64 [batch]; in a cluster of workers, those of all replicas.
    """
    del metrics
    sizes = inputs["scaled_size"], inputs["original_size"]
    exits = [
      detect_in_images(outputs, self._anchors, *sizes, self.task_config.detector)
      for outputs in model(inputs["image"], training=False)
    ]
    found = {"exits": exits, "image_id": inputs["image_id"]}
    if self._gathers:
      # Gathering needs tensors with a device of their own, which inputs, for one, do not have.
      placed = tf.nest.map_structure(tf.identity, found)
      return tf.distribute.get_replica_context().all_gather(placed, axis=0)
    return found

  def aggregate_logs(self, state, step_outputs):
    """Collects the detections of one evaluation step as COCO results, on the host."""
    state = state or {"exits": [[] for _ in step_outputs["exits"]], "image_ids": []}
    num_replicas = 1 if self._gathers else len(step_outputs["image_id"])
    for replica in range(num_replicas):
      image_ids = np.asarray(step_outputs["image_id"][replica]).tolist()
      for results, detections in zip(state["exits"], step_outputs["exits"], strict=True):
        rows = {name: np.asarray(values[replica]) for name, values in detections.items()}
        results += coco_results(rows, image_ids, self._dataset.label_map)
      state["image_ids"] += [image_id for image_id in image_ids if image_id >= 0]
    self.on_evaluation_step()
    return state

  def reduce_aggregated_logs(self, aggregated_logs, global_step=None) -> dict[str, float]:
    """Evaluates all collected detections; undefined figures are left out of the curves."""
    del global_step
    self.on_detections(aggregated_logs["exits"])
    exits = [
      evaluate_coco_results(
        self._dataset.annotation_file(self.task_config.input.evaluation_part),
        results,
        self._dataset.label_map,
        aggregated_logs["image_ids"],
      )
      for results in aggregated_logs["exits"]
    ]
    self.last_result = dataclasses.replace(
      of_all_exits(exits), compute_dtype=tf_keras.mixed_precision.global_policy().name
    )
    figures = {
      **self.last_result.metrics,
      **{f"class_AP/{name}": ap for name, ap in self.last_result.class_ap.items()},
    }
    for number, result in enumerate(exits[:-1], start=1):
      figures |= {f"exit_{number}/{name}": value for name, value in result.metrics.items()}
    return {name: value for name, value in figures.items() if value is not None}

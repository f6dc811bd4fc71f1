"""Evaluates a detector on its evaluation part, on all devices of a strategy."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import orbit
import tensorflow as tf
import tf_keras

from official_nasfpn.data import input_pipeline
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.detections import detect_in_images
from official_nasfpn.modeling.detector import Detector
from official_nasfpn.modeling.wired_pyramid import Wiring
from official_nasfpn.training.analysis.boxes import EvaluatedBoxes, boxes_of_coco
from official_nasfpn.training.coco_evaluation import (
  EvaluationResult,
  detect_in_batches,
  evaluate_detections,
)
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.memory import memory_errors
from official_nasfpn.training.strategies import distribute_batches
from official_nasfpn.training.validation_pictures import ValidationPictures


class Evaluator(orbit.AbstractEvaluator):
  """Evaluates a detector as often as it is asked to, in one graph.

  To be made in the scope of the strategy whose devices detect.

  Attributes:
    last_result: the last evaluation; None before the first.
    last_boxes: what it evaluated, where that is kept.
  """

  def __init__(
    self,
    experiment: Experiment,
    dataset: DatasetInfo,
    model: Detector,
    pictures: ValidationPictures | None = None,
    wiring: Wiring | None = None,
    keeps_boxes: bool = False,
  ):
    """Makes the graph and the batches.

    Args:
      experiment: all settings.
      dataset: the prepared data.
      model: the detector, made in the same scope.
      pictures: are written anew in every evaluation.
      wiring: variables of the architecture that is evaluated; None evaluates the model's own.
      keeps_boxes: whether `last_boxes` are kept, of the last exit.
    """
    self.last_result: EvaluationResult | None = None
    self.last_boxes: EvaluatedBoxes | None = None
    self._keeps_boxes = keeps_boxes
    self._dataset = dataset
    self._annotation_file = dataset.annotation_file(experiment.input.evaluation_part)
    self._pictures = pictures
    self._strategy = strategy = tf.distribute.get_strategy()
    # In a cluster of equal workers each host is given the detections of its own devices only; were
    # they not gathered, the chief would report the AP of its share of the images.
    self._gathers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    self._batch_size = experiment.training.evaluation_batch_size
    self._batches = distribute_batches(
      strategy,
      lambda input_context=None: input_pipeline.evaluation_dataset(
        experiment.input,
        experiment.detector.image_size,
        experiment.training.evaluation_batch_size,
        input_context,
      ),
    )
    anchors = tf.constant(flat_anchors(experiment.detector))

    def detect(batch: Mapping[str, tf.Tensor]) -> tuple[list[dict[str, tf.Tensor]], tf.Tensor]:
      sizes = batch["scaled_size"], batch["original_size"]
      exits = [
        detect_in_images(outputs, anchors, *sizes, experiment.detector)
        for outputs in model(batch["image"], training=False, wiring=wiring)
      ]
      detected = exits, batch["image_id"]
      if self._gathers:
        # Gathering needs tensors with a device of their own, which inputs, for one, do not have.
        placed = tf.nest.map_structure(tf.identity, detected)
        return tf.distribute.get_replica_context().all_gather(placed, axis=0)
      return detected

    self._detect = tf.function(lambda batch: strategy.run(detect, args=(batch,)))

  def run(self, on_batch: Callable[[], object] = lambda: None) -> EvaluationResult:
    """Evaluates the detector with the weights that it has now.

    Args:
      on_batch: is called after every batch.

    Raises:
      OutOfMemory: a batch does not fit.
    """

    def detect(batch) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
      detected = tf.nest.map_structure(self._on_host, self._detect(batch))
      on_batch()
      return detected

    with memory_errors("Training.evaluation_batch_size", self._batch_size, self._strategy):
      detections = detect_in_batches(self._batches, detect, self._dataset.label_map)
    if self._pictures:
      self._pictures.write(detections.exits)
    label_map = self._dataset.label_map
    result = evaluate_detections(detections, self._annotation_file, label_map)
    if self._keeps_boxes:
      self.last_boxes = boxes_of_coco(
        self._annotation_file, detections.exits[-1], label_map, detections.image_ids
      )
    self.last_result = dataclasses.replace(
      result, compute_dtype=tf_keras.mixed_precision.global_policy().name
    )
    return self.last_result

  def evaluate(self, num_steps: tf.Tensor) -> dict[str, float]:
    """Evaluates for Orbit's controller; returns the figures for the curves."""
    del num_steps  # Always all images.
    return self.run().scalars()

  def _on_host(self, values: tf.Tensor | tf.distribute.DistributedValues) -> np.ndarray:
    """Returns the rows of all replicas of this host."""
    replicas = self._strategy.experimental_local_results(values)
    return np.concatenate([value.numpy() for value in replicas[: 1 if self._gathers else None]])

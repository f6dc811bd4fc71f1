"""Model Garden's task protocol for a detector: its model, its batches and its train step."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras
from official.core import base_task

from official_nasfpn.data import input_pipeline
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.modeling import anchors as anchors_lib
from official_nasfpn.modeling.detections import Outputs
from official_nasfpn.modeling.detector import Detector, build_detector
from official_nasfpn.modeling.detector_parts import freeze
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.modeling.wired_pyramid import Wiring
from official_nasfpn.training import targets
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.initial_weights import initialise
from official_nasfpn.training.nan_guard import NanGuard
from official_nasfpn.training.optimizer import num_steps
from official_nasfpn.training.train_step import by_xla, loss_names, train_step


class DetectionTask(base_task.Task):
  """What Model Garden's trainer needs to train a detector. Evaluating it is the `Evaluator`'s.

  Args:
    experiment: all settings.
    dataset: the prepared data to train on.
    first_step: the train step that training goes on from; fixes which images come next.
    jit_compile: whether XLA compiles the train step.
    wiring: variables of the architecture that is trained, which may change from one training to the
      next; None trains the experiment's own.
  """

  def __init__(
    self,
    experiment: Experiment,
    dataset: DatasetInfo,
    first_step: int = 0,
    jit_compile: bool = False,
    wiring: Wiring | None = None,
  ):
    super().__init__(params=experiment, name="detection")
    self._dataset = dataset
    self._first_step = first_step
    self._label_map = dataset.label_map
    self._jit_compile = jit_compile
    self._wiring = wiring
    self._num_steps = num_steps(
      experiment.training, dataset.num_images(experiment.input.train_parts)
    )
    self._anchors = tf.constant(anchors_lib.flat_anchors(experiment.detector))
    self.losses = loss_names(experiment.detector.num_exits)
    self.nan_guard = NanGuard(self.losses)

  def build_model(self) -> Detector:
    """Builds the detector, with initial weights that the seed fixes and with its frozen parts."""
    config = self.task_config.training
    tf_keras.utils.set_random_seed(config.seed)
    wired = self._wiring is not None
    model = build_detector(self.task_config.detector, self._label_map.num_classes, wired)
    freeze(model, config.frozen, config.frozen_batch_norm)
    return model

  def initialize(self, model: Detector) -> None:
    """Reads the weights that `Training` says to start from, if it does.

    Args:
      model: the detector.

    Raises:
      UserError: there are no such weights, or they do not fit.
    """
    initialise(model, self._label_map, self.task_config)

  def build_inputs(
    self, input_context: tf.distribute.InputContext | None = None
  ) -> tf.data.Dataset:
    """Returns the training batches, without end.

    Args:
      input_context: which share of the data this host reads; None is all of it.
    """
    experiment = self.task_config
    return input_pipeline.train_dataset(
      experiment.input,
      experiment.detector.image_size,
      experiment.training.batch_size,
      seed=experiment.training.seed,
      first_step=self._first_step,
      input_context=input_context,
    )

  def build_metrics(self, training: bool = True) -> list[tf_keras.metrics.Metric]:
    """Returns the means of the losses."""
    del training
    return [tf_keras.metrics.Mean(name) for name in self.losses]

  # No Python control flow over tensors here, and AutoGraph takes two seconds to find that out.
  @tf.autograph.experimental.do_not_convert
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
    # One replica's step is compiled as a whole. Of several, what they do alone is: XLA cannot
    # compile their exchange on all devices.
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return by_xla(
      lambda: self._train_step(inputs, model, optimizer, metrics, self._jit_compile and several),
      self._jit_compile and not several,
    )

  def _train_step(
    self,
    inputs: Mapping[str, tf.Tensor],
    model: Detector,
    optimizer: tf_keras.optimizers.Optimizer,
    metrics: list[tf_keras.metrics.Metric],
    compile_parts: bool,
  ) -> dict[str, tf.Tensor]:
    config = self.task_config.training
    anchor_targets = by_xla(
      lambda: targets.assign_targets(
        self._anchors, inputs["boxes"], inputs["classes"], config.match_iou
      ),
      compile_parts,
    )
    drop = self._drop(optimizer.iterations)

    def forward(images: tf.Tensor, number: tf.Tensor | None) -> Sequence[Outputs]:
      # Each micro-batch drops its own blocks, as each image does in a batch as a whole.
      own = drop if drop is None or number is None else drop.part(number)
      return model(images, training=True, drop=own, wiring=self._wiring)

    losses = train_step(
      forward,
      inputs["image"],
      anchor_targets,
      model.trainable_variables,
      optimizer,
      config,
      self.nan_guard,
      compile_parts,
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

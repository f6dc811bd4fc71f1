"""The plan of a training: steps, learning rates, cost and memory, without training."""

import dataclasses
import shlex

import tensorflow as tf
import tf_keras

from official_nasfpn.data import input_pipeline
from official_nasfpn.data.damaged_data import damage_named
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.modeling.closed_form import total_size
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.model_size import stored_activation_bytes
from official_nasfpn.training.anchors.fit import note_on_anchors
from official_nasfpn.training.compilation import compilation
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.number_format import keras_policy_kept, number_format
from official_nasfpn.training.optimizer import learning_rate_schedule, num_steps, steps_of

_FLOAT32_BYTES = 4
# Of COCO 2017, whose class numbers go to 90.
_COCO_TRAIN2017, _COCO_VAL2017, _COCO_CLASSES = 118_287, 5_000, 80


@dataclasses.dataclass(frozen=True)
class Plan:
  """The plan of a training.

  Attributes:
    model: in the paper's notation.
    image_size: height and width of the network's input in pixels.
    num_classes: object classes.
    num_images: images to train on.
    num_evaluation_images: images to evaluate on.
    epochs: passes over the images, or over `Training.images_per_epoch` of them.
    batch_size: images per train step, over all devices.
    num_devices: devices that share a batch.
    micro_batches: parts in which each device computes its share of a batch.
    num_steps: train steps.
    learning_rates: (train step, learning rate) at the first and the last step and wherever the
      schedule bends.
    parameters: trainable numbers.
    multiply_adds: of the forward pass of one image.
    weight_bytes: of weights, gradients and what the optimizer keeps, on each device.
    activation_bytes: that the backward pass of one image needs.
    number_format: what it is computed in, and why.
    compiler: whether XLA compiles the train step, and why.
    anchors: what no anchor reaches; None if the anchors fit, or there is no data.
    assumption: a sentence, where there is no data to count.
  """

  model: str
  image_size: tuple[int, int]
  num_classes: int
  num_images: int
  num_evaluation_images: int
  epochs: float
  batch_size: int
  num_devices: int
  micro_batches: int
  num_steps: int
  learning_rates: tuple[tuple[int, float], ...]
  parameters: int
  multiply_adds: int
  weight_bytes: int
  activation_bytes: int
  number_format: str
  compiler: str
  anchors: str | None = None
  assumption: str | None = None

  def as_text(self) -> str:
    """Returns the plan as lines for a person to read."""
    height, width = self.image_size
    images_at_once = -(-self.batch_size // (self.num_devices * self.micro_batches))
    in_parts = f", {self.micro_batches} times a step" if self.micro_batches > 1 else ""
    memory = self.weight_bytes + images_at_once * self.activation_bytes
    # A backward pass costs two forward ones, a multiply-add is two operations.
    work = 3 * 2 * self.multiply_adds * self.num_steps * self.batch_size
    lines = [
      f"model            {self.model} at {height} x {width} pixels, {self.num_classes} classes",
      f"data             {self.num_images:,} images to train on, "
      f"{self.num_evaluation_images:,} to evaluate on",
      f"steps            {self.num_steps:,} of {self.batch_size} images, {self.epochs:g} epochs",
      *(f"learning rate    {rate:.3g} at step {step:,}" for step, rate in self.learning_rates),
      f"parameters       {self.parameters / 1e6:.2f} M",
      f"multiply-adds    {self.multiply_adds / 1e9:.2f} B an image; {work:.1e} operations to train",
      f"memory           {memory / 2**30:.1f} GiB a device, estimated for {self.num_devices}:",
      f"                 {self.weight_bytes / 2**30:.2f} for weights, gradients and the optimizer,",
      f"                 {self.activation_bytes / 2**30:.3f} of activations for each of "
      f"{images_at_once} images{in_parts}",
      f"number format    {self.number_format}",
      f"compiler         {self.compiler}",
      *([f"anchors          {self.anchors}"] if self.anchors else []),
    ]
    return "\n".join([*lines, *([self.assumption] if self.assumption else [])])


@dataclasses.dataclass(frozen=True)
class DataFigures:
  """The size of a dataset, and how its boxes are.

  Attributes:
    num_images: to train on.
    num_evaluation_images: to evaluate on.
    num_classes: object classes.
    anchors: a sentence, where anchors do not fit the boxes.
    assumption: a sentence, where they were not counted.
  """

  num_images: int
  num_evaluation_images: int
  num_classes: int
  anchors: str | None = None
  assumption: str | None = None


def count_data(experiment: Experiment, dataset: DatasetInfo) -> DataFigures:
  """Returns the size of the data; reads one batch, to find damaged files now."""
  with damage_named(dataset):
    _read_a_batch(experiment)
  return DataFigures(
    dataset.num_images(experiment.input.train_parts),
    dataset.num_images((experiment.input.evaluation_part,)),
    dataset.label_map.num_classes,
    anchors=note_on_anchors(experiment.anchor_setting, dataset),
  )


def assume_coco(experiment: Experiment) -> DataFigures:
  """Returns the size of COCO 2017, or what the recipe states instead; for a plan without data."""
  stated_images = experiment.training.images_per_epoch
  stated_classes = experiment.detector.num_classes
  num_images = stated_images or _COCO_TRAIN2017
  num_classes = stated_classes or _COCO_CLASSES
  data_dir = experiment.input.data_dir
  where = f"in {data_dir}" if data_dir else "given"
  of_images = "by Training.images_per_epoch" if stated_images else "as COCO train2017 has"
  of_classes = "by Detector.num_classes" if stated_classes else "as COCO's annotations have"
  return DataFigures(
    num_images,
    _COCO_VAL2017,
    num_classes,
    assumption=f"There is no data {where}: {num_images:,} images "
    f"({of_images}) and {num_classes} classes ({of_classes}) are assumed. The data is made by\n"
    "  nasfpn prepare --annotations instances_train2017.json --images train2017 "
    "--val_annotations instances_val2017.json --val_images val2017 "
    f"--output_dir {shlex.quote(data_dir) if data_dir else 'DATA'}",
  )


def make_plan(
  experiment: Experiment, data: DataFigures, strategy: tf.distribute.Strategy | None = None
) -> Plan:
  """Returns the plan; builds the detector to estimate its memory, and trains nothing.

  Args:
    experiment: all settings.
    data: its size, from `count_data` or `assume_coco`.
    strategy: its devices would share a batch; default: one device.
  """
  detector, training = experiment.detector, experiment.training
  num_images = data.num_images
  strategy = strategy or tf.distribute.get_strategy()
  warn_of_an_unused_gpu()
  compiled = compilation(experiment, num_steps(training, num_images), strategy)
  with strategy.scope():
    settled = number_format(training.compute_dtype)
  size = total_size(detector, data.num_classes)
  with keras_policy_kept():
    tf_keras.mixed_precision.set_global_policy(settled.compute_dtype)
    # Statistics over all replicas need no memory, and Model Garden's heads warn of them.
    alone = dataclasses.replace(detector, sync_batch_norm=False)
    activation_bytes = stored_activation_bytes(build_detector(alone, data.num_classes))
  return Plan(
    model=f"{detector.backbone}, {detector.num_repeats} @ {detector.num_filters}",
    image_size=detector.image_size,
    num_classes=data.num_classes,
    num_images=num_images,
    num_evaluation_images=data.num_evaluation_images,
    epochs=training.epochs,
    batch_size=training.batch_size,
    num_devices=strategy.num_replicas_in_sync,
    micro_batches=training.micro_batches,
    num_steps=num_steps(training, num_images),
    learning_rates=_learning_rates(experiment, num_images),
    parameters=size.parameters,
    multiply_adds=size.multiply_adds,
    weight_bytes=size.parameters * _bytes_per_parameter(training),
    activation_bytes=activation_bytes,
    number_format=str(settled),
    compiler=compiled.sentence,
    anchors=data.anchors,
    assumption=data.assumption,
  )


def _bytes_per_parameter(config: TrainingConfig) -> int:
  """Returns the bytes that a trained number takes, as if nothing were frozen."""
  kept_by_optimizer = 2 if config.optimizer == "adam" else int(config.momentum > 0)
  averages = int(config.ema_decay is not None)
  # With micro-batches, the gradient of one part and the sum of those before it.
  gradients = 1 if config.micro_batches == 1 else 2
  return _FLOAT32_BYTES * (1 + gradients + kept_by_optimizer + averages)


def _read_a_batch(experiment: Experiment) -> None:
  batches = input_pipeline.train_dataset(
    experiment.input, experiment.detector.image_size, batch_size=1, seed=experiment.training.seed
  )
  next(iter(batches.take(1)))


def _learning_rates(experiment: Experiment, num_images: int) -> tuple[tuple[int, float], ...]:
  config = experiment.training
  schedule = learning_rate_schedule(config, num_images)
  last = num_steps(config, num_images) - 1
  bends = [0, steps_of(config.warmup_epochs, config, num_images)]
  if config.schedule == "step":
    # The boundary itself still has the rate before it.
    bends += [steps_of(epoch, config, num_images) + 1 for epoch in config.decay_epochs]
  steps = sorted({step for step in [*bends, last] if step <= last})
  return tuple((step, float(schedule(step))) for step in steps)

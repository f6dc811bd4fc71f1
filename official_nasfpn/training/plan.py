"""What a recipe would do, without doing it: steps, learning rates, cost, memory."""

import dataclasses

import tf_keras

from official_nasfpn.data import input_pipeline
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.model_size import stored_activation_bytes, total_size
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.optimizer import learning_rate_schedule, num_steps, steps_of

# A weight, its gradient and its momentum, in float32.
_BYTES_PER_PARAMETER = 3 * 4


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
    num_steps: train steps.
    learning_rates: (train step, learning rate) at the first and the last step and wherever the
      schedule bends.
    parameters: trainable numbers.
    multiply_adds: of the forward pass of one image.
    weight_bytes: of weights, gradients and momentum, on each device.
    activation_bytes: that the backward pass of one image needs.
  """

  model: str
  image_size: tuple[int, int]
  num_classes: int
  num_images: int
  num_evaluation_images: int
  epochs: float
  batch_size: int
  num_devices: int
  num_steps: int
  learning_rates: tuple[tuple[int, float], ...]
  parameters: int
  multiply_adds: int
  weight_bytes: int
  activation_bytes: int

  def as_text(self) -> str:
    """Returns the plan as lines for a person to read."""
    height, width = self.image_size
    images_per_device = -(-self.batch_size // self.num_devices)
    memory = self.weight_bytes + images_per_device * self.activation_bytes
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
      f"                 {self.weight_bytes / 2**30:.2f} for weights, gradients and momentum,",
      f"                 {self.activation_bytes / 2**30:.3f} of activations for each of "
      f"{images_per_device} images",
    ]
    return "\n".join(lines)


def make_plan(experiment: Experiment, dataset: DatasetInfo, num_devices: int) -> Plan:
  """Builds the detector, reads a first batch, and trains nothing.

  Args:
    experiment: all settings, with the number of classes settled.
    dataset: the prepared data.
    num_devices: how many would share a batch.
  """
  detector, training = experiment.detector, experiment.training
  num_images = dataset.num_images(experiment.input.train_parts)
  _read_a_batch(experiment)
  tf_keras.mixed_precision.set_global_policy(training.compute_dtype)
  try:
    built = build_detector(detector, dataset.label_map.num_classes)
    activation_bytes = stored_activation_bytes(built)
    size = total_size(built)
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
  return Plan(
    model=f"{detector.backbone}, {detector.num_repeats} @ {detector.num_filters}",
    image_size=detector.image_size,
    num_classes=dataset.label_map.num_classes,
    num_images=num_images,
    num_evaluation_images=dataset.num_images((experiment.input.evaluation_part,)),
    epochs=training.epochs,
    batch_size=training.batch_size,
    num_devices=num_devices,
    num_steps=num_steps(training, num_images),
    learning_rates=_learning_rates(experiment, num_images),
    parameters=size.parameters,
    multiply_adds=size.multiply_adds,
    weight_bytes=size.parameters * _BYTES_PER_PARAMETER,
    activation_bytes=activation_bytes,
  )


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

"""Momentum with the paper's learning rate schedules, built by Model Garden's factory."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf
import tf_keras
from official.modeling import optimization, performance
from official.modeling.optimization.ema_optimizer import maybe_merge_call

from official_nasfpn.training.config import TrainingConfig


def num_steps(config: TrainingConfig, num_images: int) -> int:
  """Returns the number of train steps of the whole training, at least 1."""
  return steps_of(config.epochs, config, num_images)


def steps_of(epochs: float, config: TrainingConfig, num_images: int) -> int:
  """Returns how many train steps `epochs` take, at least 1.

  Args:
    epochs: passes over the training images, or over `Training.images_per_epoch` of them.
    config: says how many images make a batch.
    num_images: images in the training parts.
  """
  return max(1, math.ceil(epochs * (config.images_per_epoch or num_images) / config.batch_size))


def learning_rate_schedule(
  config: TrainingConfig, num_images: int
) -> tf_keras.optimizers.schedules.LearningRateSchedule:
  """Returns the learning rate by train step: linear warm-up, then step or cosine decay.

  Args:
    config: rates stated for `base_batch_size` are scaled to `batch_size` (Goyal et al. 2017).
    num_images: images in the training parts.
  """
  return _factory(config, num_images).build_learning_rate()


def build_optimizer(
  config: TrainingConfig,
  num_images: int,
  variables: Sequence[tf.Variable],
  factors: Mapping[str, float] | None = None,
) -> tf_keras.optimizers.Optimizer:
  """Returns the optimizer of a training; under the policy `mixed_float16` it scales the loss.

  Float16 loses gradients below 6e-8. Their loss is multiplied by 2^15 at first, by half of that
  after a step whose gradients overflow, which is left out, and by twice that after 2,000 others.

  Args:
    config: which optimizer, momentum, learning rate and clipping.
    num_images: images in the training parts.
    variables: the weights that it will update.
    factors: by name of a weight, what its learning rate is multiplied by; 1 for others.
  """
  factory = _factory(config, num_images)
  optimizer = factory.build_optimizer(factory.build_learning_rate())
  if factors:
    _scale_learning_rates(optimizer, factors)
  if config.ema_decay is not None:
    optimizer = _Averaging(optimizer, average_decay=config.ema_decay, trainable_weights_only=False)
  optimizer = performance.configure_optimizer(
    optimizer,
    use_float16=tf_keras.mixed_precision.global_policy().name == "mixed_float16",
  )
  # Created lazily, slots would make TensorFlow trace the train step a second time.
  optimizer._create_all_weights(variables)
  return optimizer


class _Averaging(optimization.ExponentialMovingAverage):
  """Model Garden's average of weights, which does not work under a `LossScaleOptimizer`.

  That gives an argument, `experimental_aggregate_gradients`, which Model Garden's does not take.
  """

  def apply_gradients(
    self,
    grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]],
    name: str | None = None,
    experimental_aggregate_gradients: bool = True,
  ) -> tf.Operation:
    result = self._optimizer.apply_gradients(grads_and_vars, name, experimental_aggregate_gradients)
    maybe_merge_call(self.update_average, tf.distribute.get_strategy())
    return result


def optimizer_state(optimizer: tf_keras.optimizers.Optimizer) -> list[tf.Variable]:
  """Returns all variables of an optimizer, also the scale of the loss."""
  scale = []
  if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
    scale = [optimizer._loss_scale.current_loss_scale, optimizer._loss_scale.counter]
    optimizer = optimizer.inner_optimizer
  # Its variables are the averages alone.
  averaged = isinstance(optimizer, optimization.ExponentialMovingAverage)
  inner = optimizer._optimizer.variables() if averaged else []
  return [*optimizer.variables(), *inner, *scale]


def _scale_learning_rates(
  optimizer: tf_keras.optimizers.legacy.Optimizer, factors: Mapping[str, float]
) -> None:
  """Makes an optimizer multiply the learning rate of some weights; Keras has no setting for it."""
  apply = optimizer._resource_apply_dense

  def apply_scaled(
    grad: tf.Tensor, var: tf.Variable, apply_state: Mapping | None = None
  ) -> tf.Operation:
    # Of several replicas each has a copy of the weight, with a name of its own.
    name = re.sub(r"(/replica_\d+)?(:0)?$", "", var.name)
    if name not in factors:
      return apply(grad, var, apply_state=apply_state)
    key = var.device, var.dtype.base_dtype
    state = dict(apply_state[key])
    for rate in ("lr_t", "lr"):
      if rate in state:
        state[rate] = state[rate] * factors[name]
    return apply(grad, var, apply_state={**apply_state, key: state})

  optimizer._resource_apply_dense = apply_scaled


def _factory(config: TrainingConfig, num_images: int) -> optimization.OptimizerFactory:
  scale = config.batch_size / config.base_batch_size
  peak = config.learning_rate * scale
  if config.schedule == "step":
    learning_rate = {
      "type": "stepwise",
      "stepwise": {
        "boundaries": [steps_of(epoch, config, num_images) for epoch in config.decay_epochs],
        "values": [peak * config.decay_factor**i for i in range(len(config.decay_epochs) + 1)],
      },
    }
    if not config.decay_epochs:
      learning_rate = {"type": "constant", "constant": {"learning_rate": peak}}
  else:
    learning_rate = {
      "type": "cosine",
      "cosine": {"initial_learning_rate": peak, "decay_steps": num_steps(config, num_images)},
    }
  settings = {"global_clipnorm": config.gradient_clip_norm}
  if config.optimizer == "sgd":
    settings["momentum"] = config.momentum
  return optimization.OptimizerFactory(
    optimization.OptimizationConfig(
      {
        "optimizer": {"type": config.optimizer, config.optimizer: settings},
        "learning_rate": learning_rate,
        "warmup": {
          "type": "linear",
          "linear": {
            "warmup_steps": steps_of(config.warmup_epochs, config, num_images),
            "warmup_learning_rate": config.warmup_learning_rate * scale,
          },
        },
      }
    )
  )

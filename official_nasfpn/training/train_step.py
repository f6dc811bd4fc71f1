"""One train step of a detector: that of a training, and that of a search's shared proxy."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tensorflow as tf
import tf_keras

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.detections import Outputs
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.losses import (
  detection_losses,
  loss_normaliser,
  weight_decay_loss,
)
from official_nasfpn.training.nan_guard import NanGuard
from official_nasfpn.training.targets import AnchorTargets

_Result = TypeVar("_Result")


def by_xla(compute: Callable[[], _Result], jit_compile: bool = True) -> _Result:
  """Returns `compute()`, compiled by XLA unless `jit_compile` is False; for use within a graph."""
  if not jit_compile:
    return compute()
  # A new function each time it is traced: every replica reads its own copies of the variables.
  return tf.function(compute, jit_compile=True, autograph=False)()


def loss_names(num_exits: int) -> tuple[str, ...]:
  """Returns the names of the losses that `train_step` computes.

  `class_loss` and `box_loss` are the last exit's; an earlier exit k has `exit_k/class_loss` and
  `exit_k/box_loss`.
  """
  early = (
    f"exit_{number}/{term}" for number in range(1, num_exits) for term in ("class_loss", "box_loss")
  )
  return ("total_loss", "class_loss", "box_loss", "weight_decay", *early)


def train_step(
  forward: Callable[[Any, tf.Tensor | None], Sequence[Outputs]],
  images: Any,
  targets: AnchorTargets,
  variables: Sequence[tf.Variable],
  optimizer: tf_keras.optimizers.Optimizer,
  config: TrainingConfig,
  nan_guard: NanGuard,
  jit_compile: bool = False,
) -> dict[str, tf.Tensor]:
  """Updates weights from one replica's share of a batch.

  Args:
    forward: runs the detector in training mode, on `images` or on those of one micro-batch. Also
      takes the number of the micro-batch, int32 [] from 0; None if there is only one.
    images: a tensor or a structure of tensors, [batch, ...].
    targets: what their anchors should predict.
    variables: the weights to update.
    optimizer: sums gradients over replicas, and clips them; scales the loss if it is a
      `LossScaleOptimizer`, and then leaves out a step whose gradients overflow.
    config: weights of the losses, and the number of `micro_batches`.
    nan_guard: made for `loss_names`; notes a step whose losses, before scaling, are not finite.
    jit_compile: whether XLA compiles forward and backward pass. Whatever replicas exchange is
      left outside.

  Returns:
    The losses by the names of `loss_names`: float32 scalars, this replica's share of those of the
    global batch.

  Raises:
    UserError: the images cannot be shared evenly by the micro-batches.
  """
  num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
  # Of the whole batch, so that its parts add up to the losses and gradients of the whole.
  normaliser = loss_normaliser(targets)
  scales = isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
  num_parts = num_replicas * config.micro_batches

  def losses_and_gradients(
    number: tf.Tensor | None, some_images: Any, some_targets: AnchorTargets
  ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    with tf.GradientTape() as tape:
      exits = detection_losses(forward(some_images, number), some_targets, config, normaliser)
      # Every part adds its share of the decay, since gradients are summed.
      decay = weight_decay_loss(variables, config.weight_decay) / num_parts
      # Deep supervision (section 3.2): every exit learns.
      supervised = [
        weight * (terms["class_loss"] + terms["box_loss"])
        for weight, terms in zip(config.exit_loss_weights or [1.0] * len(exits), exits, strict=True)
      ]
      loss = tf.add_n(supervised) + decay
      to_differentiate = optimizer.get_scaled_loss(loss) if scales else loss
    gradients = tape.gradient(to_differentiate, variables)
    losses = {"total_loss": loss, **exits[-1], "weight_decay": decay}
    for number, terms in enumerate(exits[:-1], start=1):
      losses |= {f"exit_{number}/{name}": term for name, term in terms.items()}
    return losses, optimizer.get_unscaled_gradients(gradients) if scales else gradients

  def compute() -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    if config.micro_batches == 1:
      return losses_and_gradients(None, images, targets)
    return _summed(losses_and_gradients, (images, targets), config.micro_batches)

  losses, gradients = by_xla(compute, jit_compile)
  optimizer.apply_gradients(zip(gradients, variables, strict=True))
  nan_guard.watch(losses, optimizer.iterations)
  return losses


def _summed(compute: Callable[..., _Result], batch: tuple[Any, ...], num_parts: int) -> _Result:
  """Returns the sum of `compute` over parts of a batch, one after the other.

  Args:
    compute: takes the number of a part, int32 [], and that part of the batch; returns a structure
      of tensors.
    batch: structures of tensors, [batch, ...].
    num_parts: must divide the batch.
  """

  def part(number: tf.Tensor) -> _Result:
    return compute(number, *tf.nest.map_structure(lambda parts: parts[number], parted))

  parted = tf.nest.map_structure(lambda tensor: _parted(tensor, num_parts), batch)
  first = part(tf.constant(0))
  # A loop that waits for the first part, since parts of one graph might be computed at the same
  # time, with the memory of all.
  with tf.control_dependencies(tf.nest.flatten(first)):
    second = tf.identity(1)
  _, total = tf.while_loop(
    lambda number, _: number < num_parts,
    lambda number, total: (
      number + 1,
      tf.nest.map_structure(tf.add, total, part(number)),
    ),
    (second, first),
    parallel_iterations=1,
  )
  return total


def _parted(tensor: tf.Tensor, num_parts: int) -> tf.Tensor:
  """Returns a tensor [batch, ...] as [parts, batch / parts, ...]."""
  batch = tensor.shape[0]
  if batch % num_parts:
    raise UserError(
      f"Training.micro_batches = {num_parts} does not divide the {batch} images of a device's "
      "batch. Change one of the two."
    )
  return tf.reshape(tensor, [num_parts, batch // num_parts, *tensor.shape[1:]])

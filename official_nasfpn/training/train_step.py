"""One train step of a detector: that of a training, and that of a search's shared proxy."""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from official_nasfpn.modeling.detections import Outputs
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.losses import detection_losses, weight_decay_loss
from official_nasfpn.training.nan_guard import NanGuard
from official_nasfpn.training.targets import AnchorTargets


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
  forward: Callable[[], Sequence[Outputs]],
  targets: AnchorTargets,
  variables: Sequence[tf.Variable],
  optimizer: tf_keras.optimizers.Optimizer,
  config: TrainingConfig,
  nan_guard: NanGuard,
) -> dict[str, tf.Tensor]:
  """Updates weights from one replica's share of a batch.

  Args:
    forward: runs the detector on the batch, in training mode.
    targets: what its anchors should predict.
    variables: the weights to update.
    optimizer: sums gradients over replicas, and clips them.
    config: weights of the losses.
    nan_guard: made for `loss_names`; notes a step whose losses are not finite.

  Returns:
    The losses by the names of `loss_names`: float32 scalars, this replica's share of those of the
    global batch.
  """
  num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
  with tf.GradientTape() as tape:
    exits = detection_losses(forward(), targets, config)
    # Every replica adds its share of the decay, since gradients are summed over replicas.
    decay = weight_decay_loss(variables, config.weight_decay) / num_replicas
    # Deep supervision (section 3.2): every exit learns.
    supervised = [
      weight * (terms["class_loss"] + terms["box_loss"])
      for weight, terms in zip(config.exit_loss_weights or [1.0] * len(exits), exits, strict=True)
    ]
    loss = tf.add_n(supervised) + decay
  gradients = tape.gradient(loss, variables)
  optimizer.apply_gradients(zip(gradients, variables, strict=True))

  losses = {"total_loss": loss, **exits[-1], "weight_decay": decay}
  for number, terms in enumerate(exits[:-1], start=1):
    losses |= {f"exit_{number}/{name}": term for name, term in terms.items()}
  nan_guard.watch(losses, optimizer.iterations)
  return losses

"""The loss of a RetinaNet: focal loss on classes, Huber loss on boxes, weight decay."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras
from official.vision.losses import focal_loss

from official_nasfpn.modeling.detections import flatten_outputs
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.targets import BACKGROUND, AnchorTargets


def detection_losses(
  outputs: Mapping[str, Mapping[str, tf.Tensor]],
  targets: AnchorTargets,
  config: TrainingConfig,
) -> dict[str, tf.Tensor]:
  """Computes the loss terms of one replica's share of the batch.

  Terms are normalised by the positives of the *global* batch (plus one, so that a batch without
  objects is defined), so the sum over replicas is the loss of one device with the whole batch.
  Model Garden normalises by each replica's own positives.

  Args:
    outputs: `class_logits` and `box_deltas`, each {level: [batch, height, width, anchors * n]}.
    targets: for all anchors, in the order of levels, rows, columns.
    config: weights of the terms.

  Returns:
    float32 scalars `class_loss` and `box_loss` (weighted).
  """
  class_logits, box_deltas = flatten_outputs(outputs)
  positive = tf.cast(targets.classes != BACKGROUND, tf.float32)
  num_positives = tf.reduce_sum(positive)
  if replica_context := tf.distribute.get_replica_context():
    num_positives = replica_context.all_reduce(tf.distribute.ReduceOp.SUM, num_positives)
  normaliser = num_positives + 1.0

  focal = focal_loss.FocalLoss(
    alpha=config.focal_alpha,
    gamma=config.focal_gamma,
    reduction=tf_keras.losses.Reduction.SUM,
  )
  # one_hot leaves all columns at zero for the background's -1.
  class_loss = focal(tf.one_hot(targets.classes, class_logits.shape[-1]), class_logits)
  # Model Garden's Huber averages over the four coordinates; tf_keras's does too.
  huber = tf_keras.losses.Huber(config.huber_delta, reduction=tf_keras.losses.Reduction.SUM)
  box_loss = huber(targets.boxes, box_deltas, sample_weight=positive)
  return {
    "class_loss": class_loss / normaliser,
    "box_loss": config.box_loss_weight * box_loss / normaliser,
  }


def weight_decay_loss(variables: Sequence[tf.Variable], weight_decay: float) -> tf.Tensor:
  """Returns `weight_decay` times half the squared norm of all convolution kernels.

  One sum instead of Model Garden's separate regularisation graph for each layer. Biases and batch
  norm's scales and offsets do not decay.
  """
  kernels = [variable for variable in variables if "kernel" in variable.name]
  return weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])

"""The loss of a RetinaNet: focal loss on classes, Huber loss on boxes, weight decay."""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras
from official.vision.losses import focal_loss

from official_nasfpn.modeling.detections import Outputs, flatten_outputs
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.targets import BACKGROUND, AnchorTargets


def loss_normaliser(targets: AnchorTargets) -> tf.Tensor:
  """Returns the number of positive anchors in the *global* batch plus one, float32 [].

  With one more, the loss of a batch without objects is defined. Divided by it, losses of replicas
  sum to the loss of one device with the whole batch. Model Garden divides by each replica's own
  number of positives.

  Args:
    targets: targets of this replica's anchors.
  """
  num_positives = tf.reduce_sum(tf.cast(targets.classes != BACKGROUND, tf.float32))
  if replica_context := tf.distribute.get_replica_context():
    num_positives = replica_context.all_reduce(tf.distribute.ReduceOp.SUM, num_positives)
  return num_positives + 1.0


def detection_losses(
  exits: Sequence[Outputs],
  targets: AnchorTargets,
  config: TrainingConfig,
  normaliser: tf.Tensor | None = None,
) -> list[dict[str, tf.Tensor]]:
  """Computes the loss terms of every exit for one replica's part of the batch.

  Args:
    exits: outputs of a `Detector`, one per exit.
    targets: targets of all anchors, in the order of levels, rows, columns.
    config: weights and parameters of the terms.
    normaliser: divides all terms, float32 []; None computes `loss_normaliser` here.

  Returns:
    For each exit, `class_loss` and the weighted `box_loss`, float32 [].
  """
  if normaliser is None:
    normaliser = loss_normaliser(targets)
  positive = tf.cast(targets.classes != BACKGROUND, tf.float32)

  focal = focal_loss.FocalLoss(
    alpha=config.focal_alpha,
    gamma=config.focal_gamma,
    reduction=tf_keras.losses.Reduction.SUM,
  )
  # Model Garden's Huber averages over the four coordinates; tf_keras's does too.
  huber = tf_keras.losses.Huber(config.huber_delta, reduction=tf_keras.losses.Reduction.SUM)

  def terms(outputs: Outputs) -> dict[str, tf.Tensor]:
    class_logits, box_deltas = flatten_outputs(outputs)
    # one_hot gives zeros in all columns for the background's -1.
    class_loss = focal(tf.one_hot(targets.classes, class_logits.shape[-1]), class_logits)
    box_loss = huber(targets.boxes, box_deltas, sample_weight=positive)
    return {
      "class_loss": class_loss / normaliser,
      "box_loss": config.box_loss_weight * box_loss / normaliser,
    }

  return [terms(outputs) for outputs in exits]


def weight_decay_loss(variables: Sequence[tf.Variable], weight_decay: float) -> tf.Tensor:
  """Returns `weight_decay` times half the squared norm of all convolution kernels, float32 [].

  This is one sum, where Model Garden has a regularisation graph for each layer. Biases and batch
  norm's scales and offsets do not decay.

  Args:
    variables: trainable variables of the detector.
    weight_decay: weight of the term.
  """
  kernels = [variable for variable in variables if "kernel" in variable.name]
  return weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])

"""Batches that are computed in parts: the losses and gradients of the whole."""

import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.training import train_step as train_step_lib
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.nan_guard import NanGuard
from official_nasfpn.training.optimizer import build_optimizer
from official_nasfpn.training.targets import assign_targets
from official_nasfpn.training.train_step import loss_names, train_step

IMAGES = np.random.default_rng(0).normal(size=(6, 128, 128, 3)).astype(np.float32)
# Of unequal number in every part of the batch.
BOXES = np.float32([[[10, 10, 60, 60], [40, 40, 120, 120]], *[[[20, 8, 90, 70], [0, 0, 0, 0]]] * 5])
CLASSES = np.int32([[0, 1], [1, -1], [1, -1], [-1, -1], [0, -1], [-1, -1]])
CONFIG = TrainingConfig(batch_size=6, gradient_clip_norm=1.0, warmup_learning_rate=0.08)


def step(detector_config, config, jit_compile=False):
  """Returns the losses of one train step, and the weights after it."""
  tf_keras.utils.set_random_seed(0)
  detector = build_detector(detector_config, 2)
  variables = detector.trainable_variables
  optimizer = build_optimizer(config, 600, variables)
  nan_guard = NanGuard(loss_names(1))
  anchors = tf.constant(flat_anchors(detector_config))

  @tf.function
  def take():
    return train_step(
      # Batch norms would see another batch in each part.
      lambda images, number: detector(images, training=False),
      tf.constant(IMAGES),
      assign_targets(anchors, tf.constant(BOXES), tf.constant(CLASSES), config.match_iou),
      variables,
      optimizer,
      config,
      nan_guard,
      jit_compile,
    )

  losses = {name: value.numpy() for name, value in take().items()}
  return losses, [variable.numpy() for variable in variables]


@pytest.mark.parametrize(("parts", "jit_compile"), [(2, False), (3, False), (6, False), (3, True)])
def test_parts_of_a_batch_add_up_to_the_whole(tiny_detector, parts, jit_compile):
  whole, weights = step(tiny_detector, CONFIG)
  assert whole["box_loss"] > 0
  in_parts = dataclasses.replace(CONFIG, micro_batches=parts)
  losses, found = step(tiny_detector, in_parts, jit_compile)
  assert losses == pytest.approx(whole, rel=1e-5)
  for value, expected in zip(found, weights, strict=True):
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("parts", "expected"), [(1, [-1]), (3, [0, 1, 2])])
def test_parts_are_computed_one_after_the_other_and_know_their_number(monkeypatch, parts, expected):
  weight = tf.Variable(2.0, name="kernel")
  optimizer = tf_keras.optimizers.legacy.SGD(0.0)
  nan_guard = NanGuard(loss_names(1))
  numbers = []

  def note(number):
    if number == 0:
      time.sleep(0.3)
    numbers.append(int(number))
    return np.float32(0)

  def forward(images, number):
    noted = tf.numpy_function(note, [-1 if number is None else number], tf.float32)
    return weight * tf.reduce_sum(images) + tf.ensure_shape(noted, [])

  monkeypatch.setattr(train_step_lib, "loss_normaliser", lambda targets: None)
  monkeypatch.setattr(
    train_step_lib,
    "detection_losses",
    lambda outputs, *others: [{"class_loss": outputs, "box_loss": 0.0 * outputs}],
  )

  @tf.function
  def take():
    images, config = tf.range(6.0), dataclasses.replace(CONFIG, micro_batches=parts)
    return train_step(forward, images, images, [weight], optimizer, config, nan_guard)

  assert float(take()["class_loss"]) == 2 * 15
  assert numbers == expected


def test_parts_must_be_equal(tiny_detector):
  with pytest.raises(ValueError, match="micro_batches = 4 does not divide batch_size = 6"):
    dataclasses.replace(CONFIG, micro_batches=4)
  # The share of a device may be another one.
  config = dataclasses.replace(CONFIG, batch_size=8, micro_batches=4)
  with pytest.raises(UserError, match=r"Training\.micro_batches = 4 does not divide the 6 images"):
    step(tiny_detector, config)

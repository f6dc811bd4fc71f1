"""Anytime detectors: an exit after every pyramid, and none costs more than it must."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import Fpn
from official_nasfpn.modeling import Detector, DetectorConfig, build_detector
from official_nasfpn.modeling.model_size import measure_size

CONFIG = DetectorConfig(
  backbone="R-10",
  backbone_width=0.25,
  num_filters=16,
  num_repeats=3,
  image_size=(128, 128),
  head_num_convs=1,
)
NUM_CLASSES = 2


def seeded_detector(exit_heads, seed=0, **changes):
  tf_keras.utils.set_random_seed(seed)
  return build_detector(dataclasses.replace(CONFIG, exit_heads=exit_heads, **changes), NUM_CLASSES)


@pytest.fixture(scope="module", params=["shared", "separate"])
def exit_heads(request):
  return request.param


@pytest.fixture(scope="module")
def anytime(exit_heads):
  return seeded_detector(exit_heads)


@pytest.fixture(scope="module")
def images():
  return tf.constant(np.random.default_rng(0).normal(size=(2, 128, 128, 3)), tf.float32)


def flat(outputs):
  return np.concatenate([np.ravel(map) for map in tf.nest.flatten(outputs)])


def test_every_repeat_has_an_exit(anytime, images):
  assert anytime.exits == (1, 2, 3)
  outputs = [flat(exit_) for exit_ in anytime(images)]
  for one, other in itertools.combinations(outputs, 2):
    assert one.shape == other.shape
    assert not np.allclose(one, other)


def test_an_ordinary_detector_has_the_last_exit_alone(images):
  detector = seeded_detector("last")
  assert detector.exits == (3,)
  assert len(detector(images)) == 1


def test_an_exit_alone_gives_what_it_gives_among_all(anytime, images):
  for number, expected in zip(anytime.exits, anytime(images), strict=True):
    (alone,) = anytime(images, exits=(number,))
    np.testing.assert_array_equal(flat(alone), flat(expected))
  last, first = anytime(images, exits=(3, 1))
  np.testing.assert_array_equal(flat(last), flat(anytime(images)[2]))
  np.testing.assert_array_equal(flat(first), flat(anytime(images)[0]))


@pytest.mark.parametrize("architecture", ["nas_fpn", Fpn()])
def test_an_exit_traces_nothing_beyond_its_pyramid_and_head(exit_heads, architecture):
  detector = seeded_detector(exit_heads, architecture=architecture)
  image = tf.TensorSpec([1, 128, 128, 3])
  for number in detector.exits:
    run = tf.function(lambda images, number=number: detector(images, exits=(number,)))
    captured = {id(outer) for outer, _ in run.get_concrete_function(image).graph.captures}
    used = {id(variable) for variable in detector.variables if id(variable.handle) in captured}
    heads = (*detector.early_heads, detector.head)
    wanted = [
      *detector.backbone.variables,
      *(v for lateral in detector.pyramid.laterals.values() for v in lateral.variables),
      *(v for repeat in detector.pyramid.repeats[:number] for v in repeat.variables),
      *heads[number - 1].variables,
    ]
    assert used == {id(variable) for variable in wanted}


def test_shared_heads_add_batch_norms_only():
  ordinary, shared, separate = (
    measure_size(seeded_detector(kind))["heads"].parameters
    for kind in ("last", "shared", "separate")
  )
  # Class and box head each have one convolution of 16 channels, with a norm per level.
  norms = 2 * 5 * 2 * 16
  assert shared == ordinary + 2 * norms
  assert separate == 3 * ordinary


def test_shared_heads_have_one_set_of_kernels_and_norms_of_their_own():
  detector = seeded_detector("shared")
  heads = (*detector.early_heads, detector.head)
  kernels = [{id(v) for v in head.variables if "kernel" in v.name} for head in heads]
  assert kernels[0] == kernels[1] == kernels[2]
  assert len(kernels[0]) == 4
  norms = [{id(v) for v in head.variables if "norm" in v.name} for head in heads]
  assert all(norms)
  assert not norms[0] & norms[1]
  assert not norms[1] & norms[2]


def test_gradients_of_each_exit_reach_what_it_uses_and_no_more(anytime, images):
  for number in anytime.exits:
    with tf.GradientTape() as tape:
      (outputs,) = anytime(images, training=True, exits=(number,))
      loss = tf.add_n([tf.reduce_sum(map**2) for map in tf.nest.flatten(outputs)])
    gradients = tape.gradient(loss, anytime.trainable_variables)
    reached = {
      id(variable)
      for variable, gradient in zip(anytime.trainable_variables, gradients, strict=True)
      if gradient is not None
    }
    heads = (*anytime.early_heads, anytime.head)
    beyond = anytime.pyramid.repeats[number:]
    assert not reached & {id(v) for repeat in beyond for v in repeat.trainable_variables}
    assert {id(v) for v in anytime.backbone.trainable_variables} <= reached
    assert {id(v) for v in heads[number - 1].trainable_variables} <= reached


def test_checkpoints_hold_every_head_once(anytime, exit_heads, images, tmp_path):
  path = tf.train.Checkpoint(model=anytime).save(str(tmp_path / "ckpt"))
  names = [name for name, _ in tf.train.list_variables(path)]
  stored = [name for name in names if name.startswith("model/") and "VARIABLE_VALUE" in name]
  assert len(stored) == len(anytime.variables)
  restored = seeded_detector(exit_heads, seed=1)
  tf.train.Checkpoint(model=restored).restore(path).assert_consumed()
  for expected, outputs in zip(anytime(images), restored(images), strict=True):
    np.testing.assert_array_equal(flat(outputs), flat(expected))


def test_separable_heads_of_every_exit_start_well(exit_heads, images):
  detector = seeded_detector(exit_heads, separable_convolutions=True)
  # With the batch's own statistics, as at the start of training.
  for outputs in detector(images, training=True):
    scores = tf.sigmoid(outputs["class_logits"]["4"]).numpy()
    assert scores.mean() == pytest.approx(0.01, rel=0.3)


def test_too_few_early_heads_are_refused():
  detector = seeded_detector("separate")
  parts = detector.backbone, detector.pyramid, detector.head
  with pytest.raises(ValueError, match="1 early heads for the 2 pyramids before the last"):
    Detector(*parts, early_heads=detector.early_heads[:1])

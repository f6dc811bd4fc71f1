"""The whole detector: outputs, weights, precision, gradients, checkpoints."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import Fpn
from official_nasfpn.modeling import Detector, DetectorConfig, StackedFpn, build_detector

CONFIG = DetectorConfig(
  backbone="R-10", num_filters=16, num_repeats=2, image_size=(128, 256), head_num_convs=2
)
NUM_CLASSES = 5


@pytest.fixture
def images():
  rng = np.random.default_rng(0)
  return tf.constant(rng.normal(size=(2, 128, 256, 3)), tf.float32)


def seeded_detector(seed=0, config=CONFIG):
  tf_keras.utils.set_random_seed(seed)
  return build_detector(config, NUM_CLASSES)


def test_outputs(images):
  (outputs,) = seeded_detector()(images)
  for name, channels in (("class_logits", 9 * NUM_CLASSES), ("box_deltas", 9 * 4)):
    assert {level: map.shape for level, map in outputs[name].items()} == {
      str(level): (2, 128 >> level, 256 >> level, channels) for level in range(3, 8)
    }
    assert {map.dtype for map in outputs[name].values()} == {tf.float32}
  # The heads' prior: an untrained network gives every anchor 99 % background.
  np.testing.assert_allclose(tf.sigmoid(outputs["class_logits"]["4"]), 0.01, atol=0.002)


def test_heads_have_their_own_width_where_it_is_given():
  config = DetectorConfig(
    backbone="R-10", num_filters=16, num_repeats=1, image_size=(128, 128), head_num_filters=24
  )
  names = {weight.name: weight.shape for weight in seeded_detector(config=config).weights}
  kernels = [shape for name, shape in names.items() if "classnet-conv_0/kernel" in name]
  assert kernels == [(3, 3, 16, 24)]


def test_weights_follow_the_seed():
  first, same, other = (seeded_detector(seed).get_weights() for seed in (1, 1, 2))
  for weight, equal in zip(first, same, strict=True):
    np.testing.assert_array_equal(weight, equal)
  kernels = [(ours, theirs) for ours, theirs in zip(first, other, strict=True) if ours.ndim == 4]
  assert not any(np.array_equal(ours, theirs) for ours, theirs in kernels)


def test_checkpoint_restores_into_a_detector_built_later(images, tmp_path):
  detector = seeded_detector(1)
  path = tf.train.Checkpoint(model=detector).save(str(tmp_path / "ckpt"))
  keys = {name for name, _ in tf.train.list_variables(path)}
  assert "model/pyramid/repeats/1/cells/6/conv/kernel/.ATTRIBUTES/VARIABLE_VALUE" in keys
  assert "model/pyramid/laterals/3/conv/kernel/.ATTRIBUTES/VARIABLE_VALUE" in keys
  restored = seeded_detector(2)
  status = tf.train.Checkpoint(model=restored).restore(path)
  status.assert_consumed()
  np.testing.assert_array_equal(
    restored(images)[-1]["class_logits"]["3"], detector(images)[-1]["class_logits"]["3"]
  )


def test_only_training_moves_the_batch_norms_statistics(images):
  detector = seeded_detector()
  before = [weight.numpy() for weight in detector.non_trainable_weights]
  detector(images, training=False)
  for weight, value in zip(detector.non_trainable_weights, before, strict=True):
    np.testing.assert_array_equal(weight, value)
  detector(images, training=True)
  for weight, value in zip(detector.non_trainable_weights, before, strict=True):
    assert not np.array_equal(weight, value), weight.name


def test_gradients_reach_every_weight(images):
  detector = seeded_detector()
  with tf.GradientTape() as tape:
    (outputs,) = detector(images, training=True)
    loss = tf.add_n([tf.reduce_sum(map**2) for maps in outputs.values() for map in maps.values()])
  gradients = tape.gradient(loss, detector.trainable_weights)
  for weight, gradient in zip(detector.trainable_weights, gradients, strict=True):
    assert gradient is not None, weight.name
    # The batch norm after a convolution removes its bias.
    if "conv" not in weight.name or not weight.name.endswith("bias:0"):
      assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.name


def test_mixed_bfloat16(images):
  exact = seeded_detector(1)
  (expected,) = exact(images, training=True)
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  try:
    mixed = seeded_detector(1)
    (outputs,) = mixed(images, training=True)
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
  assert {weight.dtype for weight in mixed.weights} == {tf.float32}
  for name, maps in outputs.items():
    for level, map in maps.items():
      assert map.dtype == tf.float32
      np.testing.assert_allclose(map, expected[name][level], atol=0.02)


def test_sync_batch_norm_equals_the_ordinary_one_on_one_device(images):
  config = DetectorConfig(
    backbone="R-10",
    num_filters=16,
    num_repeats=2,
    image_size=(128, 256),
    head_num_convs=2,
    sync_batch_norm=True,
  )
  detector, synchronised = seeded_detector(), seeded_detector(config=config)
  expected = detector(images, training=True)[-1]["class_logits"]
  for level, logits in synchronised(images, training=True)[-1]["class_logits"].items():
    np.testing.assert_allclose(logits, expected[level], atol=1e-4)


def test_any_batch_size_in_one_graph(images):
  detector = seeded_detector()
  run = tf.function(detector, input_signature=[tf.TensorSpec([None, 128, 256, 3])])
  both = run(images)[-1]["class_logits"]["5"]
  np.testing.assert_allclose(run(images[:1])[-1]["class_logits"]["5"], both[:1], atol=1e-5)


def test_a_separable_head_starts_as_a_plain_one_does(images):
  config = dataclasses.replace(CONFIG, separable_convolutions=True)
  detector = seeded_detector(config=config)
  kernels = {v.name: v.numpy() for v in detector.head.trainable_variables if "kernel" in v.name}
  # Two towers of two convolutions, and two predictions; each has two kernels.
  assert len(kernels) == 12
  for name, kernel in kernels.items():
    assert kernel.std() == pytest.approx(1.0 if "depthwise" in name else 0.01, rel=0.3), name
  first, second = (kernels[name] for name in kernels if "-conv_0/depthwise" in name)
  assert not np.array_equal(first, second)
  scores = tf.sigmoid(detector(images)[-1]["class_logits"]["4"]).numpy()
  assert scores.mean() == pytest.approx(0.01, rel=0.2)
  assert scores.max() < 0.1


def test_a_head_of_other_levels_is_refused():
  detector = seeded_detector()
  pyramid = StackedFpn(Fpn(3, 6), num_filters=16)
  with pytest.raises(ValueError, match="pyramid gives P3 to P6, the head wants P3 to P7"):
    Detector(detector.backbone, pyramid, detector.head)

"""The contract of every backbone."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.modeling import amoebanet, backbone_size
from official_nasfpn.modeling.backbones import BACKBONES, LEVELS, build_backbone
from official_nasfpn.modeling.layer_sizes import Size
from official_nasfpn.modeling.model_size import multiply_adds_by_variable
from official_nasfpn.modeling.norm import NormSettings

CHANNELS = {
  "R-10": (128, 256, 512),
  "R-18": (128, 256, 512),
  "R-34": (128, 256, 512),
  "R-50": (512, 1024, 2048),
  "R-101": (512, 1024, 2048),
  "R-18-torch": (128, 256, 512),
  "R-34-torch": (128, 256, 512),
  "R-50-torch": (512, 1024, 2048),
  "R-101-torch": (512, 1024, 2048),
  "R-50-keras": (512, 1024, 2048),
  "R-101-keras": (512, 1024, 2048),
  "MobileNetV2": (32, 96, 320),
  "MobileNetV2-keras": (32, 96, 320),
  "AmoebaNet-D": (1024, 2048, 4096),
}
# Trunks as published, in millions. ResNets, MobileNetV2: torchvision's models less the classifier
# (21.28, 23.51, 42.50) and, for MobileNetV2, less the 1280 channels before it; the Model Garden
# projects the first shortcut of basic blocks too, 4,224 weights more. AmoebaNet-D: what the NAS-FPN
# paper's figures leave for it. The convolutions of tf_keras's ResNets have biases.
PARAMETERS = {
  "R-10": 4.91,
  "R-18": 11.18,
  "R-34": 21.29,
  "R-50": 23.51,
  "R-101": 42.50,
  "R-18-torch": 11.18,
  "R-34-torch": 21.28,
  "R-50-torch": 23.51,
  "R-101-torch": 42.50,
  "R-50-keras": 23.53,
  "R-101-keras": 42.55,
  "MobileNetV2": 1.81,
  "MobileNetV2-keras": 1.81,
  "AmoebaNet-D": 98.86,
}
# Narrow versions have the same layers at a fraction of the cost.
NARROW = 0.125


def build_narrow(name):
  return build_backbone(name, (64, 64), width=NARROW, norm=NormSettings(0.9, 1e-2))


@pytest.fixture(scope="module", params=BACKBONES)
def narrow(request):
  """Returns the name of a backbone, and a narrow version of it."""
  return request.param, build_narrow(request.param)


@pytest.fixture(scope="module")
def published(narrow):
  """Returns the full-width version of `narrow`."""
  return build_backbone(narrow[0], (64, 96))


@pytest.fixture(scope="module")
def short(narrow):
  """Returns `narrow` and its builder, with fewer repetitions if it repeats hundreds of layers."""
  name, backbone = narrow
  if name != "AmoebaNet-D":
    return name, backbone, build_narrow

  def build(name):
    with _one_normal_cell_per_stage():
      return build_narrow(name)

  return name, build(name), build


@contextlib.contextmanager
def _one_normal_cell_per_stage():
  with pytest.MonkeyPatch.context() as patch:
    for module in (amoebanet, backbone_size):
      patch.setattr(module, "NORMAL_CELLS_PER_STAGE", 1)
    yield


@pytest.fixture
def images():
  return tf.constant(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), tf.float32)


def test_levels_channels_and_parameters(narrow, published):
  name, _ = narrow
  assert {level: published.output[level].shape[1:] for level in LEVELS} == {
    level: (64 >> int(level), 96 >> int(level), channels)
    for level, channels in zip(("3", "4", "5"), CHANNELS[name], strict=True)
  }
  parameters = sum(weight.shape.num_elements() for weight in published.trainable_weights)
  assert parameters / 1e6 == pytest.approx(PARAMETERS[name], abs=0.005)
  assert parameters == backbone_size.backbone_size(name, (64, 96))[0].parameters


def _traced_size(backbone):
  image = tf.TensorSpec([1, *backbone.input_shape[1:]])
  graph = tf.function(lambda images: backbone(images)).get_concrete_function(image).graph
  return Size(
    sum(weight.shape.num_elements() for weight in backbone.trainable_weights),
    sum(multiply_adds_by_variable(graph).values()),
  )


def _agrees_with_the_closed_form(name, backbone, width):
  size, maps = backbone_size.backbone_size(name, backbone.input_shape[1:3], width)
  assert size == _traced_size(backbone)
  shapes = {level: (map.height, map.width, map.channels) for level, map in maps.items()}
  assert shapes == {level: tuple(map.shape[1:]) for level, map in backbone.output.items()}


def test_size_in_closed_form(narrow):
  _agrees_with_the_closed_form(*narrow, NARROW)


@pytest.mark.parametrize(
  "name", ["R-10", "R-18-torch", "R-50-torch", "R-50-keras", "MobileNetV2", "AmoebaNet-D"]
)
def test_size_in_closed_form_where_sides_are_rounded_up(name):
  with _one_normal_cell_per_stage():
    _agrees_with_the_closed_form(name, build_backbone(name, (45, 83), width=0.3), 0.3)


def test_width_scales_every_layer(narrow, published):
  name, backbone = narrow
  for narrowed, full in zip(_kernel_shapes(backbone), _kernel_shapes(published), strict=True):
    inputs, outputs = narrowed[-2] / full[-2], narrowed[-1] / full[-1]
    if name.startswith("MobileNetV2"):  # Its channels are rounded to multiples of 8.
      assert inputs <= 1
      assert outputs <= 1
    else:
      assert outputs == NARROW
      assert inputs == NARROW or narrowed[-2] == full[-2] == 3  # The image.


def _kernel_shapes(backbone):
  return [weight.shape for weight in backbone.trainable_weights if weight.shape.rank == 4]


def test_gradients_reach_every_weight(short, images):
  _, backbone, _ = short
  with tf.GradientTape() as tape:
    maps = backbone(images, training=True)
    # The squares of normalised maps sum to a constant, so take another power.
    loss = tf.add_n([tf.reduce_sum(tf.abs(map) ** 3) for map in maps.values()])
  gradients = tape.gradient(loss, backbone.trainable_weights)
  for weight, gradient in zip(backbone.trainable_weights, gradients, strict=True):
    assert gradient is not None, weight.name
    assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.name


def test_saved_weights_are_restored(short, images, tmp_path):
  name, saved, build = short
  saved(images, training=True)  # Updates the moving averages of the batch norms.
  tf.train.Checkpoint(model=saved).write(str(tmp_path / "weights"))
  restored = build(name)
  tf.train.Checkpoint(model=restored).read(str(tmp_path / "weights")).assert_consumed()
  maps, expected = restored(images, training=False), saved(images, training=False)
  for level in expected:
    np.testing.assert_array_equal(maps[level], expected[level])


def test_mixed_precision(short, images):
  name, single, build = short
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  try:
    backbone = build(name)
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
  backbone.set_weights(single.get_weights())
  assert {weight.dtype for weight in backbone.weights} == {tf.float32}
  maps, expected = backbone(images), single(images)
  for level, map in maps.items():
    assert map.dtype == tf.bfloat16
    difference = tf.norm(tf.cast(map, tf.float32) - expected[level]) / tf.norm(expected[level])
    assert float(difference) < 0.05


def test_width_of_mobilenet_is_rounded_to_multiples_of_8():
  narrow = build_backbone("MobileNetV2", (64, 64), width=0.7)
  assert [narrow.output[level].shape[-1] for level in LEVELS] == [24, 64, 224]


def test_batch_norm_settings_arrive(narrow):
  norms = [layer for layer in narrow[1].submodules if hasattr(layer, "moving_mean")]
  assert len(norms) >= 10
  epsilon = {"torch": 1e-5, "keras": 1e-3 if "Mobile" in narrow[0] else 1.001e-5}
  # Weights that were trained with an epsilon want the same.
  expected = epsilon.get(narrow[0].rpartition("-")[2], 1e-2)
  assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, expected)}


def test_unknown_backbone():
  with pytest.raises(ValueError, match=r"Unknown backbone 'R-11'; there are R-10, R-18"):
    build_backbone("R-11", (64, 64))

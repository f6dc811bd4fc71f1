"""Files of Keras 3, of keras.applications and KerasHub: their networks' maps, on random weights."""

import h5py
import numpy as np
import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.installation import is_installed
from official_nasfpn.modeling.backbones import LEVELS, build_backbone
from official_nasfpn.modeling.published_weights import (
  library_of,
  suited_backbone,
  take_published_weights,
)
from tests.modeling.published_maps import KERAS, SIZES, assert_same, draw_weights, random_images

IN_KERAS_3 = {"R-50-keras": "ResNet50", "MobileNetV2-keras": "MobileNetV2"}
# What Keras 3 itself does with TensorFlow's variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NEEDS_KERAS_HUB = pytest.mark.skipif(
  not is_installed("keras_hub"), reason="KerasHub is not installed"
)


def _without_names(path):
  """Makes of a file one of an earlier version of Keras 3, which numbered layers and named none."""
  with h5py.File(path, "r+") as file:
    file.visititems(lambda _, item: item.attrs.pop("name", None) and None)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_KERAS_3)
def test_keras_3_applications(name, tmp_path):
  import keras

  _, outputs, preprocess = KERAS[name]
  network = getattr(keras.applications, IN_KERAS_3[name])(include_top=False, weights=None)
  draw_weights(network)
  path = str(tmp_path / "backbone.weights.h5")
  network.save_weights(path)
  reference = keras.Model(network.input, [network.get_layer(each).output for each in outputs])
  assert library_of(path) == "keras"
  assert suited_backbone(name.removesuffix("-keras"), path) == name
  for has_names in (True, False):
    if not has_names:
      _without_names(path)
    size = SIZES[has_names]
    pixels, images = random_images(size)
    backbone = build_backbone(name, size)
    take_published_weights(backbone, name, path)
    expected = dict(zip(LEVELS, map(np.asarray, reference(preprocess(pixels))), strict=True))
    assert_same(backbone(images), expected)


@NEEDS_KERAS_HUB
@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_keras_hub(depth, tmp_path):
  import keras
  import keras_hub

  network = keras_hub.models.ResNetBackbone(
    input_conv_filters=[64],
    input_conv_kernel_sizes=[7],
    stackwise_num_filters=[64, 128, 256, 512],
    stackwise_num_blocks={18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[depth],
    stackwise_num_strides=[1, 2, 2, 2],
    block_type="basic_block" if depth == 18 else "bottleneck_block",
  )
  draw_weights(network)
  path = str(tmp_path / "model.weights.h5")
  network.save_weights(path)
  reference = keras.Model(network.input, network.pyramid_outputs)
  name = f"R-{depth}-torch"
  assert suited_backbone(f"R-{depth}", path) == name
  for has_names in (True, False):
    if not has_names:
      _without_names(path)
    size = SIZES[has_names]
    _, images = random_images(size)
    backbone = build_backbone(name, size)
    take_published_weights(backbone, name, path)
    maps = reference(images.astype(np.float32))
    assert_same(backbone(images), {level: np.asarray(maps[f"P{level}"]) for level in LEVELS})


@NEEDS_KERAS_HUB
@pytest.mark.parametrize(
  "differing", [{"use_pre_activation": True}, {"block_type": "basic_block_vd"}]
)
def test_other_networks_of_keras_hub_are_refused(differing, tmp_path):
  import keras_hub

  settings = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [2, 2, 2, 2],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
  }
  if "block_type" in differing:
    # As in KerasHub's presets of ResNet-vd.
    settings |= {"input_conv_filters": [32, 32, 64], "input_conv_kernel_sizes": [3, 3, 3]}
  keras_hub.models.ResNetBackbone(**{**settings, **differing}).save_weights(
    tmp_path / "model.weights.h5"
  )
  backbone = build_backbone("R-18-torch", (64, 64))
  with pytest.raises(UserError, match="is of another network: 'R-18-torch' has no "):
    take_published_weights(backbone, "R-18-torch", str(tmp_path / "model.weights.h5"))


def test_numbered_layers_of_another_network_are_counted(tmp_path):
  import keras

  network = keras.Sequential([keras.Input([8, 8, 3]), keras.layers.Conv2D(4, 3)])
  path = tmp_path / "other.weights.h5"
  network.save_weights(path)
  _without_names(path)
  backbone = build_backbone("MobileNetV2-keras", (64, 64), width=0.25)
  with pytest.raises(UserError, match="with 1 layers of the kind 'convolution' instead of 35"):
    take_published_weights(backbone, "MobileNetV2-keras", str(path))


@pytest.fixture(scope="module")
def backbone():
  return build_backbone("R-50-keras", (64, 64), width=0.0625)


@pytest.mark.parametrize(
  "content",
  [
    {"layers/conv2d/vars/kernel": np.zeros(3)},
    {"layers": np.zeros(3)},
    {"layers/conv2d/vars": np.zeros(3)},
    {"conv1_conv/kernel": np.zeros(3)},
  ],
)
def test_other_hdf5_files_are_refused(content, backbone, tmp_path):
  path = tmp_path / "other.h5"
  with h5py.File(path, "w") as file:
    for name, value in content.items():
      file[name] = value
  with pytest.raises(UserError, match=r"other\.h5'"):
    take_published_weights(backbone, "R-50-keras", str(path))

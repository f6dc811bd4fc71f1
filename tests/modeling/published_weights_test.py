"""Files of weights: told apart, taken whole, and refused with the reason where they do not fit."""

import zipfile

import numpy as np
import pytest
import tf_keras
from safetensors.numpy import save_file

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.modeling.published_weights import (
  library_of,
  suited_backbone,
  take_published_weights,
)
from tests.modeling.published_weights_files import torch_weights, write_keras_hub

WIDTH = 0.125


def _backbone(name):
  return build_backbone(name, (64, 64), width=WIDTH)


@pytest.fixture(scope="module")
def r18():
  return _backbone("R-18-torch")


@pytest.fixture(scope="module")
def weights(r18):
  """Returns weights of a narrow R-18 by PyTorch's names, with a classifier."""
  values = torch_weights(r18)
  rng = np.random.default_rng(0)
  drawn = {name: rng.uniform(0.5, 1, value.shape) for name, value in values.items()}
  drawn["fc.weight"], drawn["fc.bias"] = np.zeros([10, 64]), np.zeros([10])
  return {name: value.astype(np.float32) for name, value in drawn.items()}


def _write(path, weights, **changes):
  kept = {name: value for name, value in {**weights, **changes}.items() if value is not None}
  save_file(kept, path)
  return str(path)


def test_all_weights_are_taken_and_the_classifier_is_left(r18, weights, tmp_path):
  path = _write(tmp_path / "weights.safetensors", weights)
  assert library_of(path) == "torch"
  take_published_weights(r18, "R-18-torch", path)
  taken = torch_weights(r18)
  assert taken.keys() == weights.keys() - {"fc.weight", "fc.bias"}
  for name, value in taken.items():
    np.testing.assert_array_equal(value, weights[name], err_msg=name)


def test_half_precision_becomes_single(r18, weights, tmp_path):
  halves = {name: value.astype(np.float16) for name, value in weights.items()}
  take_published_weights(r18, "R-18-torch", _write(tmp_path / "weights.safetensors", halves))
  assert r18.get_layer("conv1").get_weights()[0].dtype == np.float32


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"conv1.weight": None}, "has no weights for conv1, which 'R-18-torch' has"),
    (
      {"conv1.weight": np.zeros([64, 3, 7, 7], np.float32)},
      "the weights of conv1 are 7x7x3x64, and 'R-18-torch' wants 7x7x3x8",
    ),
    (
      {"layer1.2.conv1.weight": np.zeros([8, 8, 3, 3], np.float32)},
      r"of another network: 'R-18-torch' has no layer1\.2\.conv1",
    ),
  ],
  ids=["a layer is missing", "another width", "deeper"],
)
def test_weights_of_another_network_are_refused(changes, message, r18, weights, tmp_path):
  path = _write(tmp_path / "weights.safetensors", weights, **changes)
  with pytest.raises(UserError, match=message):
    take_published_weights(r18, "R-18-torch", path)


def test_layers_that_no_backbone_has_are_refused(r18, weights, tmp_path):
  """An ECA-ResNet has all layers of a ResNet, and attention between them."""
  attention = {"layer1.0.eca.conv.weight": np.zeros([1, 1, 3], np.float32)}
  path = _write(tmp_path / "weights.safetensors", weights, **attention)
  with pytest.raises(UserError, match=r"'R-18-torch' has no layer1\.0\.eca\.conv"):
    take_published_weights(r18, "R-18-torch", path)


def test_nothing_is_taken_of_what_does_not_fit(r18, weights, tmp_path):
  before = torch_weights(r18)
  changed = {name: value + 1 for name, value in weights.items()}
  changed["layer4.1.bn2.running_var"] = np.zeros([3], np.float32)
  with pytest.raises(UserError, match=r"the weights of layer4\.1\.bn2 are 64 and 64 and 64 and 3"):
    take_published_weights(r18, "R-18-torch", _write(tmp_path / "weights.safetensors", changed))
  for name, value in torch_weights(r18).items():
    np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("cut", [1, 2000])
def test_a_file_that_is_cut_short_is_named_at_once(cut, weights, tmp_path):
  path = tmp_path / "weights.safetensors"
  _write(path, weights)
  path.write_bytes(path.read_bytes()[:-cut])
  with pytest.raises(UserError, match=r"weights\.safetensors' cannot be read"):
    library_of(str(path))
  file = tmp_path / "weights.h5"
  tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,))]).save_weights(file)
  file.write_bytes(file.read_bytes()[:-cut])
  with pytest.raises(UserError, match=r"weights\.h5' cannot be read"):
    library_of(str(file))


@pytest.mark.slow
def test_keras_files_of_another_network_are_refused(tmp_path):
  backbone = build_backbone("R-50-keras", (64, 64))
  deeper = tf_keras.applications.ResNet101(include_top=False, weights=None)
  dense = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,), name="dense")])
  mobile = tf_keras.applications.MobileNetV2(include_top=False, weights=None)
  # tf_keras names the layers in an .h5, and numbers those of every kind in a .weights.h5.
  for network, named, num_convolutions in (
    (deeper, "'R-50-keras' has no conv4_block11_1_bn, and lacks 102 layers of it", 104),
    (dense, "has no weights for conv1", 0),
    (mobile, "'R-50-keras' has no Conv1", 35),
  ):
    counted = f"with {num_convolutions} layers of the kind 'convolution' instead of 53"
    for name, message in (("other.h5", named), ("other.weights.h5", counted)):
      network.save_weights(tmp_path / name)
      with pytest.raises(UserError, match=message):
        take_published_weights(backbone, "R-50-keras", str(tmp_path / name))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, "there is no such file"),
    (b"PK\x03\x04 a zip", "cannot be read: File is not a zip file"),
    (b"", "is neither a file of PyTorch .* nor one of Keras"),
    (b"{}", "is neither a file of PyTorch .* nor one of Keras"),
  ],
)
def test_other_files_are_refused(content, message, tmp_path):
  path = tmp_path / "weights"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=message):
    library_of(str(path))


@pytest.mark.parametrize(
  ("inside", "message"),
  [
    ("model.weights.h5", r"holds a whole model of Keras\. Write its weights alone"),
    ("readme.txt", r"is an archive, but not one of torch\.save"),
  ],
)
def test_other_archives_are_refused(inside, message, tmp_path):
  path = tmp_path / "weights"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(inside, "text")
  with pytest.raises(UserError, match=message):
    library_of(str(path))


def test_a_resnet_of_keras_hub_has_the_arithmetic_of_pytorch(r18, weights, tmp_path):
  backbone_alone = {name: value for name, value in weights.items() if not name.startswith("fc")}
  path = write_keras_hub(tmp_path / "model.weights.h5", backbone_alone)
  assert suited_backbone("R-18", path) == "R-18-torch"
  take_published_weights(r18, "R-18-torch", path)
  for name, value in torch_weights(r18).items():
    np.testing.assert_array_equal(value, weights[name], err_msg=name)


def test_the_backbone_gets_the_arithmetic_of_the_weights(weights, tmp_path):
  torch = _write(tmp_path / "weights.safetensors", weights)
  keras = tmp_path / "weights.h5"
  tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,))]).save_weights(keras)
  assert suited_backbone("R-18", torch) == "R-18-torch"
  assert suited_backbone("MobileNetV2", str(keras)) == "MobileNetV2-keras"
  # Who evaluates a run need not have the file.
  assert suited_backbone("R-50-torch", "gone") == "R-50-torch"
  with pytest.raises(
    UserError, match=r"fit R-50-keras, R-101-keras, MobileNetV2-keras, not .*R-18"
  ):
    suited_backbone("R-18", str(keras))
  with pytest.raises(UserError, match="computes something else with its weights"):
    take_published_weights(_backbone("R-50-keras"), "R-50-keras", torch)

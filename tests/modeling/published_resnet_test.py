"""Backbones for weights of other libraries compute what those libraries do, on random weights.

tf_keras.applications are the reference for their own; PyTorch's ResNet is written down here once
more, from its weights by name and TensorFlow's plain functions.
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.ops import preprocess_ops

from official_nasfpn.modeling.backbones import LEVELS, build_backbone
from official_nasfpn.modeling.published_weights import take_published_weights
from tests.modeling.published_weights_files import torch_weights

SIZES = ((64, 96), (96, 64))


def _images(size):
  """Returns images of 0 to 255, and the same as all of ours are normalised."""
  pixels = np.random.default_rng(size[0]).uniform(0, 255, (2, *size, 3)).astype(np.float32)
  return pixels, (pixels - preprocess_ops.MEAN_RGB) / preprocess_ops.STDDEV_RGB


def _draw_weights(model):
  """Gives a model weights that no initializer gives, so that none can be left out unseen."""
  rng = np.random.default_rng(0)
  values = []
  for weight in model.weights:
    shape = weight.shape.as_list()
    if len(shape) == 4:
      depthwise = "depthwise" in weight.name
      fan = shape[0] * shape[1] * (1 if depthwise else shape[2])
      values.append(rng.normal(0, np.sqrt(2 / fan), shape))
    elif "variance" in weight.name or "gamma" in weight.name:
      values.append(rng.uniform(0.5, 1.5, shape))
    else:
      values.append(rng.normal(0, 0.3, shape))
  model.set_weights(values)


def _assert_same(maps, expected):
  for level in LEVELS:
    scale = np.abs(expected[level]).max()
    np.testing.assert_allclose(maps[level], expected[level], rtol=1e-4, atol=1e-5 * scale)


def _torch_resnet(weights, depth, images):
  """PyTorch's ResNet: torchvision.models.resnet, in evaluation."""

  def norm(features, name):
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    scale = weights[f"{name}.weight"] / np.sqrt(variance + 1e-5)
    return (features - mean) * scale + weights[f"{name}.bias"]

  def convolve(features, name, stride):
    kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
    side = kernel.shape[0] // 2
    padding = [[0, 0], [side, side], [side, side], [0, 0]]
    return tf.nn.conv2d(features, kernel, stride, padding)

  features = tf.nn.relu(norm(convolve(images, "conv1", 2), "bn1"))
  padding = [[0, 0], [1, 1], [1, 1], [0, 0]]
  features = tf.nn.max_pool2d(features, 3, 2, padding)
  maps = {}
  blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
  for stage, num_blocks in enumerate(blocks, start=1):
    for block in range(num_blocks):
      name = f"layer{stage}.{block}"
      stride = 2 if stage > 1 and block == 0 else 1
      branch = features
      last = 3 if depth >= 50 else 2
      strided = last - 1
      for number in range(1, last + 1):
        each = stride if number == strided else 1
        branch = norm(convolve(branch, f"{name}.conv{number}", each), f"{name}.bn{number}")
        if number < last:
          branch = tf.nn.relu(branch)
      if f"{name}.downsample.0.weight" in weights:
        features = convolve(features, f"{name}.downsample.0", stride)
        features = norm(features, f"{name}.downsample.1")
      features = tf.nn.relu(branch + features)
    maps[str(stage + 1)] = features
  return maps


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_torch(depth):
  backbone = build_backbone(f"R-{depth}-torch", SIZES[0], width=0.25)
  _draw_weights(backbone)
  weights = torch_weights(backbone)
  for size in SIZES:
    _, images = _images(size)
    other = build_backbone(f"R-{depth}-torch", size, width=0.25)
    other.set_weights(backbone.get_weights())
    _assert_same(other(images), _torch_resnet(weights, depth, images))


KERAS = {
  "R-50-keras": (
    tf_keras.applications.ResNet50,
    ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    lambda pixels: pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32),
  ),
  "MobileNetV2-keras": (
    tf_keras.applications.MobileNetV2,
    ("block_5_add", "block_12_add", "block_16_project_BN"),
    lambda pixels: pixels / 127.5 - 1,
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_keras(name, tmp_path):
  build, outputs, preprocess = KERAS[name]
  reference = build(include_top=False, weights=None)
  _draw_weights(reference)
  reference.save_weights(tmp_path / "weights.h5")
  reference = tf_keras.Model(
    reference.input, [reference.get_layer(each).output for each in outputs]
  )
  for size in SIZES:
    pixels, images = _images(size)
    backbone = build_backbone(name, size)
    take_published_weights(backbone, name, str(tmp_path / "weights.h5"))
    expected = dict(zip(LEVELS, reference(preprocess(pixels)), strict=True))
    _assert_same(backbone(images), expected)

"""Backbones for weights of other libraries compute what those libraries do, on random weights.

tf_keras.applications are the reference for their own; PyTorch's ResNet is written down here once
more, from its weights by name and TensorFlow's plain functions.
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.modeling.backbones import LEVELS, build_backbone
from official_nasfpn.modeling.published_weights import take_published_weights
from tests.modeling.published_maps import KERAS, SIZES, assert_same, draw_weights, random_images
from tests.modeling.published_weights_files import torch_weights


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
  draw_weights(backbone)
  weights = torch_weights(backbone)
  for size in SIZES:
    _, images = random_images(size)
    other = build_backbone(f"R-{depth}-torch", size, width=0.25)
    other.set_weights(backbone.get_weights())
    assert_same(other(images), _torch_resnet(weights, depth, images))


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_keras(name, tmp_path):
  build, outputs, preprocess = KERAS[name]
  reference = build(include_top=False, weights=None)
  draw_weights(reference)
  reference.save_weights(tmp_path / "weights.h5")
  reference = tf_keras.Model(
    reference.input, [reference.get_layer(each).output for each in outputs]
  )
  for size in SIZES:
    pixels, images = random_images(size)
    backbone = build_backbone(name, size)
    take_published_weights(backbone, name, str(tmp_path / "weights.h5"))
    expected = dict(zip(LEVELS, reference(preprocess(pixels)), strict=True))
    assert_same(backbone(images), expected)

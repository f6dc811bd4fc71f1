"""Random images and weights, and the networks of Keras that are references for ours."""

import numpy as np
import tf_keras
from official.vision.ops import preprocess_ops

from official_nasfpn.modeling.backbones import LEVELS

SIZES = ((64, 96), (96, 64))
# By our names: tf_keras's network, its C3 to C5, and what it does with pixels.
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


def random_images(size):
  """Returns images of 0 to 255, and the same as all of ours are normalised."""
  pixels = np.random.default_rng(size[0]).uniform(0, 255, (2, *size, 3)).astype(np.float32)
  return pixels, (pixels - preprocess_ops.MEAN_RGB) / preprocess_ops.STDDEV_RGB


def draw_weights(model):
  """Gives a model weights that no initializer gives, so that none can be left out unseen."""
  rng = np.random.default_rng(0)
  values = []
  for weight in model.weights:
    shape = tuple(weight.shape)
    if len(shape) == 4:
      depthwise = shape[3] == 1
      fan = shape[0] * shape[1] * (1 if depthwise else shape[2])
      values.append(rng.normal(0, np.sqrt(2 / fan), shape))
    elif "variance" in weight.name or "gamma" in weight.name:
      values.append(rng.uniform(0.5, 1.5, shape))
    else:
      values.append(rng.normal(0, 0.3, shape))
  model.set_weights(values)


def assert_same(maps, expected):
  """Asserts that C3, C4 and C5 agree to 1e-4."""
  for level in LEVELS:
    scale = np.abs(expected[level]).max()
    np.testing.assert_allclose(maps[level], expected[level], rtol=1e-4, atol=1e-5 * scale)

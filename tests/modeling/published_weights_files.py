"""Weights of our backbones as other libraries write them."""

import numpy as np
import tf_keras

_NORM_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


def torch_weights(backbone: tf_keras.Model) -> dict[str, np.ndarray]:
  """Returns the weights of an `R-N-torch` under PyTorch's names, in its order of dimensions."""
  weights = {}
  for layer in backbone.layers:
    values = layer.get_weights()
    if isinstance(layer, tf_keras.layers.Conv2D):
      weights[f"{layer.name}.weight"] = values[0].transpose(3, 2, 0, 1)
    elif isinstance(layer, tf_keras.layers.BatchNormalization):
      named = zip(_NORM_WEIGHTS, values, strict=True)
      weights |= {f"{layer.name}.{name}": value for name, value in named}
  return {name: np.ascontiguousarray(value) for name, value in weights.items()}

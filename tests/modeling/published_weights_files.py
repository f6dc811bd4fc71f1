"""Weights of our backbones as other libraries write them."""

import h5py
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


def write_keras_hub(path, weights: dict[str, np.ndarray]) -> str:
  """Writes weights with PyTorch's names as KerasHub writes its ResNets; returns the path."""
  numbers = {"conv2d": 0, "batch_normalization": 0}
  layers = dict.fromkeys(name.rpartition(".")[0] for name in weights)
  with h5py.File(path, "w") as file:
    for layer in layers:
      kind = "conv2d" if f"{layer}.running_var" not in weights else "batch_normalization"
      number = f"_{numbers[kind]}" if numbers[kind] else ""
      numbers[kind] += 1
      variables = file.create_group(f"layers/{kind}{number}/vars")
      variables.attrs["name"] = _keras_hub_name(layer)
      if kind == "conv2d":
        variables["0"] = weights[f"{layer}.weight"].transpose(2, 3, 1, 0)
      else:
        for place, name in enumerate(_NORM_WEIGHTS):
          variables[str(place)] = weights[f"{layer}.{name}"]
  return str(path)


def _keras_hub_name(layer: str) -> str:
  if layer in ("conv1", "bn1"):
    return "conv1_conv" if layer == "conv1" else "conv1_bn"
  stage, block, kind = layer.split(".", 2)
  name = f"stack{int(stage[-1]) - 1}_block{block}"
  if kind.startswith("downsample"):
    return f"{name}_0_{'conv' if kind[-1] == '0' else 'bn'}"
  return f"{name}_{kind[-1]}_{kind[:-1]}"

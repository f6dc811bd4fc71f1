"""Weights of backbones as other libraries publish them, told apart by what is in the file.

A safetensors file with PyTorch's names (torchvision, timm), or an HDF5 file of
tf_keras.applications. Weights go into a backbone with the arithmetic of their library, such as
`R-50-torch`, and into no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import BACKBONES

if TYPE_CHECKING:
  import tf_keras

# The ends of backbones' names, and whose arithmetic these have.
LIBRARIES = {"torch": "PyTorch (torchvision, timm)", "keras": "tf_keras.applications"}
# The layers of classifiers in tf_keras.applications.
_CLASSIFIERS = {"predictions", "probs", "fc1000", "Logits"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK"
_PICKLE = b"\x80"
# In PyTorch's order of a batch norm's weights, which is Keras's, too.
_NORM_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


def library_of(path: str) -> str:
  """Returns which library's layout a file has, one of `LIBRARIES`.

  Args:
    path: the file.

  Raises:
    UserError: there is no such file, or it is none of these.
  """
  where = f"Training.backbone_weights = {path!r}"
  file = Path(path)
  if not file.is_file():
    raise UserError(f"{where}: there is no such file.")
  with file.open("rb") as stream:
    begin = stream.read(9)
  if begin.startswith(_HDF5):
    return "keras"
  # Eight bytes of length, and then JSON.
  if begin[8:9] == b"{":
    return "torch"
  if begin.startswith((_ZIP, _PICKLE)):
    raise UserError(
      f"{where} is a file of torch.save, which may run code when it is read. Take the .safetensors "
      "of the same weights, which timm and Hugging Face have, or write one: "
      "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')."
    )
  raise UserError(
    f"{where} is neither a safetensors file nor an HDF5 file (.h5) of tf_keras.applications."
  )


def suited_backbone(name: str, path: str) -> str:
  """Returns the name of the backbone with the arithmetic that a file of weights was trained with.

  Args:
    name: one of `BACKBONES`; one that names a library already is not changed.
    path: the file.

  Raises:
    UserError: there is no such file, it is none of these, or its library has no such network.
  """
  if name.endswith(tuple(f"-{library}" for library in LIBRARIES)):
    return name
  library = library_of(path)
  suited = f"{name}-{library}"
  if suited not in BACKBONES:
    known = ", ".join(each for each in BACKBONES if each.endswith(f"-{library}"))
    raise UserError(
      f"Training.backbone_weights = {path!r} is a file of {LIBRARIES[library]}, and "
      f"weights of its kind fit {known}, not Detector.backbone = {name!r}."
    )
  return suited


def take_published_weights(backbone: tf_keras.Model, name: str, path: str) -> None:
  """Overwrites all weights of a backbone with those of a file.

  Args:
    backbone: built with the arithmetic of the file's library, at the published width.
    name: of the backbone, one of `BACKBONES`.
    path: the file.

  Raises:
    UserError: the file cannot be read, or its weights are those of another network.
  """
  where = f"Training.backbone_weights = {path!r}"
  library = library_of(path)
  if not name.endswith(f"-{library}"):
    raise UserError(
      f"{where} is a file of {LIBRARIES[library]}, and Detector.backbone = {name!r} computes "
      "something else with its weights. Leave the end of that name out."
    )
  read = {"torch": _read_torch, "keras": _read_keras}[library]
  found = read(name, path, where)
  layers = _layers_by_key(backbone, name)
  # A deeper network has all layers of a shallower one, and computes something else with them.
  if others := found.keys() - layers.keys():
    raise UserError(
      f"{where} is of another network: {name!r} has no {min(others)}, and lacks {len(others)} "
      "layers of it."
    )
  for key, layer in layers.items():
    if key not in found:
      raise UserError(f"{where} has no weights for {key}, which {name!r} has.")
    values = found[key]
    shapes = [tuple(weight.shape) for weight in layer.weights]
    if [value.shape for value in values] != shapes:
      raise UserError(
        f"{where}: the weights of {key} are {_shown(value.shape for value in values)}, and "
        f"{name!r} wants {_shown(shapes)}. They are of another network, or Detector.backbone_width "
        "is not 1."
      )
    layer.set_weights(values)


def _shown(shapes: Iterable[tuple[int, ...]]) -> str:
  return " and ".join("x".join(map(str, shape)) for shape in shapes)


def _layers_by_key(model: tf_keras.Model, name: str) -> dict[str, tf_keras.layers.Layer]:
  """Returns the convolutions and batch norms of a network, by what both sides call them.

  Those of our ResNets have PyTorch's names. Those of a MobileNetV2 are counted, as Model Garden and
  Keras have the same ones in the same order.
  """
  import tf_keras

  kinds = {
    "convolution": (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D),
    "batch norm": (tf_keras.layers.BatchNormalization,),
  }
  layers = {}
  for kind, classes in kinds.items():
    # Model Garden's blocks hold convolutions that they do not use.
    found = [layer for layer in _flat(model) if isinstance(layer, classes) and layer.weights]
    for number, layer in enumerate(found):
      layers[layer.name if name.startswith("R-") else f"{kind} {number}"] = layer
  return layers


def _flat(layer: tf_keras.layers.Layer) -> Iterator[tf_keras.layers.Layer]:
  """Yields the layers of a network, and those in them, in the order in which they compute."""
  if hasattr(layer, "layers"):
    for each in layer.layers:
      yield from _flat(each)
  else:
    yield from (layer, *layer.submodules)


def _read_torch(name: str, path: str, where: str) -> dict[str, list[np.ndarray]]:
  """Returns weights in Keras's order of dimensions, by the names of PyTorch's layers."""
  del name
  import safetensors
  from safetensors.numpy import load_file

  try:
    weights = load_file(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(f"{where} cannot be read: {error}") from error
  layers = {}
  for full_name, value in weights.items():
    layer, _, kind = full_name.rpartition(".")
    if kind == "running_var":
      values = [weights[f"{layer}.{each}"] for each in _NORM_WEIGHTS]
    elif kind == "weight" and value.ndim == 4:
      values = [value.transpose(2, 3, 1, 0)]
    else:
      continue
    layers[layer] = [value.astype(np.float32) for value in values]
  return layers


def _read_keras(name: str, path: str, where: str) -> dict[str, list[np.ndarray]]:
  """Returns weights by the names of our layers; Keras's own network reads the file."""
  import tf_keras

  build, last = {
    "R-50-keras": (tf_keras.applications.ResNet50, None),
    "R-101-keras": (tf_keras.applications.ResNet101, None),
    "MobileNetV2-keras": (tf_keras.applications.MobileNetV2, "block_16_project_BN"),
  }[name]
  network = build(include_top=False, weights=None, input_shape=(64, 64, 3))
  try:
    names = _layers_of_h5(path)
    # By name, so that a classifier in the file is left over. Keras says nothing of layers that the
    # file or the network has not.
    network.load_weights(path, by_name=True)
  except (OSError, ValueError, KeyError) as error:
    raise UserError(f"{where} cannot be read as {name!r}: {str(error).splitlines()[0]}") from error
  wanted = {layer.name for layer in network.layers if layer.weights}
  if differing := wanted ^ names:
    raise UserError(
      f"{where} is not of {name!r}: only one of them has {min(differing)}, and {len(differing)} "
      "layers differ."
    )
  if last:
    network = tf_keras.Model(network.input, network.get_layer(last).output)
  found = {}
  for key, layer in _layers_by_key(network, name).items():
    found[_torch_name(key)] = layer.get_weights()
  if name.startswith("R-"):
    # From blue, green and red to red, green and blue.
    kernel, bias = found["conv1"]
    found["conv1"] = [kernel[:, :, ::-1], bias]
  return found


def _layers_of_h5(path: str) -> set[str]:
  """Returns the names of the layers of a file of Keras, without those of a classifier.

  Raises:
    ValueError: it has no layers by name, as files of Keras 3 (.weights.h5).
  """
  import h5py

  with h5py.File(path) as file:
    group = file.get("model_weights", file)
    if "layer_names" not in group.attrs:
      raise ValueError("it has no names of layers, as the files of tf_keras.applications have")
    names = [
      name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs["layer_names"]
    ]
    has_weights = [name for name in names if len(group[name].attrs["weight_names"])]
  return set(has_weights) - _CLASSIFIERS


def _torch_name(key: str) -> str:
  """Returns PyTorch's name of a layer of a ResNet of Keras; other keys stay."""
  if stem := re.fullmatch(r"conv1_(conv|bn)", key):
    return {"conv": "conv1", "bn": "bn1"}[stem[1]]
  found = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", key)
  if found is None:
    return key
  stage, block, number, kind = int(found[1]) - 1, int(found[2]) - 1, int(found[3]), found[4]
  if number == 0:
    return f"layer{stage}.{block}.downsample.{0 if kind == 'conv' else 1}"
  return f"layer{stage}.{block}.{kind}{number}"

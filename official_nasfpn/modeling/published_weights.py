"""Weights of backbones as other libraries publish them: which fit which, and taking them.

Weights go into a backbone with the arithmetic of their library, such as `R-50-torch`, and into no
other. `published_files.py` reads the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from official_nasfpn.errors import UserError
from official_nasfpn.modeling import published_files
from official_nasfpn.modeling.backbones import BACKBONES

if TYPE_CHECKING:
  import tf_keras

# The ends of backbones' names, and whose arithmetic these have.
LIBRARIES = {"torch": "PyTorch (torchvision, timm, KerasHub)", "keras": "keras.applications"}


def library_in(name: str) -> str | None:
  """Returns the library whose arithmetic a backbone has by its name; None if Model Garden's."""
  end = name.rpartition("-")[2]
  return end if end in LIBRARIES else None


def plain_backbone(name: str) -> str:
  """Returns the name of a backbone without its library: R-50 for R-50-torch."""
  return name.removesuffix(f"-{library_in(name)}")


def library_of(path: str) -> str:
  """Returns whose arithmetic the weights of a file are for, one of `LIBRARIES`.

  Raises:
    UserError: there is no such file, it is cut short, or it is none of these.
  """
  return published_files.library_of(path, _where(path))


def suited_backbone(name: str, path: str) -> str:
  """Returns the name of the backbone with the arithmetic that a file of weights was trained with.

  Args:
    name: one of `BACKBONES`; one that names a library already is not changed.
    path: the file.

  Raises:
    UserError: there is no such file, it is none of these, or its library has no such network.
  """
  if library_in(name):
    return name
  library = library_of(path)
  suited = f"{name}-{library}"
  if suited not in BACKBONES:
    known = ", ".join(each for each in BACKBONES if library_in(each) == library)
    raise UserError(
      f"{_where(path)} is a file of {LIBRARIES[library]}, and weights of its kind fit {known}, not "
      f"Detector.backbone = {name!r}: of that there is no network here that computes what theirs "
      "does."
    )
  return suited


def take_published_weights(backbone: tf_keras.Model, name: str, path: str) -> None:
  """Overwrites all weights of a backbone with those of a file.

  Args:
    backbone: built with the arithmetic of the file's library, at the published width.
    name: of the backbone, one of `BACKBONES`.
    path: the file.

  Raises:
    UserError: the file cannot be read, or its weights are those of another network. No weight has
      been changed then.
  """
  where = _where(path)
  library = library_of(path)
  if library_in(name) != library:
    raise UserError(
      f"{where} is a file of {LIBRARIES[library]}, and Detector.backbone = {name!r} computes "
      "something else with its weights. Leave the end of that name out."
    )
  found = published_files.read_layers(path, name, where)
  layers = _layers_by_key(backbone, name)
  # A deeper network has all layers of a shallower one, and computes something else with them.
  if others := found.keys() - layers.keys():
    raise UserError(
      f"{where} is of another network: {name!r} has no {found[min(others)].name}, and lacks "
      f"{len(others)} layers of it."
    )
  for key, layer in layers.items():
    if key not in found:
      raise UserError(f"{where} has no weights for {key}, which {name!r} has.")
    shapes = [tuple(weight.shape) for weight in layer.weights]
    if [value.shape for value in found[key].values] != shapes:
      raise UserError(
        f"{where}: the weights of {found[key].name} are "
        f"{_shown(value.shape for value in found[key].values)}, and {name!r} wants "
        f"{_shown(shapes)}. They are of another network, or Detector.backbone_width is not 1."
      )
  for key, layer in layers.items():
    layer.set_weights(found[key].values)


def _where(path: str) -> str:
  return f"Training.backbone_weights = {path!r}"


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

"""Weights of Keras: HDF5 files of Keras 2 (.h5), which name layers, and of Keras 3 (.weights.h5).

The latter number the layers of every class, and name them in recent versions only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbone_layouts import RESNETS
from official_nasfpn.modeling.file_layer import CLASSIFIERS, FileLayer, first_line

if TYPE_CHECKING:
  import h5py

_HDF5 = b"\x89HDF\r\n\x1a\n"
# Where Keras 3 and the Keras before it keep the layers of a network.
_KERAS_3_LAYERS = ("layers", "_layer_checkpoint_dependencies")
# Layers that Keras's MobileNetV2 repeats; a block without expansion has the first alone.
_MOBILENET_EXPANSION = (("convolution", "expand"), ("batch norm", "expand_BN"))
_MOBILENET_BLOCK = (
  ("depthwise convolution", "depthwise"),
  ("batch norm", "depthwise_BN"),
  ("convolution", "project"),
  ("batch norm", "project_BN"),
)
_MOBILENET_BLOCKS = 17
_KERAS_CLASSES = {
  "conv2d": "convolution",
  "depthwise_conv2d": "depthwise convolution",
  "batch_normalization": "batch norm",
}


def is_one(begin: bytes) -> bool:
  """Returns whether a file is of this format, by its first nine bytes."""
  return begin.startswith(_HDF5)


def library_of(path: str, where: str) -> str:
  """Returns `torch` for a ResNet of KerasHub, which has PyTorch's arithmetic, and else `keras`.

  Args:
    path: the file.
    where: what to call it in messages.

  Raises:
    UserError: it is cut short or damaged.
  """
  with _opened(path, f"{where} cannot be read") as h5:
    return "torch" if _is_of_keras_hub(h5) else "keras"


def read(path: str, backbone: str, where: str) -> dict[str, FileLayer]:
  """Reads a file; see `published_files.read_layers`."""
  with _opened(path, f"{where} cannot be read as {backbone!r}") as h5:
    return _layers_of(h5, backbone)


@contextlib.contextmanager
def _opened(path: str, problem: str) -> Iterator[h5py.File]:
  import h5py

  try:
    with h5py.File(path, "r") as h5:
      yield h5
  # Where groups, numbers or names are not what they should be, any of these.
  except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
    raise UserError(f"{problem}: {first_line(error)}.") from error


@dataclasses.dataclass(frozen=True)
class _Keras3Layer:
  """A layer in a file of Keras 3.

  Attributes:
    kind: a value of `_KERAS_CLASSES`, or the class itself.
    number: among the layers of its kind.
    name: as the network called it; None in files of older versions, which do not say it.
    weights: in the order of the layer.
  """

  kind: str
  number: int
  name: str | None
  weights: list[h5py.Dataset]


def _keras_3_layers(h5: h5py.File) -> list[_Keras3Layer]:
  """Returns the layers that have weights; none of a file of Keras 2."""
  group = next((h5[name] for name in _KERAS_3_LAYERS if name in h5), {})
  layers = []
  for key, layer in group.items():
    variables = layer.get("vars", {})
    if not len(variables):
      continue
    match = re.fullmatch(r"(.+?)(?:_(\d+))?", key)
    name = variables.attrs.get("name")
    layers.append(
      _Keras3Layer(
        _KERAS_CLASSES.get(match[1], match[1]),
        int(match[2] or 0),
        None if name is None else _text(name),
        [variables[number] for number in sorted(variables, key=int)],
      )
    )
  return sorted(layers, key=lambda layer: (layer.kind, layer.number))


def _text(name: bytes | str) -> str:
  return name.decode() if isinstance(name, bytes) else str(name)


def _is_of_keras_hub(h5: h5py.File) -> bool:
  """Returns whether a file has a ResNet of KerasHub, which has the arithmetic of PyTorch's."""
  layers = _keras_3_layers(h5)
  kinds = {layer.kind for layer in layers}
  first = next((layer for layer in layers if layer.kind == "convolution"), None)
  # The ResNets of keras.applications have biases.
  return first is not None and len(first.weights) == 1 and "depthwise convolution" not in kinds


def _layers_of(h5: h5py.File, backbone: str) -> dict[str, FileLayer]:
  """Returns layers by our keys, see `read_layers`.

  Raises:
    ValueError: it has none, or they have no names and are not as many as the backbone's.
  """
  keys = _keys_by_keras_name(backbone)
  if layers := _keras_3_layers(h5):
    if any(layer.name is None for layer in layers):
      named = _named_by_order(layers, _keras_order(backbone))
    else:
      named = {str(layer.name): layer.weights for layer in layers}
  else:
    named = _keras_2_weights(h5)
  if not named:
    raise ValueError("it holds no weights by layer")
  found = {}
  for name, weights in named.items():
    if name not in CLASSIFIERS:
      values = [np.asarray(value, np.float32) for value in weights]
      found[keys.get(name) or _torch_name(name)] = FileLayer(name, values)
  if backbone.endswith("-keras") and "conv1" in found:
    # From blue, green and red to red, green and blue.
    kernel, *bias = found["conv1"].values
    found["conv1"] = dataclasses.replace(found["conv1"], values=[kernel[:, :, ::-1], *bias])
  return found


def _keras_2_weights(h5: h5py.File) -> dict[str, list[Any]]:
  group = h5.get("model_weights", h5)
  weights = {}
  for layer in map(_text, group.attrs.get("layer_names", ())):
    names = [_text(name) for name in group[layer].attrs["weight_names"]]
    if names:
      weights[layer] = [group[layer][name] for name in names]
  return weights


def _named_by_order(
  layers: Sequence[_Keras3Layer], order: Sequence[tuple[str, str]]
) -> dict[str, list[Any]]:
  """Returns weights by name, of a file that numbers the layers of each kind."""
  named = {}
  for kind in dict.fromkeys(kind for kind, _ in order):
    names = [name for each, name in order if each == kind]
    numbered = [layer for layer in layers if layer.kind == kind]
    if len(names) != len(numbered):
      raise ValueError(
        f"it is of another network, with {len(numbered)} layers of the kind {kind!r} instead of "
        f"{len(names)}"
      )
    named |= {name: layer.weights for name, layer in zip(names, numbered, strict=True)}
  return named


def _keras_order(backbone: str) -> list[tuple[str, str]]:
  """Returns kind and Keras's name of the layers of a network, in Keras's order.

  Keras sorts layers by their distance from the output: the projection of a shortcut comes before
  the last convolution beside it.
  """
  if backbone.startswith("MobileNetV2"):
    return list(_mobilenet_layers())
  order = [("convolution", "conv1_conv"), ("batch norm", "conv1_bn")]
  stages, has_bottlenecks = RESNETS[int(backbone.split("-")[1])]
  for stage, num_blocks in enumerate(stages, start=2):
    for block in range(1, num_blocks + 1):
      numbers = [1, 2, 3] if has_bottlenecks else [1, 2]
      if block == 1 and (has_bottlenecks or stage > 2):
        numbers.insert(-1, 0)
      for number in numbers:
        name = f"conv{stage}_block{block}_{number}"
        order += [("convolution", f"{name}_conv"), ("batch norm", f"{name}_bn")]
  return order


def _mobilenet_layers() -> Iterator[tuple[str, str]]:
  """Yields kind and name of the layers of Keras's MobileNetV2, in their order."""
  yield "convolution", "Conv1"
  yield "batch norm", "bn_Conv1"
  for block in range(_MOBILENET_BLOCKS):
    prefix = f"block_{block}" if block else "expanded_conv"
    for kind, name in (*(_MOBILENET_EXPANSION if block else ()), *_MOBILENET_BLOCK):
      yield kind, f"{prefix}_{name}"
  yield "convolution", "Conv_1"
  yield "batch norm", "Conv_1_bn"


def _keys_by_keras_name(backbone: str) -> dict[str, str]:
  """Returns our keys of the layers of a MobileNetV2; of ResNets `_torch_name` gives them."""
  if not backbone.startswith("MobileNetV2"):
    return {}
  keys: dict[str, str] = {}
  count = {"convolution": 0, "batch norm": 0}
  for kind, name in _mobilenet_layers():
    kind = kind.removeprefix("depthwise ")
    keys[name] = f"{kind} {count[kind]}"
    count[kind] += 1
  return keys


def _torch_name(name: str) -> str:
  """Returns PyTorch's name of a layer of a ResNet of Keras or KerasHub; others stay."""
  if stem := re.fullmatch(r"conv1_(conv|bn)", name):
    return {"conv": "conv1", "bn": "bn1"}[stem[1]]
  # KerasHub counts from 0.
  for pattern, stage_offset, block_offset in (
    (r"conv(\d)_block(\d+)_(\d)_(conv|bn)", -1, -1),
    (r"stack(\d)_block(\d+)_(\d)_(conv|bn)", 1, 0),
  ):
    if found := re.fullmatch(pattern, name):
      block = f"layer{int(found[1]) + stage_offset}.{int(found[2]) + block_offset}"
      number, kind = int(found[3]), found[4]
      if number == 0:
        return f"{block}.downsample.{0 if kind == 'conv' else 1}"
      return f"{block}.{kind}{number}"
  return name

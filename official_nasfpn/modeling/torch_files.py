"""Weights of PyTorch: safetensors, and files of torch.save where PyTorch is installed.

Safetensors hold numbers alone. From a file of torch.save, a pickle, PyTorch takes the numbers alone
(`weights_only`); code in it is refused, and never run.
"""

import zipfile
from collections.abc import Mapping

import numpy as np

from official_nasfpn.errors import UserError
from official_nasfpn.installation import is_installed
from official_nasfpn.modeling.file_layer import CLASSIFIERS, FileLayer, first_line

_ZIP = b"PK"
_PICKLE = b"\x80"
# In PyTorch's order of a batch norm's weights, which is Keras's, too.
_NORM_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
# Where training programs of PyTorch put the weights, beside their optimizer's.
_NESTED_IN = ("state_dict", "model")


def is_one(begin: bytes) -> bool:
  """Returns whether a file is of these formats, by its first nine bytes."""
  return _is_safetensors(begin) or begin.startswith((_ZIP, _PICKLE))


def check(path: str, begin: bytes, where: str) -> None:
  """Refuses what can be seen to be wrong without reading the weights.

  Args:
    path: the file.
    begin: its first nine bytes.
    where: what to call it in messages.

  Raises:
    UserError: it is cut short, or an archive of something else, or PyTorch is needed to read it and
      is not installed.
  """
  if _is_safetensors(begin):
    _check_safetensors(path, where)
  else:
    _check_pickle(path, begin, where)


def read(path: str, begin: bytes, where: str) -> dict[str, FileLayer]:
  """Reads a file; arguments as those of `check`.

  Returns:
    Its layers by name, without those of a classifier.

  Raises:
    UserError: it cannot be read, or would have to be run.
  """
  return _layers_of((_read_safetensors if _is_safetensors(begin) else _read_pickle)(path, where))


def _is_safetensors(begin: bytes) -> bool:
  # Eight bytes of length, and then JSON.
  return begin[8:9] == b"{"


def _check_safetensors(path: str, where: str) -> None:
  import safetensors

  try:
    # Reads the table alone, and compares the file's length with it.
    with safetensors.safe_open(path, framework="np"):
      pass
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(f"{where} cannot be read: {first_line(error)}") from error


def _read_safetensors(path: str, where: str) -> dict[str, np.ndarray]:
  import safetensors
  from safetensors.numpy import load_file

  try:
    return load_file(path)
  # NumPy lacks some of the number formats that such a file may have.
  except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
    raise UserError(f"{where} cannot be read: {first_line(error)}") from error


def _check_pickle(path: str, begin: bytes, where: str) -> None:
  """Refuses archives that are not PyTorch's, and all where PyTorch is not installed."""
  if begin.startswith(_ZIP):
    try:
      with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
      raise UserError(f"{where} cannot be read: {first_line(error)}") from error
    if "model.weights.h5" in names:
      raise UserError(
        f"{where} holds a whole model of Keras. Write its weights alone: "
        "keras.models.load_model(FILE).save_weights('backbone.weights.h5')."
      )
    if not any(name.endswith("/data.pkl") for name in names):
      raise UserError(f"{where} is an archive, but not one of torch.save.")
  require_torch(where)


def require_torch(where: str) -> None:
  """Raises a `UserError` unless PyTorch is installed, which reads the file that `where` names."""
  if not is_installed("torch"):
    raise UserError(
      f"{where} is a file of torch.save, which only PyTorch reads: pip install torch. Or take the "
      ".safetensors of the same weights, which timm and Hugging Face have, or write one elsewhere: "
      "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')."
    )


def _read_pickle(path: str, where: str) -> dict[str, np.ndarray]:
  """Reads a file of torch.save; what is more than numbers in it is refused, and never run."""
  import torch

  try:
    content = torch.load(path, map_location="cpu", weights_only=True)
  # A file that anybody may have written can break PyTorch's reader in any way.
  except Exception as error:
    raise UserError(
      f"{where} cannot be read without running what is in it, or is damaged: {first_line(error)} "
      "Save the weights alone: torch.save(model.state_dict(), FILE)."
    ) from error
  for key in _NESTED_IN:
    if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
      content = content[key]
  values = content if isinstance(content, Mapping) else {}
  weights = {
    # Of a network that was trained on several GPUs.
    str(name).removeprefix("module."): value.detach().to(torch.float32).numpy()
    for name, value in values.items()
    if isinstance(value, torch.Tensor)
  }
  if not weights:
    raise UserError(
      f"{where} holds no weights by name, neither itself nor under {' or '.join(_NESTED_IN)}."
    )
  return weights


def _layers_of(weights: Mapping[str, np.ndarray]) -> dict[str, FileLayer]:
  by_layer: dict[str, dict[str, np.ndarray]] = {}
  for full_name, value in weights.items():
    layer, _, kind = full_name.rpartition(".")
    if kind != "num_batches_tracked" and layer not in CLASSIFIERS:
      by_layer.setdefault(layer, {})[kind] = value
  layers = {}
  for layer, values in by_layer.items():
    if values.keys() == set(_NORM_WEIGHTS):
      ordered = [values[kind] for kind in _NORM_WEIGHTS]
    else:
      ordered = [
        value.transpose(2, 3, 1, 0) if kind == "weight" and value.ndim == 4 else value
        for kind, value in sorted(values.items(), reverse=True)
      ]
    layers[layer] = FileLayer(layer, [value.astype(np.float32) for value in ordered])
  return layers

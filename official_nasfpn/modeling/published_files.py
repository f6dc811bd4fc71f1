"""Files of backbones' weights as other libraries write them, told apart by what is in them."""

from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.modeling import keras_files, torch_files
from official_nasfpn.modeling.file_layer import FileLayer


def library_of(path: str, where: str) -> str:
  """Returns whose arithmetic the weights of a file are for: `torch` or `keras`.

  Args:
    path: the file.
    where: what to call it in messages.

  Raises:
    UserError: there is no such file, it is cut short, it is of none of these libraries, or PyTorch
      is needed to read it and is not installed.
  """
  if not Path(path).is_file():
    raise UserError(f"{where}: there is no such file.")
  begin = _begin_of(path)
  if keras_files.is_one(begin):
    return keras_files.library_of(path, where)
  if torch_files.is_one(begin):
    torch_files.check(path, begin, where)
    return "torch"
  raise UserError(
    f"{where} is neither a file of PyTorch (.safetensors, .pth) nor one of Keras (.h5)."
  )


def read_layers(path: str, backbone: str, where: str) -> dict[str, FileLayer]:
  """Reads a file of weights for a backbone.

  Args:
    path: the file, of the library whose arithmetic the backbone has.
    backbone: its name, `R-50-torch` for instance.
    where: what to call the file in messages.

  Returns:
    Its layers without those of a classifier: of ResNets by PyTorch's names, of a MobileNetV2 by
    kind and number, such as `batch norm 3`.

  Raises:
    UserError: it cannot be read, or would have to be run.
  """
  begin = _begin_of(path)
  if keras_files.is_one(begin):
    return keras_files.read(path, backbone, where)
  return torch_files.read(path, begin, where)


def _begin_of(path: str) -> bytes:
  with Path(path).open("rb") as stream:
    return stream.read(9)

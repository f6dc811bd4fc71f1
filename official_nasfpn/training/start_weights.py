"""The weights that a training starts from: those of another training, or of a search.

A weight is found by the part of the detector that it belongs to and its place there: Keras numbers
layers anew in every process. Merging has no weights, so those of a pyramid fit any other pyramid
with as many cells.
"""

import dataclasses
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.training.run_folder import RunFolder

if TYPE_CHECKING:
  import tensorflow as tf

  from official_nasfpn.modeling.detector import Detector

# Where a search keeps the weights of backbone and heads that its trials start from, if its proxy
# is a shared one; NumPy's format.
SHARED_WEIGHTS = Path("warm_state") / "weights.npz"
CLASS_NAMES = "class_names"
# The layer of every head whose weights belong to the classes.
_CLASS_LAYER = "scores"


@dataclasses.dataclass(frozen=True)
class Taken:
  """How much of a part of a detector came from elsewhere.

  Attributes:
    part: name of the part, such as `backbone`.
    taken: number of weights that were taken.
    total: number of all weights of the part.
  """

  part: str
  taken: int
  total: int


def weights_by_part(detector: "Detector") -> dict[str, "Sequence[tf.Variable]"]:
  """Returns the weights of a built detector, by part: `backbone`, `pyramid`, `head`, ..."""
  parts = {"backbone": detector.backbone, "pyramid": detector.pyramid, "head": detector.head}
  parts |= {f"early_head_{number}": head for number, head in enumerate(detector.early_heads)}
  return {name: part.variables for name, part in parts.items()}


def weight_name(part: str, number: int) -> str:
  """Returns the name of a weight in the file of a search."""
  return f"{part}_{number:03d}"


def class_names_of(label_map: LabelMap) -> tuple[str, ...]:
  """Returns the names of the classes, by class index."""
  return tuple(category.name for category in label_map.categories)


def check_start(path: str) -> None:
  """Raises a `UserError` unless a training can start from this folder; needs no TensorFlow."""
  folder = Path(path)
  if not RunFolder(folder).config_file.is_file() and not (folder / SHARED_WEIGHTS).is_file():
    raise UserError(
      f"Training.start_from = {path!r}: this is neither the run folder of a training nor the "
      "directory of a search with Proxy.mode = 'shared' that has begun."
    )


def take_weights(detector: "Detector", label_map: LabelMap, path: str) -> list[Taken]:
  """Overwrites the weights of a detector with those of a training or a search, where they fit.

  A weight fits if its part has as many weights there, and its shape is the same. Those of the
  classes fit if the classes are the same.

  Args:
    detector: a built detector.
    label_map: its classes.
    path: a run folder, or the directory of a search with a shared proxy.

  Returns:
    How many weights were taken, for every part of the detector.

  Raises:
    UserError: there is nothing to start from, or nothing in it fits.
  """
  check_start(path)
  folder = Path(path)
  is_run = RunFolder(folder).config_file.is_file()
  source, class_names = (_of_run if is_run else _of_search)(folder)
  has_same_classes = class_names == class_names_of(label_map)
  table = []
  for part, variables in weights_by_part(detector).items():
    values = source.get(part, ())
    taken = 0
    for variable, value in zip(variables, values, strict=len(values) == len(variables)):
      is_of_class = f"/{_CLASS_LAYER}/" in variable.name
      fits = len(values) == len(variables) and variable.shape == value.shape
      if fits and (has_same_classes or not is_of_class):
        variable.assign(value)
        taken += 1
    table.append(Taken(part, taken, len(variables)))
  if not any(row.taken for row in table):
    raise UserError(
      f"Training.start_from = {path!r}: none of its weights fits. Backbone, widths and numbers of "
      "layers must be those of this training."
    )
  return table


def taken_sentence(table: Sequence[Taken]) -> str:
  """Returns, for people, what was taken and what is new."""
  return ", ".join(
    f"{row.part} new"
    if not row.taken
    else f"{row.part} taken"
    if row.taken == row.total
    else f"{row.taken} of {row.total} weights of {row.part} taken"
    for row in table
  )


def _of_run(folder: Path) -> tuple[Mapping[str, Sequence[np.ndarray]], tuple[str, ...]]:
  import tensorflow as tf

  from official_nasfpn.modeling.detector import build_detector

  run = RunFolder(folder)
  experiment, label_map = run.load()
  detector = build_detector(experiment.detector, label_map.num_classes)
  tf.train.Checkpoint(model=detector).read(run.latest_checkpoint()).expect_partial()
  weights = {
    part: [variable.numpy() for variable in variables]
    for part, variables in weights_by_part(detector).items()
  }
  return weights, class_names_of(label_map)


def _of_search(folder: Path) -> tuple[Mapping[str, Sequence[np.ndarray]], tuple[str, ...]]:
  try:
    # Opened here: NumPy does not close a file that is no archive.
    with (
      (folder / SHARED_WEIGHTS).open("rb") as stream,
      np.load(stream, allow_pickle=False) as file,
    ):
      values = {name: file[name] for name in sorted(file.files)}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(f"{folder / SHARED_WEIGHTS} cannot be read: {error}") from error
  class_names = tuple(str(name) for name in values.pop(CLASS_NAMES, ()))
  weights: dict[str, list[np.ndarray]] = {}
  for name, value in values.items():
    weights.setdefault(name.rpartition("_")[0], []).append(value)
  return weights, class_names

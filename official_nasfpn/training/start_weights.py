"""The weights that a training starts from: those of another training, an export or a search.

A weight is found by the part of the detector that it belongs to and its place there: Keras numbers
layers anew in every process. Merging has no weights, so those of a pyramid fit any other pyramid
with as many cells. The rows of the classes are found by the names of the classes.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from official_nasfpn.configuration import read_stored, stored_bindings
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.published_weights import plain_backbone
from official_nasfpn.training.backbone_source import exported_model
from official_nasfpn.training.experiment import Experiment, load_experiment
from official_nasfpn.training.run_folder import RunFolder

if TYPE_CHECKING:
  import tensorflow as tf
  import tf_keras

  from official_nasfpn.modeling.detector import Detector

# Where a search keeps the weights of backbone and heads that its trials start from, if its proxy
# is a shared one; NumPy's format.
SHARED_WEIGHTS = Path("warm_state") / "weights.npz"
CLASS_NAMES = "class_names"
# The layers of a head whose weights belong to the classes: one, or one for each level.
_CLASS_LAYER = re.compile(r"/scores(-\d+)?/")
_NUM_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Taken:
  """How much of a part of a detector came from elsewhere.

  Attributes:
    part: name of the part, such as `backbone`.
    taken: number of weights that were taken, those of which some rows were among them.
    total: number of all weights of the part.
    new: names of the weights that were not taken.
  """

  part: str
  taken: int
  total: int
  new: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Start:
  """What a detector has from elsewhere.

  Attributes:
    parts: one row for every part of the detector.
    kept_classes: the classes whose rows in the heads were taken.
    new_classes: those that are made new.
  """

  parts: tuple[Taken, ...]
  kept_classes: tuple[str, ...]
  new_classes: tuple[str, ...]

  def sentence(self) -> str:
    """Returns, in one line, what was taken and what is new."""
    parts = ", ".join(
      f"{row.part} new"
      if not row.taken
      else f"{row.part} taken"
      if row.taken == row.total
      else f"{row.taken} of {row.total} weights of {row.part} taken"
      for row in self.parts
    )
    if not self.new_classes:
      return parts
    return f"{parts}; classes {_listed(self.kept_classes)} kept, {_listed(self.new_classes)} new"

  def table(self) -> str:
    """Returns a line for every part: how many weights were taken, and which are new."""
    width = max(len(row.part) for row in self.parts)
    lines = [
      f"  {row.part:<{width}}  {row.taken:>4} of {row.total:<4} taken"
      + (f"; new: {_listed(row.new)}" if row.new else "")
      for row in self.parts
    ]
    kept, new = _listed(self.kept_classes), _listed(self.new_classes)
    return "\n".join([*lines, f"  {'classes':<{width}}  kept: {kept}; new: {new}"])


@dataclasses.dataclass(frozen=True)
class StoredDetector:
  """A detector that lies in files: its settings, its classes, and where its weights are.

  Attributes:
    path: a run folder, the path prefix of a checkpoint, or that of the variables of an export.
    kind: which of these.
  """

  experiment: Experiment
  label_map: LabelMap
  path: str
  kind: Literal["run", "checkpoint", "export"]


def weights_by_part(detector: "Detector") -> dict[str, "Sequence[tf.Variable]"]:
  """Returns the weights of a built detector, by part: `backbone`, `pyramid`, `head`, ..."""
  parts = {"backbone": detector.backbone, "pyramid": detector.pyramid, "head": detector.head}
  parts |= {f"early_head_{number}": head for number, head in enumerate(detector.early_heads)}
  return {name: weights_in_order(part) for name, part in parts.items()}


def weights_in_order(layer: "tf_keras.layers.Layer") -> "Sequence[tf.Variable]":
  """Returns the weights of a layer in the order that they have when nothing in it is frozen."""
  import tf_keras

  # Keras lists the weights of frozen layers last.
  layers = [each for each in layer.submodules if isinstance(each, tf_keras.layers.Layer)]
  frozen = [each for each in (layer, *layers) if not each.trainable]
  layer.trainable = True
  try:
    return layer.variables
  finally:
    for each in frozen:
      each.trainable = False


def weight_name(part: str, number: int) -> str:
  """Returns the name of a weight in the file of a search."""
  return f"{part}_{number:03d}"


def class_names_of(label_map: LabelMap) -> tuple[str, ...]:
  """Returns the names of the classes, by class index."""
  return tuple(category.name for category in label_map.categories)


def check_start(path: str) -> None:
  """Raises a `UserError` unless a training can start from this path; needs no TensorFlow."""
  if not (Path(path) / SHARED_WEIGHTS).is_file():
    _find_stored(path)


def start_backbone(name: str, path: str) -> str:
  """Returns the name of the backbone that computes what the weights to start from were trained for.

  Args:
    name: one of `modeling.backbones.BACKBONES`, as the recipe says it.
    path: what to start from.

  Returns:
    R-50-torch for R-50, say, where the other detector has that; else the name as it is, also where
    there is nothing to start from.

  Raises:
    UserError: the backbone there has the layers of `name` and computes something else with their
      weights.
  """
  if (Path(path) / SHARED_WEIGHTS).is_file():
    there = _backbone_of_search(Path(path), name)
  elif stored := stored_at(path):
    there = stored.experiment.detector.backbone
  else:  # A run that goes on from a checkpoint of its own does not need it any more.
    return name
  plain, plain_there = (plain_backbone(each) for each in (name, there))
  if there == name or plain != plain_there:
    return name
  if name == plain:
    return there
  raise UserError(
    f"Training.start_from = {path!r}: the backbone there is {there!r}, which computes something "
    f"else than Detector.backbone = {name!r} with the same weights. Leave the end of that name out."
  )


def _backbone_of_search(folder: Path, default: str) -> str:
  recipe = folder / "recipe.gin"
  bindings = stored_bindings(read_stored(recipe)) if recipe.is_file() else {}
  return str(bindings.get("Detector.backbone", default))


def take_weights(detector: "Detector", label_map: LabelMap, path: str) -> Start:
  """Overwrites the weights of a detector with those of a training or a search, where they fit.

  A weight fits if its part has as many weights there, and its shape is the same. Of the weights of
  the classes, the rows of classes with the same name are taken.

  Args:
    detector: a built detector.
    label_map: its classes.
    path: a run folder, a checkpoint in one (path prefix), a SavedModel that was exported, or the
      directory of a search with a shared proxy.

  Returns:
    What was taken, for every part of the detector.

  Raises:
    UserError: there is nothing to start from, or nothing in it fits.
  """
  is_search = (Path(path) / SHARED_WEIGHTS).is_file()
  source, there = _of_search(Path(path)) if is_search else _of_stored(_find_stored(path))
  here = class_names_of(label_map)
  rows = [(here.index(name), there.index(name)) for name in here if name in there]
  table = []
  for part, variables in weights_by_part(detector).items():
    values = source.get(part, ())
    new = []
    for number, variable in enumerate(variables):
      value = values[number] if len(values) == len(variables) else None
      if value is not None and here != there and _is_of_classes(variable):
        value = _with_rows(variable.numpy(), value, len(here), len(there), rows)
      if value is None or variable.shape != value.shape:
        new.append(variable.name.removesuffix(":0"))
      else:
        variable.assign(value)
    table.append(Taken(part, len(variables) - len(new), len(variables), tuple(new)))
  if not any(row.taken for row in table):
    raise UserError(
      f"Training.start_from = {path!r}: none of its weights fits. Backbone, widths and numbers of "
      "layers must be those of this training."
    )
  kept = tuple(here[row] for row, _ in rows)
  return Start(tuple(table), kept, tuple(name for name in here if name not in there))


def _is_of_classes(variable: "tf.Variable") -> bool:
  # The depthwise half of a separable convolution has channels of features alone.
  return bool(_CLASS_LAYER.search(variable.name)) and "depthwise" not in variable.name


def _with_rows(
  here: np.ndarray,
  there: np.ndarray,
  classes_here: int,
  classes_there: int,
  rows: Sequence[tuple[int, int]],
) -> np.ndarray | None:
  """Returns weights of the classes with the rows of others, [..., anchors * classes].

  Args:
    here: the weights to change.
    there: those to take rows from.
    classes_here: number of classes of `here`.
    classes_there: number of classes of `there`.
    rows: class index here, and class index there.

  Returns:
    None if they differ in more than their classes, or no class is in both.
  """
  new = here.reshape(*here.shape[:-1], -1, classes_here).copy()
  old = there.reshape(*there.shape[:-1], -1, classes_there)
  if not rows or new.shape[:-1] != old.shape[:-1]:
    return None
  for to, source in rows:
    new[..., to] = old[..., source]
  return new.reshape(here.shape)


def _listed(names: Sequence[str]) -> str:
  more = len(names) - _NUM_NAMED
  shown = ", ".join(names[:_NUM_NAMED]) or "none"
  return f"{shown} and {more} more" if more > 0 else shown


def _find_stored(path: str) -> StoredDetector:
  if stored := stored_at(path):
    return stored
  raise UserError(
    f"Training.start_from = {path!r}: this is neither the run folder of a training, a checkpoint "
    "in one (RUN/checkpoints/ckpt-STEP), a SavedModel that `nasfpn export` has written, nor the "
    "directory of a search with Proxy.mode = 'shared' that has begun."
  )


def stored_at(path: str) -> StoredDetector | None:
  """Returns the detector of a run, of one of its checkpoints, or of an export; None elsewhere."""
  folder = Path(path)
  if (folder / "config.gin").is_file():
    return StoredDetector(*RunFolder(folder).load(), path, "run")
  run = RunFolder(folder.parent.parent)
  if Path(f"{path}.index").is_file() and run.config_file.is_file():
    return StoredDetector(*run.load(), path, "checkpoint")
  if export := exported_model(path):
    experiment = load_experiment([read_stored(export / "assets" / "config.gin")])
    label_map = LabelMap.load(export / "assets" / "label_map.json")
    return StoredDetector(experiment, label_map, str(export / "variables" / "variables"), "export")
  return None


def restore_stored(stored: StoredDetector) -> "Detector":
  """Builds a stored detector with its weights: of a run those that an export would have.

  Raises:
    UserError: a file is damaged, or its weights and settings do not belong to each other.
  """
  from official_nasfpn.training.restore import restore_detector, restore_export

  settings = stored.experiment, stored.label_map
  if stored.kind == "export":
    return restore_export(*settings, stored.path)
  is_run = stored.kind == "run"
  checkpoint = RunFolder(Path(stored.path)).checkpoint_to_use() if is_run else stored.path
  return restore_detector(*settings, checkpoint)


def _of_stored(
  stored: StoredDetector,
) -> tuple[Mapping[str, Sequence[np.ndarray]], tuple[str, ...]]:
  weights = {
    part: [variable.numpy() for variable in variables]
    for part, variables in weights_by_part(restore_stored(stored)).items()
  }
  return weights, class_names_of(stored.label_map)


def _of_search(folder: Path) -> tuple[Mapping[str, Sequence[np.ndarray]], tuple[str, ...]]:
  try:
    # Opened here: NumPy does not close a file that is no archive.
    with (
      (folder / SHARED_WEIGHTS).open("rb") as stream,
      np.load(stream, allow_pickle=False) as file,
    ):
      values = {name: file[name] for name in file.files}
  except Exception as error:  # Damage shows itself in any way: zlib's, zipfile's, NumPy's.
    raise UserError(f"{folder / SHARED_WEIGHTS} cannot be read: {error}") from error
  class_names = tuple(str(name) for name in values.pop(CLASS_NAMES, ()))
  numbered: dict[str, dict[int, np.ndarray]] = {}
  for name, value in values.items():
    part, _, number = name.rpartition("_")
    if number.isdecimal():
      numbered.setdefault(part, {})[int(number)] = value
  # By number: as texts, 1000 comes before 101.
  weights = {
    part: [by_number[at] for at in sorted(by_number)] for part, by_number in numbered.items()
  }
  return weights, class_names

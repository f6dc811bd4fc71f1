"""An experiment: all settings of a training, read from recipes or from a run folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from official_nasfpn import configuration
from official_nasfpn.architecture import (
  SEARCHED_FILES,
  Architecture,
  from_gin,
  names_a_file,
  pyramid_name,
  to_gin,
)
from official_nasfpn.configuration import Stored
from official_nasfpn.data.annotated_boxes import require_boxes
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.published_weights import plain_backbone
from official_nasfpn.modeling.pyramids import pyramid_kind
from official_nasfpn.progress import say
from official_nasfpn.training.anchors.fit import Setting, settle_anchor_size
from official_nasfpn.training.backbone_source import settled, whole_path
from official_nasfpn.training.config import BACKBONE_PARTS, MOVED, Part, TrainingConfig
from official_nasfpn.training.strategies import is_chief


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The settings of a detector, of its input and of its training."""

  detector: DetectorConfig
  input: InputConfig
  training: TrainingConfig

  def __post_init__(self) -> None:
    architecture = self.detector.architecture
    if self.training.drop_block_rate and not pyramid_kind(architecture).drops_blocks:
      raise UserError(
        f"Training.drop_block_rate = {self.training.drop_block_rate}: DropBlock does not work on "
        f"{type(architecture).__name__}. Leave it out."
      )
    parts: tuple[Part, ...] = (*BACKBONE_PARTS, "pyramid", "head")
    if not any(_learns(part, self.training) for part in parts):
      factors = self.training.learning_rate_factors
      zeros = f" and Training.learning_rate_factors = {factors}" if factors else ""
      raise UserError(
        f"Training.frozen = {self.training.frozen}{zeros} leave out all parts of the detector: "
        "nothing would be trained."
      )
    weights = self.training.exit_loss_weights
    if weights is not None and len(weights) != self.detector.num_exits:
      raise UserError(
        f"Training.exit_loss_weights = {weights} has {len(weights)} weights for "
        f"{self.detector.num_exits} exits: there is one for each of Detector.num_repeats with "
        "Detector.exit_heads = 'separate' or 'shared', and one alone with 'last'."
      )

  def with_architecture(self, architecture: Architecture) -> "Experiment":
    """Returns the experiment with another pyramid, for example one that a search has found."""
    return dataclasses.replace(
      self, detector=dataclasses.replace(self.detector, architecture=architecture)
    )

  def continuing(self, started: "Experiment") -> "Experiment":
    """Returns the experiment with what its start has settled by files that may be gone since.

    These are the number that 'auto' was, and the backbone with the arithmetic of the weights that
    it began with.

    Args:
      started: the settings that the start has written.
    """
    detector = self.detector
    if detector.anchor_size == "auto":
      detector = dataclasses.replace(detector, anchor_size=started.detector.anchor_size)
    weights, theirs = (
      (each.training.backbone_weights, each.training.start_from) for each in (self, started)
    )
    if weights == theirs != (None, None):
      backbone = started.detector.backbone
      if detector.backbone == plain_backbone(backbone):
        detector = dataclasses.replace(detector, backbone=backbone)
    return dataclasses.replace(self, detector=detector)

  @property
  def anchor_setting(self) -> Setting:
    """What decides how the anchors fit the boxes of the data."""
    return Setting(self.detector, self.input, self.training.match_iou)

  def to_gin(self) -> str:
    """Returns every setting as gin text; `load_experiment` reads it back."""
    return configuration.to_gin(self.detector, self.input, self.training)


def _learns(part: Part, training: TrainingConfig) -> bool:
  """Returns whether a training changes the weights of a part that has no parts of its own."""
  whole: Part = "backbone" if part in BACKBONE_PARTS else part
  factors = training.learning_rate_factors or {}
  factor = factors.get(part, factors.get(whole, 1.0))
  return factor > 0 and not {part, whole} & set(training.frozen)


def model_name(experiment: Experiment) -> str:
  """Returns the model in the paper's notation, with its pyramid and image size."""
  config = experiment.detector
  height, width = config.image_size
  return (
    f"{config.backbone}, {config.num_repeats} @ {config.num_filters} "
    f"({pyramid_name(config.architecture)}) at {height} x {width} pixels"
  )


def with_data(experiment: Experiment, data_dir: str | Path) -> Experiment:
  """Returns the experiment on the data in another folder."""
  moved = dataclasses.replace(experiment.input, data_dir=str(Path(data_dir).resolve()))
  return dataclasses.replace(experiment, input=moved)


def load_experiment(
  gin_files: Sequence[str | Path | Stored] = (), gin_params: Sequence[str] = ()
) -> Experiment:
  """Reads an experiment from recipes, stored settings and single bindings.

  The files of a search lie where others may write, so they may bind an architecture only. Stored
  settings hold their architecture: a file that they name is not read.

  Raises:
    UserError: a file, a name or a value is wrong, or what is stored does more than that.
  """
  return read_with_experiment(gin_files, gin_params)[0]


def read_with_experiment(
  gin_files: Sequence[str | Path | Stored],
  gin_params: Sequence[str],
  classes: Sequence[type] = (),
) -> tuple[Experiment, list[Any]]:
  """Reads an experiment like `load_experiment`, and settings that the same recipes bind.

  Args:
    gin_files: recipes and stored settings.
    gin_params: single bindings.
    classes: `@configurable` classes of which an instance is wanted, too.

  Raises:
    UserError: as `load_experiment` does.
  """
  for source in gin_files:
    if isinstance(source, Stored):
      _refuse_architecture_file(source)
  current = [_current_spelling(file) if isinstance(file, Stored) else file for file in gin_files]
  detector, data, training, *others = configuration.read_settings(
    (DetectorConfig, InputConfig, TrainingConfig, *classes),
    current,
    gin_params,
    dict.fromkeys(SEARCHED_FILES, _complete),
  )
  if data.data_dir:
    data = dataclasses.replace(data, data_dir=str(Path(data.data_dir).resolve()))
  if path := training.backbone_weights:
    training = dataclasses.replace(training, backbone_weights=whole_path(path))
  if path := training.start_from:
    training = dataclasses.replace(training, start_from=str(Path(path).resolve()))
  return Experiment(detector, data, training), others


def _current_spelling(stored: Stored) -> Stored:
  """Returns stored settings with the present names of `Training`'s."""
  bindings = configuration.stored_bindings(stored)
  former = {f"Training.{name}": now for name, now in MOVED.items()}
  if not former.keys() & bindings.keys():
    return stored
  for name, now in former.items():
    # What was left out then says nothing now.
    if (value := bindings.pop(name, None)) is not None:
      bindings[now] = value
  return configuration.stored_from(bindings, stored.where)


def _refuse_architecture_file(stored: Stored) -> None:
  name = "Detector.architecture"
  if names_a_file(configuration.stored_bindings(stored).get(name)):
    raise UserError(
      f"{stored.where}: {name} names a file; stored settings hold the pyramid itself."
    )


def open_dataset(experiment: Experiment, begins: bool = True) -> tuple[Experiment, DatasetInfo]:
  """Opens the experiment's data, and settles what the recipe leaves to files.

  Args:
    experiment: as read from recipes or a run folder.
    begins: whether a training is to begin, so that `Training.backbone_weights` must be there.

  Returns:
    The experiment with `Detector.num_classes` as in the label map, `Detector.backbone` with the
    arithmetic of `Training.backbone_weights` and `Detector.anchor_size` a number, which a line on
    standard error states where it was 'auto'; and the dataset.

  Raises:
    UserError: there is no data, it is damaged, it has no box to train on, the number of classes
      disagrees with it, the weights are not there or of another backbone, or there are no boxes to
      choose anchors by.
  """
  if not experiment.input.data_dir:
    raise UserError(
      "No data: give --data_dir (or Input.data_dir) a folder that `nasfpn prepare --annotations "
      "FILE.json --images FOLDER --output_dir DATA` has made."
    )
  dataset = DatasetInfo.load(experiment.input.data_dir)
  found = dataset.label_map.num_classes
  stated = experiment.detector.num_classes
  if stated not in (None, found):
    raise UserError(
      f"Detector.num_classes is {stated}, but the label map of {experiment.input.data_dir} has "
      f"{found} classes (the background is not counted). Leave Detector.num_classes out: it is "
      "taken from the label map."
    )
  if begins:
    require_boxes(dataset, experiment.input.train_parts, "train on")
  experiment = settle_backbone(experiment, begins)
  detector = dataclasses.replace(experiment.detector, num_classes=found)
  experiment = dataclasses.replace(experiment, detector=detector)
  if detector.anchor_size == "auto":
    detector, sentence = settle_anchor_size(experiment.anchor_setting, dataset)
    experiment = dataclasses.replace(experiment, detector=detector)
    if is_chief():
      say(sentence)
  return experiment, dataset


def settle_backbone(experiment: Experiment, begins: bool = True) -> Experiment:
  """Returns the experiment with the backbone that has the arithmetic of its weights.

  Args:
    experiment: as read from recipes or a run folder.
    begins: whether a training is to begin, so that the weights must be there. What goes on, or is
      evaluated, no longer needs them.

  Raises:
    UserError: the weights are not there, or of another backbone.
  """
  detector, training = experiment.detector, experiment.training
  if training.backbone_weights:
    try:
      detector, weights = settled(detector, training.backbone_weights)
    except UserError:
      if begins:
        raise
      return experiment
    training = dataclasses.replace(training, backbone_weights=weights)
  elif training.start_from:
    # Imported here, because that module reads experiments.
    from official_nasfpn.training.start_weights import start_backbone

    backbone = start_backbone(detector.backbone, training.start_from)
    detector = dataclasses.replace(detector, backbone=backbone)
  return dataclasses.replace(experiment, detector=detector, training=training)


def _complete(text: str, where: str) -> str:
  """Returns the text of a searched pyramid so that it may follow that of another one."""
  return to_gin(from_gin(text, where), complete=True)

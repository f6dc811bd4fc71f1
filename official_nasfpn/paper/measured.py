"""Reads trained and evaluated detectors from their run folders."""

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from official_nasfpn.architecture import pyramid_name
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo, is_prepared
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig
from official_nasfpn.modeling.closed_form import total_size
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.evaluated_under import data_digest
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder

# Images that latency is measured on; the same for every detector.
_NUM_LATENCY_IMAGES = 10


@dataclasses.dataclass(frozen=True)
class _Data:
  """Which data a run was trained and evaluated on.

  Attributes:
    path: its folder, as the run has it.
    identity: what identifies the dataset that is there now; None where there is none.
    evaluated_on: digest of what was evaluated on; None where the run does not say it.
  """

  path: str
  identity: Mapping[str, Any] | None
  evaluated_on: str | None

  def may_be(self, other: "_Data") -> bool:
    """Returns whether nothing tells it from another."""
    is_moved = self.identity is not None and self.identity == other.identity
    digests = {self.evaluated_on, other.evaluated_on} - {None}
    return (self.path == other.path or is_moved) and len(digests) < 2


@dataclasses.dataclass(frozen=True)
class RunGroup:
  """Runs that differ only in their seed.

  Attributes:
    experiment: their settings, with seed 0.
    runs: their folders.
    differs: what tells them from other groups that would have the same name, as parts of a name.
  """

  experiment: Experiment
  runs: list[Path]
  differs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class MeasuredExit:
  """What one exit of a detector reached.

  Attributes:
    number: the exit's number.
    aps: AP of every run, in per cent.
    latency_ms: median of one image through the SavedModel of the first run; None if not asked for.
  """

  number: int
  aps: tuple[float, ...]
  latency_ms: float | None

  @property
  def ap(self) -> float:
    """The mean over seeds."""
    return statistics.mean(self.aps)

  @property
  def spread(self) -> float:
    """The standard deviation over seeds; 0 for one."""
    return statistics.stdev(self.aps) if len(self.aps) > 1 else 0.0


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
  """A detector, and what its runs with several seeds measured.

  Attributes:
    config: the detector's settings.
    training: the training settings, whose seed counts for nothing.
    runs: the run folders.
    parameters: number of parameters in millions.
    flops: FLOPs in billions: twice the multiply-adds of one image.
    exits: all exits; AP and latency of the model are those of the last.
    differs: parts of its name that are there only to tell it from others.
  """

  config: DetectorConfig
  training: TrainingConfig
  runs: tuple[Path, ...]
  parameters: float
  flops: float
  exits: tuple[MeasuredExit, ...]
  differs: tuple[str, ...] = ()

  @property
  def aps(self) -> tuple[float, ...]:
    """AP of every run, in per cent."""
    return self.exits[-1].aps

  @property
  def ap(self) -> float:
    """The mean over seeds."""
    return self.exits[-1].ap

  @property
  def spread(self) -> float:
    """The standard deviation over seeds; 0 for one."""
    return self.exits[-1].spread

  @property
  def latency_ms(self) -> float | None:
    """The median of one image; None if not asked for."""
    return self.exits[-1].latency_ms

  @property
  def parts(self) -> tuple[str, ...]:
    """The model's name without its number of repeats, in parts."""
    return (*_parts(self.config, self.training), *self.differs)

  @property
  def series(self) -> str:
    """All parts, which name a line of a figure."""
    return ", ".join(self.parts)


def _parts(config: DetectorConfig, training: TrainingConfig) -> tuple[str, ...]:
  rate = training.drop_block_rate
  width = "" if config.backbone_width == 1 else f" x {config.backbone_width:g}"
  return (
    pyramid_name(config.architecture),
    f"{config.backbone}{width}",
    f"{config.num_filters} filters",
    f"{config.image_size[0]} pixels",
    *([f"DropBlock {rate:g}"] if rate else []),
    *([f"anytime ({config.exit_heads} heads)"] if config.num_exits > 1 else []),
    f"{training.epochs:g} epochs",
  )


def find_runs(folders: Iterable[Path]) -> list[Path]:
  """Returns the evaluated run folders at or below the given folders.

  Raises:
    UserError: there are none.
  """
  folders = list(folders)
  found = {
    file.parent
    for folder in folders
    for file in folder.rglob("evaluation.json")
    if (file.parent / "config.gin").is_file()
  }
  if not found:
    names = ", ".join(map(str, folders))
    raise UserError(f"No evaluated run (config.gin and evaluation.json) below {names}.")
  return sorted(found)


def read_models(
  groups: Sequence[RunGroup], with_latency: bool, on_model: Callable[[], None] = lambda: None
) -> list[MeasuredModel]:
  """Reads the measurements of runs, and computes the size of their detectors.

  Args:
    groups: evaluated run folders, from `group_runs`.
    with_latency: whether to export and time one run of each detector on this machine; needs its
      checkpoints and its prepared data.
    on_model: called after each detector.

  Raises:
    UserError: an evaluation cannot be read, or what latency needs is not there.
  """
  models = []
  for group in groups:
    evaluations = [RunFolder(run).evaluation() for run in group.runs]
    evaluations = [found for found in evaluations if found and found["metrics"]["AP"] is not None]
    if evaluations:
      config, training = group.experiment.detector, group.experiment.training
      parameters, flops = _size(config)
      latency = _latency(group.runs[0]) if with_latency else {}
      exits = _exits(config, evaluations, latency)
      runs = tuple(group.runs)
      models.append(MeasuredModel(config, training, runs, parameters, flops, exits, group.differs))
    on_model()
  return models


def group_runs(runs: Sequence[Path]) -> list[RunGroup]:
  """Groups run folders: those of one group differ only in their seed.

  Two folders of data count as one where both hold the same prepared dataset.

  Raises:
    UserError: a run or its evaluation cannot be read.
  """
  groups: list[tuple[RunGroup, _Data]] = []
  for run in runs:
    experiment, _ = RunFolder(run).load()
    data = _data_of(run, experiment.input)
    experiment = dataclasses.replace(
      experiment,
      input=dataclasses.replace(experiment.input, data_dir=""),
      training=dataclasses.replace(experiment.training, seed=0),
    )
    for group, of_group in groups:
      # Compared one by one: settings that hold a dict have no hash.
      if group.experiment == experiment and of_group.may_be(data):
        group.runs.append(run)
        break
    else:
      groups.append((RunGroup(experiment, [run]), data))
  return [
    dataclasses.replace(group, differs=_differs(group, data, groups)) for group, data in groups
  ]


def _data_of(run: Path, config: InputConfig) -> _Data:
  identity = None
  if is_prepared(config.data_dir):
    # Damaged data is no matter here: only the latency reads it, and says what is wrong.
    with contextlib.suppress(UserError):
      identity = DatasetInfo.load(config.data_dir).identity
  evaluation = RunFolder(run).evaluation() or {}
  return _Data(config.data_dir, identity, data_digest(evaluation.get("conditions")))


def _differs(
  group: RunGroup, data: _Data, groups: Sequence[tuple[RunGroup, _Data]]
) -> tuple[str, ...]:
  """Returns in words what tells a group from others that would be on the same line of a figure.

  On one line the number of repeats differs, and with it training settings may; data and
  augmentations may not.
  """
  experiment = group.experiment
  name = _parts(experiment.detector, experiment.training)
  line = [
    (other.experiment, of_other)
    for other, of_other in groups
    if _parts(other.experiment.detector, other.experiment.training) == name
  ]
  # Of those that data and augmentations tell apart, the other settings need not be named.
  alike = [
    [
      other
      for other, of_other in line
      if of_other.may_be(of_one)
      and (other.input, other.detector.num_repeats) == (one.input, one.detector.num_repeats)
    ]
    for one, of_one in line
  ]
  names = {
    "input": _varying([other.input for other, _ in line]),
    "detector": [name for some in alike for name in _varying([one.detector for one in some])],
    "training": [name for some in alike for name in _varying([one.training for one in some])],
  }
  return (
    *_data_in_words(data, [of_other for _, of_other in line]),
    *(
      _in_words(name, getattr(getattr(experiment, settings), name))
      for settings, varying in names.items()
      for name in dict.fromkeys(varying)
    ),
  )


def _data_in_words(data: _Data, on_the_line: Sequence[_Data]) -> list[str]:
  """Returns a name for data that no other on the line has; none where all are the same."""
  others = [other for other in on_the_line if not other.may_be(data)]
  if not others:
    return []
  # Moved data has one name.
  data = next(other for other in on_the_line if other.may_be(data))
  namings: list[Callable[[_Data], str]] = [
    lambda one: Path(one.path).name,
    lambda one: one.path,
    lambda one: f"{one.path}, evaluated on {(one.evaluated_on or 'unknown')[:8]}",
  ]
  naming = next((f for f in namings if f(data) not in [f(other) for other in others]), namings[-1])
  return [f"data {naming(data) or 'unknown'}"]


def _varying(settings: Sequence[Any]) -> list[str]:
  """Returns the names of settings of one class that differ among some."""
  return [
    field.name
    for field in dataclasses.fields(settings[0])
    if any(getattr(one, field.name) != getattr(settings[0], field.name) for one in settings)
  ]


def _in_words(name: str, value: object) -> str:
  if isinstance(value, tuple):
    return f"{name} {' + '.join(map(str, value))}"
  return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _size(config: DetectorConfig) -> tuple[float, float]:
  total = total_size(config, config.num_classes)
  return total.parameters / 1e6, 2 * total.multiply_adds / 1e9


def _exits(
  config: DetectorConfig, evaluations: Sequence[dict], latency: Mapping[int, float]
) -> tuple[MeasuredExit, ...]:
  metrics = [found.get("exit_metrics") or [found["metrics"]] for found in evaluations]
  first = config.num_repeats - config.num_exits + 1
  return tuple(
    MeasuredExit(number, tuple(100 * row["AP"] for row in of_exit), latency.get(number))
    for number, of_exit in enumerate(zip(*metrics, strict=True), start=first)
  )


def _latency(run: Path) -> dict[int, float]:
  """Returns the median milliseconds of one image by exit, through an export of the run."""
  from official_nasfpn.serving import export_detector, measure_latency

  folder = RunFolder(run)
  experiment, _ = folder.load()
  is_anytime = experiment.detector.num_exits > 1
  # Before the export, which takes longer. The exits of an anytime detector are timed by that.
  images = [] if is_anytime else _images(experiment.input)
  with tempfile.TemporaryDirectory() as scratch:
    export = export_detector(run, Path(scratch) / "saved_model")
    if is_anytime:
      return {latency.exit: latency.median_ms for latency in export.exit_latency}
    return {experiment.detector.num_repeats: measure_latency(export.path, images)["median_ms"]}


def _images(config: InputConfig) -> list[bytes]:
  """Returns the images to time with; the files that they were made from may be gone by now."""
  from official_nasfpn.data.stored_images import stored_images

  dataset = DatasetInfo.load(config.data_dir)
  records = stored_images(dataset, [config.evaluation_part])
  images = [encoded for _, encoded in itertools.islice(records, _NUM_LATENCY_IMAGES)]
  if not images:
    raise UserError(
      f"{dataset.data_dir} has no image in its part {config.evaluation_part!r} to time a detector "
      "with: give --nolatency."
    )
  return images

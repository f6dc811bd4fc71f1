"""Reads trained and evaluated detectors from their run folders."""

import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from official_nasfpn.architecture import pyramid_name
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig
from official_nasfpn.modeling.closed_form import total_size
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.run_folder import RunFolder

# Images that latency is measured on; the same for every detector.
_NUM_LATENCY_IMAGES = 10

# Detector, training settings, and the run folders that have both and differ only in the seed.
RunGroup = tuple[DetectorConfig, TrainingConfig, list[Path]]


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
  """

  config: DetectorConfig
  training: TrainingConfig
  runs: tuple[Path, ...]
  parameters: float
  flops: float
  exits: tuple[MeasuredExit, ...]

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
    config, rate = self.config, self.training.drop_block_rate
    width = "" if config.backbone_width == 1 else f" x {config.backbone_width:g}"
    return (
      pyramid_name(config.architecture),
      f"{config.backbone}{width}",
      f"{config.num_filters} filters",
      f"{config.image_size[0]} pixels",
      *([f"DropBlock {rate:g}"] if rate else []),
      *([f"anytime ({config.exit_heads} heads)"] if config.num_exits > 1 else []),
      f"{self.training.epochs:g} epochs",
    )

  @property
  def series(self) -> str:
    """All parts, which name a line of a figure."""
    return ", ".join(self.parts)


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
  for config, training, folders in groups:
    evaluations = [RunFolder(folder).evaluation() for folder in folders]
    evaluations = [found for found in evaluations if found and found["metrics"]["AP"] is not None]
    if evaluations:
      parameters, flops = _size(config)
      latency = _latency(folders[0]) if with_latency else {}
      exits = _exits(config, evaluations, latency)
      models.append(MeasuredModel(config, training, tuple(folders), parameters, flops, exits))
    on_model()
  return models


def group_runs(runs: Sequence[Path]) -> list[RunGroup]:
  """Groups run folders: those of one group differ only in their seed."""
  groups: list[RunGroup] = []
  for run in runs:
    experiment, _ = RunFolder(run).load()
    model = experiment.detector, dataclasses.replace(experiment.training, seed=0)
    # Compared one by one: settings that hold a dict have no hash.
    same = next((folders for *other, folders in groups if tuple(other) == model), None)
    if same is None:
      groups.append((*model, [run]))
    else:
      same.append(run)
  return groups


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

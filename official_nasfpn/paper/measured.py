"""Detectors that were trained and evaluated, read from their run folders."""

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from official_nasfpn.architecture import pyramid_name
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig
from official_nasfpn.training.run_folder import RunFolder

# Images that latency is measured on; the same for every detector.
_NUM_LATENCY_IMAGES = 10

# Run folders by detector and by the DropBlock rate that it was trained with.
RunsByModel = dict[tuple[DetectorConfig, float], list[Path]]


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
  """A detector, and what its runs with several seeds measured.

  Attributes:
    config: what it is made of.
    drop_block_rate: that it was trained with.
    runs: the run folders.
    aps: AP of every run, in per cent.
    parameters: in millions.
    flops: in billions: twice the multiply-adds of one image.
    latency_ms: median of one image through the SavedModel of the first run; None if not asked for.
  """

  config: DetectorConfig
  drop_block_rate: float
  runs: tuple[Path, ...]
  aps: tuple[float, ...]
  parameters: float
  flops: float
  latency_ms: float | None = None

  @property
  def ap(self) -> float:
    """The mean over seeds."""
    return statistics.mean(self.aps)

  @property
  def spread(self) -> float:
    """The standard deviation over seeds; 0 for one."""
    return statistics.stdev(self.aps) if len(self.aps) > 1 else 0.0

  @property
  def series(self) -> str:
    """What the model has in common with those of other numbers of repeats."""
    config = self.config
    width = "" if config.backbone_width == 1 else f" x {config.backbone_width:g}"
    drop_block = f" + DropBlock {self.drop_block_rate:g}" if self.drop_block_rate else ""
    name = pyramid_name(config.architecture)
    return (
      f"{name} {config.backbone}{width} @ {config.num_filters}, {config.image_size[0]}{drop_block}"
    )


def find_runs(folders: Iterable[Path]) -> list[Path]:
  """Returns the evaluated run folders at or below some folders.

  Raises:
    UserError: there is none.
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
  groups: RunsByModel, with_latency: bool, on_model: Callable[[], None] = lambda: None
) -> list[MeasuredModel]:
  """Reads what runs measured, and builds each of their detectors once to count it.

  Args:
    groups: evaluated run folders, from `group_runs`.
    with_latency: whether to export and time one run of each detector on this machine; needs its
      checkpoints and the images of its dataset.
    on_model: called after each detector.
  """
  models = []
  for (config, drop_block_rate), folders in groups.items():
    parameters, flops = _size(config)
    aps = [
      json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["metrics"]["AP"]
      for folder in folders
    ]
    latency_ms = _latency(folders[0]) if with_latency else None
    models.append(
      MeasuredModel(
        config,
        drop_block_rate,
        tuple(folders),
        tuple(100 * ap for ap in aps if ap is not None),
        parameters,
        flops,
        latency_ms,
      )
    )
    on_model()
  return [model for model in models if model.aps]


def group_runs(runs: Sequence[Path]) -> RunsByModel:
  """Returns the run folders by what was trained in them: those of a group differ in their seed."""
  groups: RunsByModel = {}
  for run in runs:
    experiment, _ = RunFolder(run).load()
    key = experiment.detector, experiment.training.drop_block_rate
    groups.setdefault(key, []).append(run)
  return groups


def _size(config: DetectorConfig) -> tuple[float, float]:
  from official_nasfpn.modeling.detector import build_detector
  from official_nasfpn.modeling.model_size import total_size

  total = total_size(build_detector(config, config.num_classes))
  return total.parameters / 1e6, 2 * total.multiply_adds / 1e9


def _latency(run: Path) -> float:
  from official_nasfpn.serving import export_run, measure_latency

  folder = RunFolder(run)
  experiment, _ = folder.load()
  part = experiment.input.evaluation_part
  dataset = DatasetInfo.load(experiment.input.data_dir)
  content = json.loads(dataset.annotation_file(part).read_text(encoding="utf-8"))
  images = [
    dataset.images_dir(part) / image["file_name"]
    for image in content["images"][:_NUM_LATENCY_IMAGES]
  ]
  with tempfile.TemporaryDirectory() as scratch:
    export_run(folder, Path(scratch) / "saved_model")
    return measure_latency(Path(scratch) / "saved_model", images)["median_ms"]

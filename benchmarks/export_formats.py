r"""Compares the export formats of a run: AP, size, and time per image.

Each format is exported, evaluated on the run's evaluation images, and compared box by box with the
SavedModel. Then the formats take turns with single images, decoding and non-maximum suppression
included. Other work on the machine slows all of them: compare the ratios. A run in bfloat16 is
exported in float32, so that all formats start from the same weights.

    python -m benchmarks.export_formats --model_dir RUN --model_dir RUN --output_dir EXPORTS \
        --figure formats.png
"""

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_MODEL_DIR = flags.DEFINE_multi_string("model_dir", None, "Run folders.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the exports.", required=True)
_FIGURE = flags.DEFINE_string("figure", None, "Image file: AP over latency.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Timed images for each format.", lower_bound=1)

# Weaker detections appear and disappear with rounding.
_CLEAR_SCORE = 0.3


@dataclasses.dataclass(frozen=True)
class Measured:
  """One export of one run.

  Attributes:
    name: the format.
    ap: AP on the run's evaluation images.
    ap50: AP at an IoU of 0.5.
    megabytes: size of all its files.
    same: share of the SavedModel's clear detections that this export has, too: boxes within 1
      pixel, scores within 0.001.
    milliseconds: median time for one image.
  """

  name: str
  ap: float
  ap50: float
  megabytes: float
  same: float
  milliseconds: float


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  import tensorflow as tf

  tf.get_logger().setLevel("ERROR")
  tables = {}
  for model_dir in map(Path, _MODEL_DIR.value):
    name = model_dir.parent.name if model_dir.name.startswith("seed_") else model_dir.name
    tables[name] = _measure(model_dir, Path(_OUTPUT_DIR.value) / name)
  print("| model | format | AP | AP50 | MB | same boxes | ms an image |")
  print("|---|---|---|---|---|---|---|")
  for name, rows in tables.items():
    for row in rows:
      print(
        f"| {name} | {row.name} | {row.ap:.4f} | {row.ap50:.4f} | {row.megabytes:.1f} | "
        f"{100 * row.same:.1f} % | {row.milliseconds:.1f} |"
      )
  if _FIGURE.value:
    _draw(tables, Path(_FIGURE.value))


def _measure(model_dir: Path, output_dir: Path) -> list[Measured]:
  from official_nasfpn.data.dataset_info import DatasetInfo
  from official_nasfpn.data.stored_images import stored_images
  from official_nasfpn.serving.detectors.detector import Detector
  from official_nasfpn.serving.export.check import evaluate_export
  from official_nasfpn.training.run_folder import RunFolder

  folder = _in_float32(RunFolder(model_dir), output_dir / "run")
  exports = _export_all(folder, output_dir)
  detectors = {name: Detector(path) for name, path in exports.items()}
  experiment, _ = folder.load()
  dataset, part = DatasetInfo.load(experiment.input.data_dir), experiment.input.evaluation_part
  images = [encoded for _, encoded in stored_images(dataset, [part])]
  results = {name: evaluate_export(found, dataset, part) for name, found in detectors.items()}
  same = _shares_of_same_boxes(detectors, images)
  times = _take_turns(detectors, images)
  return [
    Measured(
      name=name,
      ap=results[name].metrics["AP"],
      ap50=results[name].metrics["AP50"],
      megabytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
      same=same[name],
      milliseconds=times[name],
    )
    for name, path in exports.items()
  ]


def _in_float32(folder, path: Path):
  """Returns a run folder with the same checkpoints and `Training.compute_dtype` float32."""
  from official_nasfpn.training.run_folder import RunFolder

  experiment, label_map = folder.load()
  training = dataclasses.replace(experiment.training, compute_dtype="float32")
  copy = RunFolder(path)
  copy.claim(dataclasses.replace(experiment, training=training), label_map)
  if not copy.checkpoints.exists():
    copy.checkpoints.symlink_to(folder.checkpoints.absolute())
  return copy


def _export_all(folder, output_dir: Path) -> dict[str, Path]:
  from official_nasfpn.serving import export_detector

  exports = {"SavedModel": export_detector(folder.path, output_dir / "saved_model").path}
  for format_, precision in [
    ("onnx", "float32"),
    ("tflite", "float32"),
    ("tflite", "float16"),
    ("tflite", "int8"),
  ]:
    name = "ONNX" if format_ == "onnx" else f"TFLite {precision}"
    path = output_dir / name.lower().replace(" ", "_")
    exports[name] = export_detector(folder.path, path, format_, precision).path
  return exports


def _shares_of_same_boxes(
  detectors: Mapping, images: Sequence[bytes], reference: str = "SavedModel"
) -> dict[str, float]:
  """Returns, for each detector, the share of the reference's clear detections that it has."""
  import numpy as np

  found, total = dict.fromkeys(detectors, 0), 0
  for image in images:
    outputs = {name: detector([image]) for name, detector in detectors.items()}
    ours = outputs[reference]
    clear = np.flatnonzero(ours["scores"][0] > _CLEAR_SCORE)
    total += len(clear)
    for name, theirs in outputs.items():
      for index in clear:
        same = (
          (theirs["classes"][0] == ours["classes"][0, index])
          & (np.abs(theirs["scores"][0] - ours["scores"][0, index]) <= 1e-3)
          & (np.abs(theirs["boxes"][0] - ours["boxes"][0, index]).max(axis=1) <= 1.0)
        )
        found[name] += bool(same.any())
  return {name: count / total for name, count in found.items()}


def _take_turns(detectors: Mapping, images: Sequence[bytes]) -> dict[str, float]:
  """Returns each detector's median time for one image, in milliseconds."""
  times = {name: [] for name in detectors}
  for detector in detectors.values():
    for _ in range(2):  # Warm-up.
      detector(images[:1])
  with progress_bar(_ROUNDS.value, "time the formats", "round") as bar:
    for round_ in range(_ROUNDS.value):
      image = images[round_ % len(images)]
      for name, detector in detectors.items():
        start = time.perf_counter()
        detector([image])
        times[name].append(1000 * (time.perf_counter() - start))
      bar.update()
  return {name: statistics.median(values) for name, values in times.items()}


def _draw(tables: Mapping[str, Sequence[Measured]], path: Path) -> None:
  """Draws AP over latency: one panel per model, one point per format."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.5 * len(tables), 4.5), layout="constrained")
  all_axes = figure.subplots(1, len(tables), squeeze=False)[0]
  for axes, (name, rows) in zip(all_axes, tables.items(), strict=True):
    for row in rows:
      label = f"{row.name}, {row.megabytes:.0f} MB"
      axes.scatter(row.milliseconds, 100 * row.ap, s=60, label=label)
    middle = statistics.mean(100 * row.ap for row in rows)
    axes.set_ylim(middle - 2, middle + 2)
    axes.set_xlim(left=0)
    axes.set_title(name)
    axes.set_xlabel("one image, ms")
    axes.set_ylabel("AP, %")
    axes.grid(alpha=0.3)
    axes.legend()
  figure.savefig(path, dpi=120)


if __name__ == "__main__":
  run_program(main)

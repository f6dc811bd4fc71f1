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

from benchmarks.measured_formats import Measured, draw, shares_of_same_boxes, table_text
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_MODEL_DIR = flags.DEFINE_multi_string("model_dir", None, "Run folders.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the exports.", required=True)
_FIGURE = flags.DEFINE_string("figure", None, "Image file: AP over latency.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Timed images for each format.", lower_bound=1)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  import tensorflow as tf

  tf.get_logger().setLevel("ERROR")
  tables = {}
  for model_dir in map(Path, _MODEL_DIR.value):
    name = model_dir.parent.name if model_dir.name.startswith("seed_") else model_dir.name
    tables[name] = _measure(model_dir, Path(_OUTPUT_DIR.value) / name)
  print(table_text(tables))
  if _FIGURE.value:
    draw(tables, Path(_FIGURE.value))


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
  same = shares_of_same_boxes(detectors, images)
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


if __name__ == "__main__":
  run_program(main)

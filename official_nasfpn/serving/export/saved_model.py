"""From a run folder to a SavedModel as TensorFlow Serving expects it, whole or not at all.

EXPORT/1/saved_model.pb, EXPORT/1/variables/   the model
EXPORT/1/assets/                               see `serving/export_folder.py`
EXPORT/1/assets.extra/tf_serving_warmup_requests   of drawn images
EXPORT/1/SHA256SUMS                            see `serving/checksums.py`

A later checkpoint of the same run becomes EXPORT/2, which a server of EXPORT takes over by itself.

Signatures, and what they take:

serving_default  image_bytes, string [batch]: encoded JPEG or PNG images of any and of mixed sizes
image_tensors    images, uint8 [batch, height, width, 3]: RGB images of any one size
without_nms      images, float32 [batch, H, W, 3]: RGB, 0 to 255, fitted by the caller into the
                 network's input of Detector.image_size; see below

and of an anytime detector, with the exits 1 to N of which `serving_default` is the last

exit_1 ... exit_N  image_bytes, as above
detect_within      image_bytes, and budget_ms, float32 [batch] or [1]: takes the last exit that the
                   smallest budget allows for the whole batch, and the first where none is allowed

They give the arrays of `BATCH_ARRAYS` in `data/detections.py`, and `detect_within` those of
`BUDGET_ARRAYS` as well; `Detector.max_detections` is the number of their rows. Boxes are in pixels
of the images as they are encoded: an EXIF orientation is not followed. Only `without_nms` gives
what non-maximum suppression would choose from, with A anchors: boxes float32 [batch, A, 4] in
pixels of its input and scores float32 [batch, A, classes].
"""

import dataclasses
import json
from pathlib import Path

import tensorflow as tf

from official_nasfpn import folders
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.detector import Detector
from official_nasfpn.serving.checksums import write_checksums
from official_nasfpn.serving.export.exit_latency import drawn_images, measure_exits, sample_images
from official_nasfpn.serving.export.record import Record, export_record, is_exported
from official_nasfpn.serving.export.signatures import detection_signatures
from official_nasfpn.serving.export.warm_up import write_warm_up_requests
from official_nasfpn.serving.export_folder import RECORD_FILE
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.number_format import settled_compute_dtype
from official_nasfpn.training.restore import restore_detector
from official_nasfpn.training.run_folder import RunFolder


def export_saved_model(folder: RunFolder, checkpoint: str, output_dir: Path) -> tuple[Path, bool]:
  """Exports a checkpoint of a run folder.

  Args:
    folder: the run. Nothing else is needed; where the run's data is at hand, the exits of an
      anytime detector are timed with its images.
    checkpoint: path prefix.
    output_dir: becomes the folder of the model, with a numbered folder for each export.

  Returns:
    The SavedModel, OUTPUT_DIR/1 or later, and whether it is new: not if it was there already, from
    the same checkpoint and settings.

  Raises:
    UserError: the folder is no run, the checkpoint does not fit the settings,
      `output_dir` holds something else, or it cannot be written.
  """
  experiment, label_map = folder.load()
  record = export_record(folder, checkpoint, **_settled_format(experiment))
  versions = _versions(output_dir)
  if versions and is_exported(versions[-1], versions[-1] / "assets" / RECORD_FILE, record):
    return versions[-1], False
  detector = restore_detector(experiment, label_map, checkpoint)
  number = int(versions[-1].name) + 1 if versions else 1
  version = output_dir / str(number)
  # Beside the model's folder: in it, a server would see the unfinished export. Where that cannot be
  # it has a hidden name, which is no version's.
  with folders.whole_folder(version, "--output_dir", beside=output_dir) as unfinished:
    _save(detector, experiment, label_map, folder, record, unfinished)
  return version, True


def _settled_format(experiment: Experiment) -> dict[str, object]:
  """Returns what this machine makes of `Training.compute_dtype = 'auto'`; else the run says it."""
  stated = experiment.training.compute_dtype
  return {"compute_dtype": settled_compute_dtype(stated)} if stated == "auto" else {}


def _versions(output_dir: Path) -> list[Path]:
  """Returns the exports in a folder, oldest first; refuses a folder of anything else."""
  if not output_dir.exists():
    return []
  # An export that a killed process has left unfinished in a folder that is mounted is hidden.
  content = folders.content(output_dir) if output_dir.is_dir() else [output_dir]
  versions = [path for path in content if path.name.isdigit() and path.is_dir()]
  if len(versions) != len(content) or not all(
    (path / "assets" / RECORD_FILE).is_file() for path in versions
  ):
    raise UserError(
      f"{output_dir} exists and is not an export of ours. Give --output_dir a new folder."
    )
  return sorted(versions, key=lambda path: int(path.name))


def _save(
  detector: Detector,
  experiment: Experiment,
  label_map: LabelMap,
  folder: RunFolder,
  record: Record,
  path: Path,
) -> None:
  """Writes the SavedModel into an empty folder."""
  # A plain module: saving the tree of Keras layers takes five times as long and adds nothing.
  module = tf.Module(name="detection")
  module.detector_variables = detector.variables
  module.exit_latency_ms = tf.Variable(tf.zeros(len(detector.exits)), trainable=False)
  signatures = detection_signatures(
    detector, experiment.detector, label_map, module.exit_latency_ms
  )
  if len(detector.exits) > 1:
    images, source = sample_images(experiment)
    latency = measure_exits({n: signatures[f"exit_{n}"] for n in detector.exits}, images)
    # A budget is a promise, which the median would break every second time.
    module.exit_latency_ms.assign([exit_.p90_ms for exit_ in latency])
    record = {
      **record,
      "exit_latency": [dataclasses.asdict(exit_) for exit_ in latency],
      "exit_latency_measured_on": source,
    }
  record_file = path / RECORD_FILE
  record_file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
  assets = [folder.label_map_file, folder.config_file, record_file]
  module.assets = [tf.saved_model.Asset(str(asset)) for asset in assets]
  # Without our own gradients it would be loaded in an eighth less time, with a warning to everyone.
  tf.saved_model.save(module, str(path), signatures=signatures)
  # It was copied to the other assets.
  record_file.unlink()
  # Not of the data: an export may be given to those who must not see an image of it.
  (image,) = drawn_images(experiment.detector, 1)
  warm_up = {name: _example_inputs(function, image) for name, function in signatures.items()}
  write_warm_up_requests(path, warm_up)
  write_checksums(path)


def _example_inputs(function: tf.function, encoded: bytes) -> dict[str, tf.Tensor]:
  """Returns inputs for one image, of the names that a signature takes."""
  inputs = {}
  for spec in function.input_signature:
    if spec.name == "image_bytes":
      inputs[spec.name] = tf.constant([encoded])
    elif spec.name == "budget_ms":
      inputs[spec.name] = tf.constant([1000.0])
    else:
      image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
      height, width = image.shape[:2] if spec.shape[1] is None else spec.shape[1:3]
      resized = tf.image.resize(image[tf.newaxis], [height, width])
      inputs[spec.name] = tf.cast(resized, spec.dtype)
  return inputs

"""Our side of every row. Functions prepare it and return what measures a round."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.made_detections import make_outputs
from benchmarks.peer_comparison.data import (
  data,
  large_data,
  made_for_metrics,
  validation_images,
)
from benchmarks.peer_comparison.measuring import (
  Round,
  Settings,
  make_once,
  program,
  run,
  seconds_until,
  timed,
)
from benchmarks.peer_comparison.rounds import (
  BATCH_SIZE,
  drawn_after,
  forward_and_backward,
  processor_time_of_an_image,
  seconds_of_a_call,
  time_calls,
  time_loading,
  time_requests,
  warm,
)
from official_nasfpn.installation import use_onednn

if TYPE_CHECKING:
  import tensorflow as tf

  from official_nasfpn.data.dataset_info import DatasetInfo
  from official_nasfpn.modeling import DetectorConfig
  from official_nasfpn.training.experiment import Experiment

RECIPE = Path(__file__).with_name("r18_3x64.gin")
_CLASSES_OF_COCO = 90
# Of the matrices whose product says how fast the machine is.
_PRODUCT_SIDE = 2048


def _train_command(settings: Settings, folder: Path, steps: int) -> list[str]:
  return program(
    "official_nasfpn.train",
    f"--gin_file={RECIPE}",
    f"--gin_param=Training.epochs = {steps}",
    data_dir=data(settings),
    model_dir=folder,
    mode="train",
  )


def trained(settings: Settings) -> Path:
  """Returns the run folder of a trained R-18, 3 @ 64."""
  steps = settings.train_steps
  return make_once(
    settings,
    f"ours_{steps}_steps",
    lambda folder: [_train_command(settings, folder, steps)],
  )


def exported(settings: Settings) -> Path:
  """Returns the SavedModel of the trained weights."""
  folder = make_once(
    settings,
    f"ours_{settings.train_steps}_steps_export",
    lambda folder: [
      program("official_nasfpn.export", model_dir=trained(settings), output_dir=folder)
    ],
  )
  return folder / "1"


def start(settings: Settings) -> Callable[[], Round]:
  """Seconds from the start of `train` to the end of the first train step."""

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      command = _train_command(settings, Path(folder) / "run", steps=1000)
      return Round(seconds_until(command, "the first step is done"))

  return measure


def memory(settings: Settings) -> Callable[[], Round]:
  """Bytes that `train` holds at most, in 20 train steps and while it saves."""

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      return Round(run(_train_command(settings, Path(folder) / "run", steps=20)))

  return measure


def quickstart(settings: Settings) -> Callable[[], Round]:
  """Seconds of the whole quickstart."""

  def measure() -> Round:
    folder = settings.work_dir / "quickstart"
    shutil.rmtree(folder, ignore_errors=True)
    seconds, _ = timed(lambda: run(program("official_nasfpn.quickstart", output_dir=folder)))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return Round(seconds, {"AP50": summary["AP50"] or 0.0})

  return measure


def train_step(settings: Settings, num_filters: int) -> Callable[[], Round]:
  """Seconds of a train step: forward, backward, losses, assignment of anchors, optimizer."""
  experiment, step = built_step(settings, f"Detector.num_filters = {num_filters}")
  operations = operations_of_a_step(experiment)

  def measure() -> Round:
    seconds = seconds_of_a_call(step)
    return Round(seconds, {"share of the machine": operations / seconds / product_speed()})

  return warm(measure)


def built_step(
  settings: Settings, *bindings: str
) -> tuple["Experiment", Callable[[], "tf.Tensor"]]:
  """Returns the recipe with some bindings, and a `tf.function` of its train step, not yet traced.

  The step has its batch already, and returns the loss.
  """
  use_onednn()  # As `nasfpn train` does.
  import tensorflow as tf

  from official_nasfpn.training.optimizer import build_optimizer
  from official_nasfpn.training.task import DetectionTask

  experiment, dataset = opened_recipe(settings, *bindings)
  task = DetectionTask(experiment, dataset)
  model = task.build_model()
  optimizer = build_optimizer(experiment.training, 200, model.trainable_variables)
  metrics = task.build_metrics()
  batch = next(iter(task.build_inputs()))
  step = tf.function(lambda: task.train_step(batch, model, optimizer, metrics)["loss"])
  return experiment, step


def network(settings: Settings, num_filters: int) -> Callable[[], Round]:
  """Seconds of the forward and backward pass of the network; the loss is a sum of squares."""
  use_onednn()
  import tensorflow as tf

  from official_nasfpn.modeling import build_detector

  experiment, _ = opened_recipe(settings, f"Detector.num_filters = {num_filters}")
  model = build_detector(experiment.detector, experiment.detector.num_classes)
  images = tf.random.stateless_normal([BATCH_SIZE, 256, 256, 3], [0, 0])
  return time_calls(forward_and_backward(lambda: model(images, training=True), model))


def input_pipeline(settings: Settings, image_size: int) -> Callable[[], Round]:
  """Processor seconds of an augmented training image; anchors are assigned in the train step."""
  from official_nasfpn.data.config import InputConfig
  from official_nasfpn.data.input_pipeline import train_dataset

  folder = data(settings) if image_size == 256 else large_data(settings)
  config = InputConfig(data_dir=str(folder), train_parts=("train",))
  dataset = train_dataset(config, (image_size, image_size), BATCH_SIZE, seed=0)
  return functools.partial(processor_time_of_an_image, iter(dataset), image_size)


def evaluation(settings: Settings) -> Callable[[], Round]:
  """Seconds of an evaluation of 100 images with trained weights, once its graph is there."""
  use_onednn()
  import tensorflow as tf

  from official_nasfpn.modeling import build_detector
  from official_nasfpn.training import runner
  from official_nasfpn.training.evaluator import Evaluator
  from official_nasfpn.training.experiment import open_dataset
  from official_nasfpn.training.run_folder import RunFolder
  from official_nasfpn.training.strategies import build_strategy

  folder = RunFolder(trained(settings))
  experiment, dataset = open_dataset(folder.load()[0])
  with build_strategy("one_device", None).scope():
    runner.configure_tensorflow(experiment.training)
    model = build_detector(experiment.detector, dataset.label_map.num_classes)
    tf.train.Checkpoint(model=model).read(folder.latest_checkpoint()).expect_partial()
    evaluator = Evaluator(experiment, dataset, model)

  def measure() -> Round:
    seconds, result = timed(evaluator.run)
    return Round(seconds, {name: result.metrics[name] or 0.0 for name in ("AP", "AP50")})

  return warm(measure)


def metrics(settings: Settings) -> Callable[[], Round]:
  """Seconds of COCO's metrics, the annotation file read."""
  from official_nasfpn.training.coco_evaluation import evaluate_coco_results

  file, results, label_map = made_for_metrics(settings)

  def measure() -> Round:
    seconds, found = timed(lambda: evaluate_coco_results(file, results, label_map))
    return Round(seconds, {"AP": found.metrics["AP"]})

  return measure


def export(settings: Settings) -> Callable[[], Round]:
  """Seconds of an export of trained weights as a SavedModel."""
  from official_nasfpn import export_detector

  run_dir = trained(settings)

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      return Round(timed(lambda: export_detector(run_dir, Path(folder) / "export"))[0])

  return measure


def load(settings: Settings) -> Callable[[], Round]:
  """Seconds of loading the SavedModel."""
  return functools.partial(time_loading, exported(settings))


def request(settings: Settings) -> Callable[[], Round]:
  """Seconds of a request of one image of 256 pixels, with trained weights."""
  import tensorflow as tf

  model = tf.saved_model.load(str(exported(settings)))
  images = validation_images(data(settings))
  signature = model.signatures["image_tensors"]
  return time_requests(lambda image: signature(images=image), images)


def forward_r50(settings: Settings) -> Callable[[], Round]:
  """Seconds of the forward pass of R-50, 7 @ 256 on one image of 640 pixels."""
  del settings
  import tensorflow as tf

  forward, _ = _r50()
  function = tf.function(lambda: tf.add_n([tf.reduce_sum(x) for x in tf.nest.flatten(forward())]))
  return time_calls(function)


def request_r50(settings: Settings) -> Callable[[], Round]:
  """Seconds of R-50, 7 @ 256 on one image of 640 pixels, with non-maximum suppression.

  It has not been trained, so the suppression has outputs that are drawn as those of a trained one.
  """
  del settings
  import tensorflow as tf

  from official_nasfpn.modeling.anchors import flat_anchors
  from official_nasfpn.modeling.detections import detect_boxes

  forward, config = _r50()
  anchors = flat_anchors(config)
  logits, deltas = make_outputs(len(anchors), _CLASSES_OF_COCO + 1)
  # One level of one row, as far as joining the levels is concerned.
  drawn = {
    "class_logits": {"3": logits[:, :, tf.newaxis, 1:]},
    "box_deltas": {"3": deltas[:, :, tf.newaxis]},
  }

  zero = tf.Variable(0.0)

  @tf.function
  def detect() -> dict[str, "tf.Tensor"]:
    outputs = drawn_after(tf.nest.flatten(forward()), drawn, zero)
    return detect_boxes(outputs, anchors, tf.constant([config.image_size], tf.float32), config)

  def measure() -> Round:
    seconds, found = timed(detect)
    return Round(seconds, {"detections": float(found["num_detections"][0])})

  return warm(measure)


def _r50() -> tuple[Callable, "DetectorConfig"]:
  import tensorflow as tf

  from official_nasfpn.modeling import DetectorConfig, build_detector

  config = DetectorConfig()
  model = build_detector(config, _CLASSES_OF_COCO)
  images = tf.random.stateless_normal([1, *config.image_size, 3], [0, 0])
  return lambda: model(images, training=False), config


def opened_recipe(settings: Settings, *bindings: str) -> tuple["Experiment", "DatasetInfo"]:
  from official_nasfpn.training import runner
  from official_nasfpn.training.experiment import load_experiment, open_dataset

  where = f"Input.data_dir = {str(data(settings))!r}"
  experiment, dataset = open_dataset(load_experiment([RECIPE], [where, *bindings]))
  runner.configure_tensorflow(experiment.training)
  return experiment, dataset


def operations_of_a_step(experiment: "Experiment") -> float:
  """Returns the floating-point operations of forward and backward: three times the forward's."""
  from official_nasfpn.modeling.closed_form import detector_size

  config = experiment.detector
  parts = detector_size(config, config.num_classes)
  multiply_adds = sum(part.multiply_adds for part in parts.values())
  return 3 * 2 * multiply_adds * experiment.training.batch_size


def product_speed() -> float:
  """Returns operations a second of a product of matrices, which is as fast as the machine goes."""
  import tensorflow as tf

  matrix = tf.random.stateless_normal([_PRODUCT_SIDE, _PRODUCT_SIDE], [0, 0])
  seconds = min(timed(lambda: tf.matmul(matrix, matrix).numpy())[0] for _ in range(3))
  return 2 * _PRODUCT_SIDE**3 / seconds

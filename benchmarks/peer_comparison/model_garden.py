"""Model Garden's side of every row, over the installed tf-models-official.

Commands are those of its documentation. It reads our TFRecords, and annotations with its own
category ids.
"""

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
  time_calls,
  time_loading,
  time_requests,
  warm,
)

if TYPE_CHECKING:
  import tensorflow as tf

EXPERIMENT = "retinanet_resnetfpn_coco"
CONFIG = Path(__file__).with_name("r18_3x64.yaml")
DEFAULT_NMS, BEST_NMS = "v2", "batched"
_CLASSES_OF_COCO = 90


def annotations(settings: Settings) -> Path:
  """Returns the validation annotations with category ids counted from 1, as in TFRecords."""
  content = json.loads((data(settings) / "val.json").read_text(encoding="utf-8"))
  ids = {row["id"]: number for number, row in enumerate(content["categories"], start=1)}
  for row in content["categories"]:
    row["id"] = ids[row["id"]]
  for row in content["annotations"]:
    row["category_id"] = ids[row["category_id"]]
  file = settings.work_dir / "model_garden_val.json"
  file.write_text(json.dumps(content), encoding="utf-8")
  return file


def _overrides(settings: Settings, steps: int) -> dict[str, object]:
  return {
    "task.annotation_file": annotations(settings),
    "task.train_data.input_path": f"{data(settings)}/train*.tfrecord",
    "task.validation_data.input_path": f"{data(settings)}/val*.tfrecord",
    "trainer.train_steps": steps,
  }


def _train_command(
  settings: Settings, folder: Path, steps: int, mode: str = "train", **more: object
) -> list[str]:
  overrides = {**_overrides(settings, steps), **more}
  return program(
    "official.vision.train",
    experiment=EXPERIMENT,
    config_file=CONFIG,
    params_override=",".join(f"{name}={value}" for name, value in overrides.items()),
    mode=mode,
    model_dir=folder,
  )


def _export_command(settings: Settings, run_dir: Path, folder: Path, nms: str) -> list[str]:
  nms = f"task.model.detection_generator.nms_version={nms}"
  return program(
    "official.vision.serving.export_saved_model",
    experiment=EXPERIMENT,
    config_file=CONFIG,
    params_override=nms,
    checkpoint_path=run_dir,
    export_dir=folder,
    batch_size=1,
    input_type="image_tensor",
    input_image_size="256,256",
  )


def trained(settings: Settings) -> Path:
  """Returns the folder of a trained R-18, 3 @ 64."""
  steps = settings.train_steps
  return make_once(
    settings,
    f"model_garden_{steps}_steps",
    lambda folder: [_train_command(settings, folder, steps)],
  )


def _exported(settings: Settings, nms: str) -> Path:
  folder = make_once(
    settings,
    f"model_garden_{settings.train_steps}_steps_export_{nms}",
    lambda folder: [_export_command(settings, trained(settings), folder, nms)],
  )
  return folder / "saved_model"


def exported(settings: Settings) -> Path:
  """Returns the SavedModel of the trained weights, with the default suppression."""
  return _exported(settings, DEFAULT_NMS)


def exported_with_best_nms(settings: Settings) -> Path:
  """Returns the SavedModel of the trained weights, with the quickest suppression."""
  return _exported(settings, BEST_NMS)


def start(settings: Settings) -> Callable[[], Round]:
  """Seconds from the start of its `train` to the end of the first train step."""

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      each = {"trainer.steps_per_loop": 1, "trainer.summary_interval": 1}
      return Round(seconds_until(_train_command(settings, Path(folder), 1000, **each), "steps/sec"))

  return measure


def memory(settings: Settings) -> Callable[[], Round]:
  """Bytes that its `train` holds at most, in 20 train steps and while it saves."""

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      return Round(run(_train_command(settings, Path(folder), steps=20)))

  return measure


def quickstart(settings: Settings) -> Callable[[], Round]:
  """Seconds of a training of 60 steps with an evaluation at its end, and of an export."""

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      run_dir, export_dir = Path(folder) / "run", Path(folder) / "export"

      def all_of_it() -> None:
        run(_train_command(settings, run_dir, steps=60, mode="train_and_eval"))
        run(_export_command(settings, run_dir, export_dir, DEFAULT_NMS))

      return Round(timed(all_of_it)[0])

  return measure


def train_step(settings: Settings, num_filters: int) -> Callable[[], Round]:
  """Seconds of a train step: forward, backward, losses, optimizer; anchors come with the input."""
  import tensorflow as tf

  params, task = _task(settings, _width(num_filters))
  model = task.build_model()
  optimizer = task.create_optimizer(params.trainer.optimizer_config, params.runtime)
  batch = next(iter(task.build_inputs(params.task.train_data)))
  return time_calls(tf.function(lambda: task.train_step(batch, model, optimizer)["loss"]))


def network(settings: Settings, num_filters: int) -> Callable[[], Round]:
  """Seconds of the forward and backward pass of the network; the loss is a sum of squares."""
  import tensorflow as tf

  model = _task(settings, _width(num_filters))[1].build_model()
  images = tf.random.stateless_normal([BATCH_SIZE, 256, 256, 3], [0, 0])
  return time_calls(forward_and_backward(lambda: model(images, training=True), model))


def input_pipeline(settings: Settings, image_size: int) -> Callable[[], Round]:
  """Processor seconds of an augmented training image, its anchors assigned."""
  folder = data(settings) if image_size == 256 else large_data(settings)
  params, task = _task(
    settings,
    {
      "task.model.input_size": [image_size, image_size, 3],
      "task.train_data.input_path": f"{folder}/train*.tfrecord",
    },
  )
  dataset = task.build_inputs(params.task.train_data)
  return functools.partial(processor_time_of_an_image, iter(dataset), image_size)


def evaluation(settings: Settings, nms: str) -> Callable[[], Round]:
  """Seconds of an evaluation of 100 images with trained weights, once its graph is there."""
  import tensorflow as tf
  from official.core import train_utils

  params, task = _task(settings, {"task.model.detection_generator.nms_version": nms})
  trainer = train_utils.create_trainer(params, task, train=False, evaluate=True)
  checkpoint = tf.train.latest_checkpoint(str(trained(settings)))
  trainer.checkpoint.restore(checkpoint).expect_partial()
  num_steps = tf.constant(params.trainer.validation_steps, tf.int32)

  def measure() -> Round:
    seconds, found = timed(lambda: trainer.evaluate(num_steps))
    return Round(seconds, {name: float(found[name]) for name in ("AP", "AP50")})

  return warm(measure)


def metrics(settings: Settings) -> Callable[[], Round]:
  """Seconds of COCO's metrics by pycocotools, which its evaluator uses, the annotations read."""
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval

  file, results, _ = made_for_metrics(settings)

  def evaluate() -> float:
    truth = COCO(str(file))
    found = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "bbox")
    found.evaluate()
    found.accumulate()
    found.summarize()
    return float(found.stats[0])

  def measure() -> Round:
    seconds, ap = timed(evaluate)
    return Round(seconds, {"AP": ap})

  return measure


def export(settings: Settings) -> Callable[[], Round]:
  """Seconds of an export of trained weights as a SavedModel."""
  import tensorflow as tf
  from official.vision.serving import export_saved_model_lib

  params = _params(settings, {})
  checkpoint = tf.train.latest_checkpoint(str(trained(settings)))

  def measure() -> Round:
    with tempfile.TemporaryDirectory() as folder:
      seconds, _ = timed(
        lambda: export_saved_model_lib.export_inference_graph(
          input_type="image_tensor",
          batch_size=1,
          input_image_size=[256, 256],
          params=params,
          checkpoint_path=checkpoint,
          export_dir=folder,
        )
      )
    return Round(seconds)

  return measure


def load(settings: Settings) -> Callable[[], Round]:
  """Seconds of loading the SavedModel."""
  return functools.partial(time_loading, exported(settings))


def request(settings: Settings) -> Callable[[], Round]:
  """Seconds of a request of one image of 256 pixels, with its quickest suppression."""
  import tensorflow as tf

  model = tf.saved_model.load(str(exported_with_best_nms(settings)))
  signature = model.signatures["serving_default"]
  images = validation_images(data(settings))
  return time_requests(lambda image: signature(inputs=image), images)


def forward_r50(settings: Settings) -> Callable[[], Round]:
  """Seconds of the forward pass of R-50, 7 @ 256 on one image of 640 pixels."""
  import tensorflow as tf

  forward, _ = _r50(settings)
  function = tf.function(lambda: tf.add_n([tf.reduce_sum(x) for x in tf.nest.flatten(forward())]))
  return time_calls(function)


def request_r50(settings: Settings) -> Callable[[], Round]:
  """Seconds of R-50, 7 @ 256 on one image of 640 pixels, with the default suppression.

  It has not been trained, so the suppression has outputs that are drawn as those of a trained one.
  """
  import tensorflow as tf
  from official.vision.ops.anchor import Anchor

  forward, model = _r50(settings)
  anchors = Anchor(3, 7, 3, [0.5, 1.0, 2.0], 4.0, (640, 640)).multilevel_boxes
  anchors = {level: boxes[tf.newaxis] for level, boxes in anchors.items()}
  shapes = {level: boxes.shape[:3] for level, boxes in anchors.items()}
  sizes = [boxes.shape.num_elements() // 4 for boxes in anchors.values()]
  raw = [
    {
      level: tf.reshape(part, [*shape, -1])
      for (level, shape), part in zip(shapes.items(), tf.split(flat, sizes, axis=1), strict=True)
    }
    for flat in make_outputs(sum(sizes), _CLASSES_OF_COCO + 1)
  ]

  zero = tf.Variable(0.0)

  @tf.function
  def detect() -> Mapping[str, "tf.Tensor"]:
    scores, deltas = drawn_after(tf.nest.flatten(forward()), raw, zero)
    return model.detection_generator(deltas, scores, anchors, tf.constant([[640.0, 640.0]]))

  def measure() -> Round:
    seconds, found = timed(detect)
    return Round(seconds, {"detections": float(found["num_detections"][0])})

  return warm(measure)


def _width(num_filters: int) -> dict[str, Any]:
  return {
    "task.model.decoder.nasfpn.num_filters": num_filters,
    "task.model.head.num_filters": num_filters,
  }


def _r50(settings: Settings) -> tuple[Callable, Any]:
  import tensorflow as tf

  overrides = {
    **_width(256),
    "task.model.backbone.resnet.model_id": 50,
    "task.model.decoder.nasfpn.num_repeats": 7,
    "task.model.input_size": [640, 640, 3],
    "task.model.num_classes": _CLASSES_OF_COCO + 1,
  }
  model = _task(settings, overrides)[1].build_model()
  images = tf.random.stateless_normal([1, 640, 640, 3], [0, 0])

  def forward() -> Any:
    features = model.backbone(images, training=False)
    return model.head(model.decoder(features, training=False), training=False)[:2]

  return forward, model


def _task(settings: Settings, overrides: Mapping[str, Any]) -> tuple[Any, Any]:
  from official.core import task_factory

  params = _params(settings, overrides)
  return params, task_factory.get_task(params.task)


def _params(settings: Settings, overrides: Mapping[str, Any]) -> Any:
  """Returns the experiment, as its `train` reads it."""
  import official.vision.registry_imports  # noqa: F401
  from official.core import exp_factory
  from official.modeling import hyperparams

  params = exp_factory.get_exp_config(EXPERIMENT)
  params = hyperparams.override_params_dict(params, str(CONFIG), is_strict=True)
  for name, value in {**_overrides(settings, steps=1000), **overrides}.items():
    for key in reversed(name.split(".")):
      value = {key: value if not isinstance(value, Path) else str(value)}
    params.override(value, is_strict=True)
  params.validate()
  return params

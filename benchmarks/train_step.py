"""Times the forward and backward pass of our detector and of Model Garden's, in one process.

Both have the same backbone, pyramid, heads, precision and batch. The loss is a sum of squares, so
that only the networks are compared. They take turns; other work on the machine slows both: compare
the ratio.

    python -m benchmarks.train_step --num_steps 30
"""

import statistics
import sys
import time
from pathlib import Path

from absl import app, flags, logging

sys.path.insert(0, str(Path(__file__).parents[1]))

from official_nasfpn.modeling import DetectorConfig

_NUM_STEPS = flags.DEFINE_integer("num_steps", 30, "Timed steps of each model.")
_NUM_FILTERS = flags.DEFINE_integer("num_filters", 64, "Width of pyramid and heads.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images per step.")
_POLICY = flags.DEFINE_string("policy", "float32", "Keras dtype policy of both models.")

_NUM_CLASSES = 4


def model_garden_detector(config: DetectorConfig):
  """Returns Model Garden's RetinaNet with the same backbone, pyramid and heads, without NMS."""
  import tf_keras
  from official.vision.modeling.backbones.resnet import ResNet
  from official.vision.modeling.decoders.nasfpn import NASFPN
  from official.vision.modeling.heads.dense_prediction_heads import RetinaNetHead
  from official.vision.modeling.retinanet_model import RetinaNetModel

  norm = {"norm_momentum": config.norm_momentum, "norm_epsilon": config.norm_epsilon}
  specs = tf_keras.layers.InputSpec(shape=[None, *config.image_size, 3])
  backbone = ResNet(int(config.backbone.removeprefix("R-")), specs, **norm)
  decoder = NASFPN(
    backbone.output_specs, num_filters=config.num_filters, num_repeats=config.num_repeats, **norm
  )
  head = RetinaNetHead(
    3, 7, _NUM_CLASSES, config.num_anchors_per_location, num_filters=config.num_filters, **norm
  )
  return RetinaNetModel(backbone, decoder, head, detection_generator=None)


def compile_step(model, images):
  """Returns a traced function of a forward and backward pass, and the seconds of its first call."""
  import tensorflow as tf

  @tf.function
  def step():
    with tf.GradientTape() as tape:
      outputs = tf.nest.flatten(model(images, training=True))
      loss = tf.add_n([tf.reduce_sum(tf.cast(maps, tf.float32) ** 2) for maps in outputs])
    return tf.add_n(
      [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, model.trainable_variables)]
    )

  start = time.perf_counter()
  step()
  return step, time.perf_counter() - start


def main(argv: list[str]) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)
  import tensorflow as tf
  import tf_keras

  from official_nasfpn.modeling import build_detector

  tf_keras.mixed_precision.set_global_policy(_POLICY.value)
  config = DetectorConfig(
    backbone="R-18", num_repeats=3, num_filters=_NUM_FILTERS.value, image_size=(256, 256)
  )
  images = tf.random.normal([_BATCH_SIZE.value, *config.image_size, 3])
  steps, times = {}, {}
  for name, build in (
    ("ours", lambda: build_detector(config, _NUM_CLASSES)),
    ("Model Garden", lambda: model_garden_detector(config)),
  ):
    start = time.perf_counter()
    model = build()
    built = time.perf_counter() - start
    steps[name], first_call = compile_step(model, images)
    nodes = len(steps[name].get_concrete_function().graph.get_operations())
    print(f"{name}: built in {built:.1f} s, first step {first_call:.1f} s, {nodes} operations")
    times[name] = []
  for _ in range(_NUM_STEPS.value):
    for name, step in steps.items():
      start = time.perf_counter()
      step()
      times[name].append(time.perf_counter() - start)
  medians = {name: statistics.median(values) for name, values in times.items()}
  for name, median in medians.items():
    print(f"{name}: {1000 * median:.0f} ms a step, {1000 * min(times[name]):.0f} at best")
  print(f"ratio of the medians: {medians['ours'] / medians['Model Garden']:.2f}")


if __name__ == "__main__":
  app.run(main)

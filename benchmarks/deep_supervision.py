"""Times the train step with and without early exits: the cost of deep supervision.

The steps take turns in one process. Other work on the machine slows all of them: compare the
ratios.

    python -m benchmarks.deep_supervision --data_dir DATA --num_steps 30
"""

import dataclasses
import statistics
import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data.", required=True)
_NUM_STEPS = flags.DEFINE_integer("num_steps", 30, "Timed steps of each kind.", lower_bound=1)

_RECIPE = Path(__file__).resolve().parent.parent / "gin" / "bccd_anytime.gin"


def _build_step(experiment, dataset):
  """Returns a function that runs one train step; it has been traced and run twice."""
  import tensorflow as tf

  from official_nasfpn.training.optimizer import build_optimizer
  from official_nasfpn.training.task import DetectionTask

  task = DetectionTask(experiment, dataset)
  model = task.build_model()
  num_images = dataset.num_images(experiment.input.train_parts)
  optimizer = build_optimizer(experiment.training, num_images, model.trainable_variables)
  metrics = task.build_metrics()
  batch = next(iter(task.build_inputs()))
  step = tf.function(lambda: task.train_step(batch, model, optimizer, metrics)["loss"])
  for _ in range(2):
    step().numpy()
  return step


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  import tf_keras

  from official_nasfpn.training.experiment import load_experiment, open_dataset
  from official_nasfpn.training.number_format import settled_compute_dtype

  experiment, dataset = open_dataset(
    load_experiment([_RECIPE], [f"Input.data_dir = {_DATA_DIR.value!r}"])
  )
  tf_keras.mixed_precision.set_global_policy(
    settled_compute_dtype(experiment.training.compute_dtype)
  )
  steps, times = {}, {}
  for kind in ("last", "shared", "separate"):
    detector = dataclasses.replace(experiment.detector, exit_heads=kind)
    steps[kind] = _build_step(dataclasses.replace(experiment, detector=detector), dataset)
    times[kind] = []
  for _ in range(_NUM_STEPS.value):
    for kind, step in steps.items():
      start = time.perf_counter()
      step().numpy()
      times[kind].append(time.perf_counter() - start)
  medians = {kind: statistics.median(values) for kind, values in times.items()}
  for kind, median in medians.items():
    ratio = median / medians["last"]
    print(f"exit_heads = {kind!r}: {1000 * median:.0f} ms a step, {ratio:.2f} times 'last'")


if __name__ == "__main__":
  run_program(main)

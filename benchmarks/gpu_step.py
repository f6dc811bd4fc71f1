r"""Measures the train step and `nasfpn train` with and without XLA on this machine; writes JSON.

    python -m benchmarks.gpu_step --gin_file gin/paper/nasfpn_r50_640.gin \
        --gin_param "Training.batch_size = 48" --data_dir DATA --output gpu.json

The step alone has its batch on the device already. The training has the real input, logging and
loop of `nasfpn train`; its speed is the median over loops of `Training.steps_per_loop`, without the
first, which compiles. Without --data_dir it reads drawn images of the recipe's size. A batch that
does not fit is reported as such. Nothing else should run on the machine at the same time.
"""

import contextlib
import dataclasses
import gc
import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from official_nasfpn import __version__
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.training.experiment import Experiment, load_experiment, open_dataset

_GIN_FILE = flags.DEFINE_multi_string("gin_file", None, "The recipe.", required=True)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "A single binding.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Made by prepare_data. Default: drawn images.")
_KINDS = flags.DEFINE_multi_enum("kind", ["plain", "xla"], ["plain", "xla"], "What to measure.")
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", 20, "Timed steps of each kind; 0 leaves the steps alone out.", lower_bound=0
)
_TRAIN_STEPS = flags.DEFINE_integer(
  "train_steps", 200, "Steps of each training; 0 leaves the trainings out.", lower_bound=0
)
_OUTPUT = flags.DEFINE_string("output", None, "File for the figures. Default: printed alone.")

_DRAWN_IMAGES = 400


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  with tempfile.TemporaryDirectory() as folder:
    experiment = _experiment(Path(folder))
    import tensorflow as tf

    # Without it TensorFlow takes all of the memory, and none of it could be measured.
    for gpu in tf.config.list_physical_devices("GPU"):
      tf.config.experimental.set_memory_growth(gpu, True)
    figures = _machine(experiment)
    for name in _KINDS.value:
      jit_compile = name == "xla"
      training = dataclasses.replace(experiment.training, jit_compile=jit_compile)
      experiment = dataclasses.replace(experiment, training=training)
      if _NUM_STEPS.value:
        with _measured(figures, f"step_{name}") as measured:
          measured |= _time_steps(experiment, jit_compile)
      if _TRAIN_STEPS.value:
        with _measured(figures, f"train_{name}") as measured:
          measured |= _time_training(experiment, Path(folder) / name)
  text = json.dumps(figures, indent=2)
  print(text)
  if _OUTPUT.value:
    Path(_OUTPUT.value).write_text(f"{text}\n", encoding="utf-8")


def _experiment(folder: Path) -> Experiment:
  """Returns the recipe as an experiment of `--train_steps`."""
  params = list(_GIN_PARAM.value)
  data_dir = _DATA_DIR.value
  if data_dir is None:
    side = max(load_experiment(_GIN_FILE.value, params).detector.image_size)
    from official_nasfpn import prepare_dataset

    data_dir = folder / "data"
    prepare_dataset(data_dir, shapes=ShapesConfig(_DRAWN_IMAGES, side))
  params.append(f"Input.data_dir = {str(Path(data_dir).resolve())!r}")
  experiment = load_experiment(_GIN_FILE.value, params)
  training = experiment.training
  training = dataclasses.replace(
    training, epochs=max(_TRAIN_STEPS.value, 1), images_per_epoch=training.batch_size
  )
  return dataclasses.replace(experiment, training=training)


def _machine(experiment: Experiment) -> dict[str, object]:
  import tensorflow as tf

  from official_nasfpn.gpus import unused_gpu
  from official_nasfpn.training.experiment import model_name
  from official_nasfpn.training.narration import where_and_how
  from official_nasfpn.training.strategies import build_strategy

  return {
    "version": __version__,
    "tensorflow": tf.__version__,
    "cuda": tf.sysconfig.get_build_info().get("cuda_version"),
    "where": where_and_how(experiment, build_strategy("one_device")),
    "unused_gpu": unused_gpu(),
    "model": model_name(experiment),
    "sync_batch_norm": experiment.detector.sync_batch_norm,
    "batch_size": experiment.training.batch_size,
    "data": str(_DATA_DIR.value or "drawn images"),
  }


@contextlib.contextmanager
def _measured(figures: dict[str, object], name: str) -> Iterator[dict[str, object]]:
  """Adds a measurement with its seconds and its peak of the GPU's memory, or why there is none."""
  import tensorflow as tf
  import tf_keras

  from official_nasfpn.training.memory import OutOfMemory

  tf_keras.backend.clear_session()
  gc.collect()
  has_gpu = bool(tf.config.list_physical_devices("GPU"))
  if has_gpu:
    tf.config.experimental.reset_memory_stats("GPU:0")
  start = time.perf_counter()
  measured: dict[str, object] = {}
  try:
    yield measured
  except OutOfMemory as error:
    measured["error"] = str(error)
  measured["seconds"] = round(time.perf_counter() - start, 1)
  if has_gpu:
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    measured["peak_gib"] = round(peak / 2**30, 2)
  figures[name] = measured


def _time_steps(experiment: Experiment, jit_compile: bool) -> dict[str, object]:
  """Times whole train steps on one batch that the device holds."""
  import tensorflow as tf

  from official_nasfpn.training.memory import memory_errors
  from official_nasfpn.training.optimizer import build_optimizer
  from official_nasfpn.training.runner import configure_tensorflow
  from official_nasfpn.training.strategies import build_strategy
  from official_nasfpn.training.task import DetectionTask

  experiment, dataset = open_dataset(experiment)
  config = experiment.training
  strategy = build_strategy("one_device")
  with strategy.scope():
    configure_tensorflow(config)
    task = DetectionTask(experiment, dataset, jit_compile=jit_compile)
    model = task.build_model()
    optimizer = build_optimizer(config, config.batch_size, model.trainable_variables)
    metrics = task.build_metrics()
  with tf.device(strategy.extended.worker_devices[0]):
    batch = tf.nest.map_structure(tf.identity, next(iter(task.build_inputs())))
  step = tf.function(
    lambda: strategy.run(lambda: task.train_step(batch, model, optimizer, metrics)[task.loss])
  )

  def seconds_of_a_step() -> float:
    start = time.perf_counter()
    # The GPU works on while Python goes on: the loss must have arrived.
    step().numpy()
    return time.perf_counter() - start

  with memory_errors("Training.batch_size", config.batch_size, strategy):
    first = seconds_of_a_step()
    seconds_of_a_step()
    seconds = statistics.median(seconds_of_a_step() for _ in range(_NUM_STEPS.value))
  return {
    "first_call_s": round(first, 1),
    "step_ms": round(1000 * seconds, 2),
    "images_per_s": round(config.batch_size / seconds, 1),
    "loss": round(float(metrics[0].result()), 4),
  }


def _time_training(experiment: Experiment, run: Path) -> dict[str, object]:
  """Times the loops of a whole training, as it logs them."""
  from official_nasfpn.training.training import train_detector

  train_detector(experiment, run, evaluate=False)
  log = (run / "train.log").read_text(encoding="utf-8")
  # The first loops are a step alone and the rest of its loop.
  steps_per_s = [float(rate) for rate in re.findall(r"steps/sec:\s+([\d.]+)", log)]
  steady = statistics.median(steps_per_s[1:] or steps_per_s)
  return {
    "steps_per_s": steady,
    "images_per_s": round(steady * experiment.training.batch_size, 1),
    "loops": len(steps_per_s),
  }


if __name__ == "__main__":
  run_program(main)

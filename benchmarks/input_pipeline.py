r"""Compares our training input pipeline with Model Garden's in images per second, on one dataset.

    python -m benchmarks.input_pipeline --data_dir data/bccd --image_size 512

Model Garden's pipeline also assigns anchors; our train step does that. The two take turns, so that
other work on the machine slows both.
"""

import time

from absl import app, flags

import official_nasfpn  # noqa: F401  (sets the environment before TensorFlow is imported)

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Data prepared by prepare_data.", required=True)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 256, "Side of the network's input in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images per batch.")
_ROUNDS = flags.DEFINE_integer("rounds", 4, "Measurements of each pipeline.")


def _ours():
  from official_nasfpn.data.config import InputConfig
  from official_nasfpn.data.input_pipeline import train_dataset

  config = InputConfig(data_dir=_DATA_DIR.value, train_parts=("train",))
  return train_dataset(config, (_IMAGE_SIZE.value, _IMAGE_SIZE.value), _BATCH_SIZE.value, seed=0)


def _model_garden():
  import official.vision.registry_imports  # noqa: F401
  from official.core import exp_factory, task_factory

  side = _IMAGE_SIZE.value
  params = exp_factory.get_exp_config("retinanet_resnetfpn_coco")
  params.task.init_checkpoint = None
  params.task.model.input_size = [side, side, 3]
  params.task.train_data.input_path = f"{_DATA_DIR.value}/train*.tfrecord"
  params.task.train_data.global_batch_size = _BATCH_SIZE.value
  params.task.train_data.dtype = "float32"
  params.task.train_data.shuffle_buffer_size = 1000
  return task_factory.get_task(params.task).build_inputs(params.task.train_data)


def main(_: list[str]) -> None:
  """Prints start-up time, images per second and processor time per image of both."""
  iterators = {}
  for name, build in {"Model Garden": _model_garden, "ours": _ours}.items():
    build_imports = build()  # The first call imports; only the second is timed.
    del build_imports
    start = time.perf_counter()
    iterators[name] = iter(build())
    next(iterators[name])
    print(f"{name:14s} first batch after {time.perf_counter() - start:5.2f} s")
  num_batches = max(1, 320 * 256**2 // _IMAGE_SIZE.value**2 // _BATCH_SIZE.value)
  num_images = num_batches * _BATCH_SIZE.value
  for _ in range(_ROUNDS.value):
    for name, iterator in iterators.items():
      start, processor_start = time.perf_counter(), time.process_time()
      for _ in range(num_batches):
        next(iterator)
      rate = num_images / (time.perf_counter() - start)
      processor = (time.process_time() - processor_start) / num_images * 1000
      print(f"{name:14s} {rate:7.0f} images/s {processor:7.2f} processor ms/image")


if __name__ == "__main__":
  app.run(main)

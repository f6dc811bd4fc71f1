"""Measures the processor time that each augmentation adds to a training image.

    python -m benchmarks.augmentation_cost --data_dir data/coco --image_size 640

Reads the same images with none, with each on every image, and with some of them on a share, in
rounds that take turns, and prints a table of medians.
"""

import statistics
import time

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program

flags.DEFINE_string("data_dir", None, "Prepared data.", required=True)
flags.DEFINE_integer("image_size", 640, "Height and width of the network's input.", lower_bound=1)
flags.DEFINE_integer("num_images", 32, "Images a round.", lower_bound=1)
flags.DEFINE_integer("num_rounds", 5, "Rounds of each.", lower_bound=1)

FLAGS = flags.FLAGS

_SECONDS_TO_FILL = 1.0
_ROWS = {
  "flip and scale": {},
  "mosaic": {"mosaic": 1.0},
  "random crop": {"random_crop": 1.0},
  "copy-paste": {"copy_paste": 1.0},
  "mixup": {"mixup": 1.0},
  "colours": {"color_jitter": 0.4},
  "RandAugment, 1 operation": {"rand_augment": 1},
  "RandAugment, 2 operations": {"rand_augment": 2},
  "together, without RandAugment": {
    "mosaic": 0.5,
    "copy_paste": 0.3,
    "mixup": 0.1,
    "color_jitter": 0.4,
  },
}


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  from official_nasfpn.data.config import InputConfig
  from official_nasfpn.data.input_pipeline import train_dataset

  size = (FLAGS.image_size, FLAGS.image_size)
  streams, starts = {}, {}
  for name, values in _ROWS.items():
    config = InputConfig(data_dir=FLAGS.data_dir, train_parts=("train",), **values)
    start = time.process_time()
    # One image at a time: little is in the buffers.
    streams[name] = iter(train_dataset(config, size, 1, seed=0))
    next(streams[name])
    starts[name] = time.process_time() - start
  rounds: dict[str, list[float]] = {name: [] for name in _ROWS}
  for _ in range(FLAGS.num_rounds):
    for name, stream in streams.items():
      rounds[name].append(_processor_ms(stream, FLAGS.num_images))
  plain = statistics.median(rounds["flip and scale"])
  print(f"processor ms an image at {FLAGS.image_size} pixels, and seconds until the first")
  for name, values in rounds.items():
    value = statistics.median(values)
    spread = f"{min(values):.1f} to {max(values):.1f}"
    print(f"{name:32s} {value:6.1f}  x {value / plain:.2f}  ({spread})  {starts[name]:.1f}")


def _processor_ms(stream, count: int) -> float:
  """Returns the processor time of an image, over all threads of the process."""
  # The buffers are full before the count and after it.
  time.sleep(_SECONDS_TO_FILL)
  start = time.process_time()
  for _ in range(count):
    next(stream)
  time.sleep(_SECONDS_TO_FILL)
  return 1000 * (time.process_time() - start) / count


if __name__ == "__main__":
  run_program(main)

"""TFRecords to batches of static shape, for training and for evaluation.

Anchors are assigned in the train step, on the accelerator, and not here: in Model Garden's pipeline
that takes 41 % of the CPU time at 256 pixels and 69 % at 512, and the accelerator waits for it.
"""

import hashlib
import os
from collections.abc import Callable

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from official.vision.ops import preprocess_ops

from official_nasfpn.data import preprocessing
from official_nasfpn.data.augmentation.composition import (
  Augmented,
  augmented_view,
  num_others,
)
from official_nasfpn.data.augmentation.views import Photo, View, boxes_in_crop
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import FILLER_ID, DatasetInfo
from official_nasfpn.errors import UserError

# Files read at the same time; more mix a large dataset better and hide a slow disk.
_NUM_OPEN_FILES = 16
# With fewer files per host, each host reads all files and takes every n-th example.
_MIN_FILES_PER_HOST = 10
# Images that are mixed come from as many that follow each other in the shuffled stream: encoded,
# they take a few megabytes.
_GROUP = 64


def train_dataset(
  config: InputConfig,
  image_size: tuple[int, int],
  batch_size: int,
  seed: int,
  first_step: int = 0,
  input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
  """Returns endless shuffled, augmented batches.

  The stream is a function of the seed, of the step that training starts from (so that a resumed
  run does not see the beginning again) and of the host.

  Args:
    config: what to read and how to augment it.
    image_size: height and width of the network's input.
    batch_size: images per step over all replicas.
    seed: seeds shuffling and augmentation.
    first_step: the train step that will take the first batch.
    input_context: which share of the data this host reads, given by `tf.distribute`.

  Returns:
    Batches {"image": float32 [B, H, W, 3] normalised, "boxes": float32 [B, M, 4] ymin, xmin, ymax,
    xmax in pixels of the network's input, zeros where there is none, "classes": int32 [B, M]
    class indices, -1 where there is no box}; B is the share of one replica, M max_num_boxes.

  Raises:
    UserError: the data directory is not whole, or holds no image of the wanted parts.
  """
  context = input_context or tf.distribute.InputContext()
  stream = _stream_seed(seed, first_step, context.input_pipeline_id)
  return without_autotuning(
    _training_rows(config, image_size, stream, context, lambda row, augmented: row)
    .batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
    .prefetch(tf.data.AUTOTUNE)
  )


def explained_train_images(
  config: InputConfig, image_size: tuple[int, int], seed: int
) -> tf.data.Dataset:
  """Returns the images of `train_dataset`, from its beginning and on one host, one by one.

  Args:
    config: as in `train_dataset`.
    image_size: height and width of the network's input.
    seed: as in `train_dataset`.

  Returns:
    What `train_dataset` batches, without its first axis, with "names": string [n], what was done
    beside flip and scale, and "num_boxes": int32, boxes before a choice of max_num_boxes.

  Raises:
    UserError: as `train_dataset` does.
  """
  context = tf.distribute.InputContext()

  def explained(row: dict[str, tf.Tensor], augmented: Augmented) -> dict[str, tf.Tensor]:
    return {**row, "names": augmented.names, "num_boxes": tf.shape(augmented.view.boxes)[0]}

  return without_autotuning(
    _training_rows(config, image_size, _stream_seed(seed, 0, 0), context, explained)
  )


def shuffled_records(
  config: InputConfig, stream: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
  """Returns the training examples as they are in their files, in a new order every epoch, endless.

  Args:
    config: what to read.
    stream: seeds the order.
    context: which share of the data this host reads.

  Raises:
    UserError: as `train_dataset` does.
  """
  info = DatasetInfo.load(config.data_dir)
  paths = _shard_paths(info, config.train_parts)
  num_hosts, host = context.num_input_pipelines, context.input_pipeline_id
  if num_hosts == 1 or len(paths) >= _MIN_FILES_PER_HOST * num_hosts:
    num_open = _num_open_files(len(paths) // num_hosts, info.num_images(config.train_parts), config)
    records = _read(tf.data.Dataset.from_tensor_slices(paths[host::num_hosts]), num_open, stream)
  else:
    records = _read(tf.data.Dataset.from_tensor_slices(paths)).shard(num_hosts, host)
  return records.shuffle(config.shuffle_buffer, seed=stream).repeat()


def evaluation_dataset(
  config: InputConfig,
  image_size: tuple[int, int],
  batch_size: int,
  input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
  """Returns every image of the evaluation part once.

  Rows of image id `FILLER_ID` fill the last batches up, so that shapes are static, every host runs
  the same number of steps and no image is lost.

  Args:
    config: names the data directory and the part.
    image_size: height and width of the network's input.
    batch_size: images per step over all replicas.
    input_context: which share of the data this host reads, given by `tf.distribute`.

  Returns:
    Batches like those of `train_dataset`, but not augmented, with "image_id": int64 [B],
    "original_size": float32 [B, 2] height and width of the image file, and "scaled_size": float32
    [B, 2] height and width that the image takes in the network's input.

  Raises:
    UserError: the data directory is not whole, or holds no image of the part.
  """
  info = DatasetInfo.load(config.data_dir)
  paths = _shard_paths(info, (config.evaluation_part,))
  context = input_context or tf.distribute.InputContext()
  num_images = info.num_images((config.evaluation_part,))
  num_steps = -(-num_images // batch_size)
  num_hosts, host = context.num_input_pipelines, context.input_pipeline_id
  rows_per_host = num_steps * batch_size // num_hosts
  decoder = tf_example_decoder.TfExampleDecoder()

  @tf.autograph.experimental.do_not_convert
  def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
    return _evaluation_example(decoder.decode(record), config, image_size)

  examples = (
    _read(tf.data.Dataset.from_tensor_slices(paths))
    .shard(num_hosts, host)
    .map(parse, num_parallel_calls=_num_processors(), deterministic=True)
  )
  filler = tf.data.Dataset.from_tensors(_filler_row(config, image_size)).repeat()
  return without_autotuning(
    examples.concatenate(filler)
    .take(rows_per_host)
    .batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
    .prefetch(tf.data.AUTOTUNE)
  )


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Returns the dataset with autotuning off, so that its iterators stop without delay.

  The thread that tunes a pipeline sleeps for up to a minute, and deleting the iterator waits for
  it. In TensorFlow 2.20 it can sleep through being cancelled: it is woken before it can
  see why (`Model::OptimizeLoop`, `CancellationManager::StartCancel`). On busy processors trainings
  and evaluations ended with waits of 20 to 60 s. Nothing is left to tune: the number of parallel
  calls is fixed, and the prefetch buffer still grows by itself when it was empty.
  """
  options = tf.data.Options()
  options.autotune.enabled = False
  return dataset.with_options(options)


def _num_processors() -> int:
  return len(os.sched_getaffinity(0))


def _shard_paths(info: DatasetInfo, parts: tuple[str, ...]) -> list[str]:
  paths = info.shard_paths(parts)
  if not paths:
    raise UserError(f"{info.data_dir} has no images in {' and '.join(parts)}.")
  return paths


def _stream_seed(seed: int, first_step: int, host: int) -> int:
  """Returns a non-negative int32 that differs between runs, resumed starts and hosts."""
  digest = hashlib.sha256(f"{seed}/{first_step}/{host}".encode()).digest()
  return int.from_bytes(digest[:4], "big") >> 1


def _num_open_files(num_files: int, num_images: int, config: InputConfig) -> int:
  """Returns how many files to read at the same time.

  If all were open, only the buffer would mix their images, and of a dataset larger than the buffer
  every image would come at about the same time of every epoch. Files that are read one group after
  the other come in a new order.
  """
  if num_images <= config.shuffle_buffer:
    return _NUM_OPEN_FILES
  return min(max(num_files // 4, 1), _NUM_OPEN_FILES)


def _read(
  paths: tf.data.Dataset, num_open: int = _NUM_OPEN_FILES, seed: int | None = None
) -> tf.data.Dataset:
  """Returns the records of the files; with a seed, the files come in a new order every epoch."""
  num_files = int(paths.cardinality())
  if seed is not None:
    paths = paths.shuffle(num_files, seed=seed)
  return paths.interleave(
    tf.data.TFRecordDataset,
    cycle_length=min(num_files, num_open),
    num_parallel_calls=tf.data.AUTOTUNE,
    deterministic=True,
  )


def _training_rows(
  config: InputConfig,
  image_size: tuple[int, int],
  stream: int,
  context: tf.distribute.InputContext,
  finish: Callable[[dict[str, tf.Tensor], Augmented], dict[str, tf.Tensor]],
) -> tf.data.Dataset:
  """Returns endless training images.

  Args:
    config: as in `train_dataset`.
    image_size: as in `train_dataset`.
    stream: seeds their order and their augmentation.
    context: which share of the data this host reads.
    finish: what is returned, of the row of a batch and how it came about. What it leaves out is
      not computed.
  """
  decoder = tf_example_decoder.TfExampleDecoder()
  count = num_others(config)

  def decode(record: tf.Tensor) -> Photo:
    return _photo(decoder.decode(record))

  records = shuffled_records(config, stream, context)
  if count:
    # Traced once, however many images are mixed.
    decode = tf.function(decode, autograph=False)
    records = _with_others(records, count, stream)

  # No Python control flow over tensors here, and AutoGraph takes seconds to find that out.
  @tf.autograph.experimental.do_not_convert
  def parse(index: tf.Tensor, records: tf.Tensor) -> dict[str, tf.Tensor]:
    seed = tf.stack([tf.constant(stream, tf.int64), index])
    augmented = augmented_view(
      tf.unstack(tf.reshape(records, [1 + count])),
      decode,
      config,
      image_size,
      seed,
    )
    return finish(_row(augmented.view, config, image_size, seed), augmented)

  return records.enumerate().map(parse, num_parallel_calls=_num_processors(), deterministic=True)


def _with_others(records: tf.data.Dataset, count: int, stream: int) -> tf.data.Dataset:
  """Returns every record followed by some others, drawn from those that are read with it.

  Args:
    records: endless.
    count: of others.
    stream: seeds the choice.

  Returns:
    string [1 + count], in the order of the records.
  """

  @tf.autograph.experimental.do_not_convert
  def elements(number: tf.Tensor, group: tf.Tensor) -> tf.data.Dataset:
    @tf.autograph.experimental.do_not_convert
    def element(place: tf.Tensor) -> tf.Tensor:
      # No stream of images has a negative number.
      seed = tf.stack([tf.constant(-1 - stream, tf.int64), number * _GROUP + place])
      order = tf.random.stateless_uniform([_GROUP], seed) + tf.one_hot(place, _GROUP)
      # The record itself comes last.
      others = tf.argsort(order, stable=True)[:count]
      return tf.gather(group, tf.concat([[tf.cast(place, tf.int32)], others], axis=0))

    return tf.data.Dataset.range(_GROUP).map(element)

  return records.batch(_GROUP, drop_remainder=True).enumerate().flat_map(elements)


def _row(
  view: View, config: InputConfig, image_size: tuple[int, int], seed: tf.Tensor
) -> dict[str, tf.Tensor]:
  """Returns one row of a batch of `train_dataset`."""
  image = preprocessing.pad(preprocessing.normalize(view.image), image_size)
  order = tf.argsort(tf.random.stateless_uniform([tf.shape(view.boxes)[0]], seed))
  chosen = order[: config.max_num_boxes]
  boxes, classes = tf.gather(view.boxes, chosen), tf.gather(view.classes, chosen)
  return {"image": image, **_padded(boxes, classes, config.max_num_boxes)}


def _evaluation_example(
  decoded: dict[str, tf.Tensor], config: InputConfig, image_size: tuple[int, int]
) -> dict[str, tf.Tensor]:
  image, scaled_size = preprocessing.resize_and_pad(decoded["image"], image_size)
  size = tf.constant(image_size, tf.float32)
  photo = _photo(decoded)
  boxes, classes = boxes_in_crop(photo.boxes, photo.classes, scaled_size, tf.zeros([2]), size)
  return {
    "image": image,
    **_padded(boxes, classes, config.max_num_boxes),
    "image_id": tf.strings.to_number(decoded["source_id"], tf.int64),
    "original_size": tf.cast(tf.shape(decoded["image"])[:2], tf.float32),
    "scaled_size": scaled_size,
  }


def _filler_row(config: InputConfig, image_size: tuple[int, int]) -> dict[str, tf.Tensor]:
  # Sizes of 1, not 0: boxes are divided by them.
  return {
    "image": tf.zeros([*image_size, 3]),
    "boxes": tf.zeros([config.max_num_boxes, 4]),
    "classes": tf.fill([config.max_num_boxes], -1),
    "image_id": tf.constant(FILLER_ID, tf.int64),
    "original_size": tf.ones([2]),
    "scaled_size": tf.ones([2]),
  }


def _photo(decoded: dict[str, tf.Tensor]) -> Photo:
  """Returns an image with its boxes, without crowds."""
  single = tf.logical_not(decoded["groundtruth_is_crowd"])
  boxes = tf.boolean_mask(decoded["groundtruth_boxes"], single)
  classes = tf.boolean_mask(decoded["groundtruth_classes"], single)
  return Photo(decoded["image"], boxes, tf.cast(classes, tf.int32) - 1)


def _padded(boxes: tf.Tensor, classes: tf.Tensor, num_boxes: int) -> dict[str, tf.Tensor]:
  return {
    "boxes": preprocess_ops.clip_or_pad_to_fixed_size(boxes, num_boxes, 0),
    "classes": preprocess_ops.clip_or_pad_to_fixed_size(classes, num_boxes, -1),
  }

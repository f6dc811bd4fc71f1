"""TFRecords to batches of static shape, for training and for evaluation.

Anchors are assigned in the train step, on the accelerator, and not here: in Model Garden's pipeline
that takes 41 % of the CPU time at 256 pixels and 69 % at 512, and the accelerator waits for it.
"""

import hashlib
import os

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from official.vision.ops import preprocess_ops

from official_nasfpn.data import preprocessing
from official_nasfpn.data.config import MIN_BOX_SIDE, InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError

# Files read at the same time; more mix a large dataset better and hide a slow disk.
_NUM_OPEN_FILES = 16
# With fewer files per host, each host reads all files and takes every n-th example.
_MIN_FILES_PER_HOST = 10


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
  decoder = tf_example_decoder.TfExampleDecoder()

  # No Python control flow over tensors here, and AutoGraph takes seconds to find that out.
  @tf.autograph.experimental.do_not_convert
  def parse(index: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
    example_seed = tf.stack([tf.constant(stream, tf.int64), index])
    return _train_example(decoder.decode(record), config, image_size, example_seed)

  return without_autotuning(
    shuffled_records(config, stream, context)
    .enumerate()
    .map(parse, num_parallel_calls=_num_processors(), deterministic=True)
    .batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
    .prefetch(tf.data.AUTOTUNE)
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

  Rows of image id -1 fill the last batches up, so that shapes are static, every host runs the same
  number of steps and no image is lost.

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


def _train_example(
  decoded: dict[str, tf.Tensor],
  config: InputConfig,
  image_size: tuple[int, int],
  seed: tf.Tensor,
) -> dict[str, tf.Tensor]:
  image = decoded["image"]
  boxes, classes = _boxes_and_classes(decoded)
  # Scale, two offsets and flip. Model Garden draws them from stateful generators with a fixed seed,
  # which replay one stream after every restart and on every host.
  scale, offset_y, offset_x, flip = tf.unstack(tf.random.stateless_uniform([4], seed))

  if config.horizontal_flip:
    image, boxes = tf.cond(
      flip < 0.5,
      lambda: (
        preprocess_ops.horizontal_flip_image(image),
        preprocess_ops.horizontal_flip_boxes(boxes),
      ),
      lambda: (image, boxes),
    )

  size = tf.constant(image_size, tf.float32)
  scale = config.scale_min + scale * (config.scale_max - config.scale_min)
  scaled_size = preprocessing.fitted_size(image, tf.round(scale * size))
  offset = tf.floor(tf.maximum(scaled_size - size, 0.0) * tf.stack([offset_y, offset_x]))
  resized = tf.image.resize(image, tf.cast(scaled_size, tf.int32))
  top, left = tf.unstack(tf.cast(offset, tf.int32))
  cropped = resized[top : top + image_size[0], left : left + image_size[1]]
  image = preprocessing.pad(preprocessing.normalize(cropped), image_size)

  boxes, classes = _visible_boxes(boxes, classes, scaled_size, offset, size)
  order = tf.argsort(tf.random.stateless_uniform([tf.shape(boxes)[0]], seed))
  chosen = order[: config.max_num_boxes]
  boxes, classes = tf.gather(boxes, chosen), tf.gather(classes, chosen)
  return {"image": image, **_padded(boxes, classes, config.max_num_boxes)}


def _evaluation_example(
  decoded: dict[str, tf.Tensor], config: InputConfig, image_size: tuple[int, int]
) -> dict[str, tf.Tensor]:
  image, scaled_size = preprocessing.resize_and_pad(decoded["image"], image_size)
  boxes, classes = _boxes_and_classes(decoded)
  size = tf.constant(image_size, tf.float32)
  boxes, classes = _visible_boxes(boxes, classes, scaled_size, tf.zeros([2]), size)
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
    "image_id": tf.constant(-1, tf.int64),
    "original_size": tf.ones([2]),
    "scaled_size": tf.ones([2]),
  }


def _boxes_and_classes(decoded: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns boxes relative to the image and class indices, without crowds."""
  single = tf.logical_not(decoded["groundtruth_is_crowd"])
  boxes = tf.boolean_mask(decoded["groundtruth_boxes"], single)
  classes = tf.boolean_mask(decoded["groundtruth_classes"], single)
  return boxes, tf.cast(classes, tf.int32) - 1


def _visible_boxes(
  boxes: tf.Tensor,
  classes: tf.Tensor,
  scaled_size: tf.Tensor,
  offset: tf.Tensor,
  image_size: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves relative boxes to pixels of a crop of the scaled image; drops those outside."""
  boxes = preprocess_ops.resize_and_crop_boxes(boxes, scaled_size, image_size, offset)
  sides = boxes[:, 2:] - boxes[:, :2]
  visible = tf.reduce_all(sides >= MIN_BOX_SIDE, axis=-1)
  return tf.boolean_mask(boxes, visible), tf.boolean_mask(classes, visible)


def _padded(boxes: tf.Tensor, classes: tf.Tensor, num_boxes: int) -> dict[str, tf.Tensor]:
  return {
    "boxes": preprocess_ops.clip_or_pad_to_fixed_size(boxes, num_boxes, 0),
    "classes": preprocess_ops.clip_or_pad_to_fixed_size(classes, num_boxes, -1),
  }

"""The features of a frozen backbone for all images, kept in memory as far as they may be."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from official_nasfpn.data import input_pipeline
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.training import targets
from official_nasfpn.training.experiment import Experiment

_Item = TypeVar("_Item")


class TrainBatch(NamedTuple):
  """One training batch.

  Attributes:
    features: the backbone's maps by level, float [B, H, W, C].
    classes: class targets of the anchors as in `targets.AnchorTargets`, but int16 [B, A].
    boxes: box targets of the anchors as in `targets.AnchorTargets`, float32 [B, A, 4].
  """

  features: Mapping[str, tf.Tensor]
  classes: tf.Tensor
  boxes: tf.Tensor


class HeldOutBatch(NamedTuple):
  """One batch of held-out images.

  Attributes:
    features: the backbone's maps by level, float [B, H, W, C].
    scaled_sizes: the `scaled_size` of `input_pipeline.evaluation_dataset`.
    original_sizes: its `original_size`.
    image_ids: its `image_id`, `FILLER_ID` for padding.
  """

  features: Mapping[str, tf.Tensor]
  scaled_sizes: tf.Tensor
  original_sizes: tf.Tensor
  image_ids: list[int]


class FeatureCache:
  """Computes the backbone's features of training images, and then those of held-out images."""

  def __init__(
    self,
    backbone: Callable[..., Mapping[str, tf.Tensor]],
    experiment: Experiment,
    anchors: tf.Tensor,
    traces: list[str],
    max_gb: float,
  ):
    """Prepares the cache.

    Args:
      backbone: the backbone; its weights must not change any more.
      experiment: the experiment of a trial.
      anchors: the detector's anchors, float32 [A, 4].
      traces: the name of every graph that is traced is appended to it.
      max_gb: the most memory that all features and targets may take, in GB.
    """
    self._backbone = backbone
    self._experiment = experiment
    self._anchors = anchors
    self._traces = traces
    self._max_gb = self._left_gb = max_gb

  def train_batches(self, stream: tf.data.Dataset, count: int) -> list[TrainBatch]:
    """Returns features and targets of the first batches of a stream.

    Args:
      stream: an `input_pipeline.train_dataset`.
      count: the number of batches.

    Raises:
      UserError: they would take more memory than is left for them.
    """

    @tf.function
    def prepare(batch: Mapping[str, tf.Tensor]) -> TrainBatch:
      self._traces.append("cache_train")
      found = targets.assign_targets(
        self._anchors, batch["boxes"], batch["classes"], self._experiment.training.match_iou
      )
      features = self._features(batch["image"])
      # After the features, the targets take most of the memory; a class fits into two bytes.
      return TrainBatch(features, tf.cast(found.classes, tf.int16), found.boxes)

    batches: list[TrainBatch] = []
    for batch in _with_progress(stream.take(count), count, "backbone, training"):
      batches.append(prepare(batch))
      if len(batches) == 1:
        self._reserve(count, _gb_of(batches[0]) * count)
    return batches

  def held_out_batches(self) -> Callable[[], Iterable[HeldOutBatch]]:
    """Returns a function that gives the features of all images of the experiment's evaluation part.

    Where they do not fit into the memory that the training leaves, it computes them anew each time:
    a trial trains on many batches, and evaluates each held-out image once.
    """

    @tf.function
    def prepare(image: tf.Tensor) -> dict[str, tf.Tensor]:
      self._traces.append("cache_held_out")
      return self._features(image)

    dataset = input_pipeline.evaluation_dataset(
      self._experiment.input,
      self._experiment.detector.image_size,
      self._experiment.training.evaluation_batch_size,
    )
    count = int(dataset.cardinality())

    def compute() -> Iterator[HeldOutBatch]:
      for batch in dataset:
        yield HeldOutBatch(
          prepare(batch["image"]),
          batch["scaled_size"],
          batch["original_size"],
          batch["image_id"].numpy().tolist(),
        )

    needed = _gb_of(next(compute())[:3]) * count
    if needed > self._left_gb:
      say(
        f"The features of the held-out images take {needed:.1f} GB, and of Proxy.max_cache_gb = "
        f"{self._max_gb:g} the training leaves {self._left_gb:.1f}: each trial computes them anew."
      )
      return compute
    batches = [*_with_progress(compute(), count, "backbone, held out")]
    return lambda: batches

  def _reserve(self, count: int, needed: float) -> None:
    """Takes the memory of the training batches, in GB, off what is left."""
    if needed > self._left_gb:
      raise UserError(
        f"Features and targets of a trial's {count} batches take {needed:.1f} GB of memory in each "
        f"worker, more than Proxy.max_cache_gb = {self._max_gb:g}. Raise it, or lower Proxy.epochs "
        "or Training.images_per_epoch."
      )
    self._left_gb -= needed

  def _features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the backbone's maps of images at the levels that the pyramid reads."""
    levels = set(map(str, self._experiment.detector.architecture.levels))
    features = self._backbone(image, training=False)
    return {level: features[level] for level in sorted(levels & features.keys())}


def _gb_of(tensors: Any) -> float:
  """Returns the memory that a structure of tensors takes, in GB."""
  sizes = (tensor.dtype.size * int(tf.size(tensor)) for tensor in tf.nest.flatten(tensors))
  return sum(sizes) / 2**30


def _with_progress(items: Iterable[_Item], count: int, description: str) -> Iterator[_Item]:
  with progress_bar(count, description, "batch") as bar:
    for item in items:
      yield item
      bar.update()

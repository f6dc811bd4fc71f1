"""The shared proxy: trials that start from one set of weights and run in one graph.

A plain trial spends half of its time on tracing, and most of the rest on training the backbone from
scratch. Here the recipe's detector is first trained once with the hand-designed FPN, the baseline
of every search. Its backbone is then frozen, and its features of the images are cached. Every trial
starts from the heads of that detector and from the same initial pyramid, and sees the same batches:
a reward depends on recipe, seed and architecture, and not on what the worker did before.

One-shot searches train shared weights with a different architecture in every batch (Bender et al.
2018; Guo et al. 2020). With tens of epochs instead of hundreds, such a detector learns next to
nothing (docs/results.md, "The shared proxy").

A confirmation, with another seed, starts from the same backbone and heads. The seed changes the
initial weights of the pyramid, the order of the images and their augmented views. So confirmations
measure the noise of a trial, and not that of the shared weights.

The price: the backbone does not adapt to the architecture, and a trial sees each image in
`Proxy.epochs` augmented views, the same ones in every trial.
"""

import dataclasses
import hashlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from official_nasfpn import configuration
from official_nasfpn.architecture import Fpn, PyramidSpec, SearchSpace
from official_nasfpn.data import input_pipeline
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.modeling import Detector, build_detector, flat_anchors
from official_nasfpn.modeling.detections import detect_in_images
from official_nasfpn.modeling.detector_parts import factors_by_weight, freeze
from official_nasfpn.modeling.wired_pyramid import Wiring, wiring_of, wiring_signature
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.proxy import warm_state
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.proxy.feature_cache import FeatureCache, HeldOutBatch, TrainBatch
from official_nasfpn.training import targets
from official_nasfpn.training.coco_evaluation import (
  EvaluationResult,
  detect_in_batches,
  evaluate_detections,
)
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.initial_weights import initialise
from official_nasfpn.training.nan_guard import NanGuard
from official_nasfpn.training.optimizer import build_optimizer, num_steps, optimizer_state
from official_nasfpn.training.runner import configure_tensorflow
from official_nasfpn.training.start_weights import (
  CLASS_NAMES,
  class_names_of,
  weight_name,
  weights_by_part,
)
from official_nasfpn.training.train_step import loss_names, train_step


class SharedProxy:
  """Trains architectures of one search space, one after the other, each from the same weights.

  Attributes:
    traces: names of all graphs that were traced, in order.
  """

  def __init__(
    self,
    proxy: ProxyConfig,
    space: SearchSpace,
    experiment: Experiment,
    dataset: DatasetInfo,
    warm_dir: Path,
    report_progress: Callable[[float], None] = lambda share: None,
    seed_offset: int = 0,
  ):
    """Loads or makes the shared weights, and caches the frozen backbone's features.

    Args:
      proxy: settings of the proxy.
      space: the search space; all its architectures share weights.
      experiment: the experiment of a trial; trials use its train parts and its evaluation part.
      dataset: the prepared data.
      warm_dir: the folder of the shared weights, which are made if they are not there.
      report_progress: called with the finished share of making them, in [0, 1].
      seed_offset: is added to `Training.seed` for trials, and not for the shared weights.

    Raises:
      UserError: features of the training take too much memory.
      TrainingDiverged: the training with the FPN diverged.
    """
    self.traces: list[str] = []
    self._report_warm_up = report_progress
    self._proxy, self._space, self._dataset = proxy, space, dataset
    # The wired detector computes any architecture of the space; it is built with one of them.
    stand_in = space.sample(random.Random(0))
    self._experiment = dataclasses.replace(
      experiment, detector=dataclasses.replace(experiment.detector, architecture=stand_in)
    )
    self._num_images = dataset.num_images(experiment.input.train_parts)
    self._anchors = tf.constant(flat_anchors(self._experiment.detector))
    configure_tensorflow(experiment.training)
    self._seed = experiment.training.seed
    tf_keras.backend.clear_session()
    self._detector = self._built()
    weights = self._load_warm_state(warm_dir)
    if seed_offset:
      # Built again: the shared weights had to come from the seed that all workers have.
      self._seed += seed_offset
      self._detector = self._built()
    for name, variable in _named_variables(self._detector).items():
      variable.assign(weights[name])
    cache = FeatureCache(
      self._detector.backbone, self._experiment, self._anchors, self.traces, proxy.max_cache_gb
    )
    count = num_steps(_schedule(experiment.training, proxy.epochs), self._num_images)
    self._batches = cache.train_batches(self._train_batches(), count)
    self._held_out = cache.held_out_batches()
    self._prepare_trials()

  def train(self, spec: PyramidSpec, report_progress: Callable[[float], None]) -> EvaluationResult:
    """Trains an architecture from the shared weights and evaluates it.

    Args:
      spec: an architecture of the search space.
      report_progress: called with the finished share of the work, in [0, 1].

    Raises:
      TrainingDiverged: the loss became NaN or infinite.
      ValueError: the architecture is not in the search space.
    """
    self._space.encode(spec)
    wiring = Wiring(*map(tf.constant, wiring_of(spec)))
    for variable, value in self._start:
      variable.assign(value)
    self._nan_guard.reset()
    for number, batch in enumerate(self._batches, start=1):
      self._train_step(batch, wiring)
      if number % self._experiment.training.steps_per_loop == 0:
        report_progress(number / (len(self._batches) + 1))
    self._nan_guard.check(tf.distribute.get_strategy())
    return self._evaluate(wiring)

  def _built(self) -> Detector:
    """Returns the wired detector with the initial weights of the seed."""
    tf_keras.utils.set_random_seed(self._seed)
    return build_detector(
      self._experiment.detector, self._dataset.label_map.num_classes, wired=True
    )

  def _load_warm_state(self, warm_dir: Path) -> dict[str, np.ndarray]:
    """Returns the weights of backbone and heads that were trained with the FPN, by name."""
    named = _named_variables(self._detector)
    return warm_state.load_or_make(
      warm_dir,
      self._fingerprint(),
      {name: tuple(variable.shape) for name, variable in named.items()},
      self._warm_up,
    )

  def _fingerprint(self) -> str:
    # How trials train afterwards does not change these weights.
    proxy = dataclasses.replace(self._proxy, epochs=1, learning_rate=1, max_cache_gb=0)
    text = configuration.to_gin(proxy, self._space) + self._experiment.to_gin()
    return hashlib.sha256(text.encode()).hexdigest()

  def _warm_up(self) -> dict[str, np.ndarray]:
    """Trains a whole detector with the FPN; returns the weights of its backbone and heads."""
    config = _schedule(self._experiment.training, self._proxy.warmup_epochs)
    fpn = Fpn(self._space.min_level, self._space.max_level)
    detector = build_detector(
      dataclasses.replace(self._experiment.detector, architecture=fpn),
      self._dataset.label_map.num_classes,
    )
    initialise(detector, self._dataset.label_map, self._experiment)
    freeze(detector, config.frozen, config.frozen_batch_norm)
    variables = detector.trainable_variables
    optimizer = build_optimizer(
      config,
      self._num_images,
      variables,
      factors_by_weight(detector, config.learning_rate_factors),
    )
    nan_guard = NanGuard(loss_names(self._experiment.detector.num_exits))

    @tf.function
    def step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      self.traces.append("warm_up")
      anchor_targets = targets.assign_targets(
        self._anchors, batch["boxes"], batch["classes"], config.match_iou
      )
      return train_step(
        lambda images, number: detector(images, training=True),
        batch["image"],
        anchor_targets,
        variables,
        optimizer,
        config,
        nan_guard,
      )

    count = num_steps(config, self._num_images)
    with progress_bar(count, "warm up", "step") as bar:
      for number, batch in enumerate(self._train_batches().take(count), start=1):
        step(batch)
        bar.update()
        if number % config.steps_per_loop == 0:
          self._report_warm_up(number / count)
          nan_guard.check(tf.distribute.get_strategy())
    nan_guard.check(tf.distribute.get_strategy())
    weights = {name: variable.numpy() for name, variable in _named_variables(detector).items()}
    return {**weights, CLASS_NAMES: np.array(class_names_of(self._dataset.label_map))}

  def _prepare_trials(self) -> None:
    """Makes the optimizer and the two graphs that all trials run."""
    freeze(self._detector, self._experiment.training.frozen)
    trained = [
      variable
      for part in (self._detector.pyramid, self._detector.head, *self._detector.early_heads)
      for variable in part.trainable_variables
    ]
    # Convolutions may be shared by several heads.
    trained = list({id(variable): variable for variable in trained}.values())
    config = _schedule(
      self._experiment.training, self._proxy.epochs, rate=self._proxy.learning_rate
    )
    factors = factors_by_weight(self._detector, config.learning_rate_factors)
    optimizer = build_optimizer(config, self._num_images, trained, factors)
    self._nan_guard = NanGuard(loss_names(self._experiment.detector.num_exits))
    self._start = [
      (variable, tf.identity(variable))
      for variable in [*self._detector.variables, *optimizer_state(optimizer)]
    ]

    signature = wiring_signature(self._experiment.detector.architecture)

    @tf.function(input_signature=(_specs(self._batches[0]), signature))
    def train(batch: TrainBatch, wiring: Wiring) -> dict[str, tf.Tensor]:
      self.traces.append("train_step")
      return train_step(
        lambda features, number: self._detector(features, training=True, wiring=wiring),
        batch.features,
        targets.AnchorTargets(tf.cast(batch.classes, tf.int32), batch.boxes),
        trained,
        optimizer,
        config,
        self._nan_guard,
      )

    held_out = next(iter(self._held_out()))

    @tf.function(input_signature=(*_specs(held_out[:3]), signature))
    def infer(features, scaled_sizes, original_sizes, wiring: Wiring) -> dict[str, tf.Tensor]:
      self.traces.append("infer")
      outputs = self._detector(features, training=False, wiring=wiring)
      return detect_in_images(
        outputs[-1], self._anchors, scaled_sizes, original_sizes, self._experiment.detector
      )

    self._train_step, self._infer = train, infer

  def _train_batches(self) -> tf.data.Dataset:
    config = self._experiment.training
    return input_pipeline.train_dataset(
      self._experiment.input, self._experiment.detector.image_size, config.batch_size, self._seed
    )

  def _evaluate(self, wiring: Wiring) -> EvaluationResult:
    def detect(batch: HeldOutBatch) -> tuple[list[dict[str, np.ndarray]], list[int]]:
      last_exit = self._infer(batch.features, batch.scaled_sizes, batch.original_sizes, wiring)
      return [{name: values.numpy() for name, values in last_exit.items()}], batch.image_ids

    label_map = self._dataset.label_map
    annotation_file = self._dataset.annotation_file(self._experiment.input.evaluation_part)
    detections = detect_in_batches(self._held_out(), detect, label_map)
    return evaluate_detections(detections, annotation_file, label_map)


def _named_variables(detector: Detector) -> dict[str, tf.Variable]:
  """Returns the variables of backbone and heads by name; they are what trials share."""
  return {
    weight_name(part, number): variable
    for part, variables in weights_by_part(detector).items()
    for number, variable in enumerate(variables)
    if part != "pyramid"
  }


def _schedule(config: TrainingConfig, epochs: float, rate: float = 1.0) -> TrainingConfig:
  """Returns the settings of a training of `epochs`: a proportional warm-up, then cosine decay."""
  return dataclasses.replace(
    config,
    epochs=epochs,
    schedule="cosine",
    learning_rate=config.learning_rate * rate,
    warmup_learning_rate=config.warmup_learning_rate * rate,
    warmup_epochs=config.warmup_epochs * epochs / config.epochs,
  )


def _specs(tensors):
  """Returns the shapes and dtypes of tensors, for `tf.function`."""
  return tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), tensors)

r"""Whether a score that needs no training tells good architectures from bad ones.

    python -m benchmarks.cheap_scores --data_dir data/bccd --figure docs/cheap_scores.png

The scores of all architectures of the benchmark's table, beside the AP that they were trained to:
some of the graph alone, and some of a detector with its initial weights on one batch of images:

- *gradient norm* of the loss, and *SNIP* (Lee et al. 2019), the sum of |weight x gradient|;
- *SynFlow* (Tanaka et al. 2020): SNIP of the sum of outputs, with |weights|, on an image of ones;
- *codes* (NASWOT, Mellor et al. 2021): how differently images of a batch switch the ReLUs, the
  log-determinant of the kernel of their binary codes, here those of the pyramid's outputs.

The first two take the weights of pyramid and heads, SynFlow the pyramid's kernels alone. A score
earns its place if skipping the worse half of the architectures by it loses few of the best tenth; a
coin loses half of them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from scipy import stats

from benchmarks.score_worth import Worth, draw, expected_best, worth_of
from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.benchmark.features import features
from official_nasfpn.benchmark.table import read_table
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.proxy.proxy_task import open_on_holdout
from official_nasfpn.search.recipe import read_recipe

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared BCCD.", required=True)
_GIN_FILE = flags.DEFINE_string("gin_file", "gin/bccd_search.gin", "Recipe of the table's trials.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Initial weights, averaged over.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images that are scored on.", lower_bound=2)
_FIGURE = flags.DEFINE_string("figure", None, "Image of AP over each score.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  table = read_table()
  specs = [entry.spec for entry in table]
  aps = np.array([entry.reward for entry in table])
  scores = {**graph_scores(specs), **initial_scores(specs)}
  print(
    "| score | Spearman | among the best quarter | best tenth kept | best of 20 |\n"
    "|---|---|---|---|---|\n"
    f"| none | | | 50% | {expected_best(aps, 20):.4f} |"
  )
  for name, values in scores.items():
    worth = worth_of(values, aps)
    print(_row(name, worth), flush=True)
    if worth.high < 0:
      # As if the sign had been known, which only this table has told.
      print(_row(f"{name}, turned", worth_of(-values, aps)), flush=True)
  if _FIGURE.value:
    draw(scores, aps, Path(_FIGURE.value))


def _row(name: str, worth: Worth) -> str:
  return (
    f"| {name} | {worth.spearman:+.2f} ({worth.low:+.2f} to {worth.high:+.2f}) "
    f"| {worth.among_the_best:+.2f} | {worth.kept:.0%} | {worth.best_of_20:.4f} |"
  )


def graph_scores(specs: Sequence[PyramidSpec]) -> dict[str, np.ndarray]:
  """Returns scores of the graph alone, the higher the better, by name."""
  found = [features(spec) for spec in specs]

  def each(score: Callable[[Mapping[str, float]], float]) -> np.ndarray:
    # Sums of the same numbers in another order differ in their last digits, and are ties.
    return np.array([score(one) for one in found]).round(9)

  def mean_of(ending: str) -> Callable[[Mapping[str, float]], float]:
    return lambda one: float(np.mean([v for name, v in one.items() if name.endswith(ending)]))

  return {
    "multiply-adds": each(lambda one: one["log multiply-adds"]),
    "short paths": -each(mean_of(" length")),
    "many paths": each(mean_of(" log ways")),
    "few pooling cells": -each(lambda one: one["pooling cells"]),
    "fine detail on its way": -each(mean_of(" coarsest level")),
  }


def initial_scores(specs: Sequence[PyramidSpec]) -> dict[str, np.ndarray]:
  """Returns scores of detectors with initial weights, means of their ranks over seeds, by name."""
  ranks: dict[str, list[np.ndarray]] = {}
  with progress_bar(len(specs) * _NUM_SEEDS.value, "initial weights", "score") as bar:
    for seed in range(_NUM_SEEDS.value):
      score = _scorer(specs[0], seed)
      rows = []
      for spec in specs:
        rows.append(score(spec))
        bar.update()
      for name in rows[0]:
        values = stats.rankdata([row[name] for row in rows])
        ranks.setdefault(name, []).append(values)
  return {name: np.mean(values, axis=0) for name, values in ranks.items()}


def _scorer(stand_in: PyramidSpec, seed: int) -> Callable[[PyramidSpec], dict[str, float]]:
  """Returns a function from an architecture to its scores, with the initial weights of a seed."""
  import tensorflow as tf
  import tf_keras

  from official_nasfpn.data import input_pipeline
  from official_nasfpn.modeling import build_detector, flat_anchors
  from official_nasfpn.modeling.wired_pyramid import Wiring, wiring_of, wiring_signature
  from official_nasfpn.training import targets
  from official_nasfpn.training.losses import detection_losses

  recipe = read_recipe([_GIN_FILE.value], [f"Input.data_dir = {_DATA_DIR.value!r}"])
  experiment, dataset = open_on_holdout(recipe.with_architecture(stand_in).experiment)
  tf_keras.backend.clear_session()
  tf_keras.utils.set_random_seed(seed)
  # One graph for all architectures, and the same weights.
  detector = build_detector(experiment.detector, dataset.label_map.num_classes, wired=True)
  (batch,) = input_pipeline.train_dataset(
    experiment.input, experiment.detector.image_size, _BATCH_SIZE.value, seed
  ).take(1)
  maps = detector.backbone(batch["image"], training=True)
  ones = {level: tf.ones_like(values[:1]) for level, values in maps.items()}
  assigned = targets.assign_targets(
    tf.constant(flat_anchors(experiment.detector)),
    batch["boxes"],
    batch["classes"],
    experiment.training.match_iou,
  )
  parts = (detector.pyramid, detector.head)
  weights = [variable for part in parts for variable in part.trainable_variables]
  kernels = [v for v in detector.pyramid.trainable_variables if "kernel" in v.name]
  signature = [wiring_signature(stand_in)]

  @tf.function(input_signature=signature, autograph=False)
  def on_images(wiring: Wiring) -> dict[str, tf.Tensor]:
    with tf.GradientTape() as tape:
      exits = detector(maps, training=True, wiring=wiring)
      terms = detection_losses(exits, assigned, experiment.training)[-1]
      loss = terms["class_loss"] + terms["box_loss"]
    pairs = [
      (w, g) for w, g in zip(weights, tape.gradient(loss, weights), strict=True) if g is not None
    ]
    levels = detector.pyramid(maps, training=True, wiring=wiring)[-1]
    size = _BATCH_SIZE.value
    codes = tf.concat([tf.reshape(values, [size, -1]) > 0 for values in levels.values()], axis=1)
    codes = tf.cast(codes, tf.float32)
    same = codes @ tf.transpose(codes) + (1 - codes) @ tf.transpose(1 - codes)
    return {
      "gradient norm": tf.linalg.global_norm([g for _, g in pairs]),
      "SNIP": tf.add_n([tf.reduce_sum(tf.abs(w * g)) for w, g in pairs]),
      "codes": tf.linalg.slogdet(tf.cast(same, tf.float64))[1],
    }

  @tf.function(input_signature=signature, autograph=False)
  def on_ones(wiring: Wiring) -> tf.Tensor:
    with tf.GradientTape() as tape:
      levels = detector.pyramid(ones, training=False, wiring=wiring)[-1]
      total = tf.add_n([tf.reduce_sum(values) for values in levels.values()])
    return tf.add_n(
      [
        tf.reduce_sum(tf.abs(w * g))
        for w, g in zip(kernels, tape.gradient(total, kernels), strict=True)
        if g is not None
      ]
    )

  original = [kernel.numpy() for kernel in kernels]

  def score(spec: PyramidSpec) -> dict[str, float]:
    wiring = Wiring(*map(tf.constant, wiring_of(spec)))
    found = {name: float(value) for name, value in on_images(wiring).items()}
    for kernel in kernels:
      kernel.assign(tf.abs(kernel))
    found["SynFlow"] = float(on_ones(wiring))
    for kernel, value in zip(kernels, original, strict=True):
      kernel.assign(value)
    return found

  return score


if __name__ == "__main__":
  run_program(main)

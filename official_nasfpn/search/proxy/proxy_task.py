"""The proxy task: a short training whose AP on held-out training images is a trial's reward.

The paper (section 4.2) trains ResNet-10, 3 @ 256, for 10 epochs on 512-pixel images and rewards the
AP on 7,392 images of train2017 that it does not train on. Here the recipe decides how short and how
small the training is; the reward comes from the images of the `holdout` part. Only this folder and
`search/proxy_check/` know how detectors are trained.
"""

import dataclasses
import gc
import os
import random
import shlex
from collections.abc import Callable
from pathlib import Path

from official_nasfpn.architecture import PyramidSpec, SearchSpace
from official_nasfpn.data.annotated_boxes import require_boxes
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.installation import ONEDNN_VARIABLE, use_onednn
from official_nasfpn.progress import say
from official_nasfpn.search.objectives import OBJECTIVES, measured
from official_nasfpn.search.proxy.cost import costs_of, same_parameters
from official_nasfpn.search.proxy.reward import reward_of
from official_nasfpn.search.proxy.runtimes import require_runtime
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.workers.evaluation import (
  Evaluate,
  Evaluation,
  SearchBroken,
  TrialFailed,
  TrialProgress,
  WorkerBroken,
)
from official_nasfpn.training.anchors.fit import note_on_anchors
from official_nasfpn.training.coco_evaluation import EvaluationResult
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.start_weights import SHARED_WEIGHTS

# Architectures whose parameters are compared before a search aims at few of them.
_NUM_COMPARED = 16


def resolved(recipe: SearchRecipe, begins: bool = True) -> SearchRecipe:
  """Returns a recipe with what its data and weights say: classes, parts, anchors and backbone.

  Args:
    recipe: the recipe of a search.
    begins: whether the search is new, so that the weights to start from are tried.

  Raises:
    UserError: the data is missing, damaged or without a holdout part, the weights to start from do
      not fit, the shared proxy cannot train as the recipe says, the runtime that latency is
      measured on is not installed, or all architectures cost the same.
  """
  _check_costs(recipe)
  check_trials(recipe)
  experiment, _ = open_on_holdout(recipe.experiment, begins)
  if begins and experiment.training.backbone_weights:
    from official_nasfpn.training.backbone_weights import check_backbone_weights

    check_backbone_weights(experiment.detector, experiment.training.backbone_weights)
  return dataclasses.replace(recipe, experiment=experiment)


def check_trials(recipe: SearchRecipe) -> None:
  """Checks that the proxy can train every architecture of the search space.

  Raises:
    UserError: it cannot.
  """
  if recipe.proxy.mode == "shared":
    _check_shared(recipe)
  check_sizes(recipe.experiment, recipe.space)


def check_sizes(experiment: Experiment, space: SearchSpace) -> None:
  """Checks that an experiment goes with every size of a search space.

  Raises:
    UserError: it does not: `Training.exit_loss_weights` are as many as repeats, for example.
  """
  for spec in space.at_every_size(space.sample(random.Random(0))):
    experiment.with_architecture(spec)


def _check_shared(recipe: SearchRecipe) -> None:
  training = recipe.experiment.training
  for name in ("num_repeats", "num_filters"):
    if getattr(recipe.space, name):
      raise UserError(
        f"Proxy.mode = 'shared' trains one detector for all trials, so SearchSpace.{name} has "
        "nothing to choose. Leave it out, or write Proxy.mode = 'plain'."
      )
  if training.jit_compile is True:
    raise UserError(
      "Training.jit_compile = True, but XLA cannot compile Proxy.mode = 'shared': its one graph of "
      "all architectures has features of any size. Write 'auto', or use the plain mode."
    )
  for name, is_on, off in (
    ("drop_block_rate", training.drop_block_rate, "0.0"),
    ("ema_decay", training.ema_decay, "None"),
  ):
    if is_on:
      raise UserError(
        f"Proxy.mode = 'shared' knows no Training.{name}: set it to {off}, or use the plain mode."
      )


def _check_runtime(recipe: SearchRecipe) -> None:
  if {"latency", "file_size"} & recipe.costs:
    require_runtime(recipe.latency)


def _check_costs(recipe: SearchRecipe) -> None:
  _check_runtime(recipe)
  by_weights = [name for name in recipe.search.objectives if name in ("parameters", "file_size")]
  if not by_weights:
    return
  rng = random.Random(0)
  specs = [recipe.space.sample(rng) for _ in range(_NUM_COMPARED)]
  if same_parameters(specs, recipe.experiment.detector):
    raise UserError(
      f"Search.objectives has {by_weights[0]!r}, but all architectures of this SearchSpace have as "
      "many weights: merging has none, and they differ in wiring alone. Leave it out, as "
      "'multiply_adds' and 'latency' do differ, or let SearchSpace.num_filters have choices."
    )


def say_note(recipe: SearchRecipe, search_dir: Path | None = None) -> None:
  """Says on standard error which boxes no anchor reaches; says nothing if the anchors fit.

  Args:
    recipe: the recipe of the search.
    search_dir: its directory, if it will have one: the report on anchors can be asked of it.

  Raises:
    UserError: the data is missing or damaged.
  """
  experiment, dataset = open_on_holdout(recipe.experiment)
  where = f"--search_dir {shlex.quote(str(search_dir))}" if search_dir else None
  if note := note_on_anchors(experiment.anchor_setting, dataset, where):
    say(note)


def plan_of_a_trial(recipe: SearchRecipe, spec: PyramidSpec) -> str:
  """Returns what one trial would do and cost, as text; builds its detector and trains nothing.

  Args:
    recipe: the recipe of the search.
    spec: an architecture of its search space.
  """
  from official_nasfpn.training.plan import count_data, make_plan

  experiment, dataset = open_on_holdout(recipe.with_architecture(spec).experiment)
  plan = make_plan(experiment, count_data(experiment, dataset)).as_text()
  proxy = recipe.proxy
  if proxy.mode == "plain":
    return plan
  return (
    f"{plan}\nProxy.mode = 'shared': a trial starts from weights that all trials share, made once "
    f"in {proxy.warmup_epochs:g} epochs with an FPN, and trains pyramid and heads for "
    f"{proxy.epochs:g}."
  )


def settle_onednn(recipe: SearchRecipe) -> None:
  """Has a worker train with oneDNN, unless it times TensorFlow; call before importing TensorFlow.

  With oneDNN single images take up to 8 times as long where TensorFlow would leave it off, as it
  does where a SavedModel is served, and it is on or off for a whole process. Timing in a process
  apart would take seconds of every trial and memory beside that of the training, and a GPU is the
  training's alone. So such trainings are done without.
  """
  if not recipe.times_tensorflow:
    use_onednn()
  elif ONEDNN_VARIABLE not in os.environ:
    print(
      "Latency.runtime = 'tensorflow' is timed in this process, so oneDNN is as TensorFlow has it. "
      "On x86 without AVX-512 trainings take up to 1.7 times as long as with it, which they have "
      "where latency is measured on 'litert' or 'onnxruntime'.",
      flush=True,
    )


def make_evaluate(recipe: SearchRecipe, work_dir: Path) -> Evaluate:
  """Returns the function that trains one architecture on the proxy task of a search.

  Args:
    recipe: the recipe of the search.
    work_dir: the folder for weights that all trials share.

  Returns:
    A function that trains a pyramid. The reward is its AP on the held-out images, in [0, 1],
    weighed by its cost as `reward.RewardConfig` says.
  """
  _check_runtime(recipe)  # A worker on another machine may lack what the controller has.
  # The recipe of a search that was begun names the backbone, and its shared weights may be made.
  experiment, dataset = open_on_holdout(recipe.experiment, begins=False)
  recipe = dataclasses.replace(recipe, experiment=experiment)
  return evaluation_by(recipe, dataset, work_dir / SHARED_WEIGHTS.parent)


def evaluation_by(recipe: SearchRecipe, dataset: DatasetInfo, warm_dir: Path) -> Evaluate:
  """Returns the function of `make_evaluate`, for data that has been opened.

  Args:
    recipe: the recipe of the search; its experiment says which parts of the data to train on and to
      evaluate on.
    dataset: the prepared data.
    warm_dir: the folder of the shared weights, which are made if they are not there; a plain proxy
      does not use it.
  """
  reward = recipe.reward
  experiment = recipe.experiment
  cost = costs_of(
    recipe.costs,
    experiment.detector,
    dataset.label_map.num_classes,
    recipe.latency,
    experiment.training.compute_dtype,
  )
  make_train = _shared if recipe.proxy.mode == "shared" else _plain
  train = make_train(recipe, dataset, warm_dir)

  def evaluate(
    spec: PyramidSpec, trial_dir: Path, progress: TrialProgress, seed_offset: int = 0
  ) -> Evaluation:
    from official_nasfpn.data.damaged_data import damage_named
    from official_nasfpn.training.lost_gpu import gpu_errors
    from official_nasfpn.training.memory import OutOfMemory
    from official_nasfpn.training.nan_guard import TrainingDiverged

    try:
      with damage_named(dataset), gpu_errors("This worker ends, and its trial is tried again."):
        metrics = cost(spec)
        weighed = reward.cost != "none"
        rewarded_cost = measured(metrics, OBJECTIVES[reward.cost]) if weighed else None

        def should_stop(share: float, result: EvaluationResult) -> bool:
          ap = result.metrics["AP"] or 0.0
          return progress.is_hopeless(share, reward_of(ap, rewarded_cost, reward))

        result, share = train(spec, trial_dir, progress, should_stop, seed_offset)
    except TrainingDiverged as error:
      raise TrialFailed(str(error), diverged=True) from error
    except OutOfMemory as error:
      raise TrialFailed(str(error)) from error
    except WorkerBroken:
      raise
    except UserError as error:
      # Of the GPU, the data, the weights to start from: any other architecture would fail as well.
      raise WorkerBroken(str(error)) from error
    write_text(trial_dir / "evaluation.json", result.to_json())
    ap = result.metrics["AP"]
    if ap is None:
      raise TrialFailed(f"the reward is undefined: {'; '.join(result.notes)}", diverged=False)
    stopped = {} if share == 1 else {"stopped_at": share}
    return Evaluation(reward_of(ap, rewarded_cost, reward), {"AP": ap, **metrics, **stopped})

  return evaluate


# Trains a pyramid; returns its last evaluation, and after which share of the training that was.
_Train = Callable[
  [PyramidSpec, Path, TrialProgress, Callable[[float, EvaluationResult], bool], int],
  tuple[EvaluationResult, float],
]


def _plain(recipe: SearchRecipe, dataset: DatasetInfo, warm_dir: Path) -> _Train:
  del warm_dir
  search = recipe.search
  early_stops = search.early_stopping_shares if search.early_stopping_quantile else ()

  training, trained = None, None

  def train(spec, trial_dir, progress, should_stop, seed_offset):
    # Imported with the first trial: reading a recipe needs no TensorFlow.
    import tf_keras

    from official_nasfpn.training.repeated_training import RepeatedTraining

    nonlocal training, trained
    wanted = seed_offset, spec.sizes
    if training is None or wanted != trained or not training.takes_any_architecture:
      # Without this the graph and weights of every trial stay in memory until the worker ends.
      # About 100 MB per trial stay anyway, so workers are replaced: `Search.trials_per_worker`.
      training = None
      tf_keras.backend.clear_session()
      gc.collect()
      experiment = _with_seed_offset(recipe.experiment, seed_offset)
      training = RepeatedTraining(experiment.with_architecture(spec), dataset)
      trained = wanted
    # What is trained again with another seed is trained to its end.
    stops = () if seed_offset else early_stops
    return training.run(spec, trial_dir / "train.log", progress.report, stops, should_stop)

  return train


def _shared(recipe: SearchRecipe, dataset: DatasetInfo, warm_dir: Path) -> _Train:
  shared, shared_offset = None, 0

  def train(spec, trial_dir, progress, should_stop, seed_offset):
    from official_nasfpn.search.proxy.shared_proxy import SharedProxy
    from official_nasfpn.training.nan_guard import TrainingDiverged

    # Made during the first trial, as half of it: a worker renews its lease only while it has one.
    nonlocal shared, shared_offset
    begin = 0.0
    if shared is None or seed_offset != shared_offset:
      begin = 0.5
      # Two would take the memory of two caches of features.
      shared = None
      gc.collect()
      try:
        shared = SharedProxy(
          recipe.proxy,
          recipe.space,
          recipe.experiment,
          dataset,
          warm_dir,
          report_progress=lambda share: progress.report(begin * share),
          seed_offset=seed_offset,
        )
      except TrainingDiverged as error:
        # No architecture is to blame, and every other trial would do the same training again.
        raise SearchBroken(
          "The training with the FPN, from which all trials of Proxy.mode = 'shared' start, "
          f"diverged at train step {error.step}. Lower Training.learning_rate or lengthen "
          "Training.warmup_epochs, set Training.gradient_clip_norm, or look for broken boxes in "
          "the data; then start a new search."
        ) from error
      shared_offset = seed_offset
    return shared.train(spec, lambda share: progress.report(begin + (1 - begin) * share)), 1.0

  return train


def _with_seed_offset(experiment: Experiment, seed_offset: int) -> Experiment:
  """Returns an experiment with another seed: of initial weights, shuffling and augmentation."""
  training = experiment.training
  return dataclasses.replace(
    experiment, training=dataclasses.replace(training, seed=training.seed + seed_offset)
  )


def open_on_holdout(experiment: Experiment, begins: bool = True) -> tuple[Experiment, DatasetInfo]:
  """Opens an experiment's data, to train without the held-out images and evaluate on them.

  Args:
    experiment: the experiment of a trial.
    begins: as `open_dataset` takes it.

  Raises:
    UserError: the data is missing, damaged or without a holdout part.
  """
  if not experiment.input.data_dir:
    raise UserError(
      'No data: bind Input.data_dir, in the recipe or with --gin_param "Input.data_dir = '
      "'DATA'\", to a folder that `nasfpn prepare --annotations FILE.json --images FOLDER "
      "--output_dir DATA` has made."
    )
  parts = dataclasses.replace(experiment.input, train_parts=("train",), evaluation_part="holdout")
  experiment, dataset = open_dataset(dataclasses.replace(experiment, input=parts), begins)
  if not dataset.num_images(("holdout",)):
    raise UserError(
      f"{dataset.data_dir} has no held-out images to reward trials on. Prepare it with "
      "--holdout_fraction above 0."
    )
  if begins:
    require_boxes(dataset, ("holdout",), "reward trials by")
  return experiment, dataset

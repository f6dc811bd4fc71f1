"""The proxy task: a short training whose AP on held-out training images is a trial's reward.

The paper (section 4.2) trains ResNet-10, 3 @ 256, for 10 epochs on 512-pixel images and rewards the
AP on 7,392 images of train2017 that it does not train on. Here the recipe says how short and how
small; the images of the `holdout` part give the reward. This is the only module of the search that
knows how detectors are trained.
"""

import dataclasses
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.search.workers.trial_worker import Evaluate, TrialFailed
from official_nasfpn.training.experiment import Experiment, load_experiment, open_dataset


def resolved_recipe(gin_files: Sequence[str | Path], gin_params: Sequence[str]) -> str:
  """Reads the recipe of a search and returns the proxy experiment in it, every setting resolved.

  Raises:
    UserError: a setting is wrong, or the data is missing, damaged or without a holdout part.
  """
  experiment, dataset = open_dataset(_on_holdout(load_experiment(gin_files, gin_params)))
  if not dataset.num_images(("holdout",)):
    raise UserError(
      f"{dataset.data_dir} has no held-out images to reward trials on. Prepare it with "
      "--holdout_fraction above 0."
    )
  return experiment.to_gin()


def plan_of_a_trial(recipe: str, spec: PyramidSpec) -> str:
  """Returns what one trial would do and cost, as text; builds its detector and trains nothing.

  Args:
    recipe: the proxy experiment, from `resolved_recipe`.
    spec: an architecture of the search.
  """
  from official_nasfpn.training.plan import make_plan

  experiment, dataset = open_dataset(_on_holdout(load_experiment(gin_params=[recipe])))
  return make_plan(_with_architecture(experiment, spec), dataset, num_devices=1).as_text()


def make_evaluate(search_dir: Path) -> Evaluate:
  """Returns the function that trains one architecture on the proxy task of a search.

  Args:
    search_dir: holds `recipe.gin`, as the search resolved it.

  Returns:
    `evaluate(spec, trial_dir, report_progress) -> reward`: trains `spec` within `trial_dir` and
    returns its AP on the held-out images, in [0, 1]. `report_progress` is told the share of the
    trial that is done. Raises `TrialFailed` when the loss diverges.
  """
  experiment, dataset = open_dataset(_on_holdout(load_experiment([search_dir / "recipe.gin"])))

  def evaluate(
    spec: PyramidSpec, trial_dir: Path, report_progress: Callable[[float], None]
  ) -> float:
    # TensorFlow is imported where a trial begins: reading a recipe does not need it.
    import tf_keras

    from official_nasfpn.training import runner
    from official_nasfpn.training.nan_guard import TrainingDiverged

    # Without this every trial's graph and weights stay in memory for the life of the worker.
    tf_keras.backend.clear_session()
    gc.collect()
    trial = _with_architecture(experiment, spec)
    try:
      result = runner.train_in_memory(trial, dataset, trial_dir / "train.log", report_progress)
    except TrainingDiverged as error:
      raise TrialFailed(str(error), diverged=True) from error
    write_text(trial_dir / "evaluation.json", result.to_json())
    ap = result.metrics["AP"]
    if ap is None:
      raise TrialFailed(f"the reward is undefined: {'; '.join(result.notes)}", diverged=False)
    return ap

  return evaluate


def _on_holdout(experiment: Experiment) -> Experiment:
  """Returns the experiment, trained without the held-out images and evaluated on them."""
  parts = dataclasses.replace(experiment.input, train_parts=("train",), evaluation_part="holdout")
  return dataclasses.replace(experiment, input=parts)


def _with_architecture(experiment: Experiment, spec: PyramidSpec) -> Experiment:
  detector = dataclasses.replace(experiment.detector, architecture=spec)
  return dataclasses.replace(experiment, detector=detector)

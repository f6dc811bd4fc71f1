"""Trainings that begin with the same weights and write no checkpoints, as trials of a search do."""

from collections.abc import Callable, Sequence
from pathlib import Path

import orbit
import tensorflow as tf

from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.modeling.wired_pyramid import Wiring, wiring_of
from official_nasfpn.training.coco_evaluation import EvaluationResult
from official_nasfpn.training.compilation import compilation
from official_nasfpn.training.evaluator import Evaluator
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.memory import memory_errors
from official_nasfpn.training.number_format import number_format
from official_nasfpn.training.optimizer import num_steps, optimizer_state
from official_nasfpn.training.runner import build_trainer, make_plain, output_to
from official_nasfpn.training.strategies import distribute_batches
from official_nasfpn.training.weight_average import averaged_weights, begin_average


class RepeatedTraining:
  """Trains and evaluates a detector as often as it is asked to, always from its initial weights.

  Building a detector and tracing its train step takes as long as a hundred train steps. Where it
  can, one graph therefore trains any architecture of a search space.

  Attributes:
    takes_any_architecture: whether it can, if their sizes are the same.
  """

  def __init__(self, experiment: Experiment, dataset: DatasetInfo):
    """Builds the detector.

    Args:
      experiment: all settings, with the number of classes settled.
      dataset: the prepared data.

    Raises:
      UserError: XLA should compile, and cannot; or `Training.start_from` or
        `Training.backbone_weights` do not fit.
    """
    config = experiment.training
    self._experiment = experiment
    self._strategy = strategy = tf.distribute.get_strategy()
    self._total = num_steps(config, dataset.num_images(experiment.input.train_parts))
    self._compiled = compilation(experiment, self._total, strategy)
    spec = experiment.detector.architecture
    # The one graph has features of any size, which XLA does not take, and drops no blocks.
    self.takes_any_architecture = (
      isinstance(spec, PyramidSpec)
      and config.drop_block_rate == 0
      and not self._compiled.jit_compile
      and strategy.num_replicas_in_sync == 1
    )
    self._wiring = None
    if self.takes_any_architecture:
      # What a graph is led by is read on the host, also where a GPU computes.
      with tf.device("CPU:0"):
        self._wiring = Wiring(*(tf.Variable(part, trainable=False) for part in wiring_of(spec)))
    self._trainer = build_trainer(
      experiment,
      dataset,
      strategy,
      first_step=0,
      jit_compile=self._compiled.jit_compile,
      wiring=self._wiring,
    )
    model = self._trainer.model
    self._trainer.task.initialize(model)
    begin_average(self._trainer.optimizer, model)
    self._evaluator = Evaluator(experiment, dataset, model, wiring=self._wiring)
    variables = [*model.variables, *optimizer_state(self._trainer.optimizer)]
    self._start = [(variable, tf.identity(variable)) for variable in variables]

  def run(
    self,
    spec: PyramidSpec,
    log_file: Path,
    on_progress: Callable[[float], None],
    stops: Sequence[float] = (),
    should_stop: Callable[[float, EvaluationResult], bool] = lambda share, result: False,
  ) -> tuple[EvaluationResult, float]:
    """Trains an architecture and evaluates it, with the average of its weights if there is one.

    Args:
      spec: the architecture; that of the experiment, unless this takes any.
      log_file: gets Orbit's messages.
      on_progress: is called with the share of train steps done, in [0, 1].
      stops: shares of the training, in (0, 1), after which to evaluate.
      should_stop: takes such a share and its evaluation; returns whether to end the training there.

    Returns:
      The last evaluation, and the share of train steps done by then: 1 unless stopped.

    Raises:
      TrainingDiverged: the loss became NaN or infinite.
      OutOfMemory: a batch does not fit.
      ValueError: it cannot train this architecture.
    """
    self._begin(spec)
    trainer, config = self._trainer, self._experiment.training

    def after_loop(logs) -> None:
      del logs
      trainer.task.nan_guard.check(self._strategy)
      on_progress(int(trainer.global_step.numpy()) / self._total)

    with output_to(log_file):
      print(f"{number_format(config.compute_dtype)}; {self._compiled.sentence}")
      controller = orbit.Controller(
        global_step=trainer.global_step,
        trainer=trainer,
        strategy=self._strategy,
        train_actions=[after_loop, make_plain],
        steps_per_loop=config.steps_per_loop,
      )
      for share in (*sorted(stops), 1.0):
        with memory_errors(
          "Training.batch_size", config.batch_size, self._strategy, config.micro_batches
        ):
          controller.train(max(round(share * self._total), 1))
        with averaged_weights(trainer.optimizer):
          result = self._evaluator.run()
        if share < 1 and should_stop(share, result):
          break
    return result, share

  def _begin(self, spec: PyramidSpec) -> None:
    """Goes back to the start: wiring, weights, optimizer, step, order of the images."""
    own = self._experiment.detector.architecture
    if self._wiring is not None:
      if spec.sizes != own.sizes:
        raise ValueError("this training is of an architecture of another size")
      for variable, value in zip(self._wiring, wiring_of(spec), strict=True):
        variable.assign(value)
    elif spec != own:
      raise ValueError("this training is of another architecture")
    for variable, value in self._start:
      variable.assign(value)
    self._trainer.global_step.assign(0)
    self._trainer.task.nan_guard.reset()
    # An iterator of the same dataset would give the images in another order.
    self._trainer.train_dataset = distribute_batches(
      self._strategy, self._trainer.task.build_inputs
    )

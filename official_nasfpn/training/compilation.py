"""Whether XLA compiles the train step: stated by the recipe, or chosen for the device.

XLA fuses what lies between convolutions. On an H100 it makes train steps three times as fast
(docs/performance.md); on processors it makes them slower.
"""

import dataclasses

import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.training.experiment import Experiment

# On an H100 compiling took 25 s (R-18, 3 @ 64, 256 pixels) to 56 s (R-50, 7 @ 256, 640 pixels)
# longer than tracing alone, and made a step 43 to 143 ms faster: won back after 400 to 600 steps.
_STEPS_WORTH_COMPILING = 1000


@dataclasses.dataclass(frozen=True)
class Compilation:
  """Whether XLA compiles the train step, and why.

  Attributes:
    jit_compile: whether the train step has to ask for it.
    sentence: the same for a person.
  """

  jit_compile: bool
  sentence: str


def compilation(
  experiment: Experiment, num_steps: int, strategy: tf.distribute.Strategy
) -> Compilation:
  """Decides whether XLA compiles the train step.

  Args:
    experiment: all settings; `Training.jit_compile` is taken as it is, unless it is `auto`.
    num_steps: train steps that are left.
    strategy: where they run.

  Raises:
    UserError: it should compile, but the strategy or the device cannot.
  """
  stated = experiment.training.jit_compile
  if isinstance(strategy, tf.distribute.TPUStrategy):
    return Compilation(False, "XLA compiles all that runs on a TPU")
  if stated is False:
    return Compilation(False, "XLA does not compile, as Training.jit_compile = False says")
  has_gpus = bool(tf.config.list_physical_devices("GPU"))
  if stated == "auto":
    if not has_gpus:
      return Compilation(False, "XLA does not compile: on processors it is slower")
    if num_steps < _STEPS_WORTH_COMPILING:
      return Compilation(
        False,
        f"XLA does not compile: that takes a minute, which {num_steps:,} steps do not win back",
      )
  if problem := _problem(experiment, strategy):
    if stated == "auto":
      return Compilation(False, f"XLA does not compile: {problem}")
    raise UserError(
      f"Training.jit_compile = True, but {problem}. Write 'auto', which compiles where it can."
    )
  if stated == "auto":
    return Compilation(True, "XLA compiles the train step, which GPUs gain from")
  slower = "" if has_gpus else "; on processors it is slower"
  return Compilation(
    True, f"XLA compiles the train step, as Training.jit_compile = True says{slower}"
  )


def _problem(experiment: Experiment, strategy: tf.distribute.Strategy) -> str | None:
  """Returns why XLA cannot compile the train step, as the rest of a sentence; None if it can."""
  if strategy.num_replicas_in_sync > 1 and experiment.detector.sync_batch_norm:
    return (
      "XLA cannot compile Detector.sync_batch_norm = True for several devices, which exchange "
      "statistics in the middle of the network"
    )

  # Some builds of TensorFlow know a device and no compiler for it; and CUDA's compiler may be
  # missing. The exponential needs CUDA's library of functions. It runs on a GPU if there is one.
  @tf.function(jit_compile=True, autograph=False)
  def exponential(number: tf.Tensor) -> tf.Tensor:
    return tf.exp(number)

  try:
    exponential(tf.constant(1.0))
  except (tf.errors.OpError, ValueError) as error:
    reason = str(error).strip().partition("\n")[0]
    return f"XLA cannot compile for this device: {reason}"
  return None

"""Messages and the progress bar of a training: model, data, devices, progress, evaluations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.printable import printable
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.training.compilation import Compilation
from official_nasfpn.training.experiment import Experiment, model_name
from official_nasfpn.training.number_format import number_format

_CPU_INFO = Path("/proc/cpuinfo")


class Narration:
  """Reports the progress of a training on standard error and on standard output.

  `runner` redirects standard output to `train.log`, where Orbit writes, too. In a cluster only the
  chief writes messages; every worker has its progress bar.

  Args:
    first_step: train steps done before.
    total: train steps when all is done.
    speaks: whether to write messages.
  """

  def __init__(self, first_step: int, total: int, speaks: bool):
    self._first_step, self._total, self._speaks = first_step, total, speaks
    self._bar = None
    self._is_compiled = False
    self._start = time.monotonic()

  def begin(
    self,
    experiment: Experiment,
    dataset: DatasetInfo,
    strategy: tf.distribute.Strategy,
    folder: Path,
    compilation: Compilation,
  ) -> None:
    """Reports model, data, number of steps, folder, devices, number format and compilation."""
    training = experiment.training
    going_on = f" from step {self._first_step:,}" if self._first_step else ""
    num_images = dataset.num_images(experiment.input.train_parts)
    self.say(
      f"trains {model_name(experiment)}, {dataset.label_map.num_classes} classes, on "
      f"{num_images:,} images of {dataset.data_dir}"
    )
    self.say(
      f"{self._total:,} steps of {training.batch_size} images ({training.epochs:g} epochs)"
      f"{going_on}, into {folder}"
    )
    if experiment.input.augmentations:
      self.say(augmentation(experiment.input, dataset))
    self.say(f"{where_and_how(experiment, strategy)}; {compilation.sentence}")

  def compiling(self) -> None:
    """Reports that the train step is compiled now, and starts the progress bar."""
    self.say("building the detector and compiling its train step; this can take minutes")
    self._bar = progress_bar(self._total, "compile", "step", initial=self._first_step)
    self._start = time.monotonic()

  def step(self, logs: dict[str, Any], step: int) -> None:
    """Updates the progress bar; reports the end of the first step.

    Args:
      logs: the losses of the last steps.
      step: train steps done.
    """
    if not self._is_compiled:
      self._is_compiled = True
      # Another bar, so that the time left does not count the compilation for every step.
      self._bar.leave = False
      self._bar.close()
      self.say(
        f"the first step is done after {tqdm.format_interval(time.monotonic() - self._start)}, "
        f"loss {logs['total_loss']:.3f}"
      )
      self._first_step, self._start = step, time.monotonic()
      self._bar = progress_bar(self._total, "train", "step", initial=step)
      return
    self._bar.set_postfix_str(f"loss {logs['total_loss']:.3f}", refresh=False)
    self._bar.update(step - self._bar.n)

  def evaluating(self) -> None:
    """Labels the progress bar as that of an evaluation."""
    self._bar.set_description("evaluate")

  def evaluated(self, figures: dict[str, Any], step: int) -> None:
    """Reports the AP of an evaluation during the training, and the time left.

    Args:
      figures: by name, without those that are undefined.
      step: train steps done.
    """
    self._bar.set_description("train" if self._is_compiled else "compile")
    found = ", ".join(
      f"{name} {figures[name]:.3f}" if name in figures else f"{name} undefined"
      for name in ("AP", "AP50")
    )
    left = self._total - step
    if not left:
      remaining = "; the last one"
    elif self._is_compiled:
      seconds = (time.monotonic() - self._start) * left / max(step - self._first_step, 1)
      remaining = f"; {tqdm.format_interval(seconds)} left"
    else:  # Made up for before the first step, whose time it is not a part of.
      remaining = ""
      self._start = time.monotonic()
    self.say(f"evaluation at step {step:,} of {self._total:,}: {found}{remaining}")

  def say(self, line: str) -> None:
    """Writes a message to standard output, which is the log, and to standard error."""
    if self._speaks:
      print(printable(line), flush=True)
      say(line)

  def close(self) -> None:
    """Leaves the progress bar as it is."""
    if self._bar is not None:
      self._bar.close()


def augmentation(config: InputConfig, dataset: DatasetInfo) -> str:
  """Returns what is done to training images beside flip and scale, as a line for a person."""
  values = ", ".join(f"{name} = {value:g}" for name, value in config.augmentations.items())
  line = f"augments images: {values}"
  num_boxes = sum(dataset.parts[name].num_boxes for name in config.train_parts)
  in_mosaic = 4 * num_boxes / max(dataset.num_images(config.train_parts), 1)
  if config.mosaic and in_mosaic > config.max_num_boxes:
    line += (
      f"; four images have {in_mosaic:.0f} boxes on average, and Input.max_num_boxes = "
      f"{config.max_num_boxes}: of a mosaic with more a random choice is trained on"
    )
  return line


def where_and_how(experiment: Experiment, strategy: tf.distribute.Strategy) -> str:
  """Returns the devices and the number format as a line for a person."""
  with strategy.scope():
    return f"on {_devices(strategy)}; {number_format(experiment.training.compute_dtype)}"


def _devices(strategy: tf.distribute.Strategy) -> str:
  count = strategy.num_replicas_in_sync
  if isinstance(strategy, tf.distribute.TPUStrategy):
    return f"{count} TPU cores"
  gpus = tf.config.list_physical_devices("GPU")
  if gpus:
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return name if count == 1 else f"{count} x {name}"
  name = processor_name()
  return name if count == 1 else f"{count} replicas, each on {name}"


def processor_name() -> str:
  """Returns what Linux calls the processor."""
  try:
    text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
  except OSError:
    text = ""
  names = [
    line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")
  ]
  return f"the processor ({names[0]})" if names else "the processor"

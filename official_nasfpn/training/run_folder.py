"""A run folder: one training, complete. Resuming, evaluating and exporting need it alone.

RUN/config.gin        every setting in force, resolved
RUN/label_map.json    classes, and the dataset's own category ids
RUN/checkpoints/      ckpt-STEP
RUN/train, RUN/validation   TensorBoard events
RUN/evaluation.json   the latest evaluation of the weights that an export would have
RUN/best, RUN/evaluations.jsonl   the best weights, and all evaluations: see best_checkpoint.py
RUN/evaluated_boxes.npz   annotated and detected boxes of that evaluation, for the report
RUN/report.html       what `nasfpn report` writes
"""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from official_nasfpn import folders
from official_nasfpn.configuration import Stored, read_stored, stored_bindings
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.training.checkpoint_files import newest_checkpoint, refuse_pattern
from official_nasfpn.training.experiment import Experiment, load_experiment


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """Paths and files of one run."""

  path: Path

  @property
  def config_file(self) -> Path:
    return self.path / "config.gin"

  @property
  def label_map_file(self) -> Path:
    return self.path / "label_map.json"

  @property
  def checkpoints(self) -> Path:
    return self.path / "checkpoints"

  @property
  def evaluation_file(self) -> Path:
    return self.path / "evaluation.json"

  @property
  def best(self) -> Path:
    return self.path / "best"

  @property
  def best_evaluation_file(self) -> Path:
    return self.best / "evaluation.json"

  @property
  def evaluations_file(self) -> Path:
    return self.path / "evaluations.jsonl"

  @property
  def boxes_file(self) -> Path:
    return self.path / "evaluated_boxes.npz"

  def check(self, experiment: Experiment) -> None:
    """Raises what `claim` would, and writes nothing."""
    refuse_pattern(self.path, "--model_dir")
    if folders.is_claimed(self.path, self.config_file.name, "run", "--model_dir"):
      self.refuse_another(experiment)

  def claim(self, experiment: Experiment, label_map: LabelMap) -> None:
    """Makes the folder this experiment's, or checks that it already is.

    Raises:
      UserError: the folder holds another experiment, or files of something else, or no checkpoint
        could be read below its path.
    """
    refuse_pattern(self.path, "--model_dir")
    config, text = self.config_file.name, experiment.to_gin()
    if not folders.claim(self.path, config, text, "run", "--model_dir"):
      self.refuse_another(experiment)
    # Also where the process that claimed the folder was killed before it came to this.
    if not self.label_map_file.exists():
      write_text(self.label_map_file, label_map.to_json())

  def load(self) -> tuple[Experiment, LabelMap]:
    """Reads the experiment and the label map of a claimed folder.

    Raises:
      UserError: this is not a run folder.
    """
    if not self.config_file.is_file():
      raise UserError(f"{self.path} is not a run folder: it has no config.gin. Train one first.")
    return load_experiment([self.config()]), LabelMap.load(self.label_map_file)

  def continued(self, experiment: Experiment) -> Experiment:
    """Returns the experiment with the numbers that 'auto' is in the folder, if there is one.

    So a training goes on with its anchors, even if the data has changed.
    """
    if not self.config_file.is_file():
      return experiment
    return experiment.continuing(load_experiment([self.config()]))

  def config(self) -> Stored:
    """Reads the settings of a claimed folder, as data."""
    return read_stored(self.config_file)

  def evaluation(self) -> dict[str, Any] | None:
    """Reads `evaluation.json`, also one of an earlier version, as it is; None where there is none.

    Raises:
      UserError: it cannot be read.
    """
    return self._evaluation_in(self.evaluation_file)

  def best_evaluation(self) -> dict[str, Any] | None:
    """Reads that of the best weights, as `evaluation` does."""
    return self._evaluation_in(self.best_evaluation_file)

  def _evaluation_in(self, file: Path) -> dict[str, Any] | None:
    try:
      if not file.is_file():
        return None
      content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
      raise self.damaged_evaluation(error, file) from error
    if not isinstance(content, dict):
      raise self.damaged_evaluation("it is no JSON object", file)
    return content

  def damaged_evaluation(self, reason: object, file: Path | None = None) -> UserError:
    """Returns what to say of an evaluation that cannot be read, by default `evaluation.json`."""
    return UserError(
      f"{file or self.evaluation_file} cannot be read ({reason}). Evaluate the run again: nasfpn "
      f"train --model_dir {shlex.quote(str(self.path))} --mode evaluate."
    )

  def latest_checkpoint(self) -> str:
    """Returns the path prefix of the newest checkpoint.

    Raises:
      UserError: there is none.
    """
    if not (checkpoint := newest_checkpoint(self.checkpoints)):
      raise UserError(f"{self.path} has no checkpoint yet. Train it with --mode train.")
    return checkpoint

  def checkpoint_to_use(self) -> str:
    """Returns the path prefix of the best checkpoint, or of the newest where none is known.

    Raises:
      UserError: there is none.
    """
    return newest_checkpoint(self.best) or self.latest_checkpoint()

  def refuse_another(self, experiment: Experiment) -> None:
    """Raises a `UserError` unless the folder is this experiment's; it must have been claimed."""
    # Read and written again, so that a run from before a setting was added has its default.
    stored = stored_bindings(
      Stored(load_experiment([self.config()]).to_gin(), "the run's settings")
    )
    wanted = stored_bindings(Stored(experiment.to_gin(), "the settings"))
    differing = [
      key
      for key in {**stored, **wanted}
      if stored.get(key) != wanted.get(key) and not _may_change(key, stored, wanted)
    ]
    if differing:
      key = differing[0]
      more = f" ({len(differing) - 1} more differ: {', '.join(differing[1:5])})"
      raise UserError(
        f"{self.path} holds another experiment: {key} is {stored.get(key)!r} there and "
        f"{wanted.get(key)!r} here{more if differing[1:] else ''}. Give --model_dir a new folder, "
        "or leave out --gin_file and --gin_param to go on with the old one. To train its weights "
        f"longer or on other data, give a new folder and Training.start_from = {str(self.path)!r}."
      )


def _may_change(key: str, stored: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
  """Returns whether a run may go on with another value, since its weights do not depend on it."""
  # As many as fit into the memory, and as the devices can share.
  if key == "Training.evaluation_batch_size":
    return True
  # Weights are float32 in every number format, compiled or not, so a run may go on in another.
  by_device = ("Training.compute_dtype", "Training.jit_compile")
  return key in by_device and "auto" in (stored.get(key), wanted.get(key))

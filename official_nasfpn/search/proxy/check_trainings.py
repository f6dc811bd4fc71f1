"""The trainings of a proxy check: what there is to train, and the file that keeps what is done."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from official_nasfpn import configuration
from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.training.experiment import Experiment

_DIGEST_LENGTH = 16


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How architectures are trained, whichever they are.

  Attributes:
    role: `proxy` or `target`.
    experiment: its architecture and its seed are replaced by each training's.
    dataset: the prepared data.
    proxy: plain or shared; a target is plain.
    space: whose architectures share weights.
  """

  role: str
  experiment: Experiment
  dataset: DatasetInfo
  proxy: ProxyConfig
  space: SearchSpace

  @property
  def digest(self) -> str:
    """A name for everything that decides a training's AP but architecture and seed."""
    experiment = dataclasses.replace(
      self.experiment,
      detector=dataclasses.replace(self.experiment.detector, architecture=CATALOG["nas_fpn"]),
      input=dataclasses.replace(self.experiment.input, data_dir=""),
      training=dataclasses.replace(self.experiment.training, seed=0),
    )
    text = experiment.to_gin()
    if self.proxy.mode != "plain":
      text += configuration.to_gin(self.proxy, self.space)
    text += json.dumps(self.dataset.identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]

  def with_seed(self, seed: int) -> "Recipe":
    """Returns the recipe with another `Training.seed`."""
    training = dataclasses.replace(self.experiment.training, seed=seed)
    return dataclasses.replace(
      self, experiment=dataclasses.replace(self.experiment, training=training)
    )


@dataclasses.dataclass(frozen=True)
class Training:
  """A training that is to be done, or is done.

  Attributes:
    recipe: `Recipe.digest`.
    choices: the architecture, as `SearchSpace.decode` takes it.
    seed: `Training.seed`.
  """

  recipe: str
  choices: tuple[int, ...]
  seed: int


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of a training.

  Attributes:
    ap: its AP; 0 where the loss diverged, as the search has it.
    seconds: wall time; 0 where it is not known.
  """

  ap: float
  seconds: float = 0.0


class TrainingsFile:
  """Finished trainings, one JSON object a line; several processes may add to it at a time."""

  def __init__(self, path: Path, space: SearchSpace):
    self._path = path
    self._space = space

  def read(self) -> dict[Training, Result]:
    """Returns all finished trainings.

    Raises:
      UserError: a line is not one of a finished training.
    """
    if not self._path.is_file():
      return {}
    lines = self._path.read_text(encoding="utf-8").split("\n")
    results = {}
    # A process that was killed while it wrote leaves the last line unfinished.
    for number, line in enumerate(lines[:-1], start=1):
      try:
        row = json.loads(line)
        choices = tuple(map(int, row["choices"].split()))
        training = Training(str(row["recipe"]), choices, int(row["seed"]))
        results[training] = Result(float(row["ap"]), float(row["seconds"]))
      except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
          f"{self._path}, line {number}, is not a finished training ({error!r}). Remove that line; "
          "what it was about is trained again."
        ) from error
    return results

  def mend(self) -> None:
    """Cuts an unfinished last line off; to be called while nobody else writes."""
    if self._path.is_file():
      content = self._path.read_bytes()
      whole = content.rfind(b"\n") + 1
      if whole < len(content):
        os.truncate(self._path, whole)

  def add(self, training: Training, result: Result) -> None:
    """Adds a finished training in one write."""
    row = {
      "recipe": training.recipe,
      "architecture": canonical_hash(self._space.decode(training.choices)),
      "seed": training.seed,
      "ap": result.ap,
      "seconds": round(result.seconds, 2),
      "choices": " ".join(map(str, training.choices)),
    }
    file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
      os.write(file, f"{json.dumps(row)}\n".encode())
      os.fsync(file)
    finally:
      os.close(file)


def wanted_trainings(
  proxy: Recipe,
  target: Recipe,
  architectures: Sequence[tuple[int, ...]],
  repeated: Iterable[tuple[int, ...]],
  num_seeds: int,
) -> list[Training]:
  """Returns all trainings of a check, in the order in which they are best done.

  First comes what a correlation needs, architecture by architecture, then further seeds.

  Args:
    proxy: recipe of the proxy.
    target: recipe of the target.
    architectures: as choices.
    repeated: those of them that the proxy trains with every seed.
    num_seeds: seeds of the proxy, from `Training.seed` on.
  """
  first = proxy.experiment.training.seed
  wanted = []
  for choices in architectures:
    wanted.append(Training(proxy.digest, choices, first))
    wanted.append(Training(target.digest, choices, target.experiment.training.seed))
  for seed in range(first + 1, first + num_seeds):
    wanted += [Training(proxy.digest, choices, seed) for choices in repeated]
  return list(dict.fromkeys(wanted))

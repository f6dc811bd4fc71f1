"""The trainings of a proxy check: how and what to train, and the file of finished trainings."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from official_nasfpn import configuration
from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.proxy.proxy_task import check_sizes, check_trials, open_on_holdout
from official_nasfpn.search.proxy.reward import RewardConfig
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.training.experiment import Experiment, open_dataset

_DIGEST_LENGTH = 16


@dataclasses.dataclass(frozen=True)
class TrainingRecipe:
  """How a check trains its architectures: all on the proxy, and all on the target.

  Attributes:
    role: which of the two.
    search: the experiment, the kind of proxy and the search space; each training has its own
      architecture and seed. The target is an experiment in plain mode.
    dataset: the prepared data of the experiment.
  """

  role: Literal["proxy", "target"]
  search: SearchRecipe
  dataset: DatasetInfo

  @property
  def seed(self) -> int:
    """The first seed, `Training.seed` of the recipe."""
    return self.search.experiment.training.seed

  @property
  def digest(self) -> str:
    """A short hash of everything that decides a training's AP but its architecture and seed."""
    experiment, space = self.search.experiment, self.search.space
    # Where the space has sizes, these count instead of the detector's.
    stand_in = space.at_every_size(CATALOG["nas_fpn"])[0]
    experiment = dataclasses.replace(
      experiment.with_architecture(stand_in),
      input=dataclasses.replace(experiment.input, data_dir=""),
      training=dataclasses.replace(experiment.training, seed=0),
    )
    text = experiment.to_gin()
    if self.search.proxy.mode != "plain":
      text += configuration.to_gin(self.search.proxy, space)
    elif space.has_sizes:
      # A choice of a size is an index into these.
      text += configuration.to_gin(space)
    text += json.dumps(self.dataset.identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]

  def with_seed(self, seed: int) -> "TrainingRecipe":
    """Returns the recipe with another `Training.seed`."""
    experiment = self.search.experiment
    training = dataclasses.replace(experiment.training, seed=seed)
    experiment = dataclasses.replace(experiment, training=training)
    return dataclasses.replace(self, search=dataclasses.replace(self.search, experiment=experiment))


def training_recipes(
  recipe: SearchRecipe, target: Experiment
) -> tuple[TrainingRecipe, TrainingRecipe]:
  """Opens the data of a check, and returns how it trains on the proxy and on the target.

  Both give the AP of a whole training, whatever the search rewards and whenever it stops a trial.

  Args:
    recipe: the recipe of the search; the proxy is evaluated on the held-out images.
    target: the experiment of the target, evaluated on its own evaluation part.

  Raises:
    UserError: the data is missing, damaged or has no held-out images.
  """
  check_trials(recipe)
  experiment, dataset = open_on_holdout(recipe.experiment)
  proxy = dataclasses.replace(
    recipe, experiment=experiment, reward=RewardConfig(), search=SearchConfig()
  )
  target, target_dataset = open_dataset(target)
  check_sizes(target, recipe.space)
  plain = dataclasses.replace(proxy, experiment=target, proxy=ProxyConfig())
  return (
    TrainingRecipe("proxy", proxy, dataset),
    TrainingRecipe("target", plain, target_dataset),
  )


@dataclasses.dataclass(frozen=True)
class Training:
  """One training, finished or not.

  Attributes:
    recipe: the digest of its `TrainingRecipe`.
    choices: the architecture, as `SearchSpace.decode` takes it.
    seed: its `Training.seed`.
  """

  recipe: str
  choices: tuple[int, ...]
  seed: int


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a finished training.

  Attributes:
    ap: AP in [0, 1]; 0 if the loss diverged, as in a search.
    seconds: wall time; 0 if it is not known.
  """

  ap: float
  seconds: float = 0.0


class TrainingsFile:
  """A file of finished trainings, a JSON object a line; several processes may add to it at once."""

  def __init__(self, path: Path, space: SearchSpace):
    self._path = path
    self._space = space
    # The file is read many times while trainings run.
    self._known: dict[tuple[tuple[int, ...], str], bool] = {}

  def read(self) -> dict[Training, Result]:
    """Returns all finished trainings of architectures of this search space.

    Choices are indices into a space. In another one, of which the same file may have trainings,
    they mean another architecture or none: such lines are left out.

    Raises:
      UserError: a line does not describe a finished training.
    """
    if not self._path.is_file():
      return {}
    lines = self._path.read_text(encoding="utf-8").split("\n")
    results = {}
    # A process that was killed while it wrote leaves the last line unfinished.
    for number, line in enumerate(lines[:-1], start=1):
      try:
        row = parse_json(line)
        choices = tuple(map(int, row["choices"].split()))
        training = Training(str(row["recipe"]), choices, int(row["seed"]))
        result = Result(float(row["ap"]), float(row["seconds"]))
        architecture = str(row["architecture"])
      except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
          f"{self._path}, line {number}, is not a finished training ({error!r}). Remove that line; "
          "its training is then repeated."
        ) from error
      if self._is(choices, architecture):
        results[training] = result
    return results

  def _is(self, choices: tuple[int, ...], architecture: str) -> bool:
    """Returns whether choices mean the architecture of this hash in this search space."""
    key = choices, architecture
    if key not in self._known:
      try:
        self._known[key] = canonical_hash(self._space.decode(choices)) == architecture
      except ValueError:
        self._known[key] = False
    return self._known[key]

  def mend(self) -> None:
    """Removes an unfinished last line; nobody else may be writing to the file."""
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
  proxy: TrainingRecipe,
  target: TrainingRecipe,
  architectures: Sequence[tuple[int, ...]],
  repeated: Iterable[tuple[int, ...]],
  num_seeds: int,
) -> list[Training]:
  """Returns all trainings of a check, in the order in which they are best done.

  What a correlation needs comes first, one architecture after the other, then the other seeds.

  Args:
    proxy: how to train on the proxy.
    target: how to train on the target.
    architectures: choices of each architecture, as `SearchSpace.decode` takes them.
    repeated: those architectures that the proxy trains with every seed.
    num_seeds: number of seeds of the proxy, counted up from its first.
  """
  wanted = []
  for choices in architectures:
    wanted.append(Training(proxy.digest, choices, proxy.seed))
    wanted.append(Training(target.digest, choices, target.seed))
  for seed in range(proxy.seed + 1, proxy.seed + num_seeds):
    wanted += [Training(proxy.digest, choices, seed) for choices in repeated]
  return list(dict.fromkeys(wanted))

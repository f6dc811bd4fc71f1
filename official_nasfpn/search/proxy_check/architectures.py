"""Which architectures a proxy check trains."""

import csv
import math
import random
from collections.abc import Mapping
from pathlib import Path

from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash
from official_nasfpn.errors import UserError

_MAX_DRAWS = 1000


def catalogue_architectures(space: SearchSpace) -> list[tuple[int, ...]]:
  """Returns the choices of those pyramids of the catalogue that lie in the search space."""
  found = []
  for spec in CATALOG.values():
    try:
      # At one size: at all of them they would be a check of their own.
      found.append(space.encode(space.at_every_size(spec)[0]))
    except ValueError:
      continue
  return found


def choose_architectures(
  space: SearchSpace, count: int, seed: int, rewards: Mapping[tuple[int, ...], float]
) -> list[tuple[int, ...]]:
  """Chooses architectures to compare, no two of which compute the same.

  Those of the catalogue that lie in the space come first. The others are drawn uniformly from the
  space. If rewards are known, the others are taken from those architectures, evenly spaced by rank
  from the worst to the best.

  Args:
    space: the search space.
    count: the number of architectures; the result has fewer if there are no more.
    seed: the seed of the random draws.
    rewards: known rewards by choices; may be empty.

  Returns:
    The choices of each architecture, as `SearchSpace.decode` takes them.
  """
  chosen: dict[str, tuple[int, ...]] = {}

  def add(choices: tuple[int, ...]) -> None:
    if len(chosen) < count:
      chosen.setdefault(canonical_hash(space.decode(choices)), choices)

  for choices in catalogue_architectures(space):
    add(choices)
  if rewards:
    ranked = sorted(rewards, key=lambda choices: (rewards[choices], choices))
    num_places = count - len(chosen)
    for place in range(num_places):
      add(ranked[round(place * (len(ranked) - 1) / max(num_places - 1, 1))])
    return list(chosen.values())
  rng = random.Random(seed)
  for _ in range(_MAX_DRAWS + count):
    add(space.encode(space.sample(rng)))
  return list(chosen.values())


def read_rewards(path: Path, space: SearchSpace) -> dict[tuple[int, ...], float]:
  """Reads the rewards of a table of trials.

  Args:
    path: a CSV file with at least the columns `reward` and `choices`, the latter separated by
      spaces. If there is a column `architecture_hash`, it must be that of the choices. Trials
      without a reward are left out; a repeated architecture keeps its first reward.
    space: the search space of the trials.

  Returns:
    Rewards by choices; all are finite.

  Raises:
    UserError: there is no such file, or a row is not a trial of this space or has no finite reward.
  """
  if not path.is_file():
    raise UserError(f"There is no table of trials {str(path)!r}.")
  rewards: dict[tuple[int, ...], float] = {}
  with path.open(encoding="utf-8", newline="") as file:
    for number, row in enumerate(csv.DictReader(file), start=2):
      try:
        if not row["reward"]:
          continue
        choices, reward = tuple(map(int, row["choices"].split())), float(row["reward"])
        named, computed = row.get("architecture_hash"), canonical_hash(space.decode(choices))
        if named and named != computed:
          raise ValueError(f"its choices are architecture {computed} here, not {named}")
      except (ValueError, KeyError, AttributeError) as error:
        raise UserError(
          f"{path}, line {number}, is not a trial of this search space ({error}). The columns "
          "reward and choices are needed."
        ) from error
      if not math.isfinite(reward):
        raise UserError(
          f"{path}, line {number}, has the reward {row['reward']}, which ranks nothing. Leave it "
          "empty, as of a trial that has failed, or leave the line out."
        )
      rewards.setdefault(choices, reward)
  return rewards

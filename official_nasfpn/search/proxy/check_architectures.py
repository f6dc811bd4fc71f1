"""Which architectures a proxy check trains."""

import csv
import random
from collections.abc import Mapping
from pathlib import Path

from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash
from official_nasfpn.errors import UserError

_MAX_DRAWS = 1000


def catalogue_architectures(space: SearchSpace) -> list[tuple[int, ...]]:
  """Returns the pyramids of the catalogue that lie in the space, as choices."""
  found = []
  for spec in CATALOG.values():
    try:
      found.append(space.encode(spec))
    except ValueError:
      continue
  return found


def choose_architectures(
  space: SearchSpace, count: int, seed: int, rewards: Mapping[tuple[int, ...], float]
) -> list[tuple[int, ...]]:
  """Returns architectures of the space, no two of which compute the same, as choices.

  Those of the catalogue that fit come first. The rest are drawn uniformly from the space; or, where
  rewards are known, spread evenly over their ranks, from the worst to the best.

  Args:
    space: of the search.
    count: how many; fewer where there are no more.
    seed: of the drawing.
    rewards: known rewards by choices; may be empty.
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
  """Reads a table of trials.

  Args:
    path: CSV with at least the columns `reward` and `choices`, the latter separated by spaces;
      trials without a reward are left out, and a repeated architecture keeps its first reward.
    space: that the choices are of.

  Returns:
    Rewards by choices.

  Raises:
    UserError: there is no such file, or a row is not a trial of this space.
  """
  if not path.is_file():
    raise UserError(f"There is no table of trials {str(path)!r}.")
  rewards: dict[tuple[int, ...], float] = {}
  with path.open(encoding="utf-8", newline="") as file:
    for number, row in enumerate(csv.DictReader(file), start=2):
      try:
        if row["reward"]:
          choices = tuple(map(int, row["choices"].split()))
          space.decode(choices)
          rewards.setdefault(choices, float(row["reward"]))
      except (ValueError, KeyError, AttributeError) as error:
        raise UserError(
          f"{path}, line {number}, is not a trial of this search space ({error}). The columns "
          "reward and choices are needed."
        ) from error
  return rewards

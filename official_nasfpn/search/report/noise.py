"""How far the rewards of one architecture differ from training to training."""

import dataclasses
import math
import statistics
from collections.abc import Iterable
from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.store.trial import Trial


@dataclasses.dataclass(frozen=True)
class ConfirmedNoise:
  """The noise that the confirmations of a search have measured.

  Attributes:
    within: standard deviation of one architecture's rewards over seeds, pooled over architectures.
    num_architectures: number of architectures.
    num_rewards: number of their rewards.
  """

  within: float
  num_architectures: int
  num_rewards: int


def noise_of_confirmations(trials: Iterable[Trial]) -> ConfirmedNoise | None:
  """Returns the noise of a reward; None without two confirmations of one architecture.

  First rewards are left out. They are why an architecture was among the best, so they are better
  than others of it, and would make the noise look greater.

  Args:
    trials: all of a search.
  """
  groups = [trial.further_rewards for trial in trials if len(trial.further_rewards) > 1]
  degrees = sum(len(rewards) - 1 for rewards in groups)
  if not degrees:
    return None
  squares = math.fsum((len(rewards) - 1) * statistics.variance(rewards) for rewards in groups)
  within = math.sqrt(squares / degrees)
  if within <= 0:
    return None
  return ConfirmedNoise(within, len(groups), sum(map(len, groups)))


def read_noise(check_dir: Path, proxy_mode: str) -> Noise | None:
  """Returns the noise that a proxy check has measured.

  A search without confirmations does not know it: an architecture is trained once.

  Args:
    check_dir: that `nasfpn proxy_check` has written to.
    proxy_mode: of the search.

  Returns:
    The noise; None where the check had one seed, or one architecture with all of them.

  Raises:
    UserError: it holds no finished check, or one of another kind of trial.
  """
  path = check_dir / "summary.json"
  try:
    content = parse_json(path.read_text(encoding="utf-8"))
    mode = content["mode"]
    noise = None if content["noise"] is None else Noise(**content["noise"])
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise UserError(
      f"{path} is no summary of a finished proxy check ({error}). Run `nasfpn proxy_check` to its "
      "end, or leave --proxy_check out."
    ) from error
  if mode != proxy_mode:
    raise UserError(
      f"{path} is a check of Proxy.mode = {mode!r}, and the search has {proxy_mode!r}: its rewards "
      "have another noise. Check the recipe of this search."
    )
  return noise if noise and noise.within > 0 else None

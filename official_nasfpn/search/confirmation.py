"""Confirmations: the best architectures of a search, trained again with other seeds.

A reward is one noisy training, so the best of hundreds is partly the luckiest. At the end of a
search its best architectures are trained with further seeds, and ranked by the mean.
"""

from collections.abc import Iterable
from typing import NamedTuple

from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.store.trial import DONE, Trial


class Confirmation(NamedTuple):
  """A training that confirms a trial.

  Attributes:
    trial: the trial whose architecture is trained again.
    seed_offset: what is added to `Training.seed`, from 1.
  """

  trial: Trial
  seed_offset: int


def can_be_confirmed(trial: Trial) -> bool:
  """Returns whether further trainings of a trial's architecture can confirm its reward.

  They cannot if it found nothing, and if it was stopped early: whole trainings differ from that.
  """
  return (
    trial.state == DONE
    and trial.reward is not None
    and trial.reward > 0
    and trial.metrics.get("stopped_at") is None
  )


def missing_confirmations(
  config: SearchConfig, candidates: Iterable[Trial], there: Iterable[Trial]
) -> list[Confirmation]:
  """Returns the confirmations that a search still has to propose.

  All first further seeds come first, then all second ones: a search that is cut short has trained
  its best equally often, and a worker that keeps its seed keeps its graph.

  Args:
    config: settings of the search.
    candidates: trials that can be confirmed, the greatest reward of their own first.
    there: all confirmations so far, with or without a result.
  """
  best = [*candidates][: config.confirm_top]
  proposed = {(trial.confirms, trial.seed_offset) for trial in there}
  return [
    Confirmation(trial, seed_offset)
    for seed_offset in range(1, config.confirm_seeds + 1)
    for trial in best
    if (trial.number, seed_offset) not in proposed
  ]


def largest_number_of_confirmations(config: SearchConfig) -> int:
  """Returns how many trainings confirm a search that has enough different architectures."""
  return min(config.confirm_top, config.num_trials) * config.confirm_seeds

"""How a pyramid is found: search algorithms, the trial store, and workers that evaluate trials."""

from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.loop import run_search
from official_nasfpn.search.store.trial_store import Trial, TrialStore
from official_nasfpn.search.workers.evaluation import Evaluation, TrialFailed
from official_nasfpn.search.workers.trial_worker import run_worker

__all__ = [
  "Evaluation",
  "SearchConfig",
  "Trial",
  "TrialFailed",
  "TrialStore",
  "run_search",
  "run_worker",
]

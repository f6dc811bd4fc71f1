"""A search whose only worker runs in the test's process."""

from pathlib import Path

from official_nasfpn.search import storage
from official_nasfpn.search.loop import begun_store, run_search
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.store.trial import Trial
from official_nasfpn.search.workers.evaluation import Evaluate
from official_nasfpn.search.workers.trial_worker import run_worker


def search_in_one_process(
  recipe: SearchRecipe, search_dir: Path, evaluate: Evaluate
) -> list[Trial]:
  """Runs a search to its end, from wherever it was interrupted, and returns its trials.

  Args:
    recipe: recipe of the search.
    search_dir: directory of the search.
    evaluate: evaluates a trial.
  """

  class Here:
    """Evaluates all queued trials at each poll."""

    def __init__(self, store):
      self._store = store

    def poll(self, unfinished_trials):
      if waiting := self._store.counts().queued:
        run_worker(
          self._store, search_dir, evaluate, "here", recipe.version, trials_per_worker=waiting
        )

    def close(self):
      pass

  with storage.exclusive(search_dir):
    storage.settle_recipe(recipe, search_dir)
    with begun_store(search_dir, recipe) as store:
      run_search(recipe.search, recipe.space, search_dir, store, Here)
      return store.trials()

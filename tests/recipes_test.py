"""Every recipe of `gin/` says what it says it does."""

import itertools
from pathlib import Path

import pytest

from official_nasfpn import configuration
from official_nasfpn.search import SearchConfig
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.proxy.reward import RewardConfig
from official_nasfpn.training.experiment import load_experiment

FOLDER = Path(__file__).parents[1] / "gin"


def read(path):
  """Returns the settings that a recipe binds, all checked."""
  experiment = load_experiment([path])
  return experiment, *map(configuration.from_bindings, (SearchConfig, ProxyConfig, RewardConfig))


@pytest.mark.parametrize(
  "path", sorted(FOLDER.rglob("*.gin")), ids=lambda path: str(path.relative_to(FOLDER))
)
def test_a_recipe_says_how_to_run_it_and_can_be_stored(path):
  experiment, *_ = read(path)
  lines = path.read_text(encoding="utf-8").splitlines()
  comment = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
  name = path.relative_to(FOLDER.parent)
  assert f"--gin_file {name}" in comment or "python -m benchmarks." in comment
  # Nothing is lost on the way into a run folder.
  stored = configuration.Stored(experiment.to_gin(), "config.gin")
  assert load_experiment([stored]) == experiment


def test_the_shared_search_differs_in_how_trials_are_trained_alone():
  plain = read(FOLDER / "bccd_search.gin")
  shared = read(FOLDER / "bccd_shared_search.gin")
  assert shared[0] == plain[0]
  assert [each[2].mode for each in (plain, shared)] == ["plain", "shared"]
  changed = {name for name in vars(plain[1]) if vars(plain[1])[name] != vars(shared[1])[name]}
  assert changed == {"trials_per_worker"}

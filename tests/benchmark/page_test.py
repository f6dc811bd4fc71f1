"""docs/benchmark.md: its example runs, and what it quotes is what is printed."""

import sys

import pytest

from official_nasfpn.benchmark import read_table, recorded_surrogate
from official_nasfpn.benchmark.benchmark import rank_algorithms
from official_nasfpn.benchmark.features import features
from official_nasfpn.benchmark.surrogate import recorded_fit
from official_nasfpn.benchmark.user_algorithm import load_algorithm
from tests.program_process import REPOSITORY
from tests.readme_test import blocks_of, commands_of

PAGE = REPOSITORY / "docs" / "benchmark.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLE, COMMAND, QUOTED = (block for _, block in blocks_of(PAGE))


@pytest.fixture
def example(tmp_path, monkeypatch):
  """The settings of the example, imported from the reader's folder as the command names it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  monkeypatch.delitem(sys.modules, "my_search", raising=False)
  (tmp_path / "my_search.py").write_text(EXAMPLE)
  ((*_, flag, name, _, _),) = commands_of(COMMAND)
  assert flag == "--algorithm"
  yield load_algorithm(name)
  del sys.modules["my_search"]


def test_the_example_is_ranked(example):
  settings = {"num_seeds": 2, "num_trained": 40, "baselines": []}
  assert {row.algorithm for row in rank_algorithms({"BestTen": example}, **settings).rows} == {
    "BestTen",
    "random search",
  }


@pytest.mark.slow
def test_what_is_quoted_is_what_is_printed(example):
  assert rank_algorithms({"BestTen": example}).as_text() + "\n" == QUOTED


def test_numbers_in_the_text_are_those_of_the_parts():
  table, fit = read_table(), recorded_fit()
  assert f"on {len(features(table[0].spec))} features" in TEXT
  whole = f"| all {len(table)} | {fit.r2:.2f} | {fit.spearman:.2f} | {fit.kendall:.2f} |"
  assert f"{whole} {fit.residual:.3f} |" in TEXT
  best = f"| the best quarter | | {fit.best_spearman:.2f} | | {fit.best_residual:.3f}, "
  assert f"{best}and {-fit.best_bias:.3f} too low in the mean |" in TEXT
  by_seed = [sum(entry.search_seed == seed for entry in table) for seed in range(3)]
  assert "{}, {} and {} by\nseeds 0, 1 and 2".format(*by_seed) in TEXT
  top = max(table, key=lambda entry: entry.reward)
  predicted = recorded_surrogate()([top.spec])[0]
  sentence = "The best recorded reward is {:.3f}; the surrogate gives that\n  architecture {:.3f}"
  assert sentence.format(top.reward, predicted) in TEXT

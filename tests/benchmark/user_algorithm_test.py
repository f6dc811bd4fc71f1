"""Algorithms of users: what is found under a name, and what is said when something is wrong."""

import math
import re
import sys
import textwrap

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.user_algorithm import load_algorithm, make_watched
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch

SPACE = SearchSpace()
EVOLUTION = "official_nasfpn.search.algorithms.evolution:Evolution"

MODULE = """
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch

LARGE = Evolution(population_size=100)
number = 3

class NoSettings:
  def make(self, space, seed):
    return None

class NeedsSize(NoSettings):
  def __init__(self, size):
    self.size = size
  def check(self):
    pass

class LacksPackage(NoSettings):
  def check(self):
    import dataclasses
    dataclasses.fields("a package")
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
  """Returns a function that writes a module into the current folder, forgotten afterwards."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  before = set(sys.modules)

  def module(name, text):
    (tmp_path / name).write_text(textwrap.dedent(text))

  yield module
  for name in set(sys.modules) - before:
    if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
      del sys.modules[name]


def test_a_class_an_object_and_a_file_are_found(write):
  assert load_algorithm(EVOLUTION) == Evolution()
  write("mine_found.py", MODULE)
  assert load_algorithm("mine_found:LARGE") == Evolution(population_size=100)
  assert load_algorithm("mine_found:RandomSearch") == RandomSearch()
  write("mine_file.py", MODULE)
  assert load_algorithm("mine_file.py:LARGE") == Evolution(population_size=100)


def test_a_file_may_import_what_lies_beside_it(write, tmp_path, monkeypatch):
  (tmp_path / "folder").mkdir()
  write("folder/beside_it.py", "SIZE = 7")
  write(
    "folder/mine_beside.py",
    """
    from beside_it import SIZE
    from official_nasfpn.search.algorithms.evolution import Evolution
    OF_SEVEN = Evolution(population_size=SIZE)
    """,
  )
  assert load_algorithm("folder/mine_beside.py:OF_SEVEN") == Evolution(population_size=7)


def test_the_current_folder_hides_no_library(write):
  write("random.py", "raise ValueError('not the library')")
  assert load_algorithm(EVOLUTION) == Evolution()
  with pytest.raises(UserError, match="random has no MySearch"):
    load_algorithm("random:MySearch")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("my_search", "write MODULE:CLASS, such as my_search:MySearch"),
    (":MySearch", "write MODULE:CLASS"),
    ("nowhere:MySearch", "there is no module nowhere, neither installed nor in the current folder"),
    ("official_nasfpn.nowhere:A", "there is no module official_nasfpn.nowhere"),
    ("nowhere.py:MySearch", "there is no file nowhere.py"),
    ("mine_wrong:Larg", r"mine_wrong has no Larg. Did you mean LARGE\?"),
    ("mine_wrong:NoSettings", "NoSettings is no AlgorithmSettings, it has no method check"),
    ("mine_wrong:number", "number is a int, no AlgorithmSettings"),
    ("mine_wrong:NeedsSize", r"NeedsSize\(\) failed: TypeError: .*'size'.*Give all settings a def"),
    ("mine_wrong:LacksPackage", r"check\(\) raised TypeError: .* \(.*mine_wrong.py, line 21\)"),
    ("broken:A", r"broken cannot be imported: ZeroDivisionError: .* \(.*broken.py, line 1\)"),
    ("unclosed.py:A", "unclosed.py cannot be imported: SyntaxError"),
    ("needy:A", "needy needs the package not_there, which is not installed"),
  ],
)
def test_what_is_no_algorithm_is_said(write, name, message):
  write("mine_wrong.py", MODULE)
  write("broken.py", "1 / 0")
  write("unclosed.py", "(")
  write("needy.py", "import not_there")
  with pytest.raises(UserError, match=f"^--algorithm .*{message}"):
    load_algorithm(name)


class Faulty:
  """Random search that is wrong in one way from the second update on."""

  def __init__(self, fault):
    self.fault = fault

  def check(self):
    pass

  def make(self, space, seed):
    if self.fault == "make":
      raise ValueError("no memory for a table")
    if self.fault == "nothing":
      return None
    self._random = RandomSearch().make(space, seed)
    return self

  def propose(self, update, count):
    proposals = self._random.propose(update, count)
    return proposals if update == 1 else self.fault(proposals)

  def learn(self, update, outcomes):
    if self.fault == "learn":
      raise IndexError("an empty population")


def replaced(proposal, **changes):
  return type(proposal)(**{**vars(proposal), **changes})


def one_wrong(**changes):
  """Returns a fault: the third proposal has these fields."""
  return lambda proposals: [*proposals[:2], replaced(proposals[2], **changes), *proposals[3:]]


@pytest.mark.parametrize(
  ("fault", "message"),
  [
    (lambda proposals: proposals[:3], "update 2: propose must return 4 proposals, and returned 3"),
    (lambda proposals: None, "update 2: propose must return 4 proposals, and returned NoneType"),
    (lambda proposals: 1 / 0, r"update 2: propose raised ZeroDivisionError: division by zero \("),
    (
      lambda proposals: [proposal.choices for proposal in proposals],
      "update 2, proposal 1 is a tuple, and should be a Proposal",
    ),
    (
      one_wrong(choices=(1, 1, *[0] * 26)),
      r"proposal 3, choices \(1, 1, .*choice 1 is not valid for decision 1, the input of cell 0",
    ),
    (one_wrong(choices=(1, 2)), r"proposal 3, .*: 28 choices make a pyramid, got 2"),
    (one_wrong(choices=(0.5,) * 28), "proposal 3, .*: choices are integers"),
    (one_wrong(choices=(math.nan,) * 28), "proposal 3, .*: cannot convert float NaN to integer"),
    (one_wrong(choices=(math.inf,) * 28), "proposal 3, .*: cannot convert float infinity to int"),
    (one_wrong(choices=None), "proposal 3, choices None, is no architecture"),
    (one_wrong(log_probs=(0.0,)), "proposal 3, .*: it has 1 log_probs for 28 choices"),
  ],
)
def test_a_wrong_proposal_is_named_with_its_update(fault, message):
  watched = make_watched("Mine", Faulty(fault), SPACE, 3)
  assert len(watched.propose(1, 4)) == 4
  with pytest.raises(UserError, match=f"^Mine, seed 3, .*{message}"):
    watched.propose(2, 4)


def test_an_algorithm_that_fails_is_said_with_its_reason():
  with pytest.raises(UserError, match=r"^Mine, seed 0: make raised ValueError: no memory for a ta"):
    make_watched("Mine", Faulty("make"), SPACE, 0)
  with pytest.raises(UserError, match=r"^Mine: make returned a NoneType, which has no method prop"):
    make_watched("Mine", Faulty("nothing"), SPACE, 0)
  watched = make_watched("Mine", Faulty("learn"), SPACE, 0)
  watched.propose(1, 4)
  sentence = r"^Mine, seed 0, update 1: learn raised IndexError: an empty population \(.*line \d+\)"
  with pytest.raises(UserError, match=sentence) as refusal:
    watched.learn(1, [])
  # The whole of it, for who debugs.
  assert isinstance(refusal.value.__cause__, IndexError)
  assert re.search("user_algorithm_test.py", str(refusal.value))

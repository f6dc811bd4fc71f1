"""`nasfpn benchmark`: a user's algorithm beside the baselines, its files, what it refuses."""

import csv
import json
import statistics

import pytest

from official_nasfpn import benchmark
from official_nasfpn.benchmark import BASELINES, rank_algorithms
from official_nasfpn.benchmark.baselines import RANDOM
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.algorithm import Proposal
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch

SMALL = {"num_seeds": 3, "num_trained": 60, "baselines": ["evolution"]}


class Settings:
  """Settings of a user's algorithm that is random search, or differs from it in one thing."""

  def __init__(self, change=None):
    self.change = change

  def check(self):
    pass

  def make(self, space, seed):
    made = RandomSearch().make(space, seed)
    if self.change:
      self.change(made)
    return made


def repeat(made):
  """Makes an algorithm propose the same architectures in every update."""
  propose = made.propose
  made.propose = lambda update, count: propose(1, count)


def fail_late(made):
  def learn(update, outcomes):
    if update == 4:
      raise RuntimeError("the fourth is too many")

  made.learn = learn


def returned(ranking, name):
  """Returns what the searches with an algorithm would have returned at each moment."""
  return [search.returned for search in ranking.searches[name]]


@pytest.fixture(scope="module")
def ranking(tmp_path_factory):
  folder = tmp_path_factory.mktemp("ranking") / "out"
  algorithms = {"mine": Evolution(), "uniform": Settings()}
  return rank_algorithms(algorithms, folder, **SMALL), folder


def test_equal_algorithms_have_equal_results(ranking):
  found, _ = ranking
  assert returned(found, "mine") == returned(found, "evolution")
  assert returned(found, "uniform") == returned(found, RANDOM)
  rows = {row.algorithm: row for row in found.rows}
  assert rows["uniform"].p == 1
  assert rows["mine"].rank == rows["evolution"].rank
  assert (rows["mine"].median, rows["mine"].p) == (rows["evolution"].median, rows["evolution"].p)
  # Six updates of ten trials on ten workers, 135 s each.
  assert rows["mine"].hours == pytest.approx(6 * 135 / 3600, abs=1e-4)


def test_the_text_says_what_the_numbers_rest_on(ranking):
  text = ranking[0].as_text()
  assert max(map(len, text.splitlines())) <= 100
  assert f"Benchmark {benchmark.benchmark_id()}: 300 trained architectures, rewards 0.021" in text
  assert "ten-fold cross-validation: R2 0.84, Spearman 0.89" in text
  assert "3 searches of 60 architectures each, 10 in an update, noise 0.008." in text
  assert "Virtual time on 10 workers: 135 s for each trial, an assumption." in text
  assert "The table has no learning curves and no seconds of trainings." in text
  assert len([line for line in text.splitlines() if line.startswith("| ")]) == 5


def test_others_can_plot_all_searches(ranking):
  found, folder = ranking
  assert {path.name for path in folder.iterdir()} == {
    "ranking.json",
    "rewards.png",
    "searches.csv",
  }
  data = json.loads((folder / "ranking.json").read_text())
  assert (data["ranked"], data["num_seeds"], data["noise"]) == (["mine", "uniform"], 3, 0.008)
  assert [row["algorithm"] for row in data["ranking"]] == [row.algorithm for row in found.rows]
  with (folder / "searches.csv").open() as file:
    lines = [*csv.DictReader(file)]
  assert len(lines) == 4 * 3 * 60
  ends = [
    float(line["reward"])
    for line in lines
    if line["algorithm"] == "mine" and line["trained"] == "60"
  ]
  row = next(row for row in data["ranking"] if row["algorithm"] == "mine")
  assert statistics.median(ends) == pytest.approx(row["median"], abs=1e-6)
  assert (folder / "rewards.png").read_bytes()[:4] == b"\x89PNG"


def test_a_folder_in_use_is_refused_before_anything_is_run(ranking):
  _, folder = ranking
  with pytest.raises(UserError, match=r"is not an empty folder.*Give --output_dir a new folder"):
    rank_algorithms({"mine": Settings(pytest.fail)}, folder, **SMALL)


def test_an_algorithm_that_fails_leaves_no_folder(tmp_path):
  with pytest.raises(UserError, match=r"^mine, seed 0, update 4: learn raised RuntimeError: the f"):
    rank_algorithms({"mine": Settings(fail_late)}, tmp_path / "out", **SMALL)
  assert [*tmp_path.iterdir()] == []


def test_the_name_of_a_baseline_is_refused():
  with pytest.raises(UserError, match="'evolution' is the name of a baseline"):
    rank_algorithms({"evolution": Evolution()}, **SMALL)


def test_one_that_repeats_itself_is_said_to_have_trained_fewer():
  text = rank_algorithms({"mine": Settings(repeat)}, **SMALL).as_text()
  assert "mine trained as few as 10 architectures: of twice 60 proposals the others" in text


def test_one_that_the_seed_does_not_fix_is_said(capsys):
  seeds = iter(range(100))

  class Unseeded(Settings):
    def make(self, space, seed):
      return RandomSearch().make(space, next(seeds))

  rank_algorithms({"mine": Unseeded()}, **SMALL)
  assert "mine proposes other architectures when it is made again" in capsys.readouterr().err
  rank_algorithms({"mine": Settings()}, **SMALL)
  assert "proposes other" not in capsys.readouterr().err


def test_what_is_not_recorded_is_run_and_said(capsys):
  changed = {**SMALL, "num_trained": 30, "num_workers": 15, "num_seeds": 2}
  found = rank_algorithms({"mine": Evolution()}, **changed)
  assert "4 searches with baselines are not recorded" in capsys.readouterr().err
  assert returned(found, "mine") == returned(found, "evolution")
  # 15 workers take 25 trials in flight: two updates at once, and half of the third.
  assert found.rows[0].hours == pytest.approx(2 * 135 / 3600, abs=1e-4)


def test_all_baselines_are_ranked_by_default():
  found = rank_algorithms({"mine": Settings()}, num_seeds=2)
  assert {row.algorithm for row in found.rows} == {"mine", *BASELINES}
  assert returned(found, "mine") == returned(found, RANDOM)


def test_choices_may_be_numpy_s():
  numpy = pytest.importorskip("numpy")

  def as_arrays(made):
    propose = made.propose
    made.propose = lambda update, count: [
      Proposal(numpy.array(p.choices), numpy.array(p.log_probs)) for p in propose(update, count)
    ]

  found = rank_algorithms({"mine": Settings(as_arrays)}, **SMALL)
  assert returned(found, "mine") == returned(found, RANDOM)


def test_the_program_ranks_and_refuses(run_program, tmp_path):
  (tmp_path / "mine_ranked.py").write_text(
    "from official_nasfpn.search.algorithms.evolution import Evolution\n"
    "SMALL = Evolution(population_size=20, tournament_size=5)\n"
  )
  arguments = ("--num_seeds=2", "--num_trained=40", "--baseline=evolution")
  name = f"--algorithm={tmp_path / 'mine_ranked.py'}:SMALL"
  finished = run_program("benchmark", name, *arguments, f"--output_dir={tmp_path / 'out'}")
  assert finished.returncode == 0, finished.stderr
  assert "| SMALL " in finished.stdout
  assert finished.stdout.endswith(f"rewards.png are in {tmp_path / 'out'}.\n")
  assert "searches: 100%" in finished.stderr
  refused = run_program("benchmark", f"{name}ER", *arguments)
  assert refused.returncode == 1
  assert refused.stderr.endswith("has no SMALLER. Did you mean SMALL?\n")
  assert refused.stderr.startswith("error: --algorithm ")

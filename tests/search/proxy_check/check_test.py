"""`check_proxy` on recorded trainings; program_test.py has checks that train."""

import dataclasses
import json

import pytest

from official_nasfpn.disk import FileLock
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy_check.architectures import choose_architectures
from official_nasfpn.search.proxy_check.check import check_proxy
from official_nasfpn.search.proxy_check.trainings import (
  Result,
  Training,
  TrainingsFile,
  training_recipes,
)
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training.experiment import load_experiment

NUM_ARCHITECTURES = 5


@pytest.fixture
def search(recipe):
  return read_recipe([recipe], ["Proxy.mode = 'shared'"])


@pytest.fixture
def target(recipe):
  return load_experiment([recipe], ["Training.epochs = 3"])


def record(path, search, target, rewards):
  """Writes the trainings of a check; architecture number n reaches n / 10 on the target.

  Args:
    path: the file of trainings.
    search: the recipe of the search.
    target: the experiment of the target.
    rewards: function from the number of an architecture and a seed to the reward.
  """
  of_proxy, of_target = training_recipes(search, target)
  file = TrainingsFile(path, search.space)
  architectures = choose_architectures(search.space, NUM_ARCHITECTURES, of_proxy.seed, {})
  for number, choices in enumerate(architectures):
    file.add(Training(of_target.digest, choices, of_target.seed), Result(number / 10, 10.0))
    for seed in range(2):
      file.add(Training(of_proxy.digest, choices, seed), Result(rewards(number, seed), 2.0))


def check(search, target, tmp_path, **arguments):
  return check_proxy(
    search,
    target,
    tmp_path / "check",
    num_architectures=NUM_ARCHITECTURES,
    num_seeds=2,
    trainings=tmp_path / "trainings.jsonl",
    **arguments,
  )


def test_a_proxy_that_ranks_like_the_target(search, target, tmp_path):
  record(tmp_path / "trainings.jsonl", search, target, lambda number, seed: 0.05 * number + seed)
  before = (tmp_path / "trainings.jsonl").read_bytes()
  report = check(search, target, tmp_path)
  assert (tmp_path / "trainings.jsonl").read_bytes() == before  # Nothing is trained.
  assert [row.target for row in report.rows] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])
  assert report.rows[-1].name.endswith(" nas_fpn")
  assert report.rows[0].rewards == pytest.approx((0.2, 1.2))
  for correlation in (report.spearman, report.kendall, report.spearman_of_means):
    assert (correlation.value, correlation.low, correlation.high) == pytest.approx((1, 1, 1))
  # A seed adds 1 to all; the standard deviation of 0 and 1 is the root of a half.
  assert report.noise.within == pytest.approx(0, abs=1e-9)
  assert report.noise.seed == pytest.approx(0.5**0.5)
  assert report.seconds == {"proxy": 2.0, "target": 10.0}
  assert not report.warnings
  summary = json.loads((tmp_path / "check" / "summary.json").read_text())
  assert summary["spearman"] == dataclasses.asdict(report.spearman)
  assert (tmp_path / "check" / "proxy_check.png").is_file()


def test_a_proxy_that_is_noise(search, target, tmp_path):
  rewards = ((0.3, 0.1), (0.1, 0.3), (0.2, 0.2), (0.3, 0.1), (0.1, 0.3))
  record(tmp_path / "trainings.jsonl", search, target, lambda number, seed: rewards[number][seed])
  report = check(search, target, tmp_path)
  assert report.noise.reliability == 0
  noise, interval = report.warnings
  assert "noise is larger than the differences between architectures" in noise
  assert "the interval of the rank correlation contains 0" in interval
  assert f"warning: {noise}" in report.as_text()


def test_only_some_architectures_get_all_seeds(search, target, tmp_path):
  record(tmp_path / "trainings.jsonl", search, target, lambda number, seed: 0.05 * number + seed)
  first, *others = (tmp_path / "trainings.jsonl").read_text().splitlines(keepends=True)
  # Of five architectures the first and the third are repeated: the last has no second seed.
  (tmp_path / "trainings.jsonl").write_text("".join([first, *others[:-1]]))
  report = check(search, target, tmp_path, num_repeated=2)
  assert [len(row.rewards) for row in report.rows] == [1, 2, 2, 2, 2]
  assert report.noise.num_architectures == 4
  assert report.spearman_of_means is None


@pytest.mark.parametrize(
  ("bindings", "why_not"),
  [
    ((), None),
    (
      ("Reward.cost = 'multiply_adds'", "Reward.target = 1e8"),
      "weighed by the cost, as Reward.cost = 'multiply_adds' says",
    ),
    (("Search.early_stopping_quantile = 0.5",), "may be of trials that stopped early"),
  ],
)
def test_recorded_rewards_are_taken_only_where_they_are_the_ap_of_whole_trainings(
  recipe, target, tmp_path, capsys, bindings, why_not
):
  search = read_recipe([recipe], bindings)
  record(tmp_path / "trainings.jsonl", search, target, lambda number, seed: 0.05 * number + seed)
  table = tmp_path / "trials.csv"
  architectures = choose_architectures(search.space, NUM_ARCHITECTURES, 0, {})
  # All but NAS-FPN, which comes first.
  rows = [f"{index}.5,{' '.join(map(str, each))}" for index, each in enumerate(architectures)][1:]
  table.write_text("\n".join(["reward,choices", *rows]))
  report = check(search, target, tmp_path, rewards=table)
  rewards = sorted(row.rewards[0] for row in report.rows)
  if why_not:
    assert rewards == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert why_not in report.warnings[-1]
    assert why_not in capsys.readouterr().err
  else:
    assert rewards == [0, 1.5, 2.5, 3.5, 4.5]
    assert "recorded rewards" not in capsys.readouterr().err


@pytest.mark.parametrize(
  ("name", "value"),
  [("num_architectures", 2), ("num_seeds", 0), ("num_repeated", 1), ("num_workers", 0)],
)
def test_numbers_that_are_too_small_are_refused(search, target, tmp_path, name, value):
  with pytest.raises(UserError, match=f"{name} is {value}; it must be at least"):
    check_proxy(search, target, tmp_path / "check", **{name: value})
  assert not (tmp_path / "check").exists()


def test_another_check_keeps_its_file_of_trainings(search, target, tmp_path):
  lock = FileLock(tmp_path / ".trainings.jsonl.lock")
  assert lock.acquire()
  with pytest.raises(UserError, match="Another check"):
    check(search, target, tmp_path)
  lock.release()

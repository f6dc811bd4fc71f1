"""The study on searching goes on from what another machine has done."""

import json
import subprocess
import sys

import pytest

from benchmarks.searched_and_known import NOT_CHOSEN, Candidate, from_json, to_json
from official_nasfpn.architecture import CATALOG, canonical_hash

NAS_FPN = canonical_hash(CATALOG["nas_fpn"])


@pytest.fixture
def show(tmp_path):
  def run(*arguments):
    program = [sys.executable, "-m", "benchmarks.does_searching_pay", "--only_table"]
    folders = [f"--data_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'out'}"]
    return subprocess.run(
      [*program, *folders, *arguments], capture_output=True, text=True, check=False
    )

  return run


def _train(folder, ap):
  folder.mkdir(parents=True)
  (folder / "evaluation.json").write_text(json.dumps({"metrics": {"AP": ap}}))


def test_earlier_results_and_own_ones_are_one_study(show, tmp_path):
  best = Candidate("random search", 0, 1, "a", "text of a", 0.3)
  not_chosen = Candidate(NOT_CHOSEN, 0, 0, "a", "text of a", 0.3)
  found = Candidate("PPO", 1, 1, NAS_FPN, "text of NAS-FPN", 0.2)
  # The one that stands there twice has all its seeds in the first place only.
  earlier = {best: (0.40, 0.41, 0.42), found: (0.5,), not_chosen: (0.40,)}
  (tmp_path / "earlier.json").write_text(to_json(earlier))
  _train(tmp_path / "out" / "finals" / "fpn" / "seed_0", 0.3)
  _train(tmp_path / "out" / "finals" / NAS_FPN / "seed_1", 0.7)
  # After a gap.
  _train(tmp_path / "out" / "finals" / "fpn" / "seed_2", 0.9)
  process = show(f"--earlier={tmp_path / 'earlier.json'}")
  assert process.returncode == 0, process.stderr
  assert from_json((tmp_path / "out" / "results.json").read_text()) == {
    Candidate("FPN", None, 1, "fpn", "fpn"): (0.3,),
    Candidate("NAS-FPN", None, 1, NAS_FPN, "nas_fpn"): (0.5, 0.7),
    found: (0.5, 0.7),
    best: (0.40, 0.41, 0.42),
    not_chosen: (0.40,),
  }
  assert "| random search | 0.410 | 0.410 |" in process.stdout


def test_a_file_of_something_else_is_refused(show, tmp_path):
  (tmp_path / "earlier.json").write_text("[3]")
  process = show(f"--earlier={tmp_path / 'earlier.json'}")
  assert process.returncode == 1
  assert "earlier.json is no results.json of this program" in process.stderr

"""What `python -m benchmarks.overfit_coco` makes of the AP50 that it has reached."""

import json
import subprocess
import sys

import pytest

from tests.program_process import REPOSITORY

# In a process of its own: the module defines flags.
CHECK = (
  "import pathlib, sys; from benchmarks.overfit_coco import check_learnt; "
  "check_learnt(pathlib.Path(sys.argv[1]))"
)


@pytest.mark.parametrize(("ap50", "found"), [(0.95, None), (0.9, "0.900"), (None, "undefined")])
def test_an_ap50_that_is_not_above_is_an_error(ap50, found, tmp_path):
  evaluation = tmp_path / "evaluation.json"
  evaluation.write_text(json.dumps({"metrics": {"AP": 0.5, "AP50": ap50}}))
  ended = subprocess.run(
    [sys.executable, "-c", CHECK, evaluation],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    check=False,
  )
  assert ended.returncode == (0 if found is None else 1), ended.stderr
  if found:
    assert f"trained on is {found}, and must exceed 0.9" in ended.stderr

"""`python -m official_nasfpn.proxy_check` from beginning to end, on drawn shapes."""

import json
import time

import pytest
from PIL import Image, ImageColor

from tests.program_process import ProgramProcess

PATIENCE = 300


def arguments(recipe, output_dir, *more):
  return [
    f"--gin_file={recipe}",
    "--gin_param=Proxy.mode='shared'",
    "--target_gin_param=Training.epochs = 0.3",
    "--num_architectures=4",
    "--num_seeds=2",
    f"--output_dir={output_dir}",
    *more,
  ]


def lines(path):
  return path.read_text().splitlines() if path.exists() else []


@pytest.mark.minutes
@pytest.mark.slow
def test_a_check_that_is_killed_goes_on_and_ends_in_figures(recipe, tmp_path, run_program):
  output_dir = tmp_path / "check"
  trainings = output_dir / "trainings.jsonl"
  process = ProgramProcess("official_nasfpn.proxy_check", arguments(recipe, output_dir))
  deadline = time.monotonic() + PATIENCE
  while len(lines(trainings)) < 2:
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.1)
  process.kill()
  process.wait(PATIENCE)
  # A process that was writing may have been killed, too.
  with trainings.open("a") as file:
    file.write('{"recipe": "unfini')

  result = run_program("proxy_check", *arguments(recipe, output_dir))
  assert result.returncode == 0, result.stderr
  rows = [json.loads(line) for line in lines(trainings)]
  # For each of four architectures: the target, and two seeds of the proxy; none twice.
  assert len(rows) == 12
  assert len({(row["recipe"], row["architecture"], row["seed"]) for row in rows}) == 12
  summary = json.loads((output_dir / "summary.json").read_text())
  assert summary["mode"] == "shared"
  assert [len(row["rewards"]) for row in summary["rows"]] == [2] * 4
  assert any(row["name"].endswith(" nas_fpn") for row in summary["rows"])
  assert summary["noise"]["num_seeds"] == 2
  assert set(summary["seconds"]) == {"proxy", "target"}
  with Image.open(output_dir / "proxy_check.png") as picture:
    colors = picture.convert("RGB").getcolors(1 << 20)
  # There are points for architectures of the catalogue and for random ones.
  for color in ("#d62728", "#1f77b4"):
    assert sum(count for count, rgb in colors if rgb == ImageColor.getrgb(color)) > 20
  for warning in summary["warnings"]:
    assert f"warning: {warning}" in result.stdout

  # The same command again prints the same, and trains nothing.
  before = trainings.read_bytes()
  again = run_program("proxy_check", *arguments(recipe, output_dir))
  assert (again.returncode, again.stdout) == (0, result.stdout)
  assert trainings.read_bytes() == before

  # The plain proxy reuses the trained targets; recorded rewards replace its trainings.
  table = tmp_path / "trials.csv"
  table.write_text(
    "reward,choices\n"
    + "".join(f"0.{index}1,{row['choices']}\n" for index, row in enumerate(rows[:12:3]))
  )
  plain = run_program(
    "proxy_check",
    *arguments(recipe, tmp_path / "plain", f"--trainings={trainings}"),
    "--gin_param=Proxy.mode='plain'",
    "--num_seeds=1",
    f"--rewards={table}",
  )
  assert plain.returncode == 0, plain.stderr
  new = [json.loads(line) for line in lines(trainings)][12:]
  assert not {row["choices"] for row in rows[:12:3]} & {row["choices"] for row in new}
  summary = json.loads((tmp_path / "plain" / "summary.json").read_text())
  assert summary["noise"] is None
  recorded = {0.01, 0.11, 0.21, 0.31}
  assert {reward for row in summary["rows"] for reward in row["rewards"]} & recorded
  # The shared proxy compares the same architectures, but trains them itself.
  shared = run_program(
    "proxy_check",
    *arguments(recipe, tmp_path / "shared", f"--trainings={trainings}"),
    "--num_seeds=1",
    f"--rewards={table}",
  )
  assert shared.returncode == 0, shared.stderr
  of_shared = json.loads((tmp_path / "shared" / "summary.json").read_text())
  assert {row["name"] for row in of_shared["rows"]} == {row["name"] for row in summary["rows"]}
  assert not {reward for row in of_shared["rows"] for reward in row["rewards"]} & recorded


def test_a_target_that_is_the_proxy_is_refused(recipe, tmp_path, run_program):
  result = run_program(
    "proxy_check",
    f"--gin_file={recipe}",
    "--target_gin_param=Input.train_parts = ('train',)",
    "--target_gin_param=Input.evaluation_part = 'holdout'",
    f"--output_dir={tmp_path / 'check'}",
  )
  assert result.returncode == 1
  assert "The target is the proxy itself." in result.stderr
  assert not (tmp_path / "check").exists()


def test_an_unknown_setting_of_the_proxy_names_the_nearest(recipe, tmp_path, run_program):
  result = run_program(
    "proxy_check",
    f"--gin_file={recipe}",
    "--gin_param=Proxy.epoch = 3",
    f"--output_dir={tmp_path / 'check'}",
  )
  assert result.returncode == 1
  assert "Did you mean Proxy.epochs?" in result.stderr

"""`python -m benchmarks.cheap_proxy` on drawn shapes: counts the trials of both proxies."""

import re

import pytest


@pytest.mark.minutes
@pytest.mark.slow
def test_each_proxy_trains_in_a_process_of_its_own_and_is_counted(recipe, shapes_data, run_program):
  arguments = ["--minutes=0.001", f"--gin_file={recipe}", f"--data_dir={shapes_data}"]
  result = run_program("cheap_proxy", *arguments, package="benchmarks")
  assert result.returncode == 0, result.stderr
  # The time is over before the first trial ends.
  counted = re.findall(r"^(\w+): 1 trials in \d+ s wall, \d+ s of", result.stdout, re.MULTILINE)
  assert counted == ["plain", "shared"], result.stdout

"""Figures that do not depend on how busy a machine is; `scripts/test.sh` prints them at its end.

A change that moves one of them is seen here, and changes the number where that is what it is for.
"""

import json
import sys
from collections import Counter

import pytest

from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from tests.counted_work import COMPARED_RECIPE, NUM_TRIALS
from tests.program_process import ProgramProcess
from tests.search.short_trials import RECIPE

PATIENCE = 400
NUM_IMAGES = 10

# Operations in the graph of a train step of R-18, 3 @ 64; Model Garden 2.20 has 6,944.
NODES_OF_A_TRAIN_STEP = 4_858
# Python functions that are traced. Trials share what the first one has traced; plain ones read
# their images anew.
TRACES = {"a run": 11, f"{NUM_TRIALS} plain trials": 17, f"{NUM_TRIALS} shared trials": 14}
# Of R-18, 3 @ 64 with four classes at 256 pixels, for one image.
MULTIPLY_ADDS = 3_066_488_832
FILES_READ_AN_IMAGE = 1


@pytest.fixture(scope="module")
def counted(tmp_path_factory, shapes_data):
  """Returns what `tests.counted_work` has counted."""
  folder = tmp_path_factory.mktemp("counted work")
  recipe = folder / "recipe.gin"
  recipe.write_text(f"{RECIPE}Input.data_dir = {str(shapes_data)!r}\n")
  process = ProgramProcess("tests.counted_work", [recipe, shapes_data, folder])
  assert process.wait(PATIENCE) == 0, process.stderr
  return json.loads(process.stdout)


@pytest.mark.slow
def test_operations_of_a_train_step(counted, record_property):
  record_property("counted: operations of a train step", counted["nodes"])
  assert counted["nodes"] == NODES_OF_A_TRAIN_STEP


@pytest.mark.slow
@pytest.mark.parametrize("work", TRACES)
def test_functions_traced(work, counted, record_property):
  traces = counted["traces"][work]
  record_property(f"counted: functions traced by {work}", sum(traces.values()))
  assert sum(traces.values()) == TRACES[work], traces


@pytest.mark.slow
def test_trials_trace_no_train_step_of_their_own(counted):
  traces = counted["traces"][f"{NUM_TRIALS} shared trials"]
  assert traces["train"] == traces["infer"] == 1
  assert counted["traces"][f"{NUM_TRIALS} plain trials"]["loop_fn"] == 1


def test_multiply_adds(record_property):
  from official_nasfpn.modeling.closed_form import detector_size
  from official_nasfpn.training.experiment import load_experiment

  config = load_experiment([COMPARED_RECIPE]).detector
  found = sum(part.multiply_adds for part in detector_size(config, 4).values())
  record_property("counted: multiply-adds of an image", found)
  assert found == MULTIPLY_ADDS


def test_an_image_file_is_read_once_to_be_prepared(tmp_path, record_property):
  (tmp_path / "drawn").mkdir()
  write_shapes_dataset(tmp_path / "drawn", ShapesConfig(NUM_IMAGES, 64), seed=0)
  images = tmp_path / "drawn" / "images"
  opened: Counter = Counter()
  listening = True

  def listen(event, arguments):
    if listening and event == "open" and str(arguments[0]).startswith(str(images)):
      opened[arguments[0]] += 1

  # A hook stays for good; it does nothing after this test.
  sys.addaudithook(listen)
  try:
    prepare_dataset(tmp_path / "data", tmp_path / "drawn" / "annotations.json", images)
  finally:
    listening = False
  files = {path: count for path, count in opened.items() if str(path).endswith(".jpg")}
  assert len(files) == NUM_IMAGES
  record_property("counted: times that an image file is read to be prepared", max(files.values()))
  assert set(files.values()) == {FILES_READ_AN_IMAGE}

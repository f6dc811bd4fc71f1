"""The notebook of the tutorial: it was run, and it runs, at a scale that a test can afford."""

import re

import nbformat
import PIL.Image
import pytest

from tests.program_process import REPOSITORY

NOTEBOOK = REPOSITORY / "docs/tutorial.ipynb"
# In place of the first cell's.
TINY = {
  "NUM_IMAGES": 40,
  "NUM_TRIALS": 2,
  "SEARCH": (
    "Training.images_per_epoch = 40",
    "Training.warmup_epochs = 0",
    "Proxy.warmup_epochs = 1",
    "Proxy.epochs = 1",
    "Detector.num_filters = 8",
    "Detector.score_threshold = 0.0001",
  ),
  "TRAINING": (
    "Training.images_per_epoch = 40",
    "Training.epochs = 1",
    "Training.warmup_epochs = 0",
    "Detector.num_filters = 8",
  ),
}


@pytest.fixture
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def code_of(notebook) -> list[str]:
  return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_it_was_run_from_top_to_bottom(notebook):
  nbformat.validate(notebook)
  cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
  outputs = [output for cell in cells for output in cell.outputs]
  assert not [output for output in outputs if output.output_type == "error"]
  pictures = [output for output in outputs if "image/png" in output.get("data", {})]
  assert len(pictures) == 2
  # No path of the machine that ran it.
  text = NOTEBOOK.read_text(encoding="utf-8")
  assert not re.search(r"/(?:home|root|work|tmp|Users)/", text)


@pytest.mark.slow
def test_it_runs(notebook, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
  names = {"__name__": "__main__"}
  first, *cells = code_of(notebook)
  for name, value in TINY.items():
    first, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", first, flags=re.MULTILINE)
    assert count == 1, name
  for number, cell in enumerate([first, *cells], start=1):
    exec(compile(cell, f"tutorial.ipynb, code cell {number}", "exec"), names)
  assert len(names["search"].trials()) == 2
  assert names["run"].evaluation.num_images == names["dataset"].num_images["val"]
  assert names["export"].path.joinpath("saved_model.pb").is_file()
  drawn = names["detections"].draw(names["photo"])
  with PIL.Image.open(names["photo"]) as photo:
    # Small pictures are enlarged for their labels.
    assert drawn.width / drawn.height == pytest.approx(photo.width / photo.height, rel=0.01)

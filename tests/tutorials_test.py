"""The tutorials: that of a dataset is run as it stands, and all commands have flags that exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from official_nasfpn.data.dataset_info import DatasetInfo, Part, Shard
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.report import PROBLEMS, parts_table
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from official_nasfpn.recipes import find_recipe
from official_nasfpn.training.anchors.report import report_anchors
from official_nasfpn.training.experiment import load_experiment
from tests.help_test import BY_NAME, MODULE_OF, flags_of
from tests.program_process import REPOSITORY
from tests.readme_test import blocks_of, commands_of, run_command

FOLDER = REPOSITORY / "docs" / "tutorials"
PAGES = (
  REPOSITORY / "README.md",
  REPOSITORY / "docs" / "benchmark.md",
  *sorted(FOLDER.glob("*.md")),
)
# Files that a tutorial has its reader write.
TO_BE_WRITTEN = (
  "official_nasfpn/search/algorithms/reinforce.py",
  "official_nasfpn/search/algorithms/reinforce_search.py",
)
DATASET = blocks_of(FOLDER / "your_own_dataset.md")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with what the reader has: annotated photographs, and others."""
  folder = tmp_path_factory.mktemp("a reader's home")
  (folder / "made").mkdir()
  write_shapes_dataset(folder / "made", ShapesConfig(20, 96), seed=0)
  (folder / "made" / "images").rename(folder / "photos")
  (folder / "made" / "annotations.json").rename(folder / "raccoons.json")
  shutil.copytree(folder / "photos", folder / "new_photos")
  return folder


@pytest.mark.slow
@pytest.mark.parametrize(
  ("language", "block"),
  DATASET,
  ids=[f"{number}-{block.split(chr(10))[0][:40]}" for number, (_, block) in enumerate(DATASET)],
)
def test_a_block_of_the_dataset_does_what_it_is_there_for(
  language, block, home, request, monkeypatch
):
  monkeypatch.chdir(home)
  if language == "gin":
    (name,) = re.match(r"# (\w+\.gin)\n", block).groups()
    Path(name).write_text(block)
  elif language == "bash":
    if block.startswith("nasfpn search"):
      pytest.skip("readme_test.py searches, and trains what was found")
    for words in commands_of(block):
      run_command(words, home, {}, request)
  else:
    # What a program prints, quoted: held below.
    assert language == "text"


def test_the_report_that_is_quoted_is_what_prepare_prints():
  quoted, _ = (block for language, block in DATASET if language == "text")
  problems, _, parts = quoted.partition("\n\n")
  for line in problems.splitlines():
    problem = re.fullmatch(r"[ \d]{8} (.*)  \(.*\)", line)[1]
    assert problem in PROBLEMS.values()
  counts = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+) ", parts, re.MULTILINE)
  numbers = {
    name: Part(int(images), int(boxes), "", (Shard("", 0),) * int(shards))
    for name, images, boxes, shards in counts
  }
  info = DatasetInfo(Path(), LabelMap(()), {"val": ""}, {}, numbers, {})
  assert parts_table(info) == parts.rstrip("\n")


@pytest.mark.slow
def test_the_report_on_anchors_that_is_quoted_is_of_blood_cells(real_data, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  cells = real_data / "bccd"
  prepare_dataset(
    "data/cells",
    cells / "annotations" / "instances_train.json",
    cells / "train",
    val_annotations=cells / "annotations" / "instances_val.json",
    val_images=cells / "val",
  )
  experiment = load_experiment(["gin/quickstart.gin"], ["Input.data_dir = 'data/cells'"])
  _, quoted = (block for language, block in DATASET if language == "text")
  printed = report_anchors(experiment).as_text()
  assert printed.replace(f"{tmp_path}/", "") + "\n" == quoted


def commands_on(page):
  return [
    words
    for language, block in blocks_of(page)
    if language == "bash"
    for words in commands_of(block)
  ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_have_flags_that_exist(page):
  for words in commands_on(page):
    if words[0] != "nasfpn":
      continue
    program = BY_NAME[f"official_nasfpn/{MODULE_OF[words[1]]}"]
    named = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    assert named <= flags_of(program), f"{page.name}: {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_named_are_there(page):
  text = page.read_text(encoding="utf-8")
  for name in re.findall(r"\bgin/[\w/]+\.gin", text):
    assert find_recipe(name).is_file()
  for name in re.findall(
    r"(?<![\w/.])(?:\./)?((?:scripts|tests|official_nasfpn)/[\w/.]+\.\w+)", text
  ):
    assert (REPOSITORY / name).is_file() or name in TO_BE_WRITTEN, name
  for target, heading in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", text):
    assert (page.parent / target).exists(), target
    assert not heading or heading in headings_of(page.parent / target), heading


def headings_of(page):
  """Returns the names by which GitHub knows the headings of a page."""
  headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
  return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_results_in_the_readme_are_those_of_their_page():
  readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
  (table,) = re.findall(r"^\| \| here \|.*?\n\n", readme, re.MULTILINE | re.DOTALL)
  results = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
  numbers = re.findall(r"\d+\.\d+", table)
  assert len(numbers) >= 12
  assert [number for number in numbers if number not in results] == []


def test_commands_of_clusters_are_those_of_their_scripts():
  commands = commands_on(FOLDER / "clusters.md")
  starts = {words[0] for words in commands}
  assert starts == {
    *("createuser", "createdb", "export", "nasfpn", "sbatch", "kubectl", "ray"),
    "./scripts/install_ray.sh",
  }
  slurm = (REPOSITORY / "scripts" / "slurm_workers.sbatch").read_text()
  kubernetes = (REPOSITORY / "scripts" / "kubernetes_workers.yaml").read_text()
  for words in commands:
    if words[0] == "sbatch":
      assert shlex.join(words) in slurm
    elif words[0] == "kubectl":
      assert shlex.join(words) in kubernetes
    elif words[0] == "export":
      assert {word.partition("=")[0] for word in words[1:]} <= {"STORE_URL", "PGPASSWORD"}
  # What the page says that Slurm's script asks for.
  assert all(
    f"#SBATCH --{line}\n" in slurm for line in ("cpus-per-task=4", "gpus-per-task=1", "mem=16G")
  )

"""The program: its flags and what it prints."""

import pytest

from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.errors import UserError


@pytest.mark.slow
def test_real_dataset_with_a_part_of_its_own_for_validation(real_data, tmp_path, run_program):
  bccd = real_data / "bccd"
  flags = [
    f"--annotations={bccd}/annotations/instances_train.json",
    f"--images={bccd}/train",
    f"--val_annotations={bccd}/annotations/instances_val.json",
    f"--val_images={bccd}/val",
    f"--output_dir={tmp_path}/new/blood cells",
  ]
  result = run_program("prepare_data", *flags)
  assert result.returncode == 0, result.stderr
  lines = [line.split()[:4] for line in result.stdout.splitlines()]
  assert ["train", "164", "2263", "8"] in lines
  assert ["holdout", "41", "541", "8"] in lines
  assert ["val", "87", "1137", "8"] in lines
  assert "3 classes: WBC, RBC, Platelets" in result.stdout
  assert "205/292" in result.stderr or "292/292" in result.stderr

  again = run_program("prepare_data", *flags)
  assert again.returncode == 0
  assert "already prepared from the same input; nothing to do" in again.stdout
  other = run_program("prepare_data", *flags, "--seed=1")
  assert other.returncode == 1
  assert "holds a dataset prepared from other input: seed differs" in other.stderr


# Options of `nasfpn prepare` by their names in Python, and what they are refused with.
MISTAKES = [
  ({}, "Give --annotations, and --images where the images are elsewhere; or --synthetic"),
  ({"annotations": "a.json"}, "Cannot read the annotations 'a.json'"),
  ({"annotations": "LICENSE", "format": "csv"}, "LICENSE: its columns are not known"),
  ({"shapes": True, "images": "."}, "--synthetic draws its own images"),
  ({"shapes": True, "holdout_fraction": 2.0}, "holdout_fraction must be at least 0 and below 1"),
  (
    {"annotations": "a.json", "images": "/nowhere"},
    "--images: there is no folder '/nowhere'",
  ),
  (
    {"annotations": "/nowhere.json", "images": "."},
    "Cannot read the annotations '/nowhere.json'",
  ),
  (
    {"annotations": "tests", "images": "tests"},
    "tests is a folder without a COCO JSON in it; annotations must be one of COCO JSON, Pascal",
  ),
  (
    {"annotations": "a.json", "images": "LICENSE"},
    "--images: LICENSE is a text file, not a folder",
  ),
  (
    {"annotations": "a.json", "images": ".", "val_images": "."},
    "--val_images needs --val_annotations",
  ),
  (
    {"annotations": "/nowhere.json", "images": ".", "val_annotations": "LICENSE"},
    "Cannot read the annotations '/nowhere.json'",
  ),
]


def _check_refusal(tmp_path, run_program, flags, message):
  result = run_program("prepare_data", f"--output_dir={tmp_path}/out", *flags)
  assert result.returncode == 1
  (line,) = result.stderr.splitlines()
  assert line.startswith("error: ")
  assert message in line
  assert not list(tmp_path.iterdir())
  return line.removeprefix("error: ")


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--synthetic", "--num_images=0"], "num_images must be at least 1"),
    (["--synthetic", "extra"], "Unexpected argument 'extra'"),
    (["--annotations=\udcff.json", "--images=."], r"'--annotations=\udcff.json' is not UTF-8 text"),
    (["--synthetic", "--max_image_pixels=-1"], "max_image_pixels must be at least 1"),
  ],
)
def test_mistakes_end_in_one_clear_line(tmp_path, flags, message, run_program):
  _check_refusal(tmp_path, run_program, flags, message)


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_mistakes_are_refused_alike_by_the_program_and_in_python(
  tmp_path, options, message, run_program
):
  flags = [f"--{name}={value}" for name, value in options.items() if name != "shapes"]
  flags += ["--synthetic"] if "shapes" in options else []
  line = _check_refusal(tmp_path, run_program, flags, message)
  if "shapes" in options:
    options = {**options, "shapes": ShapesConfig()}
  with pytest.raises(UserError) as refusal:
    prepare_dataset(tmp_path / "out", **options)
  assert str(refusal.value) == line
  assert not list(tmp_path.iterdir())

r"""Overfits 16 images of a COCO dataset and evaluates on them: AP50 must exceed 0.9.

It ends with exit code 1 where AP50 does not.

    python -m benchmarks.overfit_coco --annotations instances_val2017.json --images val2017 \
        --output_dir RUN
"""

import json
import subprocess
import sys
from pathlib import Path

from absl import flags

from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program

FLAGS = flags.FLAGS
flags.DEFINE_string("annotations", None, "COCO JSON.", required=True)
flags.DEFINE_string("images", None, "Folder of its images.", required=True)
flags.DEFINE_string("output_dir", None, "Folder for data and run.", required=True)
flags.DEFINE_integer("num_images", 16, "Number of images, those with the lowest ids.")
flags.DEFINE_integer("seed", 0, "Seed of the weights and of the order of the images.")

_RECIPE = Path(__file__).resolve().parent.parent / "gin" / "coco_overfit16.gin"
_WANTED_AP50 = 0.9


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  output_dir = Path(FLAGS.output_dir)
  output_dir.mkdir(parents=True, exist_ok=True)
  subset = output_dir / "subset.json"
  subset.write_text(json.dumps(_first_images(Path(FLAGS.annotations), FLAGS.num_images)))
  _run(
    "prepare_data",
    f"--annotations={subset}",
    f"--images={FLAGS.images}",
    f"--output_dir={output_dir / 'data'}",
    "--validation_fraction=0",
    "--holdout_fraction=0",
  )
  run = output_dir / f"seed_{FLAGS.seed}"
  _run(
    "train",
    f"--gin_file={_RECIPE}",
    f"--data_dir={output_dir / 'data'}",
    f"--gin_param=Training.seed = {FLAGS.seed}",
    f"--model_dir={run}",
  )
  check_learnt(run / "evaluation.json")


def check_learnt(evaluation: Path) -> None:
  """Raises a `UserError` unless an evaluation's AP50 exceeds what is wanted."""
  ap50 = json.loads(evaluation.read_text(encoding="utf-8"))["metrics"]["AP50"]
  if ap50 is None or ap50 <= _WANTED_AP50:
    found = "undefined" if ap50 is None else f"{ap50:.3f}"
    raise UserError(
      f"{evaluation}: AP50 on the images that were trained on is {found}, and must exceed "
      f"{_WANTED_AP50:g}: look whether boxes, labels, anchors and evaluation agree."
    )


def _first_images(annotations: Path, num_images: int) -> dict:
  """Returns COCO JSON with the first annotated images by id, and with all classes."""
  coco = json.loads(annotations.read_text(encoding="utf-8"))
  annotated = sorted({a["image_id"] for a in coco["annotations"]})[:num_images]
  return {
    "images": [image for image in coco["images"] if image["id"] in annotated],
    "annotations": [a for a in coco["annotations"] if a["image_id"] in annotated],
    "categories": coco["categories"],
  }


def _run(program: str, *arguments: str) -> None:
  subprocess.run([sys.executable, "-m", f"official_nasfpn.{program}", *arguments], check=True)


if __name__ == "__main__":
  run_program(main)

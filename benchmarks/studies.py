r"""Trains detectors on a small dataset with several seeds: stacking, DropBlock, light detectors,
anytime detectors, export formats, pretrained weights.

    python -m benchmarks.studies --study stacking --data_dir DATA --output_dir RUNS
    python -m benchmarks.studies --study weights --backbone_weights FILE --data_dir DATA \
        --output_dir RUNS --figure curves.png

Finished runs are not repeated, and an interrupted one continues. Each run has the folder
RUNS/STUDY/NAME/seed_S. A table of the finished runs is printed at the end, and --figure draws their
AP over training. Studies of pretrained weights need --backbone_weights, MobileNetV2's.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program

GIN = Path(__file__).resolve().parent.parent / "gin"


@dataclasses.dataclass(frozen=True)
class Variant:
  """One detector of a study.

  Attributes:
    name: the name of its folder.
    recipe: the name of a recipe in gin/.
    bindings: bindings on top of the recipe.
    pretrained: whether it starts from the file of --backbone_weights.
  """

  name: str
  recipe: str
  bindings: tuple[str, ...] = ()
  pretrained: bool = False


def _stacking(all_repeats: tuple[int, ...], *bindings: str) -> Iterator[Variant]:
  for repeats in all_repeats:
    for architecture in ("fpn", "nas_fpn"):
      yield Variant(
        f"{architecture}_{repeats}",
        "bccd_stacking.gin",
        (
          f"Detector.architecture = '{architecture}'",
          f"Detector.num_repeats = {repeats}",
          *bindings,
        ),
      )


# 3 @ 128: wide enough to overfit 205 images.
_WIDE = ("Detector.num_filters = 128",)
_DROP_BLOCK = "Training.drop_block_rate = 0.1"
# The paper trains three times as long with DropBlock.
_LONG = "Training.epochs = 90"
_NAS_FPNLITE = ("Detector.architecture = 'nas_fpnlite_ours'",)

# Fine-tuning without pretrained weights: all of the backbone is trained, at the same rate.
_RANDOM = (
  "Training.backbone_weights = None",
  "Training.frozen = ()",
  "Training.frozen_batch_norm = False",
  "Training.learning_rate_factors = {}",
)
# Less than half of the time of the recipe's 384 pixels.
_SMALL = "Detector.image_size = (256, 256)"


def _from_pretrained(name: str, *bindings: str) -> Variant:
  return Variant(name, "finetune.gin", bindings, pretrained=True)


STUDIES = {
  "stacking": tuple(_stacking((1, 3, 5))),
  "stacking_long": tuple(_stacking((1, 5), _LONG)),
  "drop_block": (
    Variant("without", "bccd_stacking.gin", _WIDE),
    Variant("with", "bccd_stacking.gin", (*_WIDE, _DROP_BLOCK)),
  ),
  "drop_block_long": (
    Variant("without", "bccd_stacking.gin", (*_WIDE, _LONG)),
    Variant("with", "bccd_stacking.gin", (*_WIDE, _LONG, _DROP_BLOCK)),
  ),
  "anytime": tuple(
    Variant(kind, "bccd_anytime.gin", (f"Detector.exit_heads = '{kind}'",))
    for kind in ("last", "shared", "separate")
  ),
  # For benchmarks/export_formats.py.
  "formats": (
    Variant(
      "nas_fpnlite_3x48",
      "bccd_lite.gin",
      (*_NAS_FPNLITE, "Detector.num_repeats = 3", "Detector.num_filters = 48"),
    ),
    Variant(
      "r50_3x64",
      "bccd_r18_nasfpn.gin",
      ("Detector.backbone = 'R-50'", "Training.epochs = 20"),
    ),
  ),
  "lite": (
    Variant(
      "nas_fpnlite_3x48",
      "bccd_lite.gin",
      (*_NAS_FPNLITE, "Detector.num_repeats = 3", "Detector.num_filters = 48"),
    ),
    Variant("nas_fpnlite_1x64", "bccd_lite.gin", _NAS_FPNLITE),
    Variant("fpnlite_64", "bccd_lite.gin"),
    Variant("fpnlite_128", "bccd_lite.gin", ("Detector.num_filters = 128",)),
    # SSDLite's usual anchors start at 32 pixels; platelets are 20 pixels wide here.
    Variant(
      "ssdlite",
      "bccd_lite.gin",
      ("Detector.architecture = @Ssdlite()", "Ssdlite.min_scale = 0.1"),
    ),
  ),
  # Of `random` a step takes 1.3 times as long, since the whole backbone is trained.
  "weights": (
    _from_pretrained("pretrained", _SMALL),
    Variant("random", "finetune.gin", (*_RANDOM, _SMALL, "Training.epochs = 15")),
    Variant("random_long", "finetune.gin", (*_RANDOM, _SMALL, "Training.epochs = 60")),
  ),
  "stacking_pretrained": tuple(
    _from_pretrained(
      f"{architecture}_{repeats}",
      _SMALL,
      f"Detector.architecture = '{architecture}'",
      f"Detector.num_repeats = {repeats}",
    )
    for repeats in (1, 3, 5)
    for architecture in ("fpn", "nas_fpn")
  ),
  # The recipe as it is.
  "finetune": (_from_pretrained("finetune"),),
  "anytime_pretrained": tuple(
    _from_pretrained(kind, _SMALL, "Detector.num_repeats = 5", f"Detector.exit_heads = '{kind}'")
    for kind in ("last", "shared")
  ),
}

_STUDY = flags.DEFINE_enum("study", None, list(STUDIES), "The study.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data, e.g. BCCD.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the runs.", required=True)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Runs of each: seeds 0, 1, ...", lower_bound=1)
_BACKBONE_WEIGHTS = flags.DEFINE_string(
  "backbone_weights", None, "File that variants with pretrained weights start from."
)
_FIGURE = flags.DEFINE_string("figure", None, "Image of AP over training, .png, .svg or .pdf.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  study = Path(_OUTPUT_DIR.value) / _STUDY.value
  variants = STUDIES[_STUDY.value]
  if any(variant.pretrained for variant in variants) and not _BACKBONE_WEIGHTS.value:
    raise UserError(f"--study {_STUDY.value} needs --backbone_weights; see `nasfpn weights`.")
  # Seeds in the outer loop: every variant has a first result before any has a second.
  for seed in range(_NUM_SEEDS.value):
    for variant in variants:
      _train(variant, seed, study / variant.name / f"seed_{seed}")
  print(_table(study, variants))
  if _FIGURE.value:
    _curves(study, variants).savefig(_FIGURE.value, dpi=120)


def _train(variant: Variant, seed: int, run: Path) -> None:
  if (run / "evaluation.json").is_file():
    return
  print(f"{variant.name}, seed {seed}: {run}", flush=True)
  bindings = (*variant.bindings, f"Training.seed = {seed}")
  weights = [f"--backbone_weights={_BACKBONE_WEIGHTS.value}"] if variant.pretrained else []
  subprocess.run(
    [
      sys.executable,
      "-m",
      "official_nasfpn.train",
      f"--gin_file={GIN / variant.recipe}",
      *(f"--gin_param={binding}" for binding in bindings),
      *weights,
      f"--data_dir={_DATA_DIR.value}",
      f"--model_dir={run}",
    ],
    check=True,
  )


def _table(study: Path, variants: tuple[Variant, ...]) -> str:
  """Returns a Markdown table of finished runs: means over seeds, and the AP of each seed."""
  lines = ["| detector | AP | AP50 | AP by seed | spread |", "|---|---|---|---|---|"]
  for variant in variants:
    files = sorted((study / variant.name).glob("seed_*/evaluation.json"))
    metrics = [json.loads(file.read_text(encoding="utf-8"))["metrics"] for file in files]
    aps = [metric["AP"] for metric in metrics]
    if aps:
      ap50 = statistics.mean(metric["AP50"] for metric in metrics)
      spread = f"{statistics.stdev(aps):.3f}" if len(aps) > 1 else ""
      each = " ".join(f"{ap:.3f}" for ap in aps)
      lines.append(
        f"| {variant.name} | {statistics.mean(aps):.3f} | {ap50:.3f} | {each} | {spread} |"
      )
  return "\n".join(lines)


def _curves(study: Path, variants: tuple[Variant, ...]) -> Figure:
  """Returns AP and AP50 over train steps: a line for each run, a colour for each variant."""
  figure = Figure(figsize=(12, 4.5), layout="constrained")
  panels = figure.subplots(1, 2)
  for axes, metric in zip(panels, ("AP50", "AP"), strict=True):
    for number, variant in enumerate(variants):
      _draw_curves(axes, study / variant.name, metric, variant.name, f"C{number}")
    axes.set(xlabel="train step", ylabel=metric, ylim=(0, 1))
    axes.grid(alpha=0.3)
  panels[0].legend()
  return figure


def _draw_curves(axes: Axes, variant: Path, metric: str, name: str, color: str) -> None:
  label: str | None = name
  for file in sorted(variant.glob("seed_*/evaluations.jsonl")):
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    steps, values = [row["step"] for row in rows], [row[metric] for row in rows]
    axes.plot(steps, values, color=color, alpha=0.8, linewidth=1.2, label=label)
    label = None


if __name__ == "__main__":
  run_program(main)
